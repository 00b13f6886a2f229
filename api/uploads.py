"""Bodies that are files: streamed to where they go, raw or as the one file of a form, bounded in size and time."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from starlette.requests import Request

from api.bodies import body_timeout
from api.errors import Problem
from api.multipart import MultipartError, MultipartReader, PartBegins, PartData, boundary_of
from api.services import HttpSettings

__all__ = ["file_in", "too_large"]

FORM_OVERHEAD: Final = 64 * 1024
"""Bytes that a form may have around its file."""
FILE_NAMES: Final = ("file", "blob")
"""Fields that hold the file even if they do not say that they are one."""


async def file_in(request: Request, settings: HttpSettings, limit: int) -> AsyncIterator[bytes]:
    """The pieces of the file in a request.

    Raises Problem: unsupported-media-type, blob-too-large, body-timeout, invalid-body; ClientDisconnect. A body is
    refused before it is read where its announced length is too much; else whoever takes the pieces counts them.
    """
    if request.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise Problem("unsupported-media-type", "Send the file without Content-Encoding.")
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    is_form = kind.strip().lower() == "multipart/form-data"
    allowed = limit + FORM_OVERHEAD if is_form else limit
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > allowed:
        raise too_large(limit)
    pieces = _pieces(request, settings)
    if not is_form:
        async for piece in pieces:
            yield piece
        return
    try:
        async for piece in _file_of_form(pieces, MultipartReader(boundary_of(parameters))):
            yield piece
    except MultipartError as error:
        raise _wrong_form(str(error)) from None


async def _file_of_form(pieces: AsyncIterator[bytes], reader: MultipartReader) -> AsyncIterator[bytes]:
    files, inside, others = 0, False, 0
    async for piece in pieces:
        for event in reader.feed(piece):
            match event:
                case PartBegins(name, is_file):
                    inside = is_file or name in FILE_NAMES
                    files += inside
                    if files > 1:
                        raise _wrong_form("it has more than one file")
                case PartData(data) if inside:
                    yield data
                case PartData(data):
                    others += len(data)
                    if others > FORM_OVERHEAD:
                        raise _wrong_form("its other fields are too long")
    reader.finish()
    if not files:
        raise _wrong_form("it has no file; name the field file")


async def _pieces(request: Request, settings: HttpSettings) -> AsyncIterator[bytes]:
    """The body as it comes, with a wait for each piece and one for all."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + settings.upload_timeout
    stream = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + settings.body_timeout)):
                piece = await anext(stream, None)
        except TimeoutError:
            raise body_timeout(min(settings.body_timeout, settings.upload_timeout)) from None
        if piece is None:
            return
        if piece:
            yield piece


def too_large(limit: int) -> Problem:
    """The problem of a file that is too long."""
    detail = f"A blob may have at most {limit} bytes."
    return Problem("blob-too-large", detail, limit=limit)


def _wrong_form(reason: str) -> Problem:
    detail = f"The form cannot be read: {reason}."
    return Problem("invalid-body", detail, errors=[{"pointer": "#", "detail": reason}])
