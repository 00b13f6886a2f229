"""Following and blocking: the messages published for it, and the graph as it then is."""

import json
from urllib.parse import quote

import pytest

from api.models import ContactList
from tests.api.test_access import code
from tests.support import builders
from tests.support.api import Api

FRIEND, OTHER = builders.keypair("friend").id, builders.keypair("other").id


def profile(feed: str, what: str) -> str:
    return f"/v1/profiles/{quote(feed, safe='')}/{what}"


async def ids(api: Api, feed: str, what: str) -> set[str]:
    answer = await api.client.get(profile(feed, what))
    return {item.id for item in ContactList.model_validate(answer.json()).items}


async def test_following_publishes_a_contact_message_once(api: Api) -> None:
    answer = await api.client.put(profile(FRIEND, "follow"))
    assert answer.status_code == 201
    assert answer.json()["value"]["content"] == {"type": "contact", "contact": FRIEND, "following": True}
    assert (await api.client.get(answer.headers["location"])).content == answer.content
    assert (await api.client.put(profile(FRIEND, "follow"))).status_code == 204
    assert api.store.log.position == 1
    assert await ids(api, api.me, "follows") == {FRIEND}
    assert await ids(api, FRIEND, "followers") == {api.me}
    answer = await api.client.delete(profile(FRIEND, "follow"))
    assert answer.json()["value"]["content"] == {"type": "contact", "contact": FRIEND, "following": False}
    assert (await api.client.delete(profile(FRIEND, "follow"))).status_code == 204
    assert await ids(api, api.me, "follows") == set()
    assert api.store.log.position == 2


async def test_blocking_ends_following_and_the_other_way_round(api: Api) -> None:
    await api.client.put(profile(FRIEND, "follow"))
    answer = await api.client.put(profile(FRIEND, "block"))
    assert answer.json()["value"]["content"] == {"type": "contact", "contact": FRIEND, "blocking": True}
    assert await ids(api, api.me, "blocks") == {FRIEND}
    assert await ids(api, api.me, "follows") == set()
    assert (await api.client.delete(profile(FRIEND, "follow"))).status_code == 204  # and the block stays
    assert api.store.graph.is_blocking(api.me, FRIEND)
    await api.client.put(profile(FRIEND, "follow"))
    assert await ids(api, api.me, "blocks") == set()
    assert await ids(api, api.me, "follows") == {FRIEND}
    assert (await api.client.delete(profile(FRIEND, "block"))).status_code == 204
    await api.client.put(profile(OTHER, "block"))
    assert (await api.client.delete(profile(OTHER, "block"))).status_code == 201
    assert await ids(api, api.me, "blocks") == set()


async def test_the_graph_of_others_in_pages(api: Api) -> None:
    feed = builders.Feed(builders.keypair("someone"))
    followed = sorted(builders.keypair(number).id for number in range(7))
    for contact in followed:
        feed.append({"type": "contact", "contact": contact, "following": True})
    await api.receive(*feed.texts)
    first = (await api.client.get(profile(feed.id, "follows"), params={"limit": 4})).json()
    second = (await api.client.get(profile(feed.id, "follows"), params={"cursor": first["next"]})).json()
    assert [item["id"] for item in first["items"] + second["items"]] == followed
    assert second["next"] is None
    answer = await api.client.get(profile(feed.id, "follows"), headers={"Accept": "application/x-ndjson"})
    assert [json.loads(line)["id"] for line in answer.content.splitlines()] == followed
    assert await ids(api, followed[0], "followers") == {feed.id}


@pytest.mark.parametrize("what", ["follow", "block"])
async def test_nobody_follows_or_blocks_himself(api: Api, what: str) -> None:
    answer = await api.client.put(profile(api.me, what))
    assert answer.status_code == 422
    assert code(answer) == "invalid-message"
    assert api.store.log.position == 0


async def test_ids_that_are_none(api: Api) -> None:
    for what in ("follows", "followers", "blocks"):
        assert code(await api.client.get(f"/v1/profiles/x/{what}")) == "invalid-id"
    for what in ("follow", "block"):
        assert code(await api.client.put(f"/v1/profiles/%25x/{what}")) == "invalid-id"
        assert code(await api.client.delete(f"/v1/profiles/x/{what}")) == "invalid-id"
    assert (await api.client.get(profile(FRIEND, "nonsense"))).status_code == 404
    assert api.store.log.position == 0
