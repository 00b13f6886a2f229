"""Host names with several addresses: a dead one first does not cost the whole patience."""

import asyncio
import socket
import time

import pytest

from replication import racing
from replication.errors import DialFailed
from replication.racing import Candidate, connect_first, in_turns
from replication.transport import ByteStream, listen_tcp, open_tcp

SIX, FOUR = socket.AF_INET6, socket.AF_INET
DEAD, LATE = "127.0.0.66", "127.0.0.77"


def at(family: int, *hosts: str) -> list[Candidate]:
    return [Candidate(family, (host, 1)) for host in hosts]


def test_families_take_turns() -> None:
    assert in_turns([*at(SIX, "a", "b", "c"), *at(FOUR, "1")]) == [
        *at(SIX, "a"),
        *at(FOUR, "1"),
        *at(SIX, "b", "c"),
    ]
    assert in_turns(at(FOUR, "1")) == at(FOUR, "1")
    assert len(in_turns(at(FOUR, *map(str, range(99))))) == racing.MAX_ADDRESSES


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What every name resolves to; nobody ever answers at DEAD, and at LATE only after a while."""
    addresses: list[str] = []
    connect = racing._connect

    async def resolve(_self: object, _host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(FOUR, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    async def slow(candidate: Candidate) -> socket.socket:
        if candidate.address[0] == DEAD:
            await asyncio.sleep(60)
        if candidate.address[0] == LATE:
            await asyncio.sleep(0.4)
            candidate = Candidate(FOUR, ("127.0.0.1", candidate.address[1]))
        return await connect(candidate)

    monkeypatch.setattr(racing, "_connect", slow)
    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", resolve)
    return addresses


async def hold(stream: ByteStream) -> None:
    await stream.read()


async def test_a_dead_address_costs_a_moment(names: list[str]) -> None:
    server = await listen_tcp("127.0.0.1", 0, hold)
    names += [DEAD, "127.0.0.1"]
    began = time.monotonic()
    stream = await open_tcp("two.example", server.port)
    assert racing.HEAD_START - 0.05 < time.monotonic() - began < 2
    assert stream.peername == f"127.0.0.1:{server.port}"
    stream.abort()
    await server.close()


async def test_one_that_refuses_costs_nothing_and_one_that_comes_second_is_closed(names: list[str]) -> None:
    server = await listen_tcp("127.0.0.1", 0, hold)
    names += ["127.0.0.2", LATE, "127.0.0.1"]
    began = time.monotonic()
    stream = await open_tcp("three.example", server.port)
    assert time.monotonic() - began < 0.4
    stream.abort()
    await server.close()


async def test_all_in_vain(names: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    names += ["127.0.0.2", "127.0.0.3"]
    with pytest.raises(DialFailed, match="refused"):
        await open_tcp("none.example", port)
    names[:] = [DEAD, DEAD]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await connect_first("dead.example", port)
