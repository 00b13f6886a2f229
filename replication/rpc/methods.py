"""Which methods a node offers, of what kind, and who may call them (protocol.md section 19).

Handlers, by kind; ``args`` are decoded JSON from outside and must be type-checked:

* async and sync: ``async def handler(caller, args) -> value`` (a ``RawJson`` or ``bytes`` is sent as it is);
* source: ``async def handler(caller, args, out: Sink)``; returning ends the stream;
* sink: ``async def handler(caller, args, inp: Source)``; returning ends the stream;
* duplex: ``async def handler(caller, args, both: Duplex)``.

The text of a ``RemoteVisible`` goes to the caller; any other error becomes a fixed short text there and
a log entry here.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from replication.errors import RemoteVisible
from replication.rpc.calls import Kind, Name

if TYPE_CHECKING:
    from replication.rpc.connection import RpcConnection

__all__ = ["Caller", "Kind", "Manifest", "Method", "MethodTable", "Name", "Pool", "RemoteVisible", "Who", "refusal"]

Manifest = dict[str, "str | Manifest"]
Handler = Callable[..., Awaitable[Any]]


class Who(Enum):
    """What a caller must be to use a method; a local caller may use everything."""

    LOCAL = "local"
    """The node's own user: same id, or the unix socket."""
    ANON = "anon"
    """Any authenticated remote that was let in."""
    INVITE = "invite"
    """Only a caller that used an invite's key."""
    MEMBER = "member"
    """A member of the room that this node is."""


class Pool(Enum):
    """Which bound an open call counts against; async calls always count as ``CALLS``."""

    CALLS = "calls"
    STREAMS = "streams"
    HISTORY = "history"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who called: handed to every handler. ``id`` is None on an unauthenticated local socket."""

    id: str | None
    local: bool
    connection: "RpcConnection"
    rights: frozenset[Who] = frozenset({Who.ANON})

    def may(self, who: Who) -> bool:
        return self.local or who in self.rights


@dataclass(frozen=True, slots=True)
class Method:
    """One method. ``max_json`` overrides the size allowed for JSON items of its stream, in bytes."""

    name: Name
    kind: Kind
    who: Who
    handler: Handler
    max_json: int | None = None
    pool: Pool = Pool.STREAMS

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", Kind(self.kind))


class MethodTable:
    """The methods of a node by name."""

    def __init__(self, methods: Iterable[Method] = ()) -> None:
        self._methods: dict[Name, Method] = {}
        for method in methods:
            self.add(method)

    def add(self, method: Method) -> None:
        """Offer ``method`` too; a name can be given only once, and names a method or a group of them."""
        for name in self._methods:
            shorter = min(len(name), len(method.name))
            if name[:shorter] == method.name[:shorter]:
                raise ValueError(f"{'.'.join(name)} is there already, so {'.'.join(method.name)} cannot be added")
        self._methods[method.name] = method

    def find(self, name: Name, caller: Caller) -> Method:
        """The method, if it exists and the caller may use it; otherwise raises ``RemoteVisible``."""
        method = self._methods.get(name)
        if method is None or not caller.may(method.who):
            raise RemoteVisible(refusal(name))
        return method

    def max_json(self, name: Name) -> int | None:
        """The size allowed for JSON items of a method's stream, where it is special."""
        method = self._methods.get(name)
        return None if method is None else method.max_json

    def manifest(self, caller: Caller) -> Manifest:
        """The tree of names and kinds that ``caller`` may use, as the ``manifest`` method answers it."""
        tree: Manifest = {}
        for method in self._methods.values():
            if not caller.may(method.who):
                continue
            branch = tree
            for part in method.name[:-1]:
                below = branch.setdefault(part, {})
                assert isinstance(below, dict)
                branch = below
            branch[method.name[-1]] = method.kind.value
        return tree


def refusal(name: Name) -> str:
    """The text for an unknown or forbidden method; deployed peers compare it literally."""
    return f"method:{','.join(name)} is not in list of allowed methods"
