"""Secret streams over real sockets: a few lines to use, nothing for strangers, one deadline, bounded crowds."""

import asyncio
import os
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from feeds.keys import Keypair
from replication import secret_stream
from replication.address import Address
from replication.admission import Admission, Place, is_loopback
from replication.errors import (
    BoxStreamError,
    ConnectionClosed,
    DialFailed,
    DialTimeout,
    HandshakeFailed,
    HandshakeTimeout,
    InvalidAddress,
)
from replication.limits import Limits
from replication.memory_stream import MemoryStream, memory_pair
from replication.secret_stream import SecretStream
from replication.socket_stream import SocketStream
from replication.transport import ByteStream, StreamServer, listen_tcp, open_tcp
from tests.support.wires import ALICE, BOB, MALLORY, client_machine

QUICK = Limits(handshake_timeout=0.3, close_timeout=0.3)


async def echo(stream: SecretStream) -> None:
    while data := await stream.read():
        await stream.send(data)


@asynccontextmanager
async def listening(
    on_stream: Callable[[SecretStream], Awaitable[None]] = echo, **options: Any
) -> AsyncIterator[StreamServer]:
    server = await secret_stream.listen("127.0.0.1", 0, BOB, on_stream, **options)
    try:
        yield server
    finally:
        await server.close()


def address_of(server: StreamServer, public: bytes = BOB.public) -> str:
    return str(Address.net("127.0.0.1", server.port, public))


async def streams(limits: Limits = QUICK) -> tuple[SecretStream, SecretStream, MemoryStream]:
    """Alice's and Bob's ends over memory, and the raw stream under Alice's."""
    near, far = memory_pair()
    alice, bob = await asyncio.gather(
        secret_stream.connect((near, BOB.public), ALICE, limits=limits), secret_stream.accept(far, BOB, limits=limits)
    )
    return alice, bob, near


async def is_over(stream: ByteStream) -> bool:
    try:
        return not await stream.read()
    except ConnectionClosed:
        return True


async def test_a_few_lines_are_enough() -> None:
    async with listening() as server, await secret_stream.connect(address_of(server), ALICE) as stream:
        assert stream.remote_id == BOB.id
        await stream.send(b"hello")
        assert await stream.read() == b"hello"


async def test_both_sides_know_each_other_and_large_data_arrives_whole() -> None:
    alice, bob, _ = await streams()
    assert (alice.remote_id, bob.remote_id) == (BOB.id, ALICE.id)
    data = os.urandom(700_001)
    sending = asyncio.create_task(alice.send(data))
    got = b""
    while len(got) < len(data):
        got += await bob.read()
    await sending
    assert got == data


async def test_a_goodbye_and_a_cut_can_be_told_apart() -> None:
    alice, bob, _ = await streams()
    await alice.send(b"bye")
    await alice.close()
    assert await bob.read() == b"bye"
    assert await bob.read() == b""
    assert await bob.read() == b""
    alice, bob, near = await streams()
    await alice.send(b"help")
    await asyncio.sleep(0)
    await near.close()
    assert await bob.read() == b"help"
    with pytest.raises(BoxStreamError, match="without a goodbye"):
        await bob.read()


async def test_one_direction_can_end_before_the_other() -> None:
    alice, bob, _ = await streams()
    await alice.send(b"question")
    await alice.end()
    assert await bob.read() == b"question"
    assert await bob.read() == b""
    await bob.send(b"answer")
    assert await alice.read() == b"answer"
    await bob.close()
    assert await alice.read() == b""


async def test_writes_of_one_turn_share_packets() -> None:
    alice, bob, near = await streams()
    before = near.bytes_out
    for _ in range(100):
        alice.write(b"twelve bytes")
    got = b""
    while len(got) < 1200:
        got += await bob.read()
    assert got == b"twelve bytes" * 100
    assert near.bytes_out - before == 1200 + 34


async def test_damage_is_an_error_and_what_came_before_it_is_delivered() -> None:
    alice, bob, near = await streams()
    alice.write(b"intact")
    await asyncio.sleep(0)
    near.write(b"x" * 34)
    assert await bob.read() == b"intact"
    with pytest.raises(BoxStreamError, match="header"):
        await bob.read()
    with pytest.raises(BoxStreamError):
        await bob.read()


