"""Messages: publish one, list them, one by its id.

What is answered is the stored text, inside a frame made of its id and the time it was received; nothing is read into
Python values and written again on its way out.
"""

import re
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Header, Query
from starlette.requests import Request
from starlette.responses import Response

from api.answers import document, packed, unpacked
from api.bodies import Body, read_object, wrong
from api.drafts import measure, refuse_recipients
from api.errors import Problem
from api.idempotency import LONGEST_KEY, FirstAnswers, KeyTaken, checked_key
from api.ids import MessagePath, feed_id, message_id, message_path
from api.models import DryRun, Message, MessageList, PublishBody
from api.negotiation import Form, form
from api.openapi import also, body, listing
from api.paging import Chunk, Cursor, Limit, Mark, Order, list_answer
from api.services import Services, services_of
from feeds.formats.registry import format_of_feed
from feeds.log import Entry
from feeds.message import JsonObject

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/messages", tags=["messages"])

NOT_YET: Final = ("channel", "root", "mentions", "private", "q")
"""Filters that are promised for later; ignoring one would answer another question than was asked."""
SCAN_CHUNK: Final = 1000
SCAN_LIMIT: Final = 50_000
"""Messages looked at for one page when filtering by claimed time, for which there is no index."""
IMMUTABLE: Final = "private, max-age=31536000, immutable"

_is_sequence: Final = re.compile(r'"([0-9]{1,16})"|([0-9]{1,16})').fullmatch

ClaimedTime = Annotated[
    int | None, Query(ge=-(2**53), le=2**53, description="Claimed time in milliseconds since 1970, inclusive")
]


# --- publish ----------------------------------------------------------------------------------------------------------


@router.post(
    "",
    status_code=201,
    summary="Publish a message on our own feed",
    responses=also(201, Message, "Signed and stored") | also(200, DryRun, "With dry_run: what it would be"),
    openapi_extra=body(PublishBody),
)
async def publish(
    request: Request,
    dry_run: Annotated[bool, Query(description="Measure the message without signing it")] = False,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="The same key publishes once within a day",
            json_schema_extra={"minLength": 1, "maxLength": LONGEST_KEY, "pattern": "^[!-~]+$"},
        ),
    ] = None,
    if_match: Annotated[
        str | None,
        Header(
            description='Publish only while our feed is at this sequence: `"17"`',
            json_schema_extra={"pattern": '^("[0-9]{1,16}"|[0-9]{1,16}|[*])$'},
        ),
    ] = None,
) -> Response:
    services = services_of(request)
    key = checked_key(idempotency_key)
    expected = _expected_sequence(if_match)
    order = await read_object(request, services.settings)
    content = _content(order)
    if dry_run:
        return document(request, measure(services, content))
    if key is None:
        return _created(await services.ingest.publish(content, if_sequence=expected))
    return await _publish_once(services, content, expected, key, order.raw)


async def _publish_once(
    services: Services, content: JsonObject | str, expected: int | None, key: str, raw: bytes
) -> Response:
    """Publish under an Idempotency-Key, or answer what was published under it before."""
    answers = FirstAnswers(services.database, services.now)
    first = answers.find(key, raw)
    if first is None:
        try:
            entry = await services.ingest.publish(content, if_sequence=expected, also=answers.recorder(key, raw))
            return _created(entry)
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


def _content(order: Body) -> JsonObject | str:
    order.only("content", "recps")
    recipients = order.get("recps")
    if not isinstance(recipients, list | None):
        raise wrong("recps", "must be a list")
    if recipients:
        raise Problem("private-not-available", "This node cannot encrypt messages for recps yet.")
    content = order.required("content")
    if not isinstance(content, dict | str):
        raise wrong("content", "must be an object, or an already encrypted message")
    refuse_recipients(content)
    return content


def _expected_sequence(if_match: str | None) -> int | None:
    """The sequence in an If-Match header; None for no condition."""
    if if_match is None or if_match.strip() == "*":
        return None
    match = _is_sequence(if_match.strip())
    if match is None:
        raise Problem("invalid-header", 'If-Match must be the sequence of our feed\'s latest message: "17".')
    return int(match[1] or match[2])


# --- read -------------------------------------------------------------------------------------------------------------


