"""Blobs: taken in as they stream, given out whole or in ranges, wanted where they are missing.

Anybody can have written a blob. What the node says of its type is only what its first bytes show, and a browser may
show nothing in place but pictures, sound and films; the rest is to be saved, in a sandbox, without guessing.
"""

import asyncio
from typing import Any, Final

import orjson
from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.answers import document
from api.boxed_blobs import parse_key, unbox
from api.byte_ranges import ByteRange, Unsatisfiable, wanted_range
from api.downloads import Download
from api.errors import Problem
from api.ids import BLOB_PATH, blob_id, blob_in, blob_path
from api.media_types import HEAD_SIZE, is_inline, media_type
from api.models import Blob, BlobAdded, BlobList, BlobReferenceList
from api.openapi import also, describe, listing
from api.paging import NEWEST_FIRST, PAGE, Chunk, Mark, is_descending, list_answer
from api.parameters import Parameter, Reading, Unfit, flag, text
from api.services import Services, services_of
from api.uploads import file_in, too_large
from feeds.blobs import BlobInfo, BlobReader, Want
from feeds.errors import NotFound, TooLarge
from feeds.views.blob_references import Reference, references_to
from feeds.views.interning import storable

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/blobs", tags=["blobs"])

IMMUTABLE: Final = "private, max-age=31536000, immutable"
SANDBOX: Final = "default-src 'none'; media-src 'self'; sandbox"
SENT_AT_ONCE: Final = 256 * 1024
"""Bytes up to which an answer is read as a whole; larger ones are read as the client takes them."""


def _boxed_key() -> Reading[bytes]:
    def read(given: str) -> bytes:
        key = parse_key(given)
        if key is None:
            raise Unfit("must be base64 of 32 bytes, with or without .boxs")
        return key

    return Reading(read, {"type": "string", "pattern": r"^[A-Za-z0-9+/ ]{43}=([.]boxs)?$"})


EXPECTED: Final = Parameter("id", text(512), "The blob that this must be; other bytes are refused")
UNBOX: Final = Parameter("unbox", _boxed_key(), "The key of an encrypted blob, as links have it: give out its content")
RANGE: Final = Parameter("Range", text(4096), "One range of bytes: `bytes=0-499`, `bytes=500-`, `bytes=-500`", "header")
IF_RANGE: Final = Parameter("If-Range", text(4096), "Obey Range only if this is the ETag", "header")
OWN: Final = Parameter("own", flag(), "Only blobs added here or named by our messages, or only others")
PINNED: Final = Parameter("pinned", flag(), "Only pinned blobs, or only others")
WANTED: Final = Parameter("wanted", flag(), "Instead of blobs that are held, those that are wanted")

_FILE: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}
_BYTES: Final = {"*/*": {"schema": {"type": "string", "format": "binary"}}}


@router.post(
    "",
    status_code=201,
    summary="Add a blob",
    responses=also(201, BlobAdded, "It is on the disk"),
    openapi_extra={**describe(EXPECTED), **_FILE},
)
async def add(request: Request) -> Response:
    services = services_of(request)
    expected = EXPECTED.of(request)
    limit = services.blobs.limits.max_size
    head = b""
    try:
        async with services.blobs.adding(expected=None if expected is None else blob_id(expected)) as writer:
            async for piece in file_in(request, services.settings, limit):
                if len(head) < HEAD_SIZE:
                    head += piece[: HEAD_SIZE - len(head)]
                await writer.write(piece)
            info = await writer.commit()
    except TooLarge:
        raise too_large(limit) from None
    value = {"id": info.id, "size": info.size, "type": media_type(head)}
    return document(request, value, status=201, headers={"Location": blob_path(info.id), "ETag": f'"{info.id}"'})


