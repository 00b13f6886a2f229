"""Invites between two nodes, and what the key of an invite can do and what it cannot."""

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.errors import FeedLocked
from feeds.message import JsonValue
from feeds.publisher import State
from replication.address import Address, parse_address, parse_invite
from replication.errors import (
    ConnectionClosed,
    DialFailed,
    DialTimeout,
    HandshakeFailed,
    InvalidAddress,
    InvalidInvite,
    InviteRefused,
    NoPublicAddress,
    RemoteCallError,
    RemoteVisible,
)
from replication.invite_codes import advertised, format_code, parse_external
from replication.invites import Invite, Invites
from replication.joining import Joining
from replication.peer import PeerConfig, connect_peer
from replication.policy import Strangers
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import Kind, Method, MethodTable, Who
from tests.support import builders
from tests.support.peers import Node, open_node, program, until
from tests.support.stores import open_store

PUBLIC = builders.keypair("pub").public
SEED = bytes(range(32))
FEEDS = [builders.keypair(f"guest {number}").id for number in range(12)]


@asynccontextmanager
async def holder(code: str) -> AsyncIterator[RpcConnection]:
    """Whoever has the code, dialling with the invite's key and nothing else."""
    peer = await connect_peer(parse_invite(code), PeerConfig(keypair=builders.keypair("anybody"), table=MethodTable()))
    running = asyncio.create_task(peer.run())
    try:
        yield peer.connection
    finally:
        with suppress(ConnectionClosed):
            await peer.close()
        await asyncio.wait([running], timeout=2)


async def answer(call: Any) -> str:
    """What a call brings: "done", or the words of its error."""
    try:
        await call
    except RemoteCallError as error:
        return error.message
    return "done"


def use(connection: RpcConnection, feed: JsonValue) -> Any:
    return connection.call("invite.use", [{"feed": feed}])


async def invite(node: Node, **more: Any) -> tuple[Invite, str]:
    return await node.inviting.invites.create(node.inviting.advertised("127.0.0.1"), **more)


async def contents(node: Node) -> list[dict[str, Any]]:
    entries = await node.store.log.entries_after(0, 100)
    return [orjson.loads(entry.text)["content"] for entry in entries if entry.author == node.id]


# --- codes and addresses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("modern", [False, True])
@pytest.mark.parametrize("host", ["pub.example.org", "192.0.2.7", "2001:db8::7"])
def test_what_is_written_is_read(host: str, modern: bool) -> None:
    address = Address.net(host, 8008, PUBLIC)
    code = format_code(address, SEED, modern=modern)
    for spelled in (code, f'"{code}"', f" '{code}' \n", code + "#https://example.org/welcome"):
        read = parse_invite(spelled)
        assert (read.host, read.port, read.public, read.seed) == (host, 8008, PUBLIC, SEED)
    assert code.startswith("net:") == (modern or ":" in host)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("pub.example.org", "pub.example.org", None),
        (" pub.example.org:443 ", "pub.example.org", 443),
        ("192.0.2.7:1", "192.0.2.7", 1),
        ("2001:db8::7", "2001:db8::7", None),
        ("[2001:db8::7]:8010", "2001:db8::7", 8010),
        ("[2001:db8::7]", "2001:db8::7", None),
    ],
)
def test_an_external_address_is_read(text: str, host: str, port: int | None) -> None:
    assert parse_external(text) == (host, port)


