"""Reading the body of a write: bounded in size and time, UTF-8, JSON exactly as V8 reads it, only known members."""

import asyncio
from typing import Final

from starlette.requests import Request

from api.errors import Problem
from api.services import HttpSettings
from feeds.canonical_json import parse
from feeds.message import JsonObject, JsonValue

__all__ = ["Body", "body_timeout", "read_arguments", "read_object", "wrong"]

_TAKEN: Final = "Send a JSON object as application/json."


class Body:
    """A JSON object with known members; what it lacks, or has too much, becomes a Problem invalid-body."""

    def __init__(self, raw: bytes, members: JsonObject) -> None:
        self.raw: Final = raw
        self._members: Final = members

    def only(self, *names: str) -> None:
        """Refuse members of other names: a misspelt `recps` must not publish to everybody what was meant for two."""
        for name in self._members:
            if name not in names:
                raise wrong(name, f"has no place here; known are {', '.join(names)}")

    def has(self, name: str) -> bool:
        """Whether a member is there; it may be null."""
        return name in self._members

    def get(self, name: str) -> JsonValue:
        """A member's value; None when it is not there."""
        return self._members.get(name)

    def required(self, name: str) -> JsonValue:
        """A member that must be there; it may be null."""
        if name not in self._members:
            raise wrong(name, "is missing")
        return self._members[name]

    def text(self, name: str) -> str:
        value = self.required(name)
        if not isinstance(value, str):
            raise wrong(name, "must be a string")
        return value

    def optional_text(self, name: str) -> str | None:
        """A text that may be left out or be null."""
        return None if self.get(name) is None else self.text(name)

    def flag(self, name: str) -> bool:
        value = self.required(name)
        if not isinstance(value, bool):
            raise wrong(name, "must be true or false")
        return value


def wrong(member: str, reason: str) -> Problem:
    """The problem of a member of the body."""
    shown = member.encode(errors="replace").decode()[:80]
    pointer = "#/" + shown.replace("~", "~0").replace("/", "~1")
    return Problem("invalid-body", f"{shown!r} {reason}.", errors=[{"pointer": pointer, "detail": reason}])


async def read_object(request: Request, settings: HttpSettings) -> Body:
    """The request's body as a JSON object.

    Raises Problem: unsupported-media-type, body-too-large, body-timeout, invalid-body; InvalidJson.
    """
    _check_type(request)
    raw = await _read(request, settings)
    value = parse(raw)
    if not isinstance(value, dict):
        raise Problem("invalid-body", "The body must be a JSON object.", errors=[{"pointer": "#", "detail": _TAKEN}])
    return Body(raw, value)


def _check_type(request: Request) -> None:
    name, *parameters = (part.strip().lower() for part in request.headers.get("content-type", "").split(";"))
    if name != "application/json":
        raise Problem("unsupported-media-type", _TAKEN, headers={"Accept": "application/json"})
    for parameter in parameters:
        key, _, charset = parameter.partition("=")
        if key.strip() == "charset" and charset.strip('" ') not in ("utf-8", "utf8"):
            raise Problem("unsupported-media-type", "JSON is always UTF-8.")
    if request.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise Problem("unsupported-media-type", "Send the body without Content-Encoding.")


async def read_arguments(request: Request, settings: HttpSettings) -> list[JsonValue]:
    """The request's body as a list of arguments: a JSON array, an object as the only one, or nothing at all.

    Raises Problem as `read_object` does; InvalidJson.
    """
    if request.headers.get("content-type"):
        _check_type(request)
    raw = await _read(request, settings)
    if not raw:
        return []
    _check_type(request)
    value = parse(raw)
    if not isinstance(value, list | dict):
        detail = "Send a JSON array of arguments, or an object as the only one."
        raise Problem("invalid-body", detail, errors=[{"pointer": "#", "detail": detail}])
    return value if isinstance(value, list) else [value]


async def _read(request: Request, settings: HttpSettings) -> bytes:
    """The request's body. Raises Problem body-too-large, body-timeout."""
    limit = settings.body_limit
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise _too_large(limit)
    chunks = bytearray()
    try:
        async with asyncio.timeout(settings.body_timeout):
            async for chunk in request.stream():
                chunks += chunk
                if len(chunks) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise body_timeout(settings.body_timeout) from None
    return bytes(chunks)


def body_timeout(seconds: float) -> Problem:
    """The problem of a body that comes too slowly."""
    detail = f"The body did not arrive within {seconds:g} seconds."
    return Problem("body-timeout", detail, headers={"Connection": "close"})


def _too_large(limit: int) -> Problem:
    detail = f"A body here may have at most {limit} bytes."
    return Problem("body-too-large", detail, limit=limit)
