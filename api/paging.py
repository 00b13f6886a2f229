"""Lists: `limit`, `order` and an opaque `cursor` in, `{"items":[…],"next":…}` with a Link header or NDJSON out.

A list is a `Fetch`: a function from a mark and a number of items to the next chunk of them, each item a JSON text. One
call makes a page; NDJSON calls it until the list ends, and because it fetches the next chunk only once the server has
taken the last one, a slow reader costs no memory.
"""

import base64
import binascii
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final, NamedTuple
from urllib.parse import quote_plus

import orjson
from starlette.requests import Request
from starlette.responses import Response

from api.answers import NdjsonResponse, packed, unpacked
from api.errors import Problem
from api.negotiation import Form, form
from api.parameters import Parameter, choice, text, whole
from api.services import services_of

__all__ = ["MAX_LIMIT", "NEWEST_FIRST", "PAGE", "Chunk", "Fetch", "Mark", "is_descending", "list_answer", "slice_of"]

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 500
STREAM_CHUNK: Final = 200

LIMIT: Final = Parameter(
    "limit", whole(1, MAX_LIMIT), f"Items a page, {DEFAULT_LIMIT} if not given; of NDJSON at most so many"
)
CURSOR: Final = Parameter("cursor", text(512), "`next` of the page before")
ORDER: Final = Parameter("order", choice("asc", "desc"), "Oldest first (the default) or newest first")
PAGE: Final = (LIMIT, CURSOR, ORDER)
"""The parameters that every list takes."""
NEWEST_FIRST: Final = (
    LIMIT,
    CURSOR,
    Parameter("order", choice("asc", "desc"), "Newest first (the default) or oldest first"),
)
"""The same for a list that begins with the newest."""

Mark = int | str


class Chunk(NamedTuple):
    """Consecutive items, each a JSON text, and the mark from which the next chunk goes on; None at the end."""

    items: list[bytes]
    mark: Mark | None


Fetch = Callable[[Mark | None, int], Awaitable[Chunk]]
"""(mark or None for the start, most items) -> chunk. It may return fewer items, even none, and still go on."""

FORMS: Final = (Form.JSON, Form.NDJSON, Form.MSGPACK)


def is_descending(request: Request, *, newest_first: bool = False) -> bool:
    """Whether a list is wanted newest first; newest_first -- what it is when nothing is said."""
    wanted = ORDER.of(request)
    return newest_first if wanted is None else wanted == "desc"


async def list_answer(
    request: Request,
    fetch: Fetch,
    *,
    name: str,
    kind: type[int] | type[str] = int,
    newest_first: bool = False,
    members: Mapping[str, object] | None = None,
) -> Response:
    """A page, or all as NDJSON.

    kind -- what marks of this list are; name -- goes into cursors, so that one list refuses another's; newest_first --
    as for `is_descending`; members -- what a page has beside its items.
    """
    wanted = form(request.headers.get("accept"), FORMS)
    limit = LIMIT.of(request)
    cursor = CURSOR.of(request)
    name = f"{name}.{'desc' if is_descending(request, newest_first=newest_first) else 'asc'}"
    mark = None if cursor is None else _decode(cursor, name, kind)
    if wanted is Form.NDJSON:
        first = await fetch(mark, min(limit or STREAM_CHUNK, STREAM_CHUNK))
        return NdjsonResponse(_lines(fetch, first, limit), services_of(request).stopping)
    chunk = await fetch(mark, limit or DEFAULT_LIMIT)
    following = None if chunk.mark is None else _encode(chunk.mark, name)
    headers = {"Vary": "Accept"}
    if following is not None:
        headers["Link"] = f'<{_with_cursor(request, following)}>; rel="next"'
    if wanted is Form.MSGPACK:
        whole_page = {"items": [unpacked(item) for item in chunk.items], "next": following, **(members or {})}
        return Response(packed(whole_page), media_type=Form.MSGPACK, headers=headers)
    beside = b"," + orjson.dumps(members)[1:-1] if members else b""
    body = b'{"items":[%b],"next":%b%b}' % (b",".join(chunk.items), orjson.dumps(following), beside)
    return Response(body, media_type=Form.JSON, headers=headers)


def slice_of(items: list[bytes]) -> Fetch:
    """A list that is at hand as a whole; its marks are offsets."""

    async def fetch(mark: Mark | None, limit: int) -> Chunk:
        start = int(mark or 0)
        end = start + limit
        return Chunk(items[start:end], end if end < len(items) else None)

    return fetch


async def _lines(fetch: Fetch, chunk: Chunk, limit: int | None) -> AsyncIterator[bytes]:
    left = limit
    while True:
        if chunk.items:
            yield b"\n".join(chunk.items) + b"\n"
        if left is not None:
            left -= len(chunk.items)
        if chunk.mark is None or left == 0:
            return
        chunk = await fetch(chunk.mark, min(left or STREAM_CHUNK, STREAM_CHUNK))


def _with_cursor(request: Request, cursor: str) -> str:
    """The same request for the next page, as a relative reference."""
    others = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    query = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in [*others, ("cursor", cursor)])
    path = request.scope.get("raw_path", b"").decode("ascii", "replace") or request.url.path
    return f"{path}?{query}"


def _encode(mark: Mark, name: str) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([name, mark])).rstrip(b"=").decode()


def _decode(cursor: str, name: str, kind: type[int] | type[str]) -> Mark:
    try:
        value = orjson.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
    except (binascii.Error, ValueError):
        value = None
    if isinstance(value, list) and len(value) == 2 and value[0] == name and type(value[1]) is kind:
        mark: Mark = value[1]
        if isinstance(mark, str) or 0 <= mark < 2**63:
            return mark
    raise Problem("invalid-cursor", "Use the `next` of a page of this list, with the same order.")