async def test_a_cancelled_send_harms_nothing() -> None:
    """What was taken goes out whole; the nonces stay in step."""
    near, far = memory_pair(Limits(outbound_high=1000))
    alice, bob = await asyncio.gather(secret_stream.connect((near, BOB.public), ALICE), secret_stream.accept(far, BOB))
    expected = b""
    for turn in range(20):
        piece = bytes([turn]) * 5000
        sending = asyncio.create_task(alice.send(piece))
        for _ in range(turn % 4):
            await asyncio.sleep(0)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        expected += piece if turn % 4 else b""  # cancelled before its first step, nothing was taken
    closing = asyncio.create_task(alice.close())
    got = b""
    while data := await bob.read():
        got += data
    await closing
    assert got == expected


async def test_after_an_abort_nothing_is_sent_or_read() -> None:
    alice, bob, near = await streams()
    before = near.bytes_out
    alice.write(b"never")
    alice.abort()
    alice.write(b"never")
    await asyncio.sleep(0)
    assert near.bytes_out == before
    with pytest.raises(ConnectionClosed):
        await alice.read()
    with pytest.raises(ConnectionClosed):
        await bob.read()


async def test_an_error_in_the_block_cuts_the_stream() -> None:
    alice, bob, _ = await streams()

    async def fail() -> None:
        async with alice:
            raise RuntimeError("in the block")

    with pytest.raises(RuntimeError):
        await fail()
    with pytest.raises(ConnectionClosed):
        await bob.read()


# who gets in


async def test_another_network_key_is_named_and_the_server_says_nothing() -> None:
    refused: list[Exception] = []
    async with listening(on_refused=lambda _peer, error: refused.append(error)) as server:
        with pytest.raises(HandshakeFailed, match="network key") as caught:
            await secret_stream.connect(address_of(server), ALICE, network_key=b"\x01" * 32)
        assert caught.value.step == "hello"
    assert len(refused) == 1
    assert isinstance(refused[0], HandshakeFailed)


async def test_a_wrong_server_key_is_named() -> None:
    async with listening() as server:
        with pytest.raises(HandshakeFailed, match="key is not the one of the address"):
            await secret_stream.connect(address_of(server, MALLORY.public), ALICE)


async def test_a_blocked_caller_is_turned_away_and_others_are_not() -> None:
    asked: list[bytes] = []

    def authorize(public: bytes) -> bool:
        asked.append(public)
        return public != MALLORY.public

    async with listening(authorize=authorize) as server:
        with pytest.raises(HandshakeFailed, match="does not let us in"):
            await secret_stream.connect(address_of(server), MALLORY)
        async with await secret_stream.connect(address_of(server), ALICE) as stream:
            await stream.send(b"x")
            assert await stream.read() == b"x"
    assert asked == [MALLORY.public, ALICE.public]


async def test_an_authorization_that_fails_lets_nobody_in(caplog: pytest.LogCaptureFixture) -> None:
    def authorize(_public: bytes) -> bool:
        raise LookupError("graph is broken")

    async with listening(authorize=authorize) as server:
        with pytest.raises(HandshakeFailed):
            await secret_stream.connect(address_of(server), ALICE)
    assert "graph is broken" in caplog.text


async def test_the_seed_of_an_invite_is_the_identity() -> None:
    seed = b"s" * 32
    seen: list[str] = []

    async def note(stream: SecretStream) -> None:
        seen.append(stream.remote_id)

    async with listening(note) as server:
        invite = Address.net("127.0.0.1", server.port, BOB.public, seed)
        async with await secret_stream.connect(invite, ALICE) as stream:
            assert await stream.read() == b""
    assert seen == [Keypair.generate(seed).id]


async def test_alternatives_are_tried_in_order(unused_tcp_port: int) -> None:
    async with listening() as server:
        dead = str(Address.net("127.0.0.1", unused_tcp_port, BOB.public))
        async with await secret_stream.connect(f"{dead};{address_of(server)}", ALICE) as stream:
            await stream.send(b"x")
            assert await stream.read() == b"x"
    with pytest.raises(DialFailed, match="refused"):
        await secret_stream.connect(f"{dead};{dead}", ALICE)


@pytest.mark.parametrize("text", ["nonsense", "unix:/tmp/x~noauth", f"wss://a.b~shs:{BOB.id[1:45]}"])
async def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(InvalidAddress):
        await secret_stream.connect(text, ALICE)


# hostile callers


