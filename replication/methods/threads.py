"""tangles.thread and search.query: threads and full-text search, for the node's own user (protocol.md section 19)."""

from functools import partial

from feeds.errors import InvalidJson
from feeds.log import Entry, entries_at
from feeds.mailbox import OpenedEntry
from feeds.message import JsonValue
from feeds.search_words import Query, parse_query
from feeds.thread_reading import read_thread
from feeds.views import search
from replication.errors import RemoteVisible
from replication.history import rendered
from replication.methods import options
from replication.methods.local import local
from replication.methods.services import MethodServices
from replication.rpc.bodies import decode_json
from replication.rpc.methods import Caller, Kind, Method
from replication.rpc.streams import Sink

AT_ONCE = 200
FOUND_AT_MOST = 10_000
DEPTH_MAX = 200


def methods(services: MethodServices) -> list[Method]:
    """Both streams of messages."""
    database = services.database

    async def thread(_caller: Caller, args: list[JsonValue], out: Sink) -> None:
        """The messages of a thread, each after those that it answers; with `private` those we can read in plain."""
        opts = options.options(args, bare="root")
        root, shape = options.message(opts.get("root"), "root"), options.shape(opts)
        private = options.flag(opts, "private", False)
        if shape.live:
            raise RemoteVisible("tangles.thread ends with the thread as it is: leave out live")
        found = await database.read(lambda connection: read_thread(connection, root))
        entries = [turn.entry for turn in found.turns] if found is not None else []
        entries = entries[::-1] if shape.reverse else entries
        entries = entries if shape.limit is None else entries[: shape.limit]
        for start in range(0, len(entries), AT_ONCE):
            page = entries[start : start + AT_ONCE]
            opened = await services.mailbox.opened_of(page) if private and shape.values else {}
            await out.send(
                [_shown(entry, opened.get(entry.position), keys=shape.keys, values=shape.values) for entry in page]
            )

    async def find(_caller: Caller, args: list[JsonValue], out: Sink) -> None:
        """Public messages with these words, the newest received first."""
        opts = options.options(args, bare="query")
        words = parse_query(options.text(opts, "query") or "")
        if words is None:
            raise RemoteVisible("option query: expected words to search for")
        most = options.limit(opts)
        left = FOUND_AT_MOST if most is None else min(most, FOUND_AT_MOST)
        before: int | None = (1 << 63) - 1
        while left > 0 and before is not None:
            reading = partial(search.hits, query=words, after=before, limit=min(AT_ONCE, left), descending=True)
            hits = await database.read(reading)
            entries = await database.read(
                lambda connection, hits=hits: entries_at(connection, hits.positions)  # type: ignore[misc]
            )
            fitting = [entry for entry in entries if _has(entry, words)]
            left -= len(fitting)
            if fitting:
                await out.send([entry.as_kvt() for entry in fitting])
            before = hits.mark

    return [local("tangles.thread", Kind.SOURCE, thread), local("search.query", Kind.SOURCE, find)]


def _has(entry: Entry, words: Query) -> bool:
    """Whether a message has the words in the order asked for: the index knows only that it has them."""
    try:
        value = decode_json(entry.text, depth=DEPTH_MAX)
    except InvalidJson:
        return False
    return isinstance(value, dict) and words.fits(value.get("content"))


def _shown(entry: Entry, opened: OpenedEntry | None, *, keys: bool, values: bool) -> bytes:
    if opened is None:
        return rendered(entry, keys=keys, values=values)
    return opened.as_kvt() if keys else opened.value()