@router.get("", summary="Messages in the order received", responses=listing(MessageList, "A page of messages"))
async def list_messages(
    request: Request,
    author: Annotated[str | None, Query(description="Feed id")] = None,
    type: Annotated[str | None, Query(description="Type of the content", max_length=200)] = None,
    since: ClaimedTime = None,
    until: ClaimedTime = None,
    limit: Limit = None,
    cursor: Cursor = None,
    order: Order = "asc",
) -> Response:
    services = services_of(request)
    for name in NOT_YET:
        if name in request.query_params:
            raise Problem("filter-not-available", f"The filter {name} is not available yet.", parameter=name)
    fetch = _MessageFetch(
        services, None if author is None else feed_id(author), type, since, until, descending=order == "desc"
    )
    return await list_answer(request, fetch, kind=int, name=f"messages.{order}", limit=limit, cursor=cursor)


class _MessageFetch:
    """Chunks of the log that pass the filters; marks are positions. What comes in after the request is left out."""

    def __init__(
        self,
        services: Services,
        author: str | None,
        type: str | None,
        since: int | None,
        until: int | None,
        *,
        descending: bool,
    ) -> None:
        self._log = services.log
        self._author = author
        self._type = type
        self._since = since
        self._until = until
        self._descending = descending
        self._end = services.log.position

    async def __call__(self, mark: Mark | None, limit: int) -> Chunk:
        if self._since is None and self._until is None:
            entries = await self._read(mark, limit + 1)
            return _chunk(entries[:limit], more=len(entries) > limit)
        return await self._scan(mark, limit)

    async def _scan(self, mark: Mark | None, limit: int) -> Chunk:
        found: list[Entry] = []
        looked_at = 0
        while looked_at < SCAN_LIMIT:
            entries = await self._read(mark, SCAN_CHUNK)
            for entry in entries:
                if self._in_time(entry):
                    if len(found) == limit:
                        return _chunk(found, more=True)
                    found.append(entry)
            if len(entries) < SCAN_CHUNK:
                return _chunk(found, more=False)
            looked_at += len(entries)
            mark = entries[-1].position
        return Chunk([entry.as_kvt() for entry in found], mark)

    async def _read(self, mark: Mark | None, limit: int) -> list[Entry]:
        position = int(mark or 0)
        if self._descending and mark is not None and position <= 1:
            return []
        entries = await self._log.entries_after(
            position, limit, author=self._author, type=self._type, descending=self._descending
        )
        return [entry for entry in entries if entry.position <= self._end]

    def _in_time(self, entry: Entry) -> bool:
        claimed = _claimed_time(entry.text)
        return (self._since is None or claimed >= self._since) and (self._until is None or claimed <= self._until)


def _chunk(entries: list[Entry], *, more: bool) -> Chunk:
    return Chunk([entry.as_kvt() for entry in entries], entries[-1].position if more else None)


class _Claim(msgspec.Struct):
    """The one member of a message's value that filtering by time reads."""

    timestamp: int | float


_read_claim: Final = msgspec.json.Decoder(_Claim).decode


def _claimed_time(text: bytes) -> float:
    try:
        return _read_claim(text).timestamp
    except msgspec.MsgspecError:
        value = unpacked(text)
        claimed = value.get("timestamp") if isinstance(value, dict) else None
        return float("nan") if not isinstance(claimed, int | float) else claimed


@router.get("/{id:path}/raw", summary="The exact signed text", responses={200: {"content": {"text/plain": {}}}})
async def raw_message(request: Request, id: MessagePath) -> Response:
    entry = await _entry(request, id)
    headers = _cached(entry)
    if _unchanged(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    text = format_of_feed(entry.author).signed_text(entry.text)
    return Response(text, headers=headers, media_type="text/plain; charset=utf-8")


@router.get("/{id:path}", summary="One message", responses=also(200, Message, "The message", Form.MSGPACK))
async def one_message(request: Request, id: MessagePath) -> Response:
    entry = await _entry(request, id)
    wanted = form(request.headers.get("accept"), (Form.JSON, Form.MSGPACK))
    headers = _cached(entry, "" if wanted is Form.JSON else ";msgpack")
    if _unchanged(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if wanted is Form.MSGPACK:
        return Response(packed(unpacked(entry.as_kvt())), headers=headers, media_type=Form.MSGPACK)
    return Response(entry.as_kvt(), headers=headers, media_type=Form.JSON)


async def _entry(request: Request, id: str) -> Entry:
    message = message_id(id)
    entry = await services_of(request).log.get(message)
    if entry is None:
        raise Problem("message-not-found", f"This node does not have {message}.")
    return entry


def _cached(entry: Entry, form_suffix: str = "") -> dict[str, str]:
    """Headers of an answer that never changes: the id of a message is a hash of it."""
    return {"ETag": f'"{entry.id}{form_suffix}"', "Cache-Control": IMMUTABLE, "Vary": "Accept"}


def _unchanged(request: Request, etag: str) -> bool:
    known = request.headers.get("if-none-match")
    if known is None:
        return False
    return known.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in known.split(","))
