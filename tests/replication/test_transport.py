"""Byte streams over sockets and memory: order, ends, back-pressure, privacy of unix sockets, small idle cost."""

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from replication.errors import AddressInUse, ConnectionClosed, DialFailed, DialTimeout, LocalError
from replication.limits import DEFAULT_LIMITS, Limits
from replication.memory_stream import memory_pair
from replication.socket_stream import READ_MAX, SocketStream
from replication.transport import ByteStream, StreamServer, listen_tcp, listen_unix, open_tcp, open_unix

QUICK = Limits(stall_timeout=0.4, close_timeout=0.3, outbound_high=64 * 1024, outbound_low=16 * 1024)


async def echo(stream: ByteStream) -> None:
    while data := await stream.read():
        stream.write(data)
        await stream.drain()
    await stream.close()


async def everything(stream: ByteStream) -> bytes:
    found = b""
    while data := await stream.read():
        found += data
    return found


@asynccontextmanager
async def tcp_server(
    handler: Callable[[ByteStream], Awaitable[None]], limits: Limits = DEFAULT_LIMITS, host: str = "127.0.0.1"
) -> AsyncIterator[StreamServer]:
    server = await listen_tcp(host, 0, handler, limits=limits)
    try:
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def tcp_pair(limits: Limits = DEFAULT_LIMITS) -> AsyncIterator[tuple[SocketStream, SocketStream]]:
    """Both ends of a TCP connection."""
    accepted: asyncio.Future[ByteStream] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()

    async def keep(stream: ByteStream) -> None:
        accepted.set_result(stream)
        await done.wait()

    async with tcp_server(keep, limits) as server:
        near = await open_tcp("127.0.0.1", server.port, limits=limits)
        far = await accepted
        assert isinstance(far, SocketStream)
        yield near, far
        near.abort()
        done.set()


async def exchange_everything() -> None:
    """A megabyte there and back, in pieces of odd sizes, over TCP."""
    async with tcp_server(echo) as server:
        stream = await open_tcp("127.0.0.1", server.port)
        data = os.urandom(1_000_003)
        got = bytearray()

        async def send() -> None:
            for at in range(0, len(data), 7919):
                stream.write(data[at : at + 7919])
                await stream.drain()

        sender = asyncio.create_task(send())
        while len(got) < len(data):
            got += await stream.read()
        await sender
        assert bytes(got) == data
        assert stream.bytes_in == stream.bytes_out == len(data)
        await stream.close()


async def test_tcp_keeps_order_under_asyncio() -> None:
    await exchange_everything()


def test_tcp_keeps_order_under_uvloop() -> None:
    uvloop.run(exchange_everything())


def test_unix_sockets_work_under_uvloop(tmp_path: Path) -> None:
    async def exchange() -> None:
        server = await listen_unix(tmp_path / "socket", echo)
        stream = await open_unix(tmp_path / "socket")
        stream.write(b"hello")
        assert await stream.read() == b"hello"
        await stream.close()
        await server.close()

    uvloop.run(exchange())


async def test_small_writes_are_sent_at_once() -> None:
    async with tcp_pair() as (near, far):
        for end in (near, far):
            assert end._socket is not None
            assert end._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_the_end_comes_after_the_data() -> None:
    async with tcp_pair() as (near, far):
        near.write(b"last words")
        await near.close()
        assert await everything(far) == b"last words"
        assert await far.read() == b""


async def test_the_other_direction_stays_open_after_an_end() -> None:
    async with tcp_pair() as (near, far):
        near._transport.write_eof()
        assert await far.read() == b""
        far.write(b"still here")
        assert await near.read() == b"still here"


async def test_an_abort_ends_reading_and_writing_on_both_sides() -> None:
    async with tcp_pair() as (near, far):
        far.write(b"unread")
        reading = asyncio.create_task(everything(far))
        await asyncio.sleep(0.05)
        near.abort("enough")
        with pytest.raises(ConnectionClosed, match="enough"):
            await near.read()
        with pytest.raises(ConnectionClosed):
            await near.drain()
        near.write(b"ignored")
        assert await reading == b""


async def write_without_end(stream: ByteStream, sent: list[int], patience: float) -> None:
    async with asyncio.timeout(patience):
        while True:
            stream.write(bytes(32 * 1024))
            sent.append(32 * 1024)
            await stream.drain()


async def is_over(stream: ByteStream) -> bool:
    """Whether the other side has closed, in whichever way the network shows it."""
    try:
        return not await stream.read()
    except ConnectionClosed:
        return True


