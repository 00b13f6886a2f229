"""Whatever is sent to a running node, an honest call is answered meanwhile, nothing is lost, and the node goes on."""

import asyncio
import contextlib
import json
import random
import socket
import struct
import time
import urllib.error
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from feeds.keys import Keypair, public_from_id
from replication.errors import DialFailed, RemoteCallError, RemoteError
from replication.peer import PeerConfig, connect_local, connect_peer
from replication.rpc.bodies import Body
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import MethodTable
from replication.secret_stream import SecretStream, connect
from tests.support.builders import Feed, chain, keypair
from tests.support.processes import NodeProcess, run, wait_until

HONEST_SECONDS = 1.0
SEED = 5

Attack = Callable[[NodeProcess], Awaitable[None]]


@pytest.fixture(name="node", scope="module")
def _node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """One node for all attacks: each of them meets whatever the others left behind."""
    with NodeProcess(tmp_path_factory.mktemp("bad") / "node") as node:
        node.ok("publish", "--type", "post", "--text", "before")
        yield node
        assert node.log.count("Traceback") == 0
        assert node.terminate() == 0


@pytest.fixture(autouse=True)
def _nothing_is_lost(node: NodeProcess) -> Iterator[None]:
    pid, before = node.pid, node.clock()
    yield
    assert node.alive
    assert node.pid == pid
    key = node.post("after")
    after = node.clock()
    assert all(after[feed] >= sequence for feed, sequence in before.items())
    assert node.get("/v1/messages/" + quote(key, safe=""))[1]["value"]["content"]["text"] == "after"


async def attack_while_honest(node: NodeProcess, attack: Awaitable[None]) -> None:
    """Run an attack, and all the while make honest calls over new connections, each answered within a second."""
    attacking = asyncio.ensure_future(attack)
    honest = keypair("honest")
    config = PeerConfig(keypair=honest, table=MethodTable())
    try:
        while True:
            began = time.monotonic()
            async with asyncio.timeout(HONEST_SECONDS * 5):
                peer = await connect_peer(node.address, config)
                serving = asyncio.create_task(peer.run())
                assert await peer.connection.call("whoami") == {"id": node.id}
                await peer.close()
                await serving
            assert time.monotonic() - began < HONEST_SECONDS
            if attacking.done():
                break
            await asyncio.sleep(0.05)
    finally:
        attacking.cancel()
        await asyncio.gather(attacking, return_exceptions=True)
    attacking.result()


def host_and_port(node: NodeProcess) -> tuple[str, int]:
    return "127.0.0.1", node.port


async def send_raw(node: NodeProcess, data: bytes, *, wait: float = 15.0) -> bytes:
    """Send bytes on a fresh connection and read until the node closes it, which it must do within `wait` seconds."""
    reader, writer = await asyncio.open_connection(*host_and_port(node))
    try:
        writer.write(data)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        async with asyncio.timeout(wait):
            with contextlib.suppress(ConnectionError):
                return await reader.read()
        return b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_garbage_in_place_of_a_handshake_gets_no_byte(node: NodeProcess) -> None:
    rng = random.Random(SEED)
    pieces = [rng.randbytes(size) for size in (64, 65, 200, 5000, 100_000)]
    pieces += [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".ljust(64, b"\n"), bytes(64), b"\xff" * 64]

    async def attack() -> None:
        assert set(await asyncio.gather(*(send_raw(node, piece) for piece in pieces))) == {b""}

    await attack_while_honest(node, attack())


async def test_another_network_key_is_refused_on_both_sides(node: NodeProcess, tmp_path: Path) -> None:
    with pytest.raises(DialFailed):
        await connect(node.address, keypair("foreign"), network_key=bytes(32))
    address = node.address.replace(node.address[-44:], keypair("somebody else").id[1:45])
    with pytest.raises(DialFailed):
        await connect(address, keypair("lost"))
    key = "A" * 43 + "="
    foreign = await asyncio.to_thread(NodeProcess(tmp_path / "foreign", "--network-key", key).__enter__)
    try:
        refused = await asyncio.to_thread(foreign.sbot, "connect", node.address)
        assert (refused.code, refused.out) == (1, b"")
        assert refused.err.count("\n") == 1
    finally:
        foreign.kill()


class Cut(Exception):
    """The wire was cut."""


class ShortWire:
    """A byte stream that passes only so many bytes on and is gone then."""

    peername, bytes_in, bytes_out = "cut", 0, 0

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, length: int) -> None:
        self._reader, self._writer, self._left = reader, writer, length

    async def read(self) -> bytes:
        if self._left <= 0:
            raise Cut
        return await self._reader.read(4096)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._writer.write(bytes(data)[: self._left])
        self._left -= len(data)

    async def drain(self) -> None:
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.close()

    def abort(self, reason: str = "") -> None:
        self._writer.close()


