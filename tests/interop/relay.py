"""A TCP relay on loopback that counts bytes, and can cut a connection in the middle or be slow."""

import asyncio
import contextlib


class Relay:
    """Passes bytes between whoever connects to `port` and the target. `cut_after` bytes from the target it aborts;
    `per_second` bytes from the target are let through, if given."""

    def __init__(self, target_port: int, *, cut_after: int | None = None, per_second: int | None = None) -> None:
        self._target_port = target_port
        self._cut_after = cut_after
        self._per_second = per_second
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self.from_target = 0
        self.to_target = 0
        self.cut = asyncio.Event()
        self._passed = asyncio.Condition()

    async def open(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def passed(self, size: int) -> None:
        """Returns when at least `size` bytes have come from the target."""
        async with self._passed:
            await self._passed.wait_for(lambda: self.from_target >= size)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for link in list(self._links):
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        self._links.add(link)
        try:
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        pumps = [
            asyncio.create_task(self._pump(reader, target_writer, incoming=False)),
            asyncio.create_task(self._pump(target_reader, writer, incoming=True)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for end in (writer, target_writer):
                end.transport.abort()
            self._links.discard(link)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, incoming: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536 if self._per_second is None else 8192):
                if incoming:
                    if self._per_second is not None:
                        await asyncio.sleep(len(data) / self._per_second)
                    async with self._passed:
                        self.from_target += len(data)
                        self._passed.notify_all()
                    if self._cut_after is not None and self.from_target >= self._cut_after:
                        self.cut.set()
                        return
                else:
                    self.to_target += len(data)
                sink.write(data)
                await sink.drain()
