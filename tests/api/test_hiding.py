"""Muting and deleting on this node: who is left out where, what peers still get, and that it outlives a restart."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from tests.api.test_access import code
from tests.support.api import Api, open_api
from tests.support.builders import Feed, keypair


async def get(api: Api, path: str) -> Any:
    answer = await api.client.get(path)
    assert answer.status_code == 200, (path, answer.text)
    return answer.json()


async def keys(api: Api, path: str) -> list[str]:
    return [item["key"] for item in (await get(api, path))["items"]]


def at(kind: str, id: str, below: str = "") -> str:
    return f"/v1/{kind}/{quote(id, safe='')}{below}"


class Scene:
    """We follow somebody who wrote a few messages; some answer ours."""

    def __init__(self, api: Api, ours: str, other: Feed) -> None:
        self.api = api
        self.ours = ours
        self.other = other
        self.plain, self.mention, self.reply, self.vote, self.channel = other.ids


@pytest.fixture
async def scene(api: Api) -> Scene:
    other = Feed(keypair("other"))
    (ours,) = await api.publish("a post of ours about marmalade")
    await api.store.ingest.publish({"type": "contact", "contact": other.id, "following": True})
    await api.receive(
        other.append({"type": "post", "text": "marmalade is theirs"}),
        other.append({"type": "post", "text": "hello you", "mentions": [{"link": api.me}]}),
        other.append({"type": "post", "text": "an answer", "root": ours, "branch": ours}),
        other.append({"type": "vote", "vote": {"link": ours, "value": 1, "expression": "Like"}}),
        other.append({"type": "post", "text": "in a channel", "channel": "cats"}),
    )
    return Scene(api, ours, other)


LISTS = (
    "/v1/timelines/home",
    "/v1/timelines/public",
    "/v1/timelines/mentions",
    "/v1/timelines/channels/cats",
    "/v1/search?q=marmalade",
)


# --- muting -----------------------------------------------------------------------------------------------------------


async def test_a_muted_feed_is_left_out_of_lists_and_back_when_asked_for(scene: Scene) -> None:
    api, other = scene.api, scene.other
    seen = {path: await keys(api, path) for path in LISTS}
    threads = (await get(api, "/v1/threads"))["items"]
    assert all(set(found) & set(other.ids) for found in seen.values())
    position = api.store.log.position
    assert (await api.client.put(at("profiles", other.id, "/mute"))).status_code == 204
    assert (await api.client.put(at("profiles", other.id, "/mute"))).status_code == 204
    assert api.store.log.position == position  # nothing is published
    for path in LISTS:
        assert not set(await keys(api, path)) & set(other.ids), path
        more = f"{path}{'&' if '?' in path else '?'}include_muted=1"
        assert await keys(api, more) == seen[path], path
    (left,) = (await get(api, "/v1/threads"))["items"]
    assert (left["id"], left["replies"]) == (scene.ours, 0)
    assert (await get(api, "/v1/threads?include_muted=1"))["items"] == threads
    assert await keys(api, f"/v1/search?q=marmalade&author={quote(other.id, safe='')}") == [scene.plain]


async def test_what_a_muted_feed_wrote_can_still_be_read(scene: Scene) -> None:
    api, other = scene.api, scene.other
    await api.client.put(at("profiles", other.id, "/mute"))
    assert (await get(api, at("messages", scene.plain)))["key"] == scene.plain
    thread = await get(api, at("threads", scene.ours))
    assert [item["key"] for item in thread["items"]] == [scene.ours, scene.reply]
    assert not any(item["blocked"] for item in thread["items"])
    assert scene.plain in await keys(api, "/v1/messages")


async def test_mutes_are_listed_and_end(scene: Scene) -> None:
    api, other = scene.api, scene.other
    assert (await get(api, "/v1/mutes"))["items"] == []
    stranger = keypair("nobody we know").id
    for feed in (other.id, stranger):
        await api.client.put(at("profiles", feed, "/mute"))
    items = (await get(api, "/v1/mutes"))["items"]
    assert [item["id"] for item in items] == [other.id, stranger]
    assert items[0]["since"] > 1_500_000_000_000
    for _ in range(2):
        assert (await api.client.delete(at("profiles", other.id, "/mute"))).status_code == 204
    assert [item["id"] for item in (await get(api, "/v1/mutes?order=desc"))["items"]] == [stranger]
    assert scene.plain in await keys(api, "/v1/timelines/public")


async def test_we_cannot_mute_ourselves(api: Api) -> None:
    assert code(await api.client.put(at("profiles", api.me, "/mute"))) == "own-feed"
    assert code(await api.client.put("/v1/profiles/nonsense/mute")) == "invalid-id"
    assert code(await api.client.get(at("profiles", api.me, "/mute"))) == "method-not-allowed"


# --- deleting a message -----------------------------------------------------------------------------------------------


async def test_a_deleted_message_is_nowhere_in_the_answers(scene: Scene) -> None:
    api = scene.api
    for message in (scene.plain, scene.mention, scene.reply, scene.vote, scene.channel):
        answer = await api.client.delete(at("messages", message))
        assert answer.status_code == 200
        assert answer.json()["deleted"] == "here"
        assert "nobody can take it back" in answer.json()["note"]
        for path in ("", "/raw", "?private=1"):
            gone = await api.client.get(at("messages", message, path))
            assert gone.status_code == 410
            assert code(gone) == "message-deleted"
    theirs = set(scene.other.ids)
    everything = [
        *LISTS,
        "/v1/messages",
        "/v1/messages?type=post",
        "/v1/messages?channel=cats",
        f"/v1/messages?mentions={quote(api.me, safe='')}",
        f"/v1/messages?root={quote(scene.ours, safe='')}",
        "/v1/messages?q=marmalade",
        f"/v1/messages?author={quote(scene.other.id, safe='')}",
        at("feeds", scene.other.id, "/messages"),
        at("messages", scene.ours, "/backlinks"),
        at("messages", scene.ours, "/votes"),
    ]
    for path in everything:
        assert not theirs & set(await keys(api, path)), path
    thread = await get(api, at("threads", scene.ours))
    assert [item["key"] for item in thread["items"]] == [scene.ours]
    assert (await get(api, f"/v1/resolve?ref={quote(scene.plain, safe='')}"))["held"] is False
    texts = "".join([(await api.client.get(path)).text for path in everything])
    assert "theirs" not in texts


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(
    "path", ["/v1/messages", "/v1/messages?type=post", "/v1/messages?q=word", "/v1/messages?author=me"]
)
async def test_a_hole_ends_no_list_early(api: Api, path: str, order: str) -> None:
    """The rest of a list is found however much of a page is deleted."""
    path = path.replace("author=me", f"author={quote(api.me, safe='')}")
    ids = await api.publish(*(f"word {n}" for n in range(12)))
    for id in (*ids[2:7], ids[0], ids[11]):
        await api.client.delete(at("messages", id))
    left = [ids[1], *ids[7:11]]
    found: list[str] = []
    url: str | None = f"{path}{'&' if '?' in path else '?'}limit=2&order={order}"
    while url is not None:
        answer = await api.client.get(url)
        found += [item["key"] for item in answer.json()["items"]]
        url = answer.links["next"]["url"] if "next" in answer.links else None
    assert found == (left if order == "asc" else left[::-1])


async def test_peers_get_the_feed_whole(scene: Scene) -> None:
    log, other = scene.api.store.log, scene.other
    await scene.api.client.delete(at("messages", scene.mention))
    assert await log.range(other.id, 0, 100) == other.texts
    assert (await log.texts_at({other.id: [2]}))[other.id][2] == other.texts[1]
    entries = await log.entries_after(0, 100, author=other.id, whole=True)
    assert [entry.text for entry in entries] == other.texts
    assert log.sequence(other.id) == 5


async def test_what_is_deleted_is_not_taken_in_again_and_the_feed_goes_on(scene: Scene) -> None:
    api, other = scene.api, scene.other
    await api.client.delete(at("messages", scene.channel))
    await api.receive(*other.texts)
    assert code(await api.client.get(at("messages", scene.channel))) == "message-deleted"
    await api.receive(other.append({"type": "post", "text": "the next one"}))
    assert (await get(api, at("messages", other.ids[-1])))["value"]["previous"] == scene.channel


async def test_our_own_feed_goes_on_after_a_deleted_message(api: Api) -> None:
    (first,) = await api.publish("one")
    assert (await api.client.delete(at("messages", first))).status_code == 200
    (second,) = await api.publish("two")
    assert (await get(api, at("messages", second)))["value"]["previous"] == first


async def test_a_deleted_private_message_is_gone_from_the_mailbox(api: Api) -> None:
    first = await api.store.ingest.publish({"type": "post", "text": "for us"}, recps=[api.me])
    second = await api.store.ingest.publish({"type": "post", "text": "more", "root": first.id}, recps=[api.me])
    (thread,) = (await get(api, "/v1/private"))["items"]
    assert thread["messages"] == 2
    await api.client.delete(at("messages", second.id))
    (thread,) = (await get(api, "/v1/private"))["items"]
    assert thread["messages"] == 1
    assert await keys(api, at("private", first.id)) == [first.id]
    assert await keys(api, "/v1/messages?private=1") == [first.id]
    await api.client.delete(at("messages", first.id))
    assert (await get(api, "/v1/private"))["items"] == []


async def test_a_name_goes_with_the_message_that_gave_it(api: Api) -> None:
    other = Feed(keypair("other"))
    await api.receive(other.append({"type": "about", "about": other.id, "name": "Mallory"}))
    names = f"/v1/names?ids={quote(other.id, safe='')}"
    assert (await get(api, names))["items"][0]["name"] == "Mallory"
    await api.client.delete(at("messages", other.ids[0]))
    for path in (names, "/v1/names?q=mall", at("profiles", other.id), at("profiles", other.id, "/names")):
        assert "Mallory" not in (await api.client.get(path)).text, path


async def test_a_message_that_is_not_here_cannot_be_deleted(api: Api) -> None:
    assert code(await api.client.delete(at("messages", "%" + "A" * 43 + "=.sha256"))) == "message-not-found"
    assert code(await api.client.delete("/v1/messages/nonsense")) == "invalid-id"


# --- deleting a feed --------------------------------------------------------------------------------------------------


async def test_a_deleted_feed_is_hidden_and_refused_until_it_is_shown_again(scene: Scene) -> None:
    api, other = scene.api, scene.other
    before = {path: await keys(api, path) for path in (*LISTS, "/v1/messages")}
    for _ in range(2):
        answer = await api.client.delete(at("feeds", other.id))
        assert answer.status_code == 200
        assert "keeps it" in answer.json()["note"]
    assert api.replication.requests == {other.id: False}
    for path in before:
        assert not set(await keys(api, path)) & set(other.ids), path
    for path in ("", "/messages"):
        assert code(await api.client.get(at("feeds", other.id, path))) == "feed-deleted"
    assert code(await api.client.get(at("messages", scene.plain))) == "message-deleted"
    assert [feed["id"] for feed in (await get(api, "/v1/feeds"))["items"]] == [api.me]
    for _ in range(2):
        assert (await api.client.put(at("feeds", other.id))).status_code == 200
    assert api.replication.requests == {}
    assert {path: await keys(api, path) for path in before} == before


async def test_feeds_that_cannot_be_deleted(api: Api) -> None:
    assert code(await api.client.delete(at("feeds", api.me))) == "own-feed"
    stranger = keypair("nobody").id
    for method in ("DELETE", "PUT"):
        assert code(await api.client.request(method, at("feeds", stranger))) == "feed-not-found"


async def test_all_of_it_outlives_a_restart(tmp_path: Path) -> None:
    other, third = Feed(keypair("other")), Feed(keypair("third"))
    async with open_api(tmp_path) as api:
        await api.receive(other.append({"type": "post", "text": "x"}), third.append({"type": "post", "text": "y"}))
        (own,) = await api.publish("z")
        await api.client.put(at("profiles", other.id, "/mute"))
        await api.client.delete(at("messages", own))
        await api.client.delete(at("feeds", third.id))
    async with open_api(tmp_path) as api:
        assert [item["id"] for item in (await get(api, "/v1/mutes"))["items"]] == [other.id]
        assert await keys(api, "/v1/messages") == other.ids
        assert await keys(api, "/v1/timelines/public") == []
        assert code(await api.client.get(at("feeds", third.id))) == "feed-deleted"


async def test_deleted_messages_are_in_no_live_event(scene: Scene) -> None:
    api = scene.api
    await api.client.delete(at("messages", scene.plain))
    entries = await api.store.log.entries_after(0, 100)
    assert scene.plain not in [entry.id for entry in entries]
    hook = await api.client.post("/v1/webhooks", json={"url": "http://127.0.0.1:1/", "since": 0})
    batch = await api.services.webhooks._collect(api.services.webhooks._followers[hook.json()["id"]])
    assert batch is not None
    assert scene.plain not in [orjson.loads(item)["key"] for item in batch.items]