async def test_a_handshake_cut_at_any_place_leaves_nothing_behind(node: NodeProcess) -> None:
    async def attack() -> None:
        for length in (1, 31, 63, 64, 65, 100, 175):
            wire = ShortWire(*await asyncio.open_connection(*host_and_port(node)), length)
            with pytest.raises((Cut, RemoteError)):
                await connect((wire, public_from_id(node.id)), keypair("cutter"))
            wire.abort()

    await attack_while_honest(node, attack())


async def test_silent_and_dripping_callers_are_hung_up_on_and_hold_nobody_up(node: NodeProcess) -> None:
    async def silent() -> None:
        assert await send_raw(node, b"") == b""

    async def dripping() -> None:
        reader, writer = await asyncio.open_connection(*host_and_port(node))
        with contextlib.suppress(ConnectionError):
            for _ in range(60):
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.25)
                if reader.at_eof():
                    break
            else:
                pytest.fail("a byte now and then kept the handshake open")
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def attack() -> None:
        await asyncio.gather(*(silent() for _ in range(20)), *(dripping() for _ in range(5)))

    await attack_while_honest(node, attack())


@asynccontextmanager
async def authenticated(node: NodeProcess, name: str = "hostile") -> AsyncIterator[SecretStream]:
    stream = await connect(node.address, keypair(name))
    try:
        yield stream
    finally:
        stream.abort()


def frame(flags: int, length: int, number: int, body: bytes) -> bytes:
    return struct.pack(">BIi", flags, length, number) + body


BODIES = [
    b"null",
    b"1",
    b"[]",
    b'"x"',
    b"{}",
    b"{",
    b"not json",
    b"\xff\xfe",
    b"[" * 10_000,
    b'{"name":null,"args":[]}',
    b'{"name":[],"args":[]}',
    b'{"name":["whoami"],"args":null,"type":7}',
    b'{"name":["createHistoryStream"],"args":[null],"type":"source"}',
    b'{"name":["createHistoryStream"],"args":[{"id":5}],"type":"source"}',
    b'{"name":["ebt","replicate"],"args":[],"type":"duplex"}',
    b'{"name":["ebt","replicate"],"args":[{"version":3}],"type":"async"}',
    b'{"name":["publish"],"args":[{"type":"post","text":"evil"}],"type":"async"}',
    b'{"name":["__proto__","x"],"args":[],"type":"sync"}',
    b'{"name":"' + b"a" * 5000 + b'","args":[],"type":"sync"}',
]


async def test_bodies_of_every_wrong_kind_end_at_most_their_own_connection(node: NodeProcess) -> None:
    async def one(body: bytes) -> None:
        for flags in (0x02, 0x0A, 0x01, 0x00, 0x0E, 0x03, 0xF2):
            async with authenticated(node) as stream:
                for number in (1, -1, 0, 2**31 - 1, -(2**31)):
                    stream.write(frame(flags, len(body), number, body))
                stream.write(frame(0x02, 37, 7, b'{"name":["whoami"],"args":[],"x":"  "}'[:37]))
                with contextlib.suppress(RemoteError, TimeoutError):
                    async with asyncio.timeout(0.2):
                        while await stream.read():
                            pass

    async def attack() -> None:
        for some in range(0, len(BODIES), 5):
            await asyncio.gather(*(one(body) for body in BODIES[some : some + 5]))

    assert b"evil" not in node.sbot("log").out
    await attack_while_honest(node, attack())
    assert b"evil" not in node.sbot("log").out


@pytest.mark.parametrize("announced", [70_000, 16 * 1024 * 1024, 2**31, 2**32 - 1])
async def test_a_frame_announced_too_large_ends_the_connection_at_once(node: NodeProcess, announced: int) -> None:
    async with authenticated(node) as stream:
        stream.write(frame(0x02, announced, 1, b'{"name":['))
        async with asyncio.timeout(5):
            with contextlib.suppress(RemoteError):  # cut, or ended with a goodbye
                while await stream.read():
                    pass


