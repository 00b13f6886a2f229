"""WebSockets as byte streams: whole nodes over them, hostile frames, heads and ends."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import Event
from websockets.uri import parse_uri

from replication.address import Address
from replication.errors import ConnectionClosed, DialFailed, HandshakeFailed, HandshakeTimeout, InvalidAddress
from replication.limits import Limits
from replication.memory_stream import memory_pair
from replication.outgoing import diallers
from replication.peer_info import Direction
from replication.transport import ByteStream, listen_tcp, open_tcp
from replication.websocket_stream import WebSocketStream, answer_websocket, open_websocket
from tests.support.peers import Node, key, open_node, until
from tests.support.tls import contexts

SMALL = Limits(websocket_frame=1000, websocket_hollow_frames=20, handshake_timeout=0.3)


def web(host: str = "//a.b", *more: str) -> Address:
    return Address("ws", (host, *(more or ("8989",))), key("b").public)


async def pair(limits: Limits = SMALL) -> tuple[WebSocketStream, WebSocketStream]:
    """Caller and answerer."""
    near, far = memory_pair()

    async def opener(host: str, port: int, tls: ssl.SSLContext | None) -> ByteStream:
        assert (host, port, tls) == ("a.b", 8989, None)
        return near

    answering = asyncio.create_task(answer_websocket(far, limits=limits))
    caller = await open_websocket(web(), opener, limits=limits)
    return caller, await answering


async def raw(limits: Limits = SMALL) -> tuple[ByteStream, ClientProtocol, WebSocketStream]:
    """A caller that can send any frames, and who answered."""
    near, far = memory_pair()
    protocol = ClientProtocol(parse_uri("ws://a.b/"))
    protocol.send_request(protocol.connect())
    near.write(b"".join(protocol.data_to_send()))
    answered = await answer_websocket(far, limits=limits)
    protocol.receive_data(await near.read())
    return near, protocol, answered


def frame(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


@given(pieces=st.lists(st.binary(min_size=1, max_size=3000), max_size=8), larger=st.booleans())
@settings(max_examples=30, deadline=None)
async def test_bytes_arrive_whatever_frames_they_are_cut_into(pieces: list[bytes], larger: bool) -> None:
    limits = Limits()
    for sender, reader in (await pair(limits), (await pair(limits))[::-1]):
        sent = b"".join(pieces) * (40 if larger else 1)
        sender.write(sent)
        for piece in pieces:
            sender.write(memoryview(piece))
        closing = asyncio.create_task(sender.close())
        got = b""
        while data := await reader.read():
            got += data
        await closing
        assert got == sent + b"".join(pieces)


async def test_fragments_pings_and_empty_frames_are_followed() -> None:
    near, protocol, answered = await raw()
    near.write(
        frame(Opcode.BINARY, b"a", fin=False)
        + frame(Opcode.PING, b"there?")
        + frame(Opcode.CONT, b"b")
        + frame(Opcode.BINARY, b"")
        + frame(Opcode.BINARY, b"c")
    )
    assert await answered.read() == b"abc"
    protocol.receive_data(await near.read())
    events: list[Event] = protocol.events_received()
    assert Frame(Opcode.PONG, b"there?") in events
    near.write(frame(Opcode.CLOSE, b""))
    assert await answered.read() == b""
    answered.write(b"too late")  # after the close nothing more may be said
    answered.abort()


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (frame(Opcode.TEXT, b"hello"), "text"),
        (frame(Opcode.BINARY, bytes(1001)), "1000"),
        (frame(Opcode.BINARY, bytes(1001))[:12], "1000"),
        (frame(Opcode.PING, b"") * 21, "without data"),
        (frame(Opcode.BINARY, b"") * 21, "without data"),
        (frame(Opcode.CONT, b"x"), "broken WebSocket frames"),
        (b"\xff" * 20, "broken WebSocket frames"),
        (Frame(Opcode.BINARY, b"unmasked").serialize(mask=False), "broken WebSocket frames"),
    ],
    ids=[
        "text",
        "too large",
        "announced too large",
        "pings",
        "hollow",
        "no start",
        "noise",
        "unmasked",
    ],  # masks are random
)
async def test_bad_frames_end_the_connection(sent: bytes, reason: str) -> None:
    near, _, answered = await raw()
    near.write(sent)
    with pytest.raises(ConnectionClosed, match=reason):
        await answered.read()
    with pytest.raises(ConnectionClosed):
        await answered.read()


@given(noise=st.binary(max_size=400))
@settings(max_examples=100, deadline=None)
async def test_noise_lets_only_documented_errors_out(noise: bytes) -> None:
    near, _, answered = await raw()
    near.write(noise)
    await near.close()
    try:
        while await answered.read():
            pass
    except ConnectionClosed:
        pass
    asker, far = memory_pair()
    asker.write(noise)
    await asker.close()
    with pytest.raises(HandshakeFailed):
        await answer_websocket(far, limits=SMALL)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: a.b\r\n\r\n",
        b"POST / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000,
        b"GET /" + b"a" * 20_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n",
    ],
)
async def test_what_is_no_request_for_a_websocket_is_refused(head: bytes) -> None:
    near, far = memory_pair()
    near.write(head)
    with pytest.raises(HandshakeFailed):
        await answer_websocket(far, limits=SMALL)


async def test_a_caller_who_sends_frames_at_once_or_nothing_is_refused() -> None:
    protocol = ClientProtocol(parse_uri("ws://a.b/"))
    protocol.send_request(protocol.connect())
    near, far = memory_pair()
    near.write(b"".join(protocol.data_to_send()) + frame(Opcode.BINARY, b"x"))
    with pytest.raises(HandshakeFailed, match="did not wait"):
        await answer_websocket(far, limits=SMALL)
    with pytest.raises(HandshakeTimeout):
        await answer_websocket(memory_pair()[1], limits=SMALL)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP status 404"),
        (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "Accept"),
        (b"SSH-2.0-hello\r\n", "no WebSocket there"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 5000, "no WebSocket|endless"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 20_000, "endless"),
        (b"", "closed while"),
    ],
)
async def test_what_answers_without_a_websocket_is_told(answer: bytes, reason: str) -> None:
    async def handle(stream: ByteStream) -> None:
        await stream.read()
        stream.write(answer)
        await stream.close()
        await asyncio.sleep(0.2)

    server = await listen_tcp("127.0.0.1", 0, handle)
    try:
        with pytest.raises(DialFailed, match=reason):
            await diallers()["ws"](web("//127.0.0.1", str(server.port)))
    finally:
        await server.close()


async def test_who_does_not_read_is_not_sent_to_without_end_and_who_pings_without_end_is_cut_off() -> None:
    limits = Limits(outbound_high=64 * 1024, outbound_low=16 * 1024, stall_timeout=0.4)
    answered: asyncio.Queue[WebSocketStream] = asyncio.Queue()
    done = asyncio.Event()

    async def handle(stream: ByteStream) -> None:
        answered.put_nowait(await answer_websocket(stream, limits=limits))
        await done.wait()

    server = await listen_tcp("127.0.0.1", 0, handle, limits=limits)
    try:
        await flooded(server.port, answered)
    finally:
        done.set()
        await server.close()


async def flooded(port: int, answered: "asyncio.Queue[WebSocketStream]") -> None:
    caller = await diallers()["ws"](web("//127.0.0.1", str(port)))
    reader = await answered.get()
    blocked = asyncio.create_task(fill(caller))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(blocked), 0.2)
    assert reader.bytes_in < 10_000  # the request, and a first buffer full
    blocked.cancel()
    caller.abort()

    pings = await open_tcp("127.0.0.1", port)
    protocol = ClientProtocol(parse_uri("ws://a.b/"))
    protocol.send_request(protocol.connect())
    pings.write(b"".join(protocol.data_to_send()))
    asked = await answered.get()
    flood = (frame(Opcode.PING, bytes(125)) + frame(Opcode.BINARY, b"x")) * 100
    flooding = asyncio.create_task(fill(pings, flood))
    with pytest.raises(ConnectionClosed, match="took nothing"):
        await read_all(asked)  # the other end never reads our answers
    assert asked.bytes_out < asked.bytes_in
    with pytest.raises(ConnectionClosed):
        await flooding


async def read_all(stream: ByteStream) -> None:
    while await stream.read():
        pass


async def fill(stream: ByteStream, data: bytes = bytes(65536)) -> None:
    while True:
        stream.write(data)
        await stream.drain()


async def test_peers_whom_we_block_are_refused_over_websockets_too(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        address = await listening(b)
        a.connections.add_dialler("ws", diallers()["ws"])
        await b.block(a.id)
        with pytest.raises(DialFailed):
            await a.connections.dial(address)
        assert b.connections.refused[0] == 1


async def listening(node: Node) -> str:
    await node.connections.start(websockets=[("127.0.0.1", 0)])
    address = node.connections.addresses()[-1]
    assert address.startswith("ws://127.0.0.1:")
    return address


async def test_two_nodes_meet_over_a_websocket(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        address = await listening(b)
        with pytest.raises(InvalidAddress, match="only net"):
            await a.connections.dial(address)
        for transport, dialler in diallers().items():
            a.connections.add_dialler(transport, dialler)
        await a.follow(b.id)
        await b.post("x" * 5000)
        info = await a.connections.dial(address)
        assert (info.id, info.address) == (b.id, address)
        await until(lambda: a.clock().get(b.id))
        seen = b.connections.connected(a.id)
        assert seen is not None
        assert (seen.direction, seen.source) == (Direction.INCOMING, "websocket")
        assert await a.connections.disconnect(b.id)
        await until(lambda: b.connections.connected(a.id) is None)


@asynccontextmanager
async def tls_in_front(target: str, context: ssl.SSLContext) -> AsyncIterator[int]:
    """What people put in front of their nodes: TLS here, plain TCP to the node. Its port."""
    port = int(target.split("~")[0].rsplit(":", 1)[1])
    tasks: list[asyncio.Task[None]] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        node_reader, node_writer = await asyncio.open_connection("127.0.0.1", port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            sink.close()

        tasks.append(asyncio.create_task(pump(node_reader, writer)))
        tasks.append(asyncio.create_task(pump(reader, node_writer)))

    server = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.wait_for(asyncio.gather(*tasks), 5)


async def test_two_nodes_meet_over_tls_and_only_with_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    theirs, trusting = contexts(tmp_path)
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        async with tls_in_front(await listening(b), theirs) as port:
            address = f"wss://localhost:{port}~shs:{b.id[1:-8]}"
            a.connections.add_dialler("wss", diallers()["wss"])
            with pytest.raises(DialFailed, match=r"tls: localhost port .*self.signed certificate"):
                await a.connections.dial(address)
            a.connections.add_dialler("wss", diallers(tls=trusting)["wss"])
            with pytest.raises(DialFailed, match=r"tls: .*not valid for '127.0.0.1'"):
                await a.connections.dial(address.replace("localhost", "127.0.0.1"))
            await a.follow(b.id)
            for number in range(20):
                await b.post(f"{number} " + "x" * 5000)
            assert (await a.connections.dial(address)).id == b.id
            await until(lambda: a.clock().get(b.id) == 20)
            await a.connections.disconnect(b.id)
            await until(lambda: b.connections.connected(a.id) is None)
        with pytest.raises(DialFailed, match=r"tls|connect"):  # a port without TLS
            await diallers(tls=trusting)["wss"](Address("wss", ("//127.0.0.1", b.address.split(":")[2][:-4]), None))


async def test_a_node_stops_though_a_caller_dawdles(tmp_path: Path) -> None:
    async with open_node(tmp_path, "b") as b:
        address = await listening(b)
        host, port = address.split("~")[0].removeprefix("ws://").split(":")
        _, silent = await asyncio.open_connection(host, int(port))
        silent.write(b"GET / HTTP/1.1\r\n")
        await asyncio.wait_for(b.connections.stop(), 4)
        silent.close()
