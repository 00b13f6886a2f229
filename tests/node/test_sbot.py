"""The composition root: two nodes in one process, their talk, and what is left when opening fails half way."""

import asyncio
import socket
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from node import config
from node.client import attach
from node.directory import DataDirectory
from node.errors import DirectoryLocked, KeyFileError, NodeError, NotRunning, PortTaken
from node.sbot import Sbot
from replication.errors import DialFailed, RemoteCallError


def settings(path: Path, **flags: str) -> config.Config:
    quiet = {"host": "127.0.0.1", "port": "0", "http_port": "0", "lan": "false", "path": str(path)}
    return config.load(quiet | flags, {})


@asynccontextmanager
async def opened(path: Path, **flags: str) -> AsyncIterator[Sbot]:
    async with Sbot.open(settings(path, **flags)) as sbot:
        yield sbot


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - any condition will do
            await asyncio.sleep(0.01)


async def follow(one: Sbot, other: Sbot) -> None:
    await one.store.ingest.publish({"type": "contact", "contact": other.id, "following": True})


async def test_two_nodes_in_one_process_replicate(tmp_path: Path) -> None:
    async with opened(tmp_path / "a") as a, opened(tmp_path / "b") as b:
        assert a.id != b.id
        await follow(a, b)
        await follow(b, a)
        info = await a.connections.dial(b.address)
        assert info.id == b.id
        entry = await b.store.ingest.publish({"type": "post", "text": "hi"})
        await until(lambda: a.store.log.clock() == b.store.log.clock() == {a.id: 1, b.id: 2})
        found = await a.store.log.get(entry.id)
        assert found is not None
        assert found.text == entry.text


async def test_another_network_key_keeps_nodes_apart(tmp_path: Path) -> None:
    key = "A" * 43 + "="
    async with opened(tmp_path / "a") as a, opened(tmp_path / "b", network_key=key) as b:
        with pytest.raises(DialFailed):
            await a.connections.dial(b.address)
        with pytest.raises(DialFailed):
            await b.connections.dial(a.address)


async def test_the_hmac_key_is_part_of_what_is_valid(tmp_path: Path) -> None:
    key = "A" * 43 + "="
    async with opened(tmp_path / "a", hmac_key=key) as a, opened(tmp_path / "b", hmac_key=key) as b:
        await follow(a, b)
        await b.store.ingest.publish({"type": "post", "text": "hi"})
        await a.connections.dial(b.address)
        await until(lambda: a.store.log.sequence(b.id) == 1)
        text = (await b.store.log.range(b.id, 0, 1))[0]
    async with opened(tmp_path / "c") as c:
        report = await c.store.ingest.add([text], source="test")
        assert (report.added, len(report.rejections)) == (0, 1)


async def test_hops_decide_how_far_feeds_are_fetched(tmp_path: Path) -> None:
    async with opened(tmp_path / "a", hops="1") as a, opened(tmp_path / "b") as b, opened(tmp_path / "c") as c:
        await follow(a, b)
        await follow(b, c)
        await c.store.ingest.publish({"type": "post", "text": "far"})
        await b.connections.dial(c.address)
        await a.connections.dial(b.address)
        await until(lambda: b.store.log.sequence(c.id) == 1 and a.store.log.sequence(b.id) == 1)
        await asyncio.sleep(0.3)
        assert a.store.log.sequence(c.id) == 0


async def test_programs_attach_by_socket_and_by_port(tmp_path: Path) -> None:
    async with opened(tmp_path / "a") as a:
        found = settings(tmp_path / "a", port=str(a.http.address[1]))
        async with attach(found) as node:
            assert await node.call("whoami", []) == {"id": a.id}
            key = (await node.call("publish", [{"type": "post", "text": "x"}]))["key"]
            with pytest.raises(RemoteCallError):
                await node.call("nothing.here", [])
            items = [text async for texts in node.stream("createLogStream", [{}]) for text in texts]
            assert len(items) == 1
            assert key.encode() in items[0]
        (tmp_path / "a" / "socket").unlink()
        port = a.address.split("~")[0].rpartition(":")[2]
        async with attach(settings(tmp_path / "a", port=port)) as node:
            assert await node.call("getLatest", [a.id])
        with pytest.raises(NotRunning):
            async with attach(found):
                pass  # the HTTP port speaks no secret handshake