async def test_a_flood_of_calls_is_slowed_and_does_not_grow_the_node(node: NodeProcess) -> None:
    before = resident(node)

    async def attack() -> None:
        async with authenticated(node) as stream:
            request = b'{"name":["whoami"],"args":[],"type":"async"}'
            flood = b"".join(frame(0x02, len(request), number, request) for number in range(1, 20_001))
            stream.write(flood)
            with contextlib.suppress(TimeoutError, RemoteError):
                async with asyncio.timeout(3):
                    await stream.drain()
                    await asyncio.sleep(3)

    await attack_while_honest(node, attack())
    assert resident(node) - before < 64 * 1024 * 1024


def resident(node: NodeProcess) -> int:
    """Bytes of memory that the node's process holds."""
    return int(Path(f"/proc/{node.pid}/statm").read_text().split()[1]) * 4096


# ---- messages


@asynccontextmanager
async def deliver(node: NodeProcess, sender: Keypair, texts: list[bytes]) -> AsyncIterator[RpcConnection]:
    """Replicate by EBT as `sender`, with `texts` as all that it has of its own feed."""
    peer = await connect_peer(node.address, PeerConfig(keypair=sender, table=MethodTable()))
    running = asyncio.create_task(peer.run())
    try:
        duplex = peer.connection.duplex("ebt.replicate", [{"version": 3, "format": "classic"}])
        notes = await duplex.read_batch()
        await duplex.send([json.dumps({sender.id: 1000 << 1}).encode()])
        async with asyncio.timeout(10):  # what was not asked for is dropped, and a follow takes a moment to count
            while not any(_asks_for(sender.id, note) for note in notes):
                notes = await duplex.read_batch()
        await duplex.send(texts)
        yield peer.connection
    finally:
        await peer.close()
        await asyncio.gather(running, return_exceptions=True)


def _asks_for(feed: str, note: Body) -> bool:
    value = note.value()
    asked = value.get(feed) if isinstance(value, dict) else None
    return isinstance(asked, int) and asked >= 0 and not asked & 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace(b'.sig.ed25519"', b'x.sig.ed25519"'),
        lambda text: text.replace(b'"timestamp":', b'"timestamp":1'),
        lambda text: text.replace(b'"hash":"sha256"', b'"hash":"sha1"'),
        lambda text: text[:-1] + b',"more":1}',
        lambda text: text.replace(b'"content":{', b'"content":{"x":"' + b"y" * 9000 + b'",'),
    ],
)
async def test_an_invalid_message_is_refused_and_the_true_one_is_taken_afterwards(
    node: NodeProcess, spoil: Callable[[bytes], bytes]
) -> None:
    feed = chain(f"liar {random.random()}", 4)
    node.ok("follow", feed.id)
    bad = spoil(feed.texts[2])
    assert bad != feed.texts[2]
    async with deliver(node, feed.keys, [*feed.texts[:2], bad, feed.texts[3]]):
        await until_held(node, feed.id, 2)
        await asyncio.sleep(0.5)
    assert node.clock()[feed.id] == 2
    async with deliver(node, feed.keys, feed.texts[2:]):
        await until_held(node, feed.id, 4)


async def test_a_forked_feed_keeps_its_first_branch_and_is_told(node: NodeProcess) -> None:
    feed = chain("forker", 3)
    node.ok("follow", feed.id)
    async with deliver(node, feed.keys, feed.texts):
        await until_held(node, feed.id, 3)
    branch = Feed(feed.keys, previous=feed.ids[1], sequence=2, timestamp=feed.timestamp)
    branch.append({"type": "post", "text": "the other branch"})
    branch.append({"type": "post", "text": "and on"})
    async with deliver(node, feed.keys, branch.texts):
        deadline = time.monotonic() + 10
        while (await asyncio.to_thread(feed_state, node, feed.id)) != "forked":
            assert time.monotonic() < deadline, "the fork was not noticed"
            await asyncio.sleep(0.1)
    assert node.clock()[feed.id] == 3
    held = [value["value"]["content"] for value in node.sbot("hist", feed.id).values]
    assert {"type": "post", "text": "the other branch"} not in held


