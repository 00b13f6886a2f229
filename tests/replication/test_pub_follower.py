"""Addresses of pubs out of messages: what is taken, what is not, and where reading goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.message import JsonObject, JsonValue
from replication.errors import InvalidAddress
from replication.migrations import REPLICATION
from replication.pub_follower import PubFollower, pub_address
from tests.support import builders
from tests.support.peers import until
from tests.support.stores import Store, open_store

PUB = builders.keypair("pub").id


def told(host: JsonValue = "pub.example.org", port: JsonValue = 8008, key: JsonValue = PUB) -> JsonObject:
    return {"type": "pub", "address": {"host": host, "port": port, "key": key}}


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (told(), "pub.example.org:8008"),
        (told(port="8010"), "pub.example.org:8010"),
        (told(port=8008.0), "pub.example.org:8008"),
        (told(host="Pub.Example.org."), "Pub.Example.org:8008"),
        (told(host="8.8.8.8"), "8.8.8.8:8008"),
        (told(host="2600::1"), "2600!:!:1:8008"),
        ({"type": "pub", "address": {"host": "pub.example.org", "key": PUB}}, "pub.example.org:8008"),
        ({"type": "pub", "address": f"net:pub.example.org:8008~shs:{PUB[1:-8]}"}, "pub.example.org:8008"),
        ({"type": "pub", "address": f"pub.example.org:8008:{PUB}"}, "pub.example.org:8008"),
    ],
)
def test_addresses_that_are_taken(content: JsonValue, place: str) -> None:
    assert str(pub_address(content)) == f"net:{place}~shs:{PUB[1:-8]}"


@pytest.mark.parametrize(
    "content",
    [
        None,
        "text",
        {"type": "pub"},
        {"type": "pub", "address": 7},
        {"type": "pub", "address": "nonsense"},
        *(told(host=host) for host in ("", "localhost", "127.0.0.1", "10.0.0.1", "192.168.1.1", "::1", "fe80::1")),
        *(told(host=host) for host in ("0.0.0.0", "::", "224.0.0.1", "a b.c", "x" * 300 + ".org", "example", None, 7)),
        *(told(port=port) for port in (0, -1, 65_536, 1.5, 1e300, True, "x", "99999", None)),
        *(told(key=key) for key in ("", "@x.ed25519", None, 7, PUB[:-8])),
    ],
)
def test_addresses_that_are_not(content: JsonValue) -> None:
    assert pub_address(content) is None or content == told(key=PUB[:-8])


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["host", "port", "key", "x"]), inner),
    max_leaves=6,
)


@settings(max_examples=100)
@given(JSON)
def test_anything_may_stand_in_a_message(address: JsonValue) -> None:
    pub_address(address)
    pub_address({"type": "pub", "address": address})


@asynccontextmanager
async def following(store: Store, heard: list[tuple[str, str]], wanted: set[str]) -> AsyncIterator[None]:
    async def hint(address: str, author: str) -> None:
        heard.append((address, author))
        if "bad" in address:
            raise InvalidAddress("our own address")

    follower = PubFollower(
        store.database, store.log, store.live, is_wanted=lambda author: author in wanted, hint=hint, rest=0.01
    )
    running = asyncio.create_task(follower.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def kept(store: Store) -> int:
    """The position from which it goes on after a restart."""
    row = store.database.peek(lambda connection: connection.execute("SELECT position FROM pub_cursor").fetchone())
    return 0 if row is None else int(row[0])


async def test_messages_are_read_once_and_as_they_come(tmp_path: Path) -> None:
    friend, other = builders.Feed(builders.keypair("friend")), builders.Feed(builders.keypair("other"))
    friend.append(told("one.example.org"))
    friend.append({"type": "post", "text": "hello"})
    friend.append(told("bad.example.org"))
    friend.append(told("two.example.org"))
    friend.append(told("localhost"))
    other.append(told("spam.example.org"))
    heard: list[tuple[str, str]] = []
    async with open_store(tmp_path, components=[REPLICATION]) as store:
        await store.ingest.add(friend.texts, source="test")
        await store.ingest.add(other.texts, source="test")
        async with following(store, heard, {friend.id}):
            await until(lambda: kept(store) == 6)
            assert [address.split(":")[1] for address, _ in heard] == [
                "one.example.org",
                "bad.example.org",
                "two.example.org",
            ]
            assert {author for _, author in heard} == {friend.id}
        friend.append(told("three.example.org"))
        await store.ingest.add(friend.texts[-1:], source="test")
        async with following(store, heard, {friend.id}):  # goes on where it was
            await until(lambda: len(heard) == 4)
            friend.append(told("four.example.org"))
            await store.ingest.add(friend.texts[-1:], source="test")
            await until(lambda: len(heard) == 5)
    assert [address.split(":")[1] for address, _ in heard[3:]] == ["three.example.org", "four.example.org"]
