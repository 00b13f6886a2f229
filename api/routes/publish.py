"""Publishing on our own feed: measured first if wanted, at most once a key, only on the expected tip."""

import re
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import document
from api.bodies import Body, read_object, wrong
from api.drafts import measure
from api.errors import Problem
from api.idempotency import FirstAnswers, KeyTaken, key_header
from api.ids import message_path
from api.models import DryRun, Message, PublishBody
from api.negotiation import Form
from api.openapi import also, describe
from api.parameters import Parameter, Reading, Unfit, flag
from api.services import Services, services_of
from feeds.log import Entry
from feeds.message import JsonObject, JsonValue

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/messages", tags=["messages"])

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


@router.post(
    "",
    status_code=201,
    summary="Publish a message on our own feed",
    responses=also(201, Message, "Signed and stored") | also(200, DryRun, "With dry_run: what it would be"),
    openapi_extra=describe(DRY_RUN, IDEMPOTENCY_KEY, IF_MATCH, body=PublishBody),
)
async def publish(request: Request) -> Response:
    services = services_of(request)
    key = IDEMPOTENCY_KEY.of(request)
    expected = IF_MATCH.of(request)
    only_measure = DRY_RUN.of(request)
    order = await read_object(request, services.settings)
    content, recps = _content(order)
    if only_measure:
        return document(request, measure(services, content, recps))
    if key is None:
        return _created(await services.ingest.publish(content, recps=recps, if_sequence=expected))
    return await _publish_once(services, content, recps, expected, key, order.raw)


async def _publish_once(
    services: Services,
    content: JsonObject | str,
    recps: list[JsonValue] | None,
    expected: int | None,
    key: str,
    raw: bytes,
) -> Response:
    """Publish under an Idempotency-Key, or answer what was published under it before."""
    answers = FirstAnswers(services.database, services.now)
    first = answers.find(key, raw)
    if first is None:
        try:
            also = answers.recorder(key, raw)
            return _created(await services.ingest.publish(content, recps=recps, if_sequence=expected, also=also))
        except KeyTaken:
            first = answers.find(key, raw)
    published = None if first is None else await services.log.get(first)
    if published is None:
        raise Problem("message-not-found", "The message that this Idempotency-Key published is no longer here.")
    return _created(published, replayed=True)


def _created(entry: Entry, *, replayed: bool = False) -> Response:
    headers = {"Location": message_path(entry.id), "ETag": f'"{entry.id}"'}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(entry.as_kvt(), 201, headers, Form.JSON)


def _content(order: Body) -> tuple[JsonObject | str, list[JsonValue] | None]:
    """What to publish, and for whom if not for everybody."""
    order.only("content", "recps")
    recps = order.get("recps")
    if not isinstance(recps, list | None):
        raise wrong("recps", "must be a list")
    content = order.required("content")
    if not isinstance(content, dict | str):
        raise wrong("content", "must be an object, or an already encrypted message")
    return content, recps