@pytest.mark.parametrize("sent", ["nothing", "half a hello", "hello", "hello and half", "garbage"])
async def test_one_deadline_for_the_whole_handshake(sent: str) -> None:
    """However far a caller gets, it is gone when the time is up, and only a right hello was answered."""
    async with listening(limits=QUICK) as server:
        stream = await open_tcp("127.0.0.1", server.port)
        machine = client_machine()
        answered = b""
        if sent == "garbage":
            stream.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 10)
        elif sent != "nothing":
            stream.write(machine.hello[: 64 if sent.startswith("hello") else 32])
        if sent.startswith("hello"):
            answered = await stream.read()
            if "half" in sent:
                stream.write(machine.receive(answered)[:50])
        async with asyncio.timeout(2):
            assert await is_over(stream)
        assert len(answered) == (64 if sent.startswith("hello") else 0)
        stream.abort()


async def test_dripping_does_not_extend_the_deadline() -> None:
    async with listening(limits=QUICK) as server:
        stream = await open_tcp("127.0.0.1", server.port)
        dripping = asyncio.create_task(_drip(stream, client_machine().hello, 0.02))
        began = asyncio.get_running_loop().time()
        async with asyncio.timeout(2):
            assert await is_over(stream)
        assert asyncio.get_running_loop().time() - began < 0.9
        dripping.cancel()
        stream.abort()


async def _drip(stream: ByteStream, data: bytes, pause: float) -> None:
    for byte in data:
        stream.write(bytes([byte]))
        await asyncio.sleep(pause)


async def test_an_honest_caller_that_sends_byte_by_byte_is_served() -> None:
    async with listening() as server:
        stream = await open_tcp("127.0.0.1", server.port)
        machine = client_machine()
        await _drip(stream, machine.hello, 0)
        third = machine.receive(await stream.read())
        await _drip(stream, third, 0)
        assert machine.receive(await stream.read()) == b""
        assert machine.keys is not None
        async with SecretStream(stream, machine.keys, machine.leftover) as secret:
            await secret.send(b"at last")
            assert await secret.read() == b"at last"


async def test_a_silent_server_is_given_up() -> None:
    async def silent(_stream: ByteStream) -> None:
        await asyncio.Event().wait()

    server = await listen_tcp("127.0.0.1", 0, silent)
    with pytest.raises(HandshakeTimeout) as caught:
        await secret_stream.connect(address_of(server), ALICE, limits=QUICK)
    assert isinstance(caught.value, DialTimeout)
    assert caught.value.step == "hello"
    with pytest.raises(DialTimeout):
        await secret_stream.connect(address_of(server), ALICE, timeout=0.05)
    await server.close()


async def test_a_server_that_hangs_up_is_explained() -> None:
    async def hang_up(stream: ByteStream) -> None:
        await stream.read()

    server = await listen_tcp("127.0.0.1", 0, hang_up)
    with pytest.raises(HandshakeFailed, match="not an SSB node"):
        await secret_stream.connect(address_of(server), ALICE)
    await server.close()


async def test_crowds_of_silent_callers_are_bounded_and_keep_nobody_out() -> None:
    limits = Limits(unauthenticated=6, unauthenticated_loopback=4)
    gate = Admission(limits)
    async with listening(limits=limits, admission=gate) as server:
        crowd = [await open_tcp("127.0.0.1", server.port) for _ in range(20)]
        await asyncio.sleep(0.05)
        assert gate.total == 4
        assert gate.turned_away == 16
        assert [await is_over(stream) for stream in crowd[:16]] == [True] * 16
        async with asyncio.timeout(1), await secret_stream.connect(address_of(server), ALICE) as stream:
            await stream.send(b"x")
            assert await stream.read() == b"x"
            assert gate.total == 3
        for silent in crowd:
            silent.abort()


async def test_a_thousand_silent_and_dripping_callers_do_not_delay_an_honest_one() -> None:
    async with listening() as server:
        crowd = []
        for number in range(1000):
            stream = await open_tcp("127.0.0.1", server.port)
            stream.write(client_machine().hello[: number % 70])
            crowd.append(stream)
        async with asyncio.timeout(1), await secret_stream.connect(address_of(server), ALICE) as honest:
            await honest.send(b"x")
            assert await honest.read() == b"x"
        for stream in crowd:
            stream.abort()


async def test_unauthenticated_connections_cost_little_memory() -> None:
    count = 45
    async with listening() as server:
        first = await open_tcp("127.0.0.1", server.port)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        crowd: list[SocketStream] = []
        for _ in range(count):
            crowd.append(await open_tcp("127.0.0.1", server.port))
            crowd[-1].write(b"x" * 63)
        await asyncio.sleep(0.1)
        both_ends = (tracemalloc.get_traced_memory()[0] - before) / count
        tracemalloc.stop()
        assert both_ends < 64 * 1024
        for stream in [first, *crowd]:
            stream.abort()