@router.get(
    "",
    summary="Blobs held, or wanted",
    responses=listing(BlobList, "In the order they came, or were wanted"),
    openapi_extra=describe(OWN, PINNED, WANTED, *PAGE),
)
async def list_blobs(request: Request) -> Response:
    blobs = services_of(request).blobs
    own, pinned, wanted = OWN.of(request), PINNED.of(request), WANTED.of(request)
    descending = is_descending(request)

    async def held(mark: Mark | None, limit: int) -> Chunk:
        found = await blobs.page(int(mark or 0), limit + 1, own=own, pinned=pinned, descending=descending)
        return _chunk([(info.number, _held(info)) for info in found], limit)

    async def lacking(mark: Mark | None, limit: int) -> Chunk:
        if own or pinned:
            return Chunk([], None)
        found = await blobs.wants(int(mark or 0), limit + 1, descending=descending)
        return _chunk([(want.number, _wanted(want)) for want in found], limit)

    return await list_answer(request, lacking if wanted else held, name="wants" if wanted else "blobs")


def _chunk(found: list[tuple[int, dict[str, object]]], limit: int) -> Chunk:
    items = [orjson.dumps(value) for _, value in found[:limit]]
    return Chunk(items, found[limit - 1][0] if len(found) > limit else None)


@router.get(
    "/{id:path}/references",
    summary="Messages that name a blob",
    responses=listing(BlobReferenceList, "Newest received first; encrypted messages are not among them"),
    openapi_extra=describe(*NEWEST_FIRST, path=BLOB_PATH),
)
async def references(request: Request) -> Response:
    services, blob = services_of(request), blob_in(request)
    descending = is_descending(request, newest_first=True)

    async def fetch(mark: Mark | None, limit: int) -> Chunk:
        start = None if mark is None else int(mark)
        found = await services.database.read(
            lambda connection: references_to(connection, blob, start=start, limit=limit + 1, descending=descending)
        )
        items = [_reference(reference) for reference in found[:limit]]
        return Chunk(items, found[limit - 1].entry.position if len(found) > limit else None)

    return await list_answer(request, fetch, name="references", newest_first=True)


def _reference(reference: Reference) -> bytes:
    entry, (_, path, unbox) = reference
    shown = orjson.dumps(storable(path)), orjson.dumps(None if unbox is None else storable(unbox))
    return b'%b,"path":%b,"unbox":%b}' % (entry.as_kvt()[:-1], *shown)


@router.post(
    "/{id:path}/want",
    status_code=202,
    summary="Ask for a blob",
    responses=also(202, Blob, "Wanted from now on, also after a restart") | also(200, Blob, "Held already"),
    openapi_extra=describe(path=BLOB_PATH),
)
async def want(request: Request) -> Response:
    services, blob = services_of(request), blob_in(request)
    found = await services.blobs.want(blob)
    noted = services.blobs.wanted(blob)
    if found is not None:
        return document(request, _held(found))
    return document(request, _wanted(noted or Want(0, blob, 0, True)), status=202)


@router.put(
    "/{id:path}/pin",
    summary="Keep a blob whatever happens",
    responses=also(200, Blob, "Pinned"),
    openapi_extra=describe(path=BLOB_PATH),
)
async def pin(request: Request) -> Response:
    return await _pin(request, True)


@router.delete(
    "/{id:path}/pin",
    summary="Let a blob go when room is needed",
    responses=also(200, Blob, "Not pinned"),
    openapi_extra=describe(path=BLOB_PATH),
)
async def unpin(request: Request) -> Response:
    return await _pin(request, False)


async def _pin(request: Request, pinned: bool) -> Response:
    blobs, blob = services_of(request).blobs, blob_in(request)
    await blobs.pin(blob, pinned)
    found = blobs.info(blob)
    if found is None:
        raise _missing(blob)
    return document(request, _held(found))


