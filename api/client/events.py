"""Server-sent events, read from lines."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from api.client.problems import UNEXPECTED, ApiProblem
from feeds.canonical_json import parse
from feeds.errors import InvalidJson

__all__ = ["Event", "events_in"]


class Event(NamedTuple):
    """`kind` is message, peer, sync or blob; `position` the place to resume from."""

    kind: str
    data: Any
    position: int


def events_in(lines: Iterable[bytes]) -> Iterator[Event]:
    """The events; comments only show that the stream lives. Raises ApiProblem."""
    fields: dict[str, list[str]] = {}
    for raw in lines:
        line = raw.removesuffix(b"\r").decode("utf-8", "replace")
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
        elif fields:
            if "data" in fields:
                yield _event(fields)
            fields = {}


def _event(fields: dict[str, list[str]]) -> Event:
    try:
        data = parse("\n".join(fields["data"]))
        return Event(fields.get("event", ["message"])[-1], data, int(fields.get("id", ["0"])[-1]))
    except (InvalidJson, ValueError):
        raise ApiProblem(UNEXPECTED, 200, "The node sent an event that cannot be read.") from None