async def test_authenticated_idle_connections_cost_little_memory() -> None:
    count = 8

    async def one(server: StreamServer) -> SecretStream:
        stream = await secret_stream.connect(address_of(server), ALICE)
        for _ in range(4):
            sending = asyncio.create_task(stream.send(bytes(300_000)))
            received = 0
            while received < 300_000:
                received += len(await stream.read())
            await sending
        for _ in range(40):
            await stream.send(b"small")
            await stream.read()
        return stream

    async with listening() as server:
        warm = await one(server)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        peers = [await one(server) for _ in range(count)]
        both_ends = (tracemalloc.get_traced_memory()[0] - before) / count
        tracemalloc.stop()
        assert both_ends < 512 * 1024
        for stream in [warm, *peers]:
            await stream.close()


async def test_a_failing_handler_ends_its_own_connection_only(caplog: pytest.LogCaptureFixture) -> None:
    async def fussy(stream: SecretStream) -> None:
        if await stream.read() == b"die":
            raise RuntimeError("as told")
        await echo(stream)

    async with listening(fussy) as server:
        fine = await secret_stream.connect(address_of(server), ALICE)
        doomed = await secret_stream.connect(address_of(server), ALICE)
        await fine.send(b"first")
        await doomed.send(b"die")
        with pytest.raises((ConnectionClosed, BoxStreamError)):
            await doomed.read()
        await fine.send(b"hello")
        assert await fine.read() == b"hello"
        await fine.close()
    assert "as told" in caplog.text


# places


def test_places_are_counted_by_address_and_in_all() -> None:
    gate = Admission(Limits(unauthenticated=5, unauthenticated_per_address=2, unauthenticated_loopback=3))
    dropped: list[str] = []

    def admit(host: str, name: str) -> Place:
        return gate.admit(host, lambda: dropped.append(name))

    first, second = admit("10.0.0.1", "first"), admit("10.0.0.1", "second")
    first.has_shown()
    third = admit("10.0.0.1", "third")
    assert dropped == ["second"]  # younger than the first, but it had shown nothing
    third.has_shown()
    admit("10.0.0.1", "fourth")
    assert dropped == ["second", "first"]
    second.leave()
    first.leave()
    assert gate.total == 2
    for name in ("a", "b", "c", "d"):
        admit("127.0.0.1", name)
    assert dropped[2:] == ["a"]
    admit("10.0.0.2", "elsewhere")
    assert dropped[3:] == ["b"]  # the most crowded address makes room
    assert gate.total == 5
    assert gate.turned_away == 4


def test_a_place_is_given_back_once() -> None:
    gate = Admission()
    with gate.admit("10.0.0.1", lambda: None) as place:
        place.has_shown()
        place.has_shown()
        assert gate.total == 1
        place.leave()
    place.has_shown()
    assert gate.total == 0


def test_some_places_cannot_be_taken_away() -> None:
    gate = Admission(Limits(unauthenticated=5, unauthenticated_per_address=2, unauthenticated_loopback=3))
    assert [gate.enter("10.0.0.1") for _ in range(3)] == [True, True, False]
    assert [gate.enter("127.0.0.1") for _ in range(4)] == [True, True, True, False]
    assert not gate.enter("10.0.0.2")
    gate.leave("10.0.0.1")
    assert gate.enter("10.0.0.2")
    assert gate.total == 5
    with pytest.raises(ValueError, match="nobody"):
        gate.leave("10.9.9.9")


def test_an_ipv6_network_is_one_address_but_neighbours_are_not() -> None:
    gate = Admission(Limits(unauthenticated=20, unauthenticated_per_address=2))
    assert [gate.enter(f"2600:1:2:3:{number:x}::{number:x}") for number in range(1, 4)] == [True, True, False]
    assert gate.enter("2600:1:2:4::1")
    assert all(gate.enter(f"fe80::{number}%eth0") for number in range(1, 6))
    gate.leave("2600:1:2:3::ffff")
    assert gate.enter("2600:1:2:3::77")


@pytest.mark.parametrize(
    ("host", "here"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("10.0.0.1", False)],
)
def test_addresses_of_this_machine(host: str, here: bool) -> None:
    assert is_loopback(host) == here