@pytest.mark.parametrize(
    "text", ["", ":8008", "a b", "a/b", "host:", "host:0", "host:65536", "host:x", "[::1", "x" * 254]
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(InvalidAddress):
        parse_external(text)


@given(st.text(max_size=60))
def test_any_text_is_a_host_or_refused(text: str) -> None:
    with suppress(InvalidAddress):
        host, port = parse_external(text)
        assert host
        assert parse_address(str(Address.net(host, port or 1, PUBLIC))).host == host


@pytest.mark.parametrize(
    ("bound", "external", "routed", "expected"),
    [
        ("0.0.0.0:8008", "", ["93.184.215.14"], "93.184.215.14:8008"),
        ("0.0.0.0:8008", "", ["192.168.1.2"], None),
        ("93.184.215.14:8009", "", [], "93.184.215.14:8009"),
        ("127.0.0.1:8008", "", ["93.184.215.14"], None),
        ("127.0.0.1:8008", "pub.example.org", [], "pub.example.org:8008"),
        ("127.0.0.1:8008", "pub.example.org:9", [], "pub.example.org:9"),
    ],
)
def test_what_is_told_to_others(bound: str, external: str, routed: list[str], expected: str | None) -> None:
    host, _, port = bound.partition(":")
    listening = [str(Address.net(host, int(port), PUBLIC))]
    if expected is None:
        with pytest.raises(NoPublicAddress, match="--external"):
            advertised(listening, external, PUBLIC, routed)
    else:
        found = advertised(listening, external, PUBLIC, routed)
        assert (f"{found.host}:{found.port}", found.public) == (expected, PUBLIC)


# --- giving out -------------------------------------------------------------------------------------------------------


async def test_using_an_invite_publishes_a_contact_and_counts(tmp_path: Path) -> None:
    async with open_node(tmp_path, "pub") as pub:
        made, code = await invite(pub, uses=2, note="from the party")
        async with holder(code) as guest:
            said: Any = await use(guest, FEEDS[0])
            assert said["value"]["content"] == {
                "type": "contact",
                "contact": FEEDS[0],
                "following": True,
                "pub": True,
                "note": "from the party",
            }
            assert await answer(use(guest, FEEDS[0])) == "already following"
            assert await answer(use(guest, FEEDS[1])) == "done"
            assert await answer(use(guest, FEEDS[2])) == "invite has expired"
            assert await answer(use(guest, FEEDS[1])) == "already following"
        found = [content["contact"] for content in await contents(pub)]
        assert found == FEEDS[:2]
        invites = pub.inviting.invites
        (kept,) = invites.all()
        assert (kept.used, kept.state(invites.now)) == (2, "used-up")
        assert await invites.guests(made.id) == FEEDS[:2]


async def test_n_uses_never_become_more_however_many_come_at_once(tmp_path: Path) -> None:
    async with open_node(tmp_path, "pub") as pub:
        _, code = await invite(pub, uses=5)
        async with holder(code) as one, holder(code) as two, holder(code) as three:
            seats = itertools.cycle([one, two, three])
            said = await asyncio.gather(*(answer(use(next(seats), feed)) for feed in FEEDS))
        assert sorted(said) == sorted(["done"] * 5 + ["invite has expired"] * (len(FEEDS) - 5))
        assert len(await contents(pub)) == 5


async def test_the_database_counts_even_if_memory_is_behind(tmp_path: Path) -> None:
    async with open_node(tmp_path, "pub") as pub:
        made, code = await invite(pub)
        behind = Invites(pub.id, pub.store.database, ingest=pub.store.ingest, graph=pub.store.graph, now=lambda: 0.0)
        await behind.load()
        async with holder(code) as guest:
            assert await answer(use(guest, FEEDS[0])) == "done"
        with pytest.raises(RemoteVisible, match="invite has expired"):
            await behind.use(made.id, FEEDS[1])
        assert len(await contents(pub)) == 1, "the contact message was taken back with the use"
        assert await pub.post() in str(await pub.store.log.entries_after(0, 9))
        with pytest.raises(RemoteVisible):
            await behind.use(FEEDS[0], FEEDS[1])


@pytest.mark.parametrize("said", ["\x1b[2Jgone\u202e", "x" * 10_000, ""])
async def test_a_pub_that_says_strange_things_is_quoted_in_short(tmp_path: Path, said: str) -> None:
    async def refuse(*_args: object) -> object:
        raise RemoteVisible(said)

    async with open_node(tmp_path, "pub", without=[("invite", "use")]) as pub, open_node(tmp_path, "guest") as guest:
        pub.table.add(Method(("invite", "use"), Kind.ASYNC, Who.INVITE, refuse))
        _, code = await invite(pub)
        with pytest.raises(InviteRefused) as refused:
            await guest.inviting.joining.accept(code)
        assert len(str(refused.value)) < 400
        assert str(refused.value).isprintable()
        assert await contents(guest) == []


async def test_a_pub_that_hangs_up_is_asked_again(tmp_path: Path) -> None:
    calls: list[object] = []

    async def hang_up(caller: Any, args: object) -> object:
        calls.append(args)
        caller.connection.abort("no")
        await asyncio.sleep(1)
        return None

    async with open_node(tmp_path, "pub", without=[("invite", "use")]) as pub, open_node(tmp_path, "guest") as guest:
        pub.table.add(Method(("invite", "use"), Kind.ASYNC, Who.INVITE, hang_up))
        _, code = await invite(pub)
        with pytest.raises(DialFailed, match="used up"):
            await guest.inviting.joining.accept(code)
        assert calls == [[{"feed": guest.id}]] * 3
        assert await contents(guest) == []


async def test_a_pub_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replication.joining.ALL_SECONDS", 0.3)

    async def wait(*_args: object) -> object:
        await asyncio.sleep(60)
        return None

    async with open_node(tmp_path, "pub", without=[("invite", "use")]) as pub, open_node(tmp_path, "guest") as guest:
        pub.table.add(Method(("invite", "use"), Kind.ASYNC, Who.INVITE, wait))
        _, code = await invite(pub)
        with pytest.raises(DialTimeout):
            await guest.inviting.joining.accept(code)
        assert guest.connections.peers() == []


async def test_the_key_of_an_invite_may_do_nothing_else(tmp_path: Path) -> None:
    async with open_node(tmp_path, "pub", external="pub.example.org") as pub:
        _, code = await invite(pub)
        async with holder(code) as guest:
            for method in ("whoami", "manifest", "createHistoryStream", "ebt.replicate", "publish", "invite.create"):
                assert "is not in list of allowed methods" in await answer(guest.call(method, [])), method
            told = await guest.call("getAddress", [])
            assert "pub.example.org" in str(told)
            assert await answer(use(guest, None)) == "feed to follow is missing"
            assert await answer(use(guest, 7)) == "feed: expected a feed id"
            assert await answer(use(guest, pub.id)) == "this feed cannot be followed"
            assert await answer(use(guest, FEEDS[0])) == "done"
            assert await answer(guest.call("getAddress", [])) == "invite has expired"


async def test_a_blocked_feed_does_not_get_in_by_an_invite(tmp_path: Path) -> None:
    async with open_node(tmp_path, "pub") as pub:
        await pub.block(FEEDS[0])
        _, code = await invite(pub)
        async with holder(code) as guest:
            assert await answer(use(guest, FEEDS[0])) == "this feed cannot be followed"
            assert await answer(use(guest, FEEDS[1])) == "done"


async def test_an_invite_that_ends_loses_its_rights_on_open_connections(tmp_path: Path) -> None:
    async with open_node(tmp_path, "pub") as pub:
        made, code = await invite(pub)
        _, short = await invite(pub, expires_in=0)
        async with holder(code) as guest, holder(short) as late:
            assert await answer(use(late, FEEDS[0])) == "invite has expired"
            assert await pub.inviting.invites.revoke(made.id)
            assert not await pub.inviting.invites.revoke(made.id)
            assert await answer(use(guest, FEEDS[0])) == "invite has expired"
        assert await contents(pub) == []


async def test_the_firewall_lets_in_who_holds_an_invite_while_it_is_good(tmp_path: Path) -> None:
    async with open_node(tmp_path, "pub", strangers=Strangers.FOLLOWED) as pub:
        _, code = await invite(pub)
        async with holder(code) as guest:
            assert await answer(use(guest, FEEDS[0])) == "done"
        with pytest.raises(HandshakeFailed):
            async with holder(code):
                pass


async def test_a_use_that_cannot_be_published_is_not_counted(tmp_path: Path) -> None:
    async with open_node(tmp_path, "pub") as pub:
        made, code = await invite(pub)
        publish = pub.store.ingest.publish

        async def locked(*_args: object, **_named: object) -> None:
            raise FeedLocked("locked", "our feed is locked", "wait")

        pub.store.ingest.publish = locked  # type: ignore[method-assign,assignment]
        async with holder(code) as guest:
            assert "the invite was not used" in await answer(use(guest, FEEDS[0]))
            pub.store.ingest.publish = publish  # type: ignore[method-assign]
            assert await answer(use(guest, FEEDS[0])) == "done"
        assert pub.inviting.invites.get(made.id).used == 1  # type: ignore[union-attr]


async def test_invites_outlive_a_restart_and_the_secret_is_nowhere(tmp_path: Path) -> None:
    async with open_node(tmp_path, "pub") as pub:
        made, code = await invite(pub, uses=3)
        async with holder(code) as guest:
            assert await answer(use(guest, FEEDS[0])) == "done"
    seed = parse_invite(code).seed
    assert seed is not None
    written = b"".join(file.read_bytes() for file in (tmp_path / "pub").rglob("*") if file.is_file())
    assert seed not in written
    assert base64.b64encode(seed) not in written
    async with open_node(tmp_path, "pub") as pub:
        assert [(kept.id, kept.used) for kept in pub.inviting.invites.all()] == [(made.id, 1)]


# --- redeeming --------------------------------------------------------------------------------------------------------


async def test_two_nodes_follow_each_other_by_an_invite(tmp_path: Path) -> None:
    async with open_node(tmp_path, "pub") as pub, open_node(tmp_path, "guest") as guest:
        _, code = await invite(pub)
        joined = await guest.inviting.joining.accept(f'"{code}"')
        assert (joined.pub, joined.already, len(joined.messages)) == (pub.id, False, 2)
        follow, where = await contents(guest)
        assert follow == {"type": "contact", "contact": pub.id, "following": True, "autofollow": True}
        port = parse_address(pub.address).port
        assert where == {"type": "pub", "address": {"host": "127.0.0.1", "port": port, "key": pub.id}}
        (known,) = guest.book.of_peer(pub.id)
        assert (known.kind, known.source, known.auto) == ("pub", "invite", True)
        assert pub.store.graph.is_following(pub.id, guest.id)
        await until(lambda: pub.clock().get(guest.id) == 2 and guest.clock().get(pub.id) == 1)

        again = await guest.inviting.joining.accept(code)
        assert (again.already, again.messages) == (True, ())
        assert len(await contents(guest)) == 2


async def test_a_pub_that_refuses_is_quoted_and_nothing_is_published(tmp_path: Path) -> None:
    async with open_node(tmp_path, "pub") as pub, open_node(tmp_path, "guest") as guest:
        _, code = await invite(pub)
        async with holder(code) as other:
            assert await answer(use(other, FEEDS[0])) == "done"
        with pytest.raises(InviteRefused, match="invite has expired"):
            await guest.inviting.joining.accept(code)
        assert await contents(guest) == []
        assert guest.book.all() == []


async def test_an_unreachable_pub_is_tried_three_times(tmp_path: Path) -> None:
    tries: list[Address] = []
    pauses: list[float] = []

    class Hub:
        async def visit(self, address: Address) -> Any:
            tries.append(address)
            raise DialFailed("connect", "nobody answers")

        async def remember(self, *_args: object, **_named: object) -> Any:
            raise AssertionError

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async with open_store(tmp_path) as store:
        joining = Joining(store.own.id, Hub, own=store.ingest, graph=store.graph, sleep=sleep)
        code = format_code(Address.net("pub.example.org", 8008, PUBLIC), SEED)
        with pytest.raises(DialFailed, match="nobody answers"):
            await joining.accept(code)
        assert len(tries) == 3
        assert len(pauses) == 2
        own = format_code(Address.net("pub.example.org", 8008, store.own.public), SEED)
        for wrong in ("", "hello", code.partition("~")[0], own):
            with pytest.raises(InvalidInvite):
                await joining.accept(wrong)
        assert store.log.position == 0


async def test_a_locked_feed_uses_no_invite_up(tmp_path: Path) -> None:
    class Locked:
        own_state = State.LOCKED

        async def publish(self, *_args: object) -> Any:
            raise AssertionError

    async with open_store(tmp_path) as store:
        joining = Joining(store.own.id, lambda: None, own=Locked(), graph=store.graph)  # type: ignore[arg-type,return-value]
        with pytest.raises(FeedLocked, match="not used"):
            await joining.accept(format_code(Address.net("pub.example.org", 8008, PUBLIC), SEED))


async def test_the_node_s_own_user_has_all_of_it_by_muxrpc(tmp_path: Path) -> None:
    async with open_node(tmp_path, "pub", external="pub.example.org:8010") as pub, program(pub) as own:
        code: Any = await own.call("invite.create", [{"uses": 3, "note": "x"}])
        assert code.startswith(f"pub.example.org:8010:{pub.id}~")
        other: Any = await own.call("invite.create", [{"modern": True, "uses": 9}])
        assert other.startswith("net:pub.example.org:8010~shs:")
        listed: Any = await own.call("invite.list", [])
        first, second = listed
        assert (first["uses"], first["note"], first["state"], second["uses"]) == (3, "x", "open", 1)
        assert await own.call("invite.revoke", [first["id"]]) is True
        refused: tuple[Any, ...] = (
            0,
            -1,
            1.5,
            {"uses": "2"},
            {"uses": 10**9},
            {"note": "x" * 301},
            {"external": "a b"},
        )
        for wrong in refused:
            assert await answer(own.call("invite.create", [wrong])) != "done", wrong
        assert "not an invite" in await answer(own.call("invite.accept", ["hello"]))
        assert await answer(own.call("invite.use", [{"feed": FEEDS[0]}])) != "done"


async def test_without_a_public_address_the_way_out_is_named(tmp_path: Path) -> None:
    async with open_node(tmp_path, "pub") as pub, program(pub) as own:
        assert "--external" in await answer(own.call("invite.create", [1]))


async def test_ended_invites_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replication.invites.MOST_INVITES", 3)
    async with open_node(tmp_path, "pub") as pub:
        made = [(await invite(pub))[0].id for _ in range(3)]
        with pytest.raises(Exception, match="revoke"):
            await invite(pub)
        await pub.inviting.invites.revoke(made[1])
        new, _ = await invite(pub)
        assert [kept.id for kept in pub.inviting.invites.all()] == [made[0], made[2], new.id]
        reread = Invites(pub.id, pub.store.database, ingest=pub.store.ingest, graph=pub.store.graph, now=lambda: 0.0)
        await reread.load()
        assert {kept.id for kept in reread.all()} == {made[0], made[2], new.id}
