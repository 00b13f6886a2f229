"""The HTTP server: uvicorn inside the node's own event loop, with deadlines for clients that dawdle.

uvicorn alone waits for ever for the rest of a request's head and for a client that does not read its answer, and it
does not stop while an event stream is open. The protocol class below adds the deadlines, and `HttpServer.stop` tells
the streams first.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any, Final, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.flow_control import FlowControl

from api.edge import on_the_wire
from api.errors import Problem

__all__ = ["HEAD_TIMEOUT", "KEEP_ALIVE", "STALL_TIMEOUT", "HttpServer", "bind", "parser_protocols"]

HEAD_TIMEOUT: Final = 10.0
"""Seconds for a request's line and headers to arrive, from the connection or from their first byte."""
STALL_TIMEOUT: Final = 30.0
"""Seconds without progress after which a client that does not read is cut."""
KEEP_ALIVE: Final = 30
GRACE: Final = 1
"""Seconds for requests under way at the end, before they are cancelled."""
HEAD_SIZE: Final = 64 * 1024
DRAINED: Final = 8 * 1024 * 1024
"""Bytes of a body that are read and thrown away after its request was refused, so that the refusal can be read."""
BACKLOG: Final = 512
UNREADABLE: Final = on_the_wire(
    Problem("invalid-request", "The node cannot read this as an HTTP request, or its head is too long."), "/"
)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket's address taken, so that a taken port is known before anything else starts. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


class HttpServer:
    """Serves `app` on a bound socket. `stopping` is set by `stop`, before connections are closed."""

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        *,
        stopping: asyncio.Event,
        head_timeout: float = HEAD_TIMEOUT,
        stall_timeout: float = STALL_TIMEOUT,
        parser: type[asyncio.Protocol] | None = None,
    ) -> None:
        self.address: Final[tuple[str, int]] = listener.getsockname()[:2]
        self._listener: Final = listener
        self._stopping: Final = stopping
        self._server: Final = _Server(_config(app, parser or parser_protocols()[0], head_timeout, stall_timeout))
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """`http://127.0.0.1:8989`: where it can be reached on this machine."""
        host, port = self.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def connections(self) -> int:
        """TCP connections open now."""
        return len(self._server.server_state.connections)

    async def start(self) -> None:
        """Begin to serve; returns once connections are accepted."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]), name="http server")
        while not self._server.started and not self._task.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        """End event streams, let requests under way finish, close: within about `GRACE` seconds. May be repeated."""
        self._stopping.set()
        self._server.should_exit = True
        for connection in list(self._server.server_state.connections):
            if isinstance(connection, _Patient):
                connection.abort_if_stalled()
        if self._task is None:
            self._listener.close()
            return
        await asyncio.wait([self._task])


class _Server(uvicorn.Server):
    """uvicorn without its hands on the process's signals, which belong to the node."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def parser_protocols() -> list[type[asyncio.Protocol]]:
    """uvicorn's HTTP protocols that can be had here, the best first: httptools costs a quarter of h11."""
    found: list[type[asyncio.Protocol]] = []
    with contextlib.suppress(ImportError):
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

        found.append(HttpToolsProtocol)
    with contextlib.suppress(ImportError):
        from uvicorn.protocols.http.h11_impl import H11Protocol

        found.append(H11Protocol)
    return found


def _config(app: ASGIApp, parser: type[asyncio.Protocol], head_timeout: float, stall_timeout: float) -> uvicorn.Config:
    deadlines = {"head_timeout": head_timeout, "stall_timeout": stall_timeout}
    protocol: type[asyncio.Protocol] = type("HttpProtocol", (_Patient, parser), deadlines)
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
        h11_max_incomplete_event_size=HEAD_SIZE,
    )


class _Patient(asyncio.Protocol):
    """Deadlines on top of one of uvicorn's HTTP protocols, which comes after this class in the order of bases.

    What of its state is read here means the same in each of them: `cycle` is the request under way or the last one.
    """

    head_timeout: float
    stall_timeout: float
    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    flow: FlowControl
    cycle: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unclaimed = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        cycle = self.cycle
        if cycle is not None and (cycle is not before or not cycle.response_complete):
            self._unclaimed = 0
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
            return
        # These bytes belong to a request that has not begun, or to the body of one that was answered without it.
        # Neither may go on for ever.
        self._unclaimed += len(data)
        if self._unclaimed > (DRAINED if cycle is not None and cycle.more_body else HEAD_SIZE):
            self.transport.abort()
        else:
            self._await_head()

    def on_response_complete(self) -> None:
        cast("Any", super()).on_response_complete()
        if self.cycle.more_body and not self.transport.is_closing():
            # Closed now, what is still on its way would make the kernel take the answer back from the client's hands.
            self._await_head()

    def send_400_response(self, _: str) -> None:
        """uvicorn's own answer to what it cannot read, as a problem like all others."""
        self.transport.write(UNREADABLE)
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def abort_if_stalled(self) -> None:
        """Cut a client that is not reading just now: its answer might never be done."""
        if self.flow.write_paused:
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_timeout, self.transport.abort)

    def _await_reader(self, before: int) -> None:
        self._stall_timer = self.loop.call_later(self.stall_timeout, self._check_reader, before)

    def _check_reader(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left < before:
            self._await_reader(left)
        else:
            self.transport.abort()
