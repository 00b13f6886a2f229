"""How every route that publishes does it: measured first if wanted, at most once a key, only on the expected tip."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from api.answers import document, written
from api.bodies import Body, read_object
from api.drafts import measure
from api.errors import Problem
from api.idempotency import FirstAnswers, KeyTaken, key_header
from api.ids import message_path
from api.models import DryRun, Message
from api.negotiation import Form
from api.openapi import also, describe
from api.parameters import Parameter, Reading, Unfit, flag
from api.scopes import TokenScope, require
from api.services import Services, services_of
from feeds.log import Entry
from feeds.message import JsonObject, JsonValue

__all__ = ["PUBLISHED", "Compose", "Letter", "publish", "takes"]

_TAG: Final = r'(?:W/)?"[!#-~\x80-\xff]*"'
_TAGS: Final = rf"^(?:[*]|[0-9]{{1,16}}|{_TAG}(?:[ \t]*,[ \t]*{_TAG})*)$"
_sequences: Final = re.compile(r'(?<!W/)"([0-9]{1,16})"').findall


class Sequences(NamedTuple):
    """What an If-Match header names: any sequence (`*`), or one of some. A weak tag, or another text, is none."""

    any: bool
    named: tuple[int, ...] = ()


def _sequence() -> Reading[Sequences]:
    """The tags in an If-Match header; a number alone is taken for one."""

    def read(given: str) -> Sequences:
        given = given.strip()
        if re.match(_TAGS, given) is None:
            raise Unfit('must be the sequence of our latest message: "17"')
        if given == "*":
            return Sequences(any=True)
        return Sequences(any=False, named=tuple(map(int, [given] if given.isdecimal() else _sequences(given))))

    return Reading(read, {"type": "string", "pattern": _TAGS})


DRY_RUN: Final = Parameter("dry_run", flag(), "Measure the message without signing it")
IDEMPOTENCY_KEY: Final = Parameter(
    "Idempotency-Key", key_header(), "The same key publishes once within a day", "header"
)
IF_MATCH: Final = Parameter(
    "If-Match", _sequence(), 'Publish only while our feed is at this sequence: `"17"`', "header"
)
PUBLISHED: Final = also(201, Message, "Signed and stored", Form.MSGPACK) | also(
    200, DryRun, "With dry_run: what it would be", Form.MSGPACK
)


class Letter(NamedTuple):
    """What to publish, and for whom if not for everybody."""

    content: JsonObject | str
    recps: list[JsonValue] | None = None


Compose = Callable[[Services, Body], Awaitable[Letter]]
"""Makes what is to be published from the body of a request."""


def takes(body: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route that publishes."""
    return describe(DRY_RUN, IDEMPOTENCY_KEY, IF_MATCH, body=body)


async def publish(request: Request, compose: Compose) -> Response:
    """Answer a request to publish."""
    services = services_of(request)
    key = IDEMPOTENCY_KEY.of(request)
    expected = IF_MATCH.of(request)
    only_measure = DRY_RUN.of(request)
    order = await read_object(request, services.settings)
    if only_measure:
        content, recps = await _composed(request, compose, order)
        return document(request, measure(services, content, recps))
    if key is None:
        content, recps = await _composed(request, compose, order)
        sequence = _expected(services, expected)
        return _created(request, await services.ingest.publish(content, recps=recps, if_sequence=sequence))
    return await _publish_once(request, order, compose, expected, key)


async def _publish_once(
    request: Request, order: Body, compose: Compose, expected: Sequences | None, key: str
) -> Response:
    """Publish under an Idempotency-Key, or answer what was published under it before."""
    services = services_of(request)
    answers = FirstAnswers(services.database, services.now)
    first = answers.find(key, order.raw)
    if first is None:
        content, recps = await _composed(request, compose, order)
        sequence = _expected(services, expected)
        try:
            also = answers.recorder(key, order.raw)
            entry = await services.ingest.publish(content, recps=recps, if_sequence=sequence, also=also)
            return _created(request, entry)
        except KeyTaken:
            first = answers.find(key, order.raw)
    published = None if first is None else await services.log.get(first)
    if published is None:
        raise Problem("message-not-found", "The message that this Idempotency-Key published is no longer here.")
    return _created(request, published, {"Idempotency-Replayed": "true"})


def _expected(services: Services, given: Sequences | None) -> int | None:
    """The sequence at which to publish alone; the writer looks at it again, in its own turn."""
    if given is None or given.any:
        return None
    at = services.log.sequence(services.me)
    if not given.named:
        detail = f"If-Match has no strong tag that is a sequence; our feed is at {at}."
        raise Problem("sequence-mismatch", detail, expected=None, sequence=at)
    return at if at in given.named else given.named[0]


async def _composed(request: Request, compose: Compose, order: Body) -> Letter:
    """What is to be published; who may not read private messages may not write them either."""
    letter = await compose(services_of(request), order)
    if letter.recps or (isinstance(letter.content, dict) and "recps" in letter.content):
        require(request, TokenScope.PRIVATE)
    return letter


def _created(request: Request, entry: Entry, also: Mapping[str, str] | None = None) -> Response:
    headers = {"Location": message_path(entry.id), "ETag": f'"{entry.id}"', **(also or {})}
    return written(request, entry.as_kvt(), status=201, headers=headers)