@router.get(
    "/{id:path}",
    summary="The bytes of a blob",
    responses={
        200: {"description": "All of it", "content": _BYTES},
        206: {"description": "The range asked for", "content": _BYTES},
    },
    openapi_extra=describe(UNBOX, RANGE, IF_RANGE, path=BLOB_PATH),
)
async def one_blob(request: Request) -> Response:
    if request.path_params["id"].endswith(("/want", "/pin")):
        raise HTTPException(405)  # what those take, the application knows
    services, blob = services_of(request), blob_in(request)
    key = UNBOX.of(request)
    etag = f'"{blob}"'
    try:
        if key is None and services.blobs.has(blob) and _known(request, etag):
            return Response(status_code=304, headers={"ETag": etag, "Cache-Control": IMMUTABLE})
        async with services.blobs.reading(blob) as reader:
            if key is not None:
                return await _unboxed(request, reader, key)
            return await _answer(request, services, reader, etag)
    except NotFound:
        await services.blobs.want(blob, asked=False)
        raise _missing(blob) from None


async def _answer(request: Request, services: Services, reader: BlobReader, etag: str) -> Response:
    info = reader.info
    part = _range(request, info.size, etag)
    start, end = part or (0, info.size)
    body = await reader.read(start, end - start) if end - start <= SENT_AT_ONCE else None
    head = body[:HEAD_SIZE] if body is not None and part is None else await reader.read(0, HEAD_SIZE)
    headers = _headers(media_type(head), part, info.size)
    headers |= {"ETag": etag, "Cache-Control": IMMUTABLE}
    status = 200 if part is None else 206
    if body is None:
        return Download(services, request, info.id, start, end, status, headers)
    return Response(body, status, headers)


async def _unboxed(request: Request, reader: BlobReader, key: bytes) -> Response:
    """The content of an encrypted blob, which only exists in memory: nobody may keep it."""
    content = await asyncio.to_thread(unbox, await reader.read(0, reader.info.size), key)
    if content is None:
        raise UNBOX.refusal("does not open this blob")
    part = _range(request, len(content), None)
    headers = _headers(media_type(content[:HEAD_SIZE]), part, len(content))
    start, end = part or (0, len(content))
    return Response(content[start:end], 200 if part is None else 206, headers)


def _range(request: Request, size: int, etag: str | None) -> ByteRange | None:
    try:
        return wanted_range(request.headers.get("range"), request.headers.get("if-range"), size, etag)
    except Unsatisfiable:
        detail = f"There are {size} bytes, counted from 0."
        headers = {"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"}
        raise Problem("range-not-satisfiable", detail, headers=headers, size=size) from None


def _headers(kind: str, part: ByteRange | None, size: int) -> dict[str, str]:
    """What every answer with bytes of a blob carries; a browser must not take them for anything else."""
    headers = {
        "Content-Type": kind,
        "Content-Disposition": "inline" if is_inline(kind) else "attachment",
        "Content-Security-Policy": SANDBOX,
        "Accept-Ranges": "bytes",
    }
    if part is not None:
        headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{size}"
    return headers


def _known(request: Request, etag: str) -> bool:
    known = request.headers.get("if-none-match")
    if known is None:
        return False
    return known.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in known.split(","))


@router.delete(
    "/{id:path}",
    status_code=204,
    summary="Remove a blob, or want it no longer",
    openapi_extra=describe(path=BLOB_PATH),
)
async def remove(request: Request) -> Response:
    blobs, blob = services_of(request).blobs, blob_in(request)
    removed = await blobs.remove(blob)
    if not await blobs.unwant(blob) and not removed:
        raise _missing(blob)
    return Response(status_code=204)


def _missing(blob: str) -> Problem:
    return Problem("blob-missing", f"This node does not have {blob}.", id=blob)


def _held(info: BlobInfo) -> dict[str, object]:
    return {
        "id": info.id,
        "held": True,
        "wanted": False,
        "size": info.size,
        "added": info.added,
        "used": info.used,
        "own": info.own,
        "pinned": info.pinned,
    }


def _wanted(want: Want) -> dict[str, object]:
    unknown = {"size": None, "added": None, "used": None, "own": False, "pinned": False}
    return {"id": want.id, "held": False, "wanted": True, **unknown}