async def test_a_slow_reader_slows_the_writer_and_memory_stays_small() -> None:
    async with tcp_pair(QUICK) as (near, far):
        sent: list[int] = []
        with pytest.raises(TimeoutError):
            await write_without_end(near, sent, 0.2)
        assert near._transport.get_write_buffer_size() <= QUICK.outbound_high + 32 * 1024
        assert len(far._buffer) <= READ_MAX
        received = 0
        while received < sum(sent):
            received += len(await far.read())
        await near.drain()


async def test_a_peer_that_never_reads_is_cut_off() -> None:
    async with tcp_pair(QUICK) as (near, _far):
        with pytest.raises(ConnectionClosed, match="took nothing") as cut:
            await write_without_end(near, [], 5)
        assert cut.value.limit == "stall_timeout"


async def test_a_peer_that_reads_slowly_but_steadily_is_not_cut_off() -> None:
    """It takes longer than the limit in all, though the kernel passes on its reading in large steps only."""
    async with tcp_pair(replace(QUICK, stall_timeout=1.0)) as (near, far):
        size = 12 * 1024 * 1024
        writing = asyncio.create_task(_write_much(near, size))
        received, began = 0, asyncio.get_running_loop().time()
        while received < size:
            received += len(await far.read())
            await asyncio.sleep(0.02)
        await writing
        assert asyncio.get_running_loop().time() - began > 1.5


