"""The server on a real port: clients that dawdle, that send no HTTP, that are many; the end."""

import asyncio
import contextlib
import http.client
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from api.server import HEAD_TIMEOUT, STALL_TIMEOUT, HttpServer, bind, parser_protocols
from tests.api.test_stream import PATIENCE, request, until
from tests.support.api import TOKEN, Api, connect, open_api, serve

PATIENT = 0.3


@pytest.fixture(params=parser_protocols(), ids=lambda parser: parser.__name__)
async def server(api: Api, request: pytest.FixtureRequest) -> AsyncIterator[HttpServer]:
    async with serve(api, head_timeout=PATIENT, stall_timeout=PATIENT, parser=request.param) as running:
        yield running


async def test_deadlines_are_those_promised() -> None:
    assert HEAD_TIMEOUT == 10.0
    assert STALL_TIMEOUT == 30.0


async def test_an_answer_over_the_wire(server: HttpServer) -> None:
    async with httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.get("/v1/info")
        assert answer.status_code == 200
        assert "server" not in answer.headers
        answer = await client.get("/v1/whoami")
        assert answer.status_code == 401


@pytest.mark.parametrize(
    "start", [b"", b"G", b"GET /v1/info HTTP/1.1\r\n", b"GET /v1/info HTTP/1.1\r\nHost: 127.0.0.1\r\n"]
)
async def test_a_head_that_does_not_end_is_cut(server: HttpServer, start: bytes) -> None:
    async with connect(server) as (reader, writer):
        writer.write(start)
        began = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        assert PATIENT * 0.9 <= time.monotonic() - began < PATIENCE / 2


async def test_a_dripping_head_has_one_deadline(server: HttpServer) -> None:
    async with connect(server) as (_, writer):
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for byte in request("/v1/whoami") * 100:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.02)
                if writer.is_closing() or server.connections == 0:
                    break
        assert server.connections == 0
        assert time.monotonic() - began < PATIENCE / 2


async def test_the_second_request_has_a_deadline_too(server: HttpServer) -> None:
    async with connect(server) as (reader, writer):
        writer.write(request("/v1/whoami"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.write(b"GET /v1")
        await until(lambda: server.connections == 0)


async def test_an_idle_connection_between_requests_lives_on(server: HttpServer) -> None:
    async with connect(server) as (reader, writer):
        for _ in range(2):
            writer.write(request("/healthz"))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            await reader.readexactly(len(b'{"status":"ok"}'))
            await asyncio.sleep(PATIENT * 1.5)
        assert server.connections == 1


@pytest.mark.parametrize(
    "bytes_sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /v1/info HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
        b"GET /v1/info HTTP/1.1\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /v1/whoami HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET http://evil.example/v1/whoami HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        b"GET /v1/info HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\nConnection: close\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    ],
)
async def test_what_is_no_request_of_ours(server: HttpServer, bytes_sent: bytes) -> None:
    async with connect(server) as (reader, writer):
        writer.write(bytes_sent)
        answer = b""
        with contextlib.suppress(ConnectionResetError, asyncio.IncompleteReadError):
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            answer += await asyncio.wait_for(reader.read(65536), PATIENCE)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:200]
        if answer:
            assert b"content-type: application/problem+json" in answer
            assert b"x-content-type-options: nosniff" in answer
        assert b"Traceback" not in answer
    async with httpx.AsyncClient(base_url=server.url) as client:
        assert (await client.get("/healthz")).status_code == 200


async def test_a_body_without_end_is_cut_at_the_limit(api: Api, server: HttpServer) -> None:
    async with connect(server) as (reader, writer):
        head = request("/v1/messages", "Content-Type: application/json", "Content-Length: 1073741824")
        writer.write(head.replace(b"GET", b"POST", 1))
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        assert answer.startswith(b"HTTP/1.1 413")
        await until(lambda: server.connections == 0)
    assert api.store.log.position == 0


