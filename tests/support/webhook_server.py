"""A real HTTP server on loopback that takes what webhooks deliver, and answers as a test says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import orjson


class Delivery(NamedTuple):
    """One request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def batch(self) -> dict[str, Any]:
        batch: dict[str, Any] = orjson.loads(self.body)
        return batch

    @property
    def texts(self) -> list[str]:
        return [item["value"]["content"]["text"] for item in self.batch["items"]]


class WebhookServer:
    """Answers with the statuses of `script` in turn, then with 204. None: hangs up; 0: never answers."""

    def __init__(self) -> None:
        self.script: list[int | None] = []
        self.deliveries: list[Delivery] = []
        self.port = 0
        self.at_once = self.most_at_once = 0
        self.delay = 0.0
        self._news = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?key=of-the-hook"

    async def until(self, reached: Callable[[], bool], patience: float = 10.0) -> None:
        """Wait until something is so, looking after each delivery and now and then."""
        async with asyncio.timeout(patience):
            while not reached():
                self._news.clear()
                try:
                    async with asyncio.timeout(0.02):
                        await self._news.wait()
                except TimeoutError:
                    continue

    async def taken(self, count: int) -> list[Delivery]:
        """The deliveries, once there are so many."""
        await self.until(lambda: len(self.deliveries) >= count)
        return self.deliveries

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *fields = head.strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
            body = await reader.readexactly(int(headers["content-length"]))
            status = self.script.pop(0) if self.script else 204
            self.deliveries.append(Delivery(line, headers, body))
            self._news.set()
            if status == 0:
                await reader.read()
                return
            await asyncio.sleep(self.delay)
            if status is not None:
                more = "Location: http://127.0.0.1:9/\r\n" if 300 <= status < 400 else ""
                writer.write(f"HTTP/1.1 {status} X\r\n{more}Content-Length: 0\r\n\r\n".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self.at_once -= 1
            writer.close()


@asynccontextmanager
async def webhook_server() -> AsyncIterator[WebhookServer]:
    """A server for the length of a test."""
    hooks = WebhookServer()
    server = await asyncio.start_server(hooks.serve, "127.0.0.1", 0)
    hooks.port = server.sockets[0].getsockname()[1]
    try:
        yield hooks
    finally:
        server.close()
        await server.wait_closed()
