"""Dials through a SOCKS5 proxy: what the proxy is asked, what never is, and what goes wrong."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from replication.address import Address
from replication.errors import DialFailed, DialTimeout, InvalidAddress
from replication.limits import Limits
from replication.outgoing import diallers
from replication.socks import SocksProxy, parse_proxy
from tests.support.peers import Node, key, open_node, until

KEY = key("b").public
ONION = "expyuzz4wqqyqhjn.onion"


class Proxy:
    """A SOCKS5 server that knows some names, and writes down what it was asked."""

    def __init__(self, places: dict[str, int], *, reply: int | None = None) -> None:
        self.places = places
        self.reply = reply
        self.asked: list[tuple[str, int]] = []
        self.address = SocksProxy("127.0.0.1", 0)
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.append(task)
        self._writers.append(writer)
        try:
            _, methods = await reader.readexactly(2)
            await reader.readexactly(methods)
            writer.write(b"\x05\x00")
            _, _, _, kind = await reader.readexactly(4)
            if kind == 3:
                host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
            else:
                family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
                host = socket.inet_ntop(family, await reader.readexactly(size))
            self.asked.append((host, int.from_bytes(await reader.readexactly(2))))
            port = self.places.get(host)
            code = self.reply if self.reply is not None else 0 if port else 4
            writer.write(bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0]))
            if not code and port:
                far, away = await asyncio.open_connection("127.0.0.1", port)
                self._writers.append(away)
                await asyncio.gather(pump(reader, away), pump(far, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *(each.wait_closed() for each in self._writers), return_exceptions=True)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def serving(places: dict[str, int], *, reply: int | None = None) -> AsyncIterator[Proxy]:
    proxy = Proxy(places, reply=reply)
    server = await asyncio.start_server(proxy.answer, "127.0.0.1", 0)
    proxy.address = SocksProxy("127.0.0.1", server.sockets[0].getsockname()[1])
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()


@pytest.fixture
def names_looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Host names that this process tried to look up by itself."""
    names: list[str] = []
    real = socket.getaddrinfo

    def look_up(host: str, *args: object, **options: object) -> object:
        names.append(host)
        return real(host, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return names


def teach(node: Node, proxy: SocksProxy | None, *, proxy_for_all: bool = False) -> None:
    for transport, dialler in diallers(proxy, proxy_for_all=proxy_for_all).items():
        node.connections.add_dialler(transport, dialler)


def shs(place: str, node: Node) -> str:
    return f"{place}~shs:{node.id[1:-8]}"


async def test_an_onion_address_is_dialled_by_the_proxy_and_never_looked_up(
    tmp_path: Path, names_looked_up: list[str]
) -> None:
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        port = int(b.address.split(":")[2].split("~")[0])
        address = shs(f"onion:{ONION}:8008", b)
        teach(a, None)
        with pytest.raises(InvalidAddress, match="needs a SOCKS proxy such as Tor's; name it with --socks"):
            await a.connections.dial(address)
        async with serving({ONION: port}) as proxy:
            teach(a, proxy.address)
            info = await a.connections.dial(address)
            assert (info.id, info.address) == (b.id, address)
            assert proxy.asked == [(ONION, 8008)]
            assert ONION not in names_looked_up
            await a.connections.disconnect(b.id)
            await until(lambda: b.connections.connected(a.id) is None)
            await a.connections.dial(b.address)  # other dials do not go through it
            assert len(proxy.asked) == 1
            await a.connections.disconnect(b.id)
            await until(lambda: b.connections.connected(a.id) is None)


async def test_all_dials_go_through_the_proxy_on_demand(tmp_path: Path, names_looked_up: list[str]) -> None:
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        await b.connections.start(websockets=[("127.0.0.1", 0)])
        net, web = (int(each.split("~")[0].rsplit(":", 1)[1]) for each in b.connections.addresses())
        async with serving({"peer.example": net, "web.example": web, "8.8.4.4": net}) as proxy:
            teach(a, proxy.address, proxy_for_all=True)
            for place in ("net:peer.example:8008", "ws://web.example:8989/peers", "net:8.8.4.4:1", b.address):
                info = await a.connections.dial(place if "~" in place else shs(place, b))
                assert info.id == b.id
                await a.connections.disconnect(b.id)
                await until(lambda: b.connections.connected(a.id) is None)
            assert proxy.asked == [("peer.example", 8008), ("web.example", 8989), ("8.8.4.4", 1)]
            assert not {"peer.example", "web.example"} & set(names_looked_up)


async def test_what_goes_wrong_at_the_proxy_is_told() -> None:
    target = Address("onion", (ONION, "8008"), KEY)
    async with serving({}) as proxy:
        with pytest.raises(DialFailed, match=f"did not reach {ONION} port 8008: .*nreachable"):
            await diallers(proxy.address)["onion"](target)
    with pytest.raises(DialFailed, match="does not answer; is it running"):
        await diallers(proxy.address)["onion"](target)
    async with serving({}) as proxy:
        too_long = Address("onion", ("a" * 300, "1"), KEY)
        with pytest.raises(DialFailed, match="socks"):
            await diallers(proxy.address)["onion"](too_long)

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    gone = asyncio.Event()

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        gone.set()

    for handler, reason in ((answer, "did not reach"), (silence, "in time")):
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        place = SocksProxy("127.0.0.1", server.sockets[0].getsockname()[1])
        with pytest.raises(DialFailed, match=reason) as caught:
            await diallers(place, limits=Limits(socks_timeout=0.2))["onion"](target)
        assert not isinstance(caught.value, DialTimeout) or reason == "in time"
        server.close()
    await asyncio.wait_for(gone.wait(), 5)


def test_a_proxy_is_written_as_host_and_port() -> None:
    assert parse_proxy(" 127.0.0.1:9050 ") == SocksProxy("127.0.0.1", 9050)
    assert str(parse_proxy("[::1]:9150")) == "[::1]:9150"
    assert parse_proxy("tor:9050").host == "tor"
    for text in ("", "9050", ":9050", "tor", "tor:", "tor:0", "tor:65536", "::1:9050", "socks5://tor:9050", "a:٩"):
        with pytest.raises(ValueError, match=r"."):
            parse_proxy(text)
