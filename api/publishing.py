"""How every route that publishes does it: measured first if wanted, at most once a key, only on the expected tip."""

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from api.answers import document
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

_SEQUENCE: Final = r'^(?:"([0-9]{1,16})"|([0-9]{1,16})|[*])$'


def _sequence() -> Reading[int | None]:
    """The sequence in an If-Match header; None for `*`, which every feed matches."""

    def read(given: str) -> int | None:
        match = re.match(_SEQUENCE, given.strip())
        if match is None:
            raise Unfit('must be the sequence of our latest message: "17"')
        return None if match[0] == "*" else int(match[1] or match[2])

    return Reading(read, {"type": "string", "pattern": _SEQUENCE})


DRY_RUN: Final = Parameter("dry_run", flag(), "Measure the message without signing it")
IDEMPOTENCY_KEY: Final = Parameter(
    "Idempotency-Key", key_header(), "The same key publishes once within a day", "header"
)
IF_MATCH: Final = Parameter(
    "If-Match", _sequence(), 'Publish only while our feed is at this sequence: `"17"`', "header"
)
PUBLISHED: Final = also(201, Message, "Signed and stored") | also(200, DryRun, "With dry_run: what it would be")


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
        return _created(await services.ingest.publish(content, recps=recps, if_sequence=expected))
    return await _publish_once(request, order, compose, expected, key)


async def _publish_once(request: Request, order: Body, compose: Compose, expected: int | None, key: str) -> Response:
    """Publish under an Idempotency-Key, or answer what was published under it before."""
    services = services_of(request)
    answers = FirstAnswers(services.database, services.now)
    first = answers.find(key, order.raw)
    if first is None:
        content, recps = await _composed(request, compose, order)
        try:
            also = answers.recorder(key, order.raw)
            return _created(await services.ingest.publish(content, recps=recps, if_sequence=expected, also=also))
        except KeyTaken:
            first = answers.find(key, order.raw)
    published = None if first is None else await services.log.get(first)
    if published is None:
        raise Problem("message-not-found", "The message that this Idempotency-Key published is no longer here.")
    return _created(published, replayed=True)


async def _composed(request: Request, compose: Compose, order: Body) -> Letter:
    """What is to be published; who may not read private messages may not write them either."""
    letter = await compose(services_of(request), order)
    if letter.recps or (isinstance(letter.content, dict) and "recps" in letter.content):
        require(request, TokenScope.PRIVATE)
    return letter


def _created(entry: Entry, *, replayed: bool = False) -> Response:
    headers = {"Location": message_path(entry.id), "ETag": f'"{entry.id}"'}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(entry.as_kvt(), 201, headers, Form.JSON)
