"""Why feeds, messages and blobs are fetched or are not: whole nodes asked about each case."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from api.models import Why
from feeds import hiding
from replication.blob_wants import Fetch
from replication.explaining import Explainer
from replication.limits import Limits
from tests.support import builders
from tests.support.peers import Node, key, open_node, stranger, until

Ask = Callable[[str], Awaitable[dict[str, Any]]]


def asking(node: Node) -> Ask:
    explainer = Explainer(
        database=node.store.database,
        log=node.store.log,
        graph=node.store.graph,
        replicator=node.replicator,
        blob_exchange=node.blob_exchange,
        hub=node.connections,
    )

    async def why(id: str) -> dict[str, Any]:
        found = await explainer.why(id)
        Why.model_validate(found)
        return found

    return why


@asynccontextmanager
async def claiming(node: Node, notes: bytes) -> AsyncIterator[Any]:
    """A peer that says what it has; gives its stream."""
    async with stranger(node) as peer:
        stream = peer.duplex("ebt.replicate", [{"version": 3}])
        await stream.read_batch()
        await stream.send([notes])
        yield stream


async def test_the_way_to_a_feed_and_what_would_change_it(tmp_path: Path) -> None:
    near, far, further = (builders.Feed(key(name)) for name in ("near", "far", "further"))
    async with open_node(tmp_path, "a", hops=1) as a:
        why = asking(a)
        await a.take([near.append({"type": "contact", "contact": far.id, "following": True})])
        await a.take([far.append({"type": "contact", "contact": further.id, "following": True})])
        await a.follow(near.id)
        await until(lambda: near.id in a.replicator.policy.wanted)

        found = await why(near.id)
        assert (found["wanted"], found["path"], found["hops"], found["limit"]) == (True, [a.id, near.id], 1, None)
        found = await why(far.id)
        assert (found["wanted"], found["path"], found["hops"]) == (False, [a.id, near.id, far.id], 2)
        assert found["limit"] == "it is 2 hops away, and 1 are replicated"
        assert "raise the number of hops" in found["would_change"][0]
        assert (await why(further.id))["path"] == [a.id, near.id, far.id, further.id]

        await a.replicator.request(far.id, True)
        assert (await why(far.id))["reason"] == "it was requested by hand"
        await a.replicator.request(far.id, False)
        found = await why(far.id)
        assert found["limit"] == "its replication was switched off by hand"
        await a.block(near.id)
        found = await why(near.id)
        assert (found["wanted"], found["limit"], found["path"]) == (False, "we block it", [])
        assert "unblock it" in found["would_change"][0]
        nobody = await why(key("nobody").id)
        assert (nobody["wanted"], nobody["path"], nobody["hops"], nobody["limit"]) == (False, [], None, None)
        own = await why(a.id)
        assert (own["wanted"], own["path"], own["hops"], own["would_change"]) == (True, [a.id], 0, [])


async def test_who_has_a_feed_what_went_wrong_and_what_is_waited_for(tmp_path: Path) -> None:
    feed = builders.chain("feed", 5)
    async with open_node(tmp_path, "a") as a:
        why = asking(a)
        await a.want([feed.id])
        found = await why(feed.id)
        assert (found["offered_by"], found["would_change"]) == (
            [],
            ["Connect to a peer: there is no connection at present."],
        )
        async with claiming(a, b'{"%b":10}' % feed.id.encode()) as stream:
            await until(lambda: a.replicator.feed_status(feed.id)["lag"] == 5)
            found = await why(feed.id)
            assert found["offered_by"] == [{"peer": key("stranger").id, "connected": True, "has": 5}]
            assert found["would_change"] == [f"Waiting: 5 messages are to come from {key('stranger').id}."]
            await stream.send(feed.texts[:2])
            await until(lambda: a.clock().get(feed.id) == 2)
            await stream.send([feed.texts[2].replace(b'"sequence":3', b'"sequence":3,"x":1')])
            await until(lambda: a.replicator.failure(feed.id))
            error = (await why(feed.id))["error"]
            assert error["peer"] == key("stranger").id
            assert error["reason"]
        await until(lambda: not a.replicator.online)
        await until(lambda: not a.replicator.ebt.state.peers())
        await a.replicator.ebt.save()
        found = await why(feed.id)
        assert found["offered_by"] == [{"peer": key("stranger").id, "connected": False, "has": 5}]
        assert found["would_change"] == [
            f"Connect to {key('stranger').id}, which had it up to message 5 when it was last connected."
        ]


async def test_who_has_our_latest_post(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        why = asking(a)
        first = await a.post("one")
        await b.want([a.id])
        await a.connections.dial(b.address)
        await until(lambda: b.clock().get(a.id) == 1)
        await until(lambda: (a.replicator.ebt.state.feed_status(a.id).peers[b.id].claim or 0) >= 1)
        found = await why(first)
        assert (found["held"], found["holders"], found["feed"], found["sequence"]) == (True, 1, a.id, 1)
        assert (await why(a.id))["holders"] == 1


async def test_failures_kept_are_bounded(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a", limits=Limits(feed_failures=2)) as a:
        bad = [builders.chain(name, 1) for name in ("x", "y", "z")]
        await a.want([feed.id for feed in bad])
        notes = b",".join(b'"%b":2' % feed.id.encode() for feed in bad)
        async with claiming(a, b"{" + notes + b"}") as stream:
            await stream.send([feed.texts[0].replace(b'"sequence":1', b'"sequence":1,"x":1') for feed in bad])
            await until(lambda: a.replicator.failure(bad[2].id))
            assert len(a.replicator._failures) == 2


async def test_messages_here_deleted_and_only_named(tmp_path: Path) -> None:
    friend = builders.Feed(key("friend"))
    missing = builders.message_id(7)
    async with open_node(tmp_path, "a") as a:
        why = asking(a)
        await a.take([friend.append({"type": "post", "text": "hm", "root": missing, "branch": missing})])
        found = await why(friend.ids[0])
        assert (found["held"], found["wanted"]) == (True, False)
        assert found["would_change"][0].startswith("It stays, but nothing new of its feed comes.")
        await a.follow(friend.id)
        await until(lambda: friend.id in a.replicator.policy.wanted)
        assert (await why(friend.ids[0]))["would_change"] == []

        found = await why(missing)
        assert (found["held"], found["path"], found["hops"]) == (False, [a.id, friend.id], 1)
        assert found["named_in"] == [{"message": friend.ids[0], "author": friend.id, "replicated": True}]
        unknown = await why(builders.message_id(8))
        assert (unknown["named_in"], unknown["path"]) == ([], [])

        await a.store.database.write(lambda connection: hiding.hide_message(connection, friend.ids[0], 1))
        found = await why(friend.ids[0])
        assert found["limit"] == "it was deleted on this node: people do not see it"


async def test_blobs(tmp_path: Path) -> None:
    friend = builders.Feed(key("friend"))
    picture, other = builders.blob_id(1), builders.blob_id(2)
    text = friend.append({"type": "about", "about": friend.id, "image": picture})
    async with open_node(tmp_path, "a") as a:
        why = asking(a)
        await a.follow(friend.id)
        await a.take([text])
        await until(lambda: a.blobs.wanted(picture))
        found = await why(picture)
        assert (found["wanted"], found["path"], found["hops"], found["held"]) == (True, [a.id, friend.id], 1, False)
        assert friend.ids[0] in found["reason"]
        assert found["would_change"] == ["Connect to a peer: there is no connection at present."]
        found = await why(other)
        assert (found["wanted"], found["reason"]) == (False, "nothing here names it")
        assert found["would_change"] == [f"Ask for it: sbot blobs.want '{other}'."]
        held = await a.blobs.add(b"hello")
        found = await why(held.id)
        assert (found["held"], found["would_change"], found["error"]) == (True, [], None)
    async with open_node(tmp_path, "b", fetch=Fetch.OFF) as b:
        found = await asking(b)(picture)
        assert found["limit"] == "this node fetches no blobs (blob_fetch = off)"


async def test_ids_of_other_formats_are_answered(tmp_path: Path) -> None:
    data = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    async with open_node(tmp_path, "a") as a:
        why = asking(a)
        for format in ("bendybutt-v1", "gabbygrove-v1"):
            assert (await why(f"ssb:feed/{format}/{data}"))["kind"] == "feed"
            assert (await why(f"ssb:message/{format}/{data}"))["kind"] == "message"
