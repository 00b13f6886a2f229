"""private.publish, private.unbox, private.read: for the node's own user, as in ssb-private (protocol.md section 12).

What is decrypted goes to local callers only: each method here is `local`, and no other file of the methods knows the
mailbox but `messages`, whose `get` opens a message for the same callers, and `streams` for createLogStream.
"""

from feeds.canonical_json import compact
from feeds.mailbox import OpenedEntry, Wanted
from feeds.message import JsonValue
from replication.errors import RemoteVisible
from replication.methods import options
from replication.methods.local import local
from replication.methods.options import Shape
from replication.methods.services import MethodServices
from replication.rpc.bodies import RawJson
from replication.rpc.methods import Caller, Kind, Method
from replication.rpc.streams import Sink

AT_ONCE = 200


def methods(services: MethodServices) -> list[Method]:
    """All for the node's own user."""

    async def publish(_caller: Caller, args: list[JsonValue]) -> RawJson:
        """`[content, [feed, ...]]`: encrypt for these and us, sign and store; answers `{key, value, timestamp}`."""
        content = args[0] if args else None
        recps = args[1] if len(args) > 1 else None
        if not isinstance(content, dict):
            raise RemoteVisible("private.publish: expected the content, an object")
        if not isinstance(recps, list | None) or (recps is None and content.get("recps") is None):
            raise RemoteVisible("private.publish: expected a list of feed ids after the content")
        return RawJson((await services.ingest.publish(content, recps=recps)).as_kvt())

    async def unbox(_caller: Caller, args: list[JsonValue]) -> RawJson | None:
        """The content of an encrypted content, or a message with its content in plain; null when it is not for us."""
        given = args[0] if args else None
        if isinstance(given, str):
            opened = services.mailbox.unbox(given)
            return None if opened is None else RawJson(opened.text)
        if not isinstance(given, dict):
            raise RemoteVisible("private.unbox: expected an encrypted content or a message")
        return _opened_message(services, given)

    async def read(_caller: Caller, args: list[JsonValue], out: Sink) -> None:
        """Private messages that we can read, in the order of receipt; `meta` is `{private: true}`."""
        opts = options.options(args)
        await _Reading(services, out, options.shape(opts), _wanted(opts)).run()

    return [
        local("private.publish", Kind.ASYNC, publish),
        local("private.unbox", Kind.ASYNC, unbox),
        local("private.read", Kind.SOURCE, read),
    ]


def _opened_message(services: MethodServices, given: dict[str, JsonValue]) -> RawJson | None:
    """The message `{key, value, timestamp}` or value that was handed over, with its content in plain."""
    value = given.get("value", given)
    content = value.get("content") if isinstance(value, dict) else None
    opened = services.mailbox.unbox(content) if isinstance(content, str) else None
    if opened is None or not isinstance(value, dict):
        return None
    plain: JsonValue = {**value, "content": opened.content}
    return RawJson(compact(plain if value is given else {**given, "value": plain, "meta": {"private": True}}))


def _wanted(opts: options.Options) -> Wanted:
    author, root = opts.get("author"), opts.get("root")
    return Wanted(
        author=None if author is None else options.feed(author, "author"),
        root=None if root is None else options.message(root, "root"),
        type=options.text(opts, "type"),
    )


class _Reading:
    """One call of private.read."""

    def __init__(self, services: MethodServices, out: Sink, shape: Shape, wanted: Wanted) -> None:
        self._services = services
        self._out = out
        self._shape = shape
        self._wanted = wanted
        self._left = shape.limit

    async def run(self) -> None:
        end = self._services.log.position
        if self._shape.old:
            await self._send_from(0, end, descending=self._shape.reverse)
        if self._shape.live and self._left != 0:
            if self._shape.sync:
                await self._out.send([b'{"sync":true}'])
            while self._left != 0:
                before, end = end, await self._services.live.wait_beyond(end)
                await self._send_from(before, end, descending=False)

    async def _send_from(self, position: int, end: int, *, descending: bool) -> None:
        """Everything after a position up to the end; descending: from the end down."""
        mark = end + 1 if descending else position
        while self._left != 0:
            limit = AT_ONCE if self._left is None else min(AT_ONCE, self._left)
            found = await self._services.mailbox.find(self._wanted, after=mark, limit=limit, descending=descending)
            fitting = [one for one in found if one.entry.position <= end]
            if fitting:
                await self._out.send([_shown(one, self._shape) for one in fitting])
                mark = fitting[-1].entry.position
            if self._left is not None:
                self._left -= len(fitting)
            if len(fitting) < limit or (mark <= 1 and descending):
                return


def _shown(one: OpenedEntry, shape: Shape) -> bytes:
    match shape.keys, shape.values:
        case _, False:
            return f'"{one.entry.id}"'.encode()
        case False, True:
            return one.value()
        case _:
            return one.as_kvt()