async def test_an_open_live_stream_does_not_hold_up_the_end(tmp_path: Path) -> None:
    items: list[bytes] = []

    async def watch(found: config.Config) -> None:
        async with attach(found) as node:
            async for texts in node.stream("createLogStream", [{"live": True, "old": False}]):
                items.extend(texts)

    async with opened(tmp_path / "a") as a:
        watching = asyncio.create_task(watch(a.config))
        await asyncio.sleep(0.2)
        await a.store.ingest.publish({"type": "post", "text": "x"})
        await until(lambda: items)
        loop = asyncio.get_running_loop()
        began = loop.time()
    assert loop.time() - began < 4
    with pytest.raises(Exception, match="close"):
        await watching


@pytest.mark.parametrize("flag", ["port", "http_port"])
async def test_a_taken_port_lets_everything_go_again(tmp_path: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(PortTaken) as caught:
            async with opened(tmp_path / "a", **{flag: str(taken.getsockname()[1])}):
                pytest.fail("it opened")
        assert caught.value.port == taken.getsockname()[1]
    async with opened(tmp_path / "a") as a:
        assert a.ready()["event"] == "ready"


async def test_the_directory_is_held_by_one(tmp_path: Path) -> None:
    async with opened(tmp_path / "a"):
        with pytest.raises(DirectoryLocked):
            async with opened(tmp_path / "a"):
                pytest.fail("it opened twice")
    async with opened(tmp_path / "a"):
        pass


async def test_a_damaged_key_file_opens_nothing(tmp_path: Path) -> None:
    DataDirectory(tmp_path / "a").make()
    (tmp_path / "a" / "secret").write_text("nonsense")
    with pytest.raises(KeyFileError):
        async with opened(tmp_path / "a"):
            pytest.fail("it opened")
    assert {item.name for item in (tmp_path / "a").iterdir()} == {"secret", "lock"}


@pytest.mark.parametrize("flags", [{"host": "no.such.host.invalid"}, {"http_host": "no.such.host.invalid"}])
async def test_an_address_that_is_none_is_told(tmp_path: Path, flags: dict[str, str]) -> None:
    with pytest.raises(NodeError, match=r"no\.such\.host\.invalid"):
        async with opened(tmp_path / "a", **flags):
            pytest.fail("it opened")


async def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NodeError, match="--path"):
            async with opened(path):
                pytest.fail("it opened")


async def test_every_address_is_told_as_loopback_to_this_machine(tmp_path: Path) -> None:
    async with opened(tmp_path / "a", host="0.0.0.0") as a:
        assert a.address.startswith("net:127.0.0.1:")
        async with opened(tmp_path / "b") as b:
            assert (await b.connections.dial(a.address)).id == a.id


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize(("host", "shown"), [("::", "127.0.0.1"), ("::1", "!:!:1")])
async def test_ipv6_is_dialled_listed_and_remembered(tmp_path: Path, host: str, shown: str) -> None:
    async with opened(tmp_path / "a", host=host) as a, opened(tmp_path / "b") as b:
        assert a.address.startswith(f"net:{shown}:")
        port = a.address.split("~")[0].rpartition(":")[2]
        for near in ("!:!:1", shown):
            address = f"net:{near}:{port}~shs:{a.id[1:-8]}"
            info = await b.connections.dial(address)
            assert (info.id, info.address) == (a.id, address)
            (incoming,) = (peer for peer in a.connections.peers() if peer.id == b.id)
            assert incoming.address.startswith("[::1]:" if near == "!:!:1" else "127.0.0.1:")
            assert address in [known.address for known in b.connections.remembered()]
            await b.connections.disconnect(a.id)
            await until(lambda: not [peer for peer in a.connections.peers() if peer.id == b.id])


async def test_a_part_that_fails_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(self: Any) -> None:
        raise RuntimeError("oh")

    monkeypatch.setattr("replication.growth.Growth.run", broken)
    async with opened(tmp_path / "a") as a:
        async with asyncio.timeout(5):
            with pytest.raises(NodeError, match="its log"):
                await a.failure()


def test_a_loose_empty_directory_is_closed_and_one_with_content_left(tmp_path: Path) -> None:
    empty, full = tmp_path / "empty", tmp_path / "full"
    for folder in (empty, full):
        folder.mkdir()
        folder.chmod(0o755)
    (full / "something").write_text("")
    with warnings.catch_warnings():
        for folder in (empty, full):
            DataDirectory(folder).make()
    assert empty.stat().st_mode & 0o777 == 0o700
    assert full.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff" * 40])
def test_a_token_file_without_a_token_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "http-token").write_bytes(content)
    with pytest.raises(NodeError, match="http-token"):
        DataDirectory(tmp_path).http_token()


def test_the_token_is_made_once(tmp_path: Path) -> None:
    token = DataDirectory(tmp_path).http_token()
    assert len(token) >= 40
    assert DataDirectory(tmp_path).http_token() == token
