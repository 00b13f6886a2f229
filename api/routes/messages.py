"""Reading messages: lists of them, and one by its id.

What is answered is the stored text, inside a frame made of its id and the time it was received; nothing is read into
Python values and written again on its way out.
"""

import math
from typing import Final

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import document_form, unpacked, written
from api.errors import Problem
from api.ids import MESSAGE_PATH, any_id, feed_id, message_id, message_in
from api.letters import PRIVATE, UNBOX, WORDS, letter_answer, letters, opened_for, wants_opened
from api.models import Message, MessageList
from api.negotiation import Form
from api.openapi import also, describe, listing
from api.paging import PAGE, Chunk, Mark, is_descending, list_answer
from api.parameters import Parameter, text, whole
from api.searching import query_of
from api.selection import Selection
from api.services import Services, services_of
from feeds import hiding
from feeds.content import content_type
from feeds.formats.registry import format_of_feed
from feeds.log import Entry
from feeds.mailbox import Wanted

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/messages", tags=["messages"])

SCAN_CHUNK: Final = 1000
SCAN_LIMIT: Final = 50_000
"""Messages looked at for one page when something else filters what an index gives."""
PROBE: Final = 200
"""Messages read before the index of claimed times is asked: where most fit, it would only be in the way."""
IMMUTABLE: Final = "private, max-age=31536000, immutable"

_TIME: Final = whole(-(2**53), 2**53)
AUTHOR: Final = Parameter("author", text(512), "Feed id")
TYPE: Final = Parameter("type", text(200), "Type of the content")
SINCE: Final = Parameter("since", _TIME, "Claimed time in milliseconds since 1970, inclusive")
UNTIL: Final = Parameter("until", _TIME, "Claimed time in milliseconds since 1970, inclusive")
CHANNEL: Final = Parameter("channel", text(200), "Channel or hashtag, in any spelling")
ROOT: Final = Parameter("root", text(512), "Id of the first message of a thread: only replies to it")
MENTIONS: Final = Parameter("mentions", text(512), "Id of a feed, message or blob: only what mentions it")


@router.get(
    "",
    summary="Messages in the order received",
    responses=listing(MessageList, "A page of messages"),
    openapi_extra=describe(AUTHOR, TYPE, SINCE, UNTIL, CHANNEL, ROOT, MENTIONS, PRIVATE, *PAGE),
)
async def list_messages(request: Request) -> Response:
    if PRIVATE.of(request):
        return await _letters(request)
    author = AUTHOR.of(request)
    fetch = _MessageFetch(
        services_of(request),
        author=None if author is None else feed_id(author),
        type=TYPE.of(request),
        since=SINCE.of(request),
        until=UNTIL.of(request),
        selection=_selection(request),
        descending=is_descending(request),
    )
    return await list_answer(request, fetch, name="messages")


async def _letters(request: Request) -> Response:
    """The same list of the private messages that we can read, in plain."""
    author, root, mentioned = AUTHOR.of(request), ROOT.of(request), MENTIONS.of(request)
    wanted = Wanted(
        author=None if author is None else feed_id(author),
        type=TYPE.of(request),
        since=SINCE.of(request),
        until=UNTIL.of(request),
        channel=CHANNEL.of(request),
        root=None if root is None else message_id(root),
        mentions=None if mentioned is None else any_id(mentioned),
        words=WORDS.of(request),
    )
    return await list_answer(request, letters(request, wanted), name="letters")


def _selection(request: Request) -> Selection | None:
    """What the filters that go by an index of their own ask for."""
    channel, root, mentioned = CHANNEL.of(request), ROOT.of(request), MENTIONS.of(request)
    query = query_of(request)
    if channel is None and root is None and mentioned is None and query is None:
        return None
    return Selection(
        channel=channel,
        root=None if root is None else message_id(root),
        mentions=None if mentioned is None else any_id(mentioned),
        query=query,
    )


