"""Full-text search in public messages, or with `private=1` in the private ones that we can read."""

from collections.abc import Sequence
from typing import Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import unpacked
from api.ids import feed_id
from api.letters import PRIVATE, letters
from api.models import FoundList
from api.muting import INCLUDE_MUTED, left_out
from api.openapi import describe, listing
from api.paging import NEWEST_FIRST, Chunk, Mark, is_descending, list_answer
from api.parameters import Parameter, text
from api.searching import WORDS, query_of
from api.services import Services, services_of
from feeds.content import content_type
from feeds.log import Entry, entries_at
from feeds.mailbox import OpenedEntry, Wanted
from feeds.message import JsonObject
from feeds.names import as_json
from feeds.search_words import Query, excerpt_of
from feeds.views import search

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/search", tags=["messages"])

SCAN_CHUNK: Final = 500
SCAN_LIMIT: Final = 20_000
"""Messages with the words that are looked at for one page."""
AUTHOR: Final = Parameter("author", text(512), "Feed id")
TYPE: Final = Parameter("type", text(200), "Type of the content")


@router.get(
    "",
    summary="Full-text search in public messages, or in private ones",
    responses=listing(FoundList, "Messages with an excerpt, the newest received first"),
    openapi_extra=describe(WORDS, TYPE, AUTHOR, PRIVATE, INCLUDE_MUTED, *NEWEST_FIRST),
)
async def find(request: Request) -> Response:
    services = services_of(request)
    query = query_of(request)
    if query is None:
        raise WORDS.refusal("must be given")
    if PRIVATE.of(request):
        return await _letters(request, query)
    author = AUTHOR.of(request)
    fetch = _Finding(
        services,
        query,
        author=None if author is None else feed_id(author),
        type=TYPE.of(request),
        hidden=left_out(request),
        descending=is_descending(request, newest_first=True),
    )
    behind = services.indexer.behind.get(search.Search.name, 0)
    return await list_answer(request, fetch, name="search", newest_first=True, members={"behind": behind})


async def _letters(request: Request, query: Query) -> Response:
    """The same in the private messages that we can read; nothing of them is in an index, so all of them are read."""
    author = AUTHOR.of(request)
    chosen = None if author is None else feed_id(author)
    wanted = Wanted(
        author=chosen,
        type=TYPE.of(request),
        query=query,
        without=frozenset(left_out(request)) - {chosen},
    )

    def shown(one: OpenedEntry) -> bytes:
        content = one.opened.content
        snippet = _snippet(content, query) if isinstance(content, dict) else orjson.dumps(None)
        return b'%b,"snippet":%b}' % (one.as_kvt()[:-1], snippet)

    fetch = letters(request, wanted, newest_first=True, shown=shown)
    return await list_answer(request, fetch, name="search-letters", newest_first=True, members={"behind": 0})


class _Finding:
    """Chunks of what is found; marks are positions."""

    def __init__(
        self,
        services: Services,
        query: Query,
        *,
        author: str | None,
        type: str | None,
        hidden: Sequence[str],
        descending: bool,
    ) -> None:
        self._database = services.database
        self._query = query
        self._author = author
        self._type = type
        self._hidden = [feed for feed in hidden if feed != author]
        self._descending = descending
        self._end = services.log.position + 1

    async def __call__(self, mark: Mark | None, limit: int) -> Chunk:
        at = int(mark) if mark is not None else (self._end if self._descending else 0)
        found: list[bytes] = []
        looked_at = 0
        at_once = min(SCAN_CHUNK, 2 * limit)
        while looked_at < SCAN_LIMIT:
            entries, following = await self._read(at, at_once)
            for entry in entries:
                item = self._item(entry)
                if item is not None:
                    if len(found) == limit:
                        return Chunk(found, at)
                    found.append(item)
                at = entry.position
            if following is None:
                return Chunk(found, None)
            at = following
            looked_at += at_once
            at_once = SCAN_CHUNK
        return Chunk(found, at)

    async def _read(self, at: int, at_once: int) -> tuple[list[Entry], int | None]:
        """The next entries that have the words, and from where to go on."""
        hits = await self._database.read(
            lambda connection: search.hits(
                connection,
                self._query,
                after=at,
                limit=at_once,
                author=self._author,
                without=self._hidden,
                descending=self._descending,
            )
        )
        entries = await self._database.read(lambda connection: entries_at(connection, hits.positions))
        return [entry for entry in entries if entry.position < self._end], hits.mark

    def _item(self, entry: Entry) -> bytes | None:
        value = unpacked(entry.text)
        content = value.get("content") if isinstance(value, dict) else None
        if not isinstance(content, dict) or not self._query.fits(content):
            return None
        if self._type is not None and content_type(content) != self._type:
            return None
        return b'%b,"snippet":%b}' % (entry.as_kvt()[:-1], _snippet(content, self._query))


def _snippet(content: JsonObject, query: Query) -> bytes:
    excerpt = excerpt_of(content, query)
    if excerpt is None:
        return orjson.dumps(None)
    return as_json({"field": excerpt.field, "text": excerpt.text, "html": excerpt.html}).encode()
