"""private.publish, private.unbox, private.read and get: for local programs; to remote peers nothing of it."""

import os
from pathlib import Path
from typing import Any

import pytest

from feeds.private.key_ring import KeyRing
from feeds.private.sealing import seal
from replication.errors import RemoteCallError
from replication.rpc.connection import RpcConnection
from tests.support import builders
from tests.support.peers import open_node, program, stranger

FRIEND, OTHER = builders.keypair("friend"), builders.keypair("other")
POST: dict[str, Any] = {"type": "post", "text": "psst"}


async def answers(own: RpcConnection, name: str, *args: Any) -> list[Any]:
    source = own.source(name, list(args))
    found: list[Any] = []
    while batch := await source.read_batch():
        found += [body.value() for body in batch]
    return found


def boxed(text: str, *readers: str) -> str:
    return seal({"type": "post", "text": text}, list(readers), me=FRIEND.id, random=os.urandom)


async def test_publish_and_read(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        message: Any = await own.call("private.publish", [POST, [FRIEND.id]])
        content = message["value"]["content"]
        opened = KeyRing([FRIEND]).open(content)
        assert opened is not None
        assert opened.content == {**POST, "recps": [FRIEND.id, a.id]}
        plain = {**message["value"], "content": opened.content}
        assert await own.call("private.unbox", [content]) == opened.content
        assert await own.call("private.unbox", [message["value"]]) == plain
        assert await own.call("private.unbox", [message]) == {**message, "value": plain, "meta": {"private": True}}
        assert await own.call("get", [message["key"]]) == message["value"]
        assert await own.call("get", [{"id": message["key"], "private": True}]) == plain
        kvt = {"key": message["key"], "value": plain, "timestamp": message["timestamp"], "meta": {"private": True}}
        assert await own.call("get", [{"id": message["key"], "private": True, "meta": True}]) == kvt
        assert await answers(own, "private.read") == [kvt]


async def test_publish_encrypts_what_has_recps(tmp_path: Path) -> None:
    """As with ssb-private, which old programs count on."""
    async with open_node(tmp_path, "a") as a, program(a) as own:
        message: Any = await own.call("publish", [{**POST, "recps": [FRIEND.id]}])
        assert message["value"]["content"].endswith(".box")
        again: Any = await own.call("private.publish", [{**POST, "recps": [FRIEND.id]}])
        assert again["value"]["content"].endswith(".box")
        assert a.clock() == {a.id: 2}


async def test_released_keys(tmp_path: Path) -> None:
    theirs = builders.Feed(FRIEND)
    content = boxed("for other", OTHER.id)
    opened = KeyRing([OTHER]).open(content)
    assert opened is not None
    async with open_node(tmp_path, "a") as a, program(a) as own:
        await a.take([theirs.append(content), theirs.append(boxed("another", OTHER.id))])
        assert await own.call("private.unbox", [content]) is None
        assert (await own.call("get", [{"id": theirs.ids[0], "private": True}]))["content"] == content  # type: ignore[call-overload, index]
        arguments: tuple[Any, ...] = (
            f"{theirs.ids[0]}?unbox={opened.unbox}",
            {"id": theirs.ids[0], "unbox": opened.unbox},
        )
        for argument in arguments:
            value: Any = await own.call("get", [argument])
            assert value["content"]["text"] == "for other"
        with pytest.raises(RemoteCallError, match="does not open"):
            await own.call("get", [f"{theirs.ids[1]}?unbox={opened.unbox}"])


async def test_reading_in_both_directions_and_live(tmp_path: Path) -> None:
    theirs = builders.Feed(FRIEND)
    async with open_node(tmp_path, "a") as a, program(a) as own:
        await a.take([theirs.append(boxed(str(n), a.id)) for n in range(5)] + [theirs.append(POST)])

        async def read(**options: Any) -> list[str]:
            found = await answers(own, "private.read", {"keys": False, **options})
            return [value["content"]["text"] for value in found]

        assert await read() == ["0", "1", "2", "3", "4"]
        assert await read(reverse=True, limit=2) == ["4", "3"]
        assert await read(limit=0) == []
        assert await read(author=a.id) == []
        assert await read(author=FRIEND.id, type="post", limit=1) == ["0"]
        assert await answers(own, "private.read", {"values": False}) == theirs.ids[:5]
        source = own.source("private.read", [{"live": True, "old": False, "keys": False, "limit": 2}])
        await a.post("public")
        await own.call("private.publish", [POST, [FRIEND.id]])
        (first,) = await source.read_batch()
        await a.take([theirs.append(boxed("live", a.id))])
        (second,) = await source.read_batch()
        texts = [body.value()["content"]["text"] for body in (first, second)]  # type: ignore[call-overload, index]
        assert texts == ["psst", "live"]
        assert await source.read_batch() == []


@pytest.mark.parametrize(
    "args",
    [[], [None], [POST], [POST, []], [POST, "@x"], [POST, ["@x"]], ["x.box", [FRIEND.id]], [{"type": 5}, [FRIEND.id]]],
)
async def test_what_cannot_be_encrypted_is_refused_and_not_published(tmp_path: Path, args: list[Any]) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        with pytest.raises(RemoteCallError) as refused:
            await own.call("private.publish", args)
        assert "psst" not in refused.value.message
        assert "internal" not in refused.value.message
        assert a.clock() == {}


async def test_nothing_for_remote_callers(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, stranger(a) as peer:
        await a.store.ingest.publish(dict(POST), recps=[FRIEND.id])
        for name in ("private.publish", "private.unbox", "get"):
            with pytest.raises(RemoteCallError, match="not in list of allowed methods"):
                await peer.call(name, [POST, [FRIEND.id]])
        with pytest.raises(RemoteCallError, match="not in list of allowed methods"):
            await peer.source("private.read").read_batch()


async def test_the_log_in_plain_for_local_programs_only(tmp_path: Path) -> None:
    """As old sbots gave it: what we can read in plain, what we cannot as it is."""
    feed = builders.Feed(FRIEND)
    async with open_node(tmp_path, "a") as a, program(a) as own, stranger(a) as peer:
        feed.append(boxed("for a", a.id))
        feed.append({"type": "post", "text": "for all"})
        feed.append(boxed("for others", OTHER.id))
        await a.take(feed.texts)
        plain = await answers(own, "createLogStream", {"private": True})
        stored = await answers(own, "createLogStream", {"private": False})
        assert stored == await answers(own, "createLogStream")
        assert plain[0]["value"]["content"]["text"] == "for a"
        assert plain[0].pop("meta") == {"private": True}
        assert plain[0]["value"] | {"content": stored[0]["value"]["content"]} == stored[0]["value"]
        assert plain[1:] == stored[1:]
        assert stored[0]["value"]["content"].endswith(".box")
        (value,) = await answers(own, "createLogStream", {"private": True, "keys": False, "limit": 1})
        assert value == plain[0]["value"]
        (key,) = await answers(own, "createLogStream", {"private": True, "values": False, "limit": 1})
        assert key == feed.ids[0]
        live = own.source("createLogStream", [{"private": True, "live": True, "old": False}])
        await own.call("private.publish", [POST, [FRIEND.id]])
        fresh: Any = (await live.read_batch())[0].value()
        assert fresh["value"]["content"]["text"] == "psst"
        with pytest.raises(RemoteCallError, match="private"):
            await answers(own, "createLogStream", {"private": "yes"})
        with pytest.raises(RemoteCallError, match="not in list of allowed methods"):
            await answers(peer, "createLogStream", {"private": True})