async def _write_much(stream: ByteStream, size: int) -> None:
    for _ in range(size // 65536):
        stream.write(bytes(65536))
        await stream.drain()


async def test_closing_towards_a_peer_that_does_not_read_takes_no_longer_than_the_limit() -> None:
    async with tcp_pair(replace(QUICK, stall_timeout=60)) as (near, _far):
        near.write(bytes(16 * 1024 * 1024))
        async with asyncio.timeout(2):
            await near.close()


async def test_idle_connections_have_small_buffers_also_after_much_was_read() -> None:
    async with tcp_pair() as (near, far):
        assert len(far._buffer) <= 4096
        writing = asyncio.create_task(_write_much(near, 4 * 1024 * 1024))
        received = 0
        while received < 4 * 1024 * 1024:
            await asyncio.sleep(0.001)
            received += len(await far.read())
        await writing
        assert len(far._buffer) == READ_MAX
        for _ in range(80):
            near.write(b"small")
            await far.read()
        assert len(far._buffer) <= 4096


async def test_one_failing_handler_does_not_touch_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async def fussy(stream: ByteStream) -> None:
        if await stream.read() == b"die":
            raise RuntimeError("as told")
        await echo(stream)

    async with tcp_server(fussy) as server:
        doomed, fine = [await open_tcp("127.0.0.1", server.port) for _ in range(2)]
        fine.write(b"first")
        doomed.write(b"die")
        assert await is_over(doomed)
        doomed.abort()
        fine.write(b"hello")
        assert await fine.read() == b"hello"
        await fine.close()
    assert "as told" in caplog.text


async def test_connections_can_be_refused_before_anything_is_spent_on_them() -> None:
    server = await listen_tcp("127.0.0.1", 0, echo, accept=lambda host: host != "127.0.0.1")
    stream = await open_tcp("127.0.0.1", server.port)
    assert await is_over(stream)
    stream.abort()
    await server.close()


async def test_closing_the_server_ends_its_connections() -> None:
    server = await listen_tcp("127.0.0.1", 0, echo)
    stream = await open_tcp("127.0.0.1", server.port)
    stream.write(b"x")
    assert await stream.read() == b"x"
    async with asyncio.timeout(2):
        await server.close()
    assert await is_over(stream)
    stream.abort()
    with pytest.raises(DialFailed):
        await open_tcp("127.0.0.1", stream._transport.get_extra_info("peername")[1])


async def test_names_the_reason_of_a_failed_dial(unused_tcp_port: int) -> None:
    with pytest.raises(DialFailed, match="refused") as caught:
        await open_tcp("127.0.0.1", unused_tcp_port)
    assert caught.value.step == "connect"
    with pytest.raises(DialFailed, match="connect"):
        await open_tcp("host.invalid", 8008)
    with pytest.raises(DialFailed):
        await open_tcp("bad\x00host", 8008)
    with pytest.raises(DialFailed):
        await open_tcp("a" * 300 + ".org", 8008)


async def test_a_dial_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_args: object, **_kwargs: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", never)
    with pytest.raises(DialTimeout):
        await open_tcp("127.0.0.1", 9, timeout=0.05)


async def test_a_taken_port_is_named() -> None:
    async with tcp_server(echo) as server:
        with pytest.raises(AddressInUse, match=str(server.port)):
            await listen_tcp("127.0.0.1", server.port, echo)
    with pytest.raises(LocalError):
        await listen_tcp("203.0.113.1", 0, echo)


async def test_ipv6_peers_are_named_with_brackets() -> None:
    names: asyncio.Queue[str] = asyncio.Queue()

    async def note(stream: ByteStream) -> None:
        names.put_nowait(stream.peername)

    try:
        server = await listen_tcp("::1", 0, note)
    except LocalError:
        pytest.skip("this machine has no IPv6")
    stream = await open_tcp("::1", server.port)
    assert (await names.get()).startswith("[::1]:")
    assert stream.peername == f"[::1]:{server.port}"
    stream.abort()
    await server.close()


async def test_listening_everywhere_uses_one_port_for_both_families() -> None:
    names: asyncio.Queue[str] = asyncio.Queue()

    async def note(stream: ByteStream) -> None:
        names.put_nowait(stream.peername)

    async with tcp_server(note, host="") as server:
        assert len(server.addresses) == 1
        stream = await open_tcp("127.0.0.1", server.port)
        assert (await names.get()).startswith("127.0.0.1:")
        stream.abort()


# unix sockets


async def test_a_unix_socket_is_private_and_goes_with_its_server(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = await listen_unix(path, echo)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["socket"]
    stream = await open_unix(path)
    stream.write(b"hi")
    assert await stream.read() == b"hi"
    assert stream.peername == "unix"
    await stream.close()
    await server.close()
    assert not path.exists()


async def test_a_stale_socket_file_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = await listen_unix(path, echo)
    with pytest.raises(AddressInUse):
        await listen_unix(path, echo)
    stream = await open_unix(path)
    await stream.close()
    await server.close()


async def test_other_files_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    path.write_text("precious")
    with pytest.raises(LocalError, match="not a socket"):
        await listen_unix(path, echo)
    assert path.read_text() == "precious"
    with pytest.raises(LocalError):
        await listen_unix(tmp_path / "missing" / "socket", echo)


async def test_closing_waits_until_much_is_flushed_and_may_be_repeated() -> None:
    read: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def take(stream: ByteStream) -> None:
        size = 0
        while data := await stream.read():
            size += len(data)
        read.set_result(size)

    async with tcp_server(take) as server:
        stream = await open_tcp("127.0.0.1", server.port)
        stream.write(bytes(40_000_000))  # more than the sockets hold
        await stream.close()
        await stream.close()
        stream.abort()
        assert await read == 40_000_000


async def test_a_server_does_not_remove_its_successors_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    first = await listen_unix(path, echo)
    path.unlink()
    second = await listen_unix(path, echo)
    await first.close()
    stream = await open_unix(path)
    await stream.close()
    await second.close()


async def test_a_socket_may_have_a_long_path(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    server = await listen_unix(folder / "socket", echo)
    stream = await open_unix(folder / "socket")
    stream.write(b"hi")
    assert await stream.read() == b"hi"
    await stream.close()
    with pytest.raises(AddressInUse):
        await listen_unix(folder / "socket", echo)
    await server.close()


async def test_dialling_a_missing_socket_fails_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(DialFailed, match="No such file"):
        await open_unix(tmp_path / "socket")


# memory


async def test_a_memory_pair_is_a_stream() -> None:
    near, far = memory_pair()
    near.write(b"one")
    near.write(bytearray(b" two"))
    assert await far.read() == b"one two"
    reading = asyncio.create_task(far.read())
    await asyncio.sleep(0)
    near.write(b"three")
    assert await reading == b"three"
    await near.close()
    assert await far.read() == b""
    with pytest.raises(ConnectionClosed):
        await near.read()
    with pytest.raises(ConnectionClosed):
        await far.drain()


async def test_a_memory_pair_holds_the_writer_back() -> None:
    near, far = memory_pair(QUICK)
    near.write(bytes(QUICK.outbound_high + 1))
    draining = asyncio.create_task(near.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    assert len(await far.read()) == QUICK.outbound_high + 1
    await draining
    far.abort()
    with pytest.raises(ConnectionClosed, match="cut"):
        await near.read()


async def test_an_unknown_host_name_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", unknown)
    with pytest.raises(DialFailed, match=r"^connect: no\.example port 8008: Name or service not known$"):
        await open_tcp("no.example", 8008)
