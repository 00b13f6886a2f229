"""Feeds: the list, one feed, its messages by sequence."""

import json
from urllib.parse import quote

import pytest

from api.models import Feed, FeedList, ForkProof, OwnFeedState, Whoami
from feeds import fork_proof
from feeds.publisher_state import WAY_OUT, Lock, Reason
from feeds.refs import FeedRef
from tests.api.test_access import code
from tests.api.test_messages import NDJSON, fill, keys, pages
from tests.support import builders
from tests.support.api import Api

IN_MODULE = pytest.mark.asyncio(loop_scope="module")


async def test_our_own_feed_is_known_from_the_start(api: Api) -> None:
    (feed,) = FeedList.model_validate((await api.client.get("/v1/feeds")).json()).items
    assert feed == Feed(id=api.me, sequence=0, messages=0, bytes=0, state="open")
    path = f"/v1/feeds/{quote(api.me, safe='')}"
    assert (await api.client.get(path)).json() == feed.model_dump()
    assert (await api.client.get(path + "/messages")).json() == {"items": [], "next": None}
    await api.publish("one", "two")
    feed = Feed.model_validate((await api.client.get(path)).json())
    assert (feed.sequence, feed.messages) == (2, 2)
    assert feed.bytes == sum(len(entry.text) for entry in await api.store.log.entries_after(0, 10))
    assert len((await api.client.get("/v1/feeds")).json()["items"]) == 1


async def test_the_list_in_pages(api: Api) -> None:
    await fill(api, 70, 23)
    await api.publish("ours")
    ids = [feed.id for feed in api.store.log.feeds()]
    assert len(ids) == 24
    for limit in (5, 8, 24, 100):
        for order, expected in (("asc", ids), ("desc", ids[::-1])):
            found = await pages(api, "/v1/feeds", limit=limit, order=order)
            assert [item["id"] for page in found for item in page] == expected
    lines = (await api.client.get("/v1/feeds", headers=NDJSON)).content.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ids


async def test_every_spelling_of_an_id(api: Api) -> None:
    await fill(api, 40, 40)
    for feed in api.store.log.feeds():
        uri = FeedRef.parse(feed.id).uri
        bare = uri.rpartition("/")[2]
        for spelling in (
            quote(feed.id, safe=""),
            quote(feed.id, safe="/+"),
            feed.id,
            uri,
            quote(uri, safe=""),
            bare,
            bare[:-1],
        ):
            answer = await api.client.get(f"/v1/feeds/{spelling}")
            assert answer.status_code == 200, spelling
            assert answer.json()["id"] == feed.id
            messages = await api.client.get(f"/v1/feeds/{spelling}/messages")
            assert messages.status_code == 200, spelling
            assert messages.json()["items"][0]["value"]["author"] == feed.id


async def test_messages_by_sequence(api: Api) -> None:
    await fill(api, 150, 2)
    for feed in api.store.log.feeds():
        path = f"/v1/feeds/{quote(feed.id, safe='')}/messages"
        entries = await api.store.log.entries_after(0, 1000, author=feed.id)
        ids = [entry.id for entry in entries]
        for after in (0, 1, 7, 74, 75, 76, 2**53):
            expected = ids[after:]
            for limit in (10, 25, 75, 500):
                found = await pages(api, path, after=after, limit=limit)
                assert [key for page in found for key in keys(page)] == expected
                found = await pages(api, path, after=after, limit=limit, order="desc")
                assert [key for page in found for key in keys(page)] == expected[::-1]
        lines = (await api.client.get(f"{path}?after=70", headers=NDJSON)).content[:-1].split(b"\n")
        assert keys([json.loads(line) for line in lines]) == ids[70:]


async def test_pages_of_a_feed_go_on_while_it_grows(api: Api) -> None:
    await api.publish(*"abcd")
    path = f"/v1/feeds/{quote(api.me, safe='')}/messages"
    page = (await api.client.get(path, params={"limit": 2})).json()
    await api.publish(*"ef")
    rest = (await api.client.get(path, params={"cursor": page["next"]})).json()
    assert [item["value"]["sequence"] for item in page["items"] + rest["items"]] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("suffix", ["", "/messages"])