class _MessageFetch:
    """Chunks of the log that pass the filters; marks are positions. What comes in after the request is left out."""

    def __init__(
        self,
        services: Services,
        *,
        author: str | None,
        type: str | None,
        since: int | None,
        until: int | None,
        selection: Selection | None,
        descending: bool,
    ) -> None:
        self._log = services.log
        self._database = services.database
        self._selection = selection
        self._author = author
        self._type = type
        self._since = since
        self._until = until
        self._descending = descending
        self._end = services.log.position

    async def __call__(self, mark: Mark | None, limit: int) -> Chunk:
        if self._selection is None and self._since is None and self._until is None:
            entries = await self._read(mark, limit + 1)
            return _chunk(entries[:limit], more=len(entries) > limit)
        if self._selection is None:
            return await self._in_range(mark, limit)
        return await self._scan(mark, limit)

    async def _in_range(self, mark: Mark | None, limit: int) -> Chunk:
        """What was claimed between two times: if not among the next in receive order, then by the index of times."""
        at_once = max(PROBE, 2 * limit)
        entries = await self._read(mark, at_once)
        found = [entry for entry in entries if self._in_time(entry)]
        if len(found) > limit or len(entries) < at_once:
            return _chunk(found[:limit], more=len(found) > limit)
        if len(found) == limit:
            return _chunk(found, more=True)
        more, following = await self._log.claimed_within(
            -math.inf if self._since is None else self._since,
            math.inf if self._until is None else self._until,
            after=entries[-1].position,
            limit=limit - len(found),
            author=self._author,
            type=self._type,
            descending=self._descending,
        )
        page = found + [entry for entry in more if entry.position <= self._end]
        return Chunk([entry.as_kvt() for entry in page], following)

    async def _scan(self, mark: Mark | None, limit: int) -> Chunk:
        found: list[Entry] = []
        looked_at = 0
        at_once = SCAN_CHUNK if self._selection is None or self._is_narrowed() else limit + 1
        while looked_at < SCAN_LIMIT:
            entries = await self._read(mark, at_once)
            for entry in entries:
                if self._fits(entry):
                    if len(found) == limit:
                        return _chunk(found, more=True)
                    found.append(entry)
            if len(entries) < at_once:
                return _chunk(found, more=False)
            looked_at += len(entries)
            mark = entries[-1].position
        return Chunk([entry.as_kvt() for entry in found], mark)

    async def _read(self, mark: Mark | None, limit: int) -> list[Entry]:
        position = int(mark or 0)
        if self._descending and mark is not None and position <= 1:
            return []
        if self._selection is not None:
            return await self._select(self._selection, position, limit)
        entries = await self._log.entries_after(
            position, limit, author=self._author, type=self._type, descending=self._descending
        )
        return [entry for entry in entries if entry.position <= self._end]

    async def _select(self, selection: Selection, position: int, limit: int) -> list[Entry]:
        if self._descending and not position:
            position = self._end + 1
        entries = await self._database.read(
            lambda connection: selection.read(connection, position, limit, descending=self._descending)
        )
        return [entry for entry in entries if entry.position <= self._end]

    def _is_narrowed(self) -> bool:
        """Whether something besides the selection decides."""
        return any(rule is not None for rule in (self._author, self._type, self._since, self._until))

    def _fits(self, entry: Entry) -> bool:
        if self._selection is not None and not (
            self._selection.is_named_in(entry.text)
            and (self._author is None or entry.author == self._author)
            and (self._type is None or _type(entry.text) == self._type)
        ):
            return False
        return (self._since is None and self._until is None) or self._in_time(entry)

    def _in_time(self, entry: Entry) -> bool:
        claimed = _claimed_time(entry.text)
        return (self._since is None or claimed >= self._since) and (self._until is None or claimed <= self._until)


def _chunk(entries: list[Entry], *, more: bool) -> Chunk:
    return Chunk([entry.as_kvt() for entry in entries], entries[-1].position if more else None)


def _type(text: bytes) -> str | None:
    value = unpacked(text)
    content = value.get("content") if isinstance(value, dict) else None
    return content_type(content) if isinstance(content, dict) else None


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


@router.get(
    "/{id:path}/raw",
    summary="The exact signed text",
    responses={200: {"description": "As it was signed", "content": {"text/plain": {}}}},
    openapi_extra=describe(path=MESSAGE_PATH),
)
async def raw_message(request: Request) -> Response:
    entry = await _entry(request)
    headers = _cached(entry)
    if _unchanged(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    text = format_of_feed(entry.author).signed_text(entry.text)
    return Response(text, headers=headers, media_type="text/plain; charset=utf-8")


@router.get(
    "/{id:path}",
    summary="One message",
    responses=also(200, Message, "The message", Form.MSGPACK),
    openapi_extra=describe(PRIVATE, UNBOX, path=MESSAGE_PATH),
)
async def one_message(request: Request) -> Response:
    entry = await _entry(request)
    if wants_opened(request):
        opened = opened_for(request, services_of(request), entry)
        return letter_answer(request, entry.as_kvt() if opened is None else opened.as_kvt())
    wanted = document_form(request)
    headers = _cached(entry, "" if wanted is Form.JSON else ";msgpack")
    services = services_of(request)
    if entry.author == services.me:
        headers["Reported-By"] = str(services.publishing.reported(entry.sequence))
    if _unchanged(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return written(request, entry.as_kvt(), headers=headers)


async def _entry(request: Request) -> Entry:
    message = message_in(request)
    services = services_of(request)
    entry = await services.log.get(message)
    if entry is None:
        if services.database.peek(lambda connection: hiding.is_message_deleted(connection, message)):
            raise Problem("message-deleted", f"{message} was deleted on this node; others may still have it.")
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
