"""The words of a muxrpc request: what is called, how, and how a peer's request is read (protocol.md section 6)."""

from enum import StrEnum
from typing import NamedTuple

from feeds.errors import InvalidJson
from feeds.message import JsonValue
from replication.rpc.bodies import BodyType, decode_json
from replication.rpc.packets import STREAM, TYPE_MASK

Name = tuple[str, ...]

_NAME_PARTS = 16
_NAME_LENGTH = 256


class Kind(StrEnum):
    """How a method is called; ``sync`` is async on the wire."""

    ASYNC = "async"
    SYNC = "sync"
    SOURCE = "source"
    SINK = "sink"
    DUPLEX = "duplex"

    @property
    def is_stream(self) -> bool:
        return self in (Kind.SOURCE, Kind.SINK, Kind.DUPLEX)


_KINDS = frozenset(kind.value for kind in Kind)


class Request(NamedTuple):
    """The peer calls ``name``. ``kind`` is None when it did not say; ``stream`` tells how it expects answers;
    ``size`` is the length of the request's JSON text."""

    call: int
    name: Name
    args: list[JsonValue]
    kind: Kind | None
    stream: bool
    size: int


class BadRequest(Exception):
    """A request that cannot be read; the text tells the caller why."""


def parse_request(call: int, flags: int, body: bytes) -> Request:
    """Read the first frame under a number of the peer's; raises ``BadRequest`` with a text for the caller."""
    if flags & TYPE_MASK != BodyType.JSON:
        raise BadRequest("a request must be JSON")
    try:
        value = decode_json(body)
    except InvalidJson:
        raise BadRequest("the request is not valid JSON") from None
    if not isinstance(value, dict):
        raise BadRequest("a request must be an object")
    args = value.get("args")
    if args is None:
        args = []
    if not isinstance(args, list):
        raise BadRequest("the args of a request must be an array")
    name, kind = _parse_name(value.get("name")), _parse_kind(value.get("type"))
    return Request(call, name, args, kind, bool(flags & STREAM), len(body))


def _parse_name(name: JsonValue) -> Name:
    parts = [name] if isinstance(name, str) else name
    if not isinstance(parts, list) or not 0 < len(parts) <= _NAME_PARTS:
        raise BadRequest("the name of a request must be an array of strings")
    found = tuple(part for part in parts if isinstance(part, str) and 0 < len(part) <= _NAME_LENGTH)
    if len(found) != len(parts):
        raise BadRequest("the name of a request must be an array of strings")
    return found


def _parse_kind(kind: JsonValue) -> Kind | None:
    if kind is None:
        return None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise BadRequest("the type of a request must be async, sync, source, sink or duplex")
    return Kind(kind)
