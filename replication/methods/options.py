"""Readings of the arguments that scripts and peers send (protocol.md sections 8 and 19).

Arguments come from outside as decoded JSON, so every reading checks the type it expects and answers with a
`RemoteVisible` sentence that names the option. The leniency is the one of the old sbot: a missing option has its
default, `null` counts as missing, and a few calls take a bare value where they also take an object.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from feeds.errors import InvalidRef
from feeds.message import JsonValue
from feeds.refs import FeedRef, MessageRef
from replication.rpc.methods import RemoteVisible

MAX_SEQUENCE = 2**53 - 1

Options = Mapping[str, JsonValue]


def options(args: list[JsonValue], bare: str | None = None) -> Options:
    """The option object of a call: the first argument; a bare string stands for the option named `bare`."""
    first = args[0] if args else None
    if first is None:
        return {}
    if isinstance(first, dict):
        return first
    if bare is not None and isinstance(first, str):
        return {bare: first}
    raise RemoteVisible("expected an object of options" + (f" or {bare} as a string" if bare else ""))


def flag(opts: Options, name: str, default: bool) -> bool:
    """A switch. Anything but true, false and null is refused rather than guessed."""
    value = opts.get(name)
    if value is None:
        return default
    if isinstance(value, bool):
        return value
    raise RemoteVisible(f"option {name}: expected true or false")


def number(opts: Options, name: str) -> float | int | None:
    """A number (a timestamp, say), or None when it is missing."""
    value = opts.get(name)
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_SEQUENCE:
        return value
    raise RemoteVisible(f"option {name}: expected a number")


def whole(opts: Options, name: str) -> int | None:
    """A whole number, or None when it is missing."""
    value = number(opts, name)
    if value is None:
        return None
    if isinstance(value, float):
        if not value.is_integer():
            raise RemoteVisible(f"option {name}: expected a whole number")
        return int(value)
    return value


def text(opts: Options, name: str) -> str | None:
    """A string, or None when it is missing."""
    value = opts.get(name)
    if value is None or isinstance(value, str):
        return value
    raise RemoteVisible(f"option {name}: expected a string")


def limit(opts: Options) -> int | None:
    """How many items at most: None means no limit (missing or negative, as in the old sbot)."""
    value = whole(opts, "limit")
    return None if value is None or value < 0 else value


def feed(value: JsonValue, name: str = "id") -> str:
    """A feed id in any spelling, as its canonical string."""
    if isinstance(value, str):
        try:
            return str(FeedRef.parse(value))
        except InvalidRef:
            pass
    raise RemoteVisible(f"{name}: expected a feed id")


def message(value: JsonValue, name: str = "id") -> str:
    """A message id in any spelling, as its canonical string."""
    if isinstance(value, str):
        try:
            return str(MessageRef.parse(value))
        except InvalidRef:
            pass
    raise RemoteVisible(f"{name}: expected a message id")


def feed_argument(args: list[JsonValue], name: str = "id") -> str:
    """A feed id given as first argument, bare or inside an object."""
    first = args[0] if args else None
    if isinstance(first, dict):
        first = first.get(name)
    return feed(first, name)


@dataclass(frozen=True, slots=True)
class Shape:
    """Which parts of a message a stream hands out, in which order, how many, and whether it goes on living."""

    keys: bool = True
    values: bool = True
    old: bool = True
    live: bool = False
    sync: bool = False
    reverse: bool = False
    limit: int | None = None


def shape(opts: Options) -> Shape:
    """The options which all message streams share."""
    return Shape(
        keys=flag(opts, "keys", True),
        values=flag(opts, "values", True),
        old=flag(opts, "old", True),
        live=flag(opts, "live", False),
        sync=flag(opts, "sync", False),
        reverse=flag(opts, "reverse", False),
        limit=limit(opts),
    )


@dataclass(frozen=True, slots=True)
class Bounds:
    """A range of numbers: above/below are exclusive or inclusive as asked."""

    gt: float | None = None
    gte: float | None = None
    lt: float | None = None
    lte: float | None = None

    def below(self, value: float) -> bool:
        """True when the value lies before the range."""
        return (self.gt is not None and value <= self.gt) or (self.gte is not None and value < self.gte)

    def beyond(self, value: float) -> bool:
        """True when the value lies after the range."""
        return (self.lt is not None and value >= self.lt) or (self.lte is not None and value > self.lte)

    def holds(self, value: float) -> bool:
        """True when the value lies inside the range."""
        return not self.below(value) and not self.beyond(value)

    @property
    def lowest(self) -> float | None:
        """The lower end, whichever way it was given."""
        ends = [end for end in (self.gt, self.gte) if end is not None]
        return max(ends) if ends else None


def bounds(opts: Options) -> Bounds:
    """gt, gte, lt and lte as numbers."""
    return Bounds(number(opts, "gt"), number(opts, "gte"), number(opts, "lt"), number(opts, "lte"))