@IN_MODULE
async def test_feeds_that_are_none(shared: Api, suffix: str) -> None:
    stranger = quote(builders.keypair("stranger").id, safe="")
    answer = await shared.client.get(f"/v1/feeds/{stranger}{suffix}")
    assert answer.status_code == 404
    assert code(answer) == "feed-not-found"
    for path in ("x", "%00", quote(builders.message_id(1), safe=""), "..%2f..%2fsecret"):
        answer = await shared.client.get(f"/v1/feeds/{path}{suffix}")
        assert answer.status_code == 400
        assert code(answer) == "invalid-id"
    answer = await shared.client.get(f"/v1/feeds/{stranger}/nonsense")
    assert answer.status_code == 404
    assert code(answer) == "not-found"


@pytest.mark.parametrize("after", ["-1", "x", "1.5", "9" * 30])
@IN_MODULE
async def test_wrong_sequences(shared: Api, after: str) -> None:
    path = f"/v1/feeds/{quote(shared.me, safe='')}/messages"
    assert code(await shared.client.get(path, params={"after": after})) == "invalid-parameter"


async def test_a_forked_feed_says_so(api: Api) -> None:
    feed = builders.Feed(builders.keypair("someone"))
    one, _ = feed.make({"type": "post", "text": "one"})
    two, _ = feed.make({"type": "post", "text": "two"})
    await api.receive(one)
    await api.store.ingest.add([two], source="test")
    answer = await api.client.get(f"/v1/feeds/{quote(feed.id, safe='')}")
    assert (answer.json()["state"], answer.json()["sequence"]) == ("forked", 1)


async def test_a_locked_feed_tells_why_and_is_opened_with_its_true_sequence(api: Api) -> None:
    (key,) = await api.publish("one")
    answer = await api.client.get(f"/v1/messages/{quote(key, safe='')}")
    assert answer.headers["Reported-By"] == "3"
    api.store.publisher.close(Lock(Reason.NO_MARK, 1))
    refused = await api.client.post("/v1/messages", json={"content": {"type": "post", "text": "x"}})
    assert (refused.status_code, refused.json()["code"]) == (423, "feed-locked")
    assert refused.json()["way_out"] == WAY_OUT
    me = Whoami.model_validate_json((await api.client.get("/v1/whoami")).content)
    assert (me.state, me.sequence) == ("locked", 1)
    assert me.reason is not None
    assert me.reason.code == "no-mark"
    assert me.unlock is not None
    for body, status in (({"sequence": 2}, 412), ({"sequence": "1"}, 422), ({}, 422), ({"sequence": -1}, 422)):
        assert (await api.client.post("/v1/admin/unlock", json=body)).status_code == status
    opened = await api.client.post("/v1/admin/unlock", json={"sequence": 1})
    state = OwnFeedState.model_validate_json(opened.content)
    assert (state.state, state.history[0].kind) == ("open", "forced")
    assert (await api.client.get("/v1/admin/unlock")).json() == opened.json()
    assert (await api.client.get("/v1/whoami")).json()["unlock"] is None


async def test_the_proof_of_a_fork(api: Api) -> None:
    one, two = (builders.Feed(builders.keypair("forker")) for _ in range(2))
    await api.receive(one.append({"type": "post", "text": "one"}))
    path = f"/v1/feeds/{quote(one.id, safe='')}"
    assert (await api.client.get(f"{path}/proof")).status_code == 404
    await api.store.ingest.add([two.append({"type": "post", "text": "two"})], source="peer")
    answer = await api.client.get(f"{path}/proof")
    ForkProof.model_validate_json(answer.content)
    assert fork_proof.verify(answer.content).feed == one.id
    assert (await api.client.get(path)).json()["state"] == "forked"