def feed_state(node: NodeProcess, feed: str) -> str:
    status, answer = node.get("/v1/feeds/" + quote(feed, safe=""))
    assert status == 200, answer
    return str(answer["state"])


async def until_held(node: NodeProcess, feed: str, sequence: int) -> None:
    await asyncio.to_thread(wait_until, lambda: node.clock().get(feed, 0) >= sequence, 10, f"sequence {sequence}")


# ---- the local sides


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b"1e999",
        b'"\xed\xa0\x80"',
        b'{"content":null}',
        b'{"content":{"type":5}}',
        b'{"content":{"type":"post","text":"' + b"x" * 9000 + b'"}}',
        b"[" * 100_000,
        b'{"content":{"type":"post","text":"' + b"x" * 2_000_000 + b'"}}',
    ],
    ids=lambda body: repr(body[:30]),
)
async def test_http_bodies_of_every_wrong_kind_are_the_callers_fault(node: NodeProcess, body: bytes) -> None:
    try:
        status, answer = await asyncio.to_thread(node.get, "/v1/messages", body)
    except (ConnectionError, urllib.error.URLError):
        return  # hung up on while still sending two megabytes
    assert 400 <= status < 500
    assert answer["code"]
    assert "Traceback" not in str(answer)
    assert str(node.directory) not in str(answer)


async def test_garbage_on_the_http_port_does_not_stop_it(node: NodeProcess) -> None:
    host, _, port = node.http.removeprefix("http://").partition(":")
    for data in (b"\x00" * 1000, b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/messages HTTP/1.1\r\nContent-Length: x\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=5) as stream:
            stream.sendall(data)
            with contextlib.suppress(ConnectionError, TimeoutError):
                stream.recv(4096)
    assert node.get("/healthz")[0] == 200


async def test_garbage_on_the_unix_socket_does_not_stop_it(node: NodeProcess) -> None:
    for data in (b"\xff" * 1000, frame(0x02, 2**32 - 1, 1, b"x"), b"{}" * 100):
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(str(node.directory / "socket"))
            stream.sendall(data)
    config = PeerConfig(keypair=keypair("program"), table=MethodTable())
    peer = await connect_local(node.directory / "socket", config)
    running = asyncio.create_task(peer.run())
    with pytest.raises(RemoteCallError):
        await peer.connection.call("publish", [None])
    with pytest.raises(RemoteCallError):
        await peer.connection.call("no.such.method")
    await peer.close()
    await running


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["get", "%AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.sha256"], 4),
        (["get", "nonsense"], 1),
        (["connect", "nonsense"], 1),
        (["connect", "net:127.0.0.1:1~shs:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="], 1),
        (["publish", "--type", "x"], 1),
        (["publish", "--type", "post", "--text", "y" * 9000], 1),
        (["follow", "nonsense"], 4),
        (["getLatest", "nonsense"], 1),
        (["log", "--limit", "many"], 1),
        (["hist", "nonsense"], 1),
        (["friends.hops", "--max", "none"], 1),
        (["no.such.method"], 2),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else str(value),
)
async def test_refusals_of_commands_are_one_sentence(node: NodeProcess, words: list[str], code: int) -> None:
    done = await asyncio.to_thread(node.sbot, *words)
    assert done.code == code, done
    assert done.out == b""
    assert done.err.startswith("sbot: ")
    assert done.err.count("\n") == 1
    assert "Traceback" not in done.err


async def test_publishing_from_standard_input(node: NodeProcess) -> None:
    content = '{"type":"test","n":[1e21,12345678901234567890,-0,0.1],"s":"\\ud800 \u2028","10":1,"2":2}'
    stored = await asyncio.to_thread(node.sbot, "publish", ".", stdin=content.encode())
    assert stored.code == 0, stored
    expected = '"content":{"2":2,"10":1,"type":"test","n":[1e+21,12345678901234567000,0,0.1],"s":"\\ud800 \u2028"}'
    assert expected.encode() in stored.out
    assert run("verify", "--out-of-order", stdin=stored.out).code == 0
    for bad in (b"", b"{", b"[]", b"5", b'{"type":"x","n":1e999}', b"{" * 100_000):
        refused = await asyncio.to_thread(node.sbot, "publish", ".", stdin=bad)
        assert refused.code == 2, refused
        assert refused.err.count("\n") == 1
