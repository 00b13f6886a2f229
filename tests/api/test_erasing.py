"""Erasing over HTTP: a message, a feed, what rules say; with what is said of it and what it takes to have it back."""

from typing import Any
from urllib.parse import quote

import pytest

from api.models import Deleted, Restored, Retained
from tests.api.test_access import code
from tests.support.api import Api
from tests.support.builders import Feed, keypair


def at(kind: str, id: str, query: str = "?erase=1") -> str:
    return f"/v1/{kind}/{quote(id, safe='')}{query}"


async def other(api: Api, posts: int = 6) -> Feed:
    feed = Feed(keypair("other"))
    for number in range(posts):
        feed.append({"type": "post", "text": f"marmalade {number}"})
    await api.receive(*feed.texts)
    return feed


async def found(api: Api) -> list[str]:
    await api.store.indexer.catch_up()
    return [item["key"] for item in (await api.client.get("/v1/search?q=marmalade&order=asc")).json()["items"]]


async def test_a_message_is_erased(api: Api) -> None:
    feed = await other(api)
    answer = await api.client.delete(at("messages", feed.ids[1]))
    assert answer.status_code == 200
    assert Deleted.model_validate(answer.json()).erased == 1
    assert "nobody can take it back" in answer.json()["note"]
    assert code(await api.client.get(at("messages", feed.ids[1], ""))) == "message-deleted"
    assert await api.store.log.range(feed.id, 1, 1) == []
    assert await found(api) == [feed.ids[0], *feed.ids[2:]]
    info = (await api.client.get(at("feeds", feed.id, ""))).json()
    assert (info["sequence"], info["messages"]) == (6, 5)
    again = await api.client.delete(at("messages", feed.ids[1]))
    assert again.json()["erased"] == 0


async def test_a_message_that_was_hidden_before_is_erased_too(api: Api) -> None:
    feed = await other(api)
    assert (await api.client.delete(at("messages", feed.ids[1], ""))).json()["erased"] == 0
    assert await api.store.log.range(feed.id, 1, 1) == feed.texts[1:2]
    assert (await api.client.delete(at("messages", feed.ids[1]))).json()["erased"] == 1
    assert await api.store.log.range(feed.id, 1, 1) == []


async def test_a_message_of_our_own_is_hidden_but_not_erased(api: Api) -> None:
    (mine,) = await api.publish("one")
    refused = await api.client.delete(at("messages", mine))
    assert (refused.status_code, code(refused)) == (409, "own-feed")
    assert (await api.client.get(at("messages", mine, ""))).status_code == 200
    assert (await api.client.delete(at("messages", mine, ""))).status_code == 200


async def test_a_feed_is_erased_and_comes_anew(api: Api) -> None:
    feed = await other(api)
    answer = await api.client.delete(at("feeds", feed.id))
    assert Deleted.model_validate(answer.json()).erased == 6
    assert "fetched again" in answer.json()["note"]
    assert await found(api) == []
    assert code(await api.client.get(at("feeds", feed.id, ""))) == "feed-deleted"
    assert api.store.log.sequence(feed.id) == 6  # so it is not fetched again

    back = await api.client.put(at("feeds", feed.id, ""))
    assert Restored.model_validate(back.json()).anew
    assert code(await api.client.get(at("feeds", feed.id, ""))) == "feed-not-found"
    await api.receive(*feed.texts)
    assert await found(api) == feed.ids
    assert not (await api.client.put(at("feeds", feed.id, ""))).json()["anew"]


async def test_a_feed_that_was_only_hidden_is_shown_as_it_is(api: Api) -> None:
    feed = await other(api)
    await api.client.delete(at("feeds", feed.id, ""))
    assert not (await api.client.put(at("feeds", feed.id, ""))).json()["anew"]
    assert await found(api) == feed.ids


@pytest.mark.parametrize("value", ["2", "maybe", ""])
async def test_erase_is_a_switch(api: Api, value: str) -> None:
    feed = await other(api, 1)
    assert code(await api.client.delete(at("messages", feed.ids[0], f"?erase={value}"))) == "invalid-parameter"
    assert (await api.client.get(at("messages", feed.ids[0], ""))).status_code == 200


# --- rules ------------------------------------------------------------------------------------------------------------


async def retention(api: Api, **body: Any) -> Retained:
    answer = await api.client.post("/v1/admin/retention", json=body)
    assert answer.status_code == 200, answer.text
    return Retained.model_validate(answer.json())


async def test_rules_are_reckoned_and_carried_out(api: Api) -> None:
    feed = await other(api)
    planned = await retention(api, rules="hops=2 type=post", dry_run=True)
    assert (planned.messages, planned.rules[0].feeds) == (5, 1)
    assert await found(api) == feed.ids
    done = await retention(api, rules="hops=2 type=post")
    assert done == planned.model_copy(update={"dry_run": False})
    assert await found(api) == feed.ids[-1:]
    assert (await retention(api, rules="hops=2 type=post", dry_run=True)).messages == 0


async def test_without_rules_those_of_the_settings_hold(api: Api) -> None:
    await other(api)
    assert await retention(api) == Retained(dry_run=False, messages=0, bytes=0, rules=[], kept_bytes=_bytes(api))


def _bytes(api: Api) -> int:
    return sum(info.bytes for info in api.store.log.feeds())


@pytest.mark.parametrize(
    "body",
    [{"rules": "hops"}, {"rules": 3}, {"rules": "type=contact"}, {"dry_run": "yes"}, {"rule": "hops=3"}],
)
async def test_bad_rules_are_refused_and_nothing_is_erased(api: Api, body: Any) -> None:
    feed = await other(api)
    refused = await api.client.post("/v1/admin/retention", json=body)
    assert (refused.status_code, code(refused)) == (422, "invalid-body")
    assert await found(api) == feed.ids
