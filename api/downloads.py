"""Blobs that are read while they are sent: a client that is slow holds a file and one piece, and never too many do."""

import asyncio
from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.answers import disconnected
from api.errors import Problem
from api.services import Services

__all__ = ["Download"]


class Download(Response):
    """A range of a blob as an answer. Raises Problem too-many-streams when made while too many are under way."""

    def __init__(
        self,
        services: Services,
        request: Request,
        blob: str,
        start: int,
        end: int,
        status: int,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(None, status, {**headers, "Content-Length": str(end - start)})
        self._services: Final = services
        self._under_way: Final[set[Download]] = request.app.state.downloads
        self._blob: Final = blob
        self._start: Final = start
        self._end: Final = end
        self._check_room()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        self._check_room()
        self._under_way.add(self)
        gone = asyncio.ensure_future(disconnected(receive))
        try:
            async with self._services.blobs.reading(self._blob) as reader:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                async for pieces in reader.batches(self._start, self._end):
                    for piece in pieces:
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
                    if gone.done() or self._services.stopping.is_set():
                        return  # unfinished: the client sees a cut connection
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._under_way.discard(self)
            gone.cancel()

    def _check_room(self) -> None:
        limit = self._services.settings.downloads
        if len(self._under_way) >= limit:
            raise Problem("too-many-streams", f"At most {limit} blobs may be read at once.", limit=limit)
