"""Single messages and tips: get, publish, getLatest, latest, latestSequence, getVectorClock, getFeedState."""

import json

from feeds import canonical_json
from feeds.errors import NotFound
from feeds.log import Entry
from feeds.message import JsonValue
from feeds.private.stored import boxed_content
from feeds.refs import parse_link
from replication.errors import RemoteVisible
from replication.methods import options
from replication.methods.local import local
from replication.methods.services import MethodServices
from replication.rpc.bodies import RawJson
from replication.rpc.methods import Caller, Kind, Method
from replication.rpc.streams import Sink

FEEDS_A_PIECE = 500


def methods(services: MethodServices) -> list[Method]:
    """All for the node's own user."""
    log = services.log

    async def get(_caller: Caller, args: list[JsonValue]) -> RawJson:
        """A message's value by id, or `{key, value, timestamp}` with `{id, meta: true}`.

        With `{id, private: true}` its content is plain if we can read it; with `?unbox=KEY` behind the id, or
        `{id, unbox: KEY}`, if that key opens it.
        """
        opts = options.options(args, bare="id")
        wanted = opts.get("id", opts.get("key"))
        released = options.text(opts, "unbox")
        if isinstance(wanted, str):
            link = parse_link(wanted)
            released = released or (link.query.get("unbox") if link else None)
            wanted = wanted.partition("?")[0]
        found = await log.get(options.message(wanted))
        if found is None:
            raise NotFound(f"message not found: {wanted}")
        with_meta = options.flag(opts, "meta", False)
        opened = None
        if released is not None and boxed_content(found.text) is not None:
            opened = services.mailbox.open_released(found, released)
            if opened is None:
                raise RemoteVisible("the key after unbox does not open this message")
        elif options.flag(opts, "private", False):
            opened = services.mailbox.open(found)
        if opened is not None:
            return RawJson(opened.as_kvt() if with_meta else opened.value())
        return RawJson(found.as_kvt() if with_meta else found.text)

    async def publish(_caller: Caller, args: list[JsonValue]) -> RawJson:
        """Sign and store a message; answers `{key, value, timestamp}`."""
        content = args[0] if args else None
        if not isinstance(content, dict | str):
            raise RemoteVisible("publish: expected the content, an object or the text of an encrypted message")
        return RawJson((await services.ingest.publish(content)).as_kvt())

    async def add(_caller: Caller, args: list[JsonValue]) -> RawJson:
        """Take in a signed message of any feed, `{key, value, timestamp}` or its value; answers the former."""
        first = args[0] if args else None
        value = first["value"] if isinstance(first, dict) and isinstance(first.get("value"), dict) else first
        if not isinstance(value, dict):
            raise RemoteVisible("add: expected a signed message")
        report = await services.ingest.add([canonical_json.compact(value)], source="add")
        if report.rejections:
            raise RemoteVisible(f"the message was not taken: {report.rejections[0].reason}")
        author, sequence = value.get("author"), value.get("sequence")
        assert isinstance(author, str)  # it was taken
        found = await log.at(author, sequence) if isinstance(sequence, int) else None
        return RawJson(b"null" if found is None else found.as_kvt())

    async def tip(feed: str) -> Entry | None:
        found = await log.at(feed, log.sequence(feed))
        return None if found is None or not found.text else found

    async def get_latest(_caller: Caller, args: list[JsonValue]) -> RawJson | None:
        """The last message of a feed as `{key, value, timestamp}`, null when we have none."""
        found = await tip(options.feed_argument(args))
        return None if found is None else RawJson(found.as_kvt())

    async def latest_sequence(_caller: Caller, args: list[JsonValue]) -> int:
        """The last sequence of a feed."""
        feed = options.feed_argument(args)
        if not log.sequence(feed):
            raise NotFound(f"feed not found: {feed}")
        return log.sequence(feed)

    async def get_feed_state(_caller: Caller, args: list[JsonValue]) -> dict[str, JsonValue]:
        """`{id, sequence}` of a feed's last message; id null and sequence 0 when we have none."""
        end = log.tip(options.feed_argument(args))
        return {"id": end.id, "sequence": end.sequence}

    async def get_vector_clock(_caller: Caller, _args: list[JsonValue]) -> dict[str, int]:
        """The last sequence of every feed."""
        return log.clock()

    async def latest(_caller: Caller, _args: list[JsonValue], out: Sink) -> None:
        """`{id, sequence, ts}` of every feed, ts being when its last message was received."""
        feeds = log.feeds()
        for start in range(0, len(feeds), FEEDS_A_PIECE):
            lines = []
            for info in feeds[start : start + FEEDS_A_PIECE]:
                end = await tip(info.id)
                line = {"id": info.id, "sequence": info.sequence, "ts": end.received if end else None}
                lines.append(json.dumps(line, separators=(",", ":")).encode())
            await out.send(lines)

    return [
        local("get", Kind.ASYNC, get),
        local("publish", Kind.ASYNC, publish),
        local("add", Kind.ASYNC, add),
        local("getLatest", Kind.ASYNC, get_latest),
        local("latestSequence", Kind.ASYNC, latest_sequence),
        local("getFeedState", Kind.ASYNC, get_feed_state),
        local("getVectorClock", Kind.ASYNC, get_vector_clock),
        local("latest", Kind.SOURCE, latest),
    ]