@pytest.mark.parametrize(
    ("path", "content_type", "size", "code"),
    [
        ("/v1/blobs", "application/octet-stream", 6_000_000, "blob-too-large"),
        ("/v1/blobs", "multipart/form-data; boundary=x", 6_000_000, "blob-too-large"),
        ("/v1/messages", "application/json", 6_000_000, "body-too-large"),
        ("/v1/messages", "text/html", 6_000_000, "unsupported-media-type"),
    ],
)
async def test_who_sends_too_much_reads_why(
    server: HttpServer, path: str, content_type: str, size: int, code: str
) -> None:
    """A client that sends all of its body before it looks for an answer, as the simple ones do."""
    host, port = server.address

    def send() -> tuple[int, bytes, int]:
        connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
        try:
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": content_type}
            connection.request("POST", path, bytes(size), headers)
            refused = connection.getresponse()
            told = refused.read()
            connection.request("GET", "/v1/info")  # the connection goes on
            return refused.status, told, connection.getresponse().status
        finally:
            connection.close()

    status, told, after = await asyncio.to_thread(send)
    assert status in (413, 415)
    assert json.loads(told)["code"] == code
    assert after == 200


async def test_a_body_that_drips_on_after_its_answer_is_cut(server: HttpServer) -> None:
    head = b"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n"
    async with connect(server) as (reader, writer):
        writer.write(head)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 401")
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while server.connections:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        assert PATIENT * 0.9 <= time.monotonic() - began < PATIENCE / 2


async def test_a_head_without_end_is_cut(server: HttpServer) -> None:
    async with connect(server) as (_, writer):
        with contextlib.suppress(ConnectionError):
            writer.write(b"GET /v1/info HTTP/1.1\r\n")
            for _ in range(1000):
                writer.write(b"X: " + b"x" * 1000 + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0)
        await until(lambda: server.connections == 0)


async def test_an_honest_request_beside_many_silent_ones(server: HttpServer, api: Api) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for number in range(200):
            _, writer = await stack.enter_async_context(connect(server))
            writer.write(b"GET /v1/whoami HT"[: number % 17])
        async with httpx.AsyncClient(base_url=server.url, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            began = time.monotonic()
            assert (await client.get("/v1/whoami")).status_code == 200
            assert time.monotonic() - began < 1.0
    await until(lambda: server.connections == 0)


async def test_a_client_that_goes_away_in_the_middle(server: HttpServer, api: Api) -> None:
    head = request("/v1/messages", "Content-Type: application/json", "Content-Length: 100").replace(b"GET", b"POST", 1)
    for sent in (head, head + b'{"content":'):
        async with connect(server) as (_, writer):
            writer.write(sent)
            await writer.drain()
        await until(lambda: server.connections == 0)
    assert api.store.log.position == 0


async def test_stopping_with_every_kind_of_client(tmp_path: Path) -> None:
    async with open_api(tmp_path) as api, serve(api) as server, contextlib.AsyncExitStack() as stack:
        half_a_body = request("/v1/messages", "Content-Type: application/json", "Content-Length: 9")
        for sent in (b"", b"GET", request("/v1/stream"), request("/healthz"), half_a_body.replace(b"GET", b"POST", 1)):
            _, writer = await stack.enter_async_context(connect(server))
            writer.write(sent)
        await until(lambda: server.connections == 5 and len(api.app.state.streams) == 1)
        began = time.monotonic()
        await server.stop()
        assert time.monotonic() - began < 4.0
        assert server.connections == 0
        await server.stop()


async def test_a_taken_port_is_known_at_once(server: HttpServer) -> None:
    with pytest.raises(OSError, match="in use"):
        bind(*server.address)


async def test_a_server_that_never_started_gives_its_port_back(api: Api) -> None:
    server = HttpServer(api.app, bind("127.0.0.1", 0), stopping=api.services.stopping)
    await server.stop()
    bind(*server.address).close()


def test_where_it_can_be_reached() -> None:
    for host, shown in (("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("::1", "[::1]")):
        try:
            listener = bind(host, 0)
        except OSError:
            pytest.skip(f"this machine has no {host}")
        server = HttpServer(lambda *_: None, listener, stopping=asyncio.Event())  # type: ignore[arg-type]
        assert server.url in (f"http://{shown}:{server.address[1]}", f"http://[::1]:{server.address[1]}")
        listener.close()
