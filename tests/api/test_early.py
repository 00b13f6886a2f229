"""The timeline of posts that came before their history."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from feeds.early_posts import EarlyPosts
from feeds.formats.registry import CLASSIC
from tests.support.api import Api
from tests.support.builders import Feed, blob_id, keypair

PATH = "/v1/timelines/early"


async def get(api: Api, path: str = PATH, **parameters: Any) -> Any:
    answer = await api.client.get(path, params=parameters)
    assert answer.status_code == 200, (path, answer.text)
    return answer.json()


@pytest.fixture
async def early(api: Api) -> EarlyPosts:
    return await EarlyPosts.open(api.store.database, api.store.log, CLASSIC, now=api.clock)


def ending(name: str, *, image: str | None = None) -> Feed:
    feed = Feed(keypair(name))
    for number in range(6):
        feed.append({"type": "post", "text": f"{name} {number}", **({"root": feed.ids[0]} if number == 4 else {})})
    feed.append({"type": "about", "about": feed.id, "name": name.title(), **({"image": image} if image else {})})
    return feed


async def test_items_are_marked_and_name_who_has_no_other_name(api: Api, early: EarlyPosts) -> None:
    ann, bob = ending("ann", image=blob_id(1)), ending("bob", image=blob_id(2))
    for feed in (ann, bob):
        await early.hold(feed.id, feed.texts[2:], first=3)
    await api.store.ingest.publish({"type": "about", "about": bob.id, "name": "Robert"})
    items = (await get(api))["items"]
    assert {item["key"] for item in items} == {*ann.ids[2:6], *bob.ids[2:6]}
    said = {item["value"]["author"]: item["meta"] for item in items}
    assert said == {
        ann.id: {"early": True, "name": "Ann", "image": blob_id(1)},
        bob.id: {"early": True, "image": blob_id(2)},
    }
    packed = await api.client.get(PATH, headers={"Accept": "application/msgpack"})
    assert msgspec.msgpack.decode(packed.content)["items"] == items

    # nowhere else
    for item in items:
        assert (await api.client.get(f"/v1/messages/{quote(item['key'], safe='')}")).status_code == 404
    assert (await get(api, "/v1/timelines/public"))["items"] == []
    assert (await get(api, f"/v1/profiles/{quote(ann.id, safe='')}"))["name"] != "Ann"
    assert [item["value"]["author"] for item in (await get(api, "/v1/messages"))["items"]] == [api.me]


async def test_filters_and_pages(api: Api, early: EarlyPosts) -> None:
    ann, bob = ending("ann"), ending("bob")
    for feed in (ann, bob):
        await early.hold(feed.id, feed.texts[2:], first=3)
    await api.store.ingest.publish({"type": "contact", "contact": ann.id, "following": True})
    assert {item["key"] for item in (await get(api, followed=1))["items"]} == set(ann.ids[2:6])
    assert ann.ids[4] not in {item["key"] for item in (await get(api, replies=0))["items"]}

    whole = [item["key"] for item in (await get(api))["items"]]
    assert [item["key"] for item in (await get(api, order="asc"))["items"]] == whole[::-1]
    found, page = [], await get(api, limit=3)
    while True:
        found += [item["key"] for item in page["items"]]
        if page["next"] is None:
            break
        page = await get(api, limit=3, cursor=page["next"])
    assert found == whole
    refused = await api.client.get("/v1/timelines/public", params={"cursor": (await get(api, limit=3))["next"]})
    assert refused.status_code == 400

    await api.client.put(f"/v1/profiles/{quote(ann.id, safe='')}/mute")
    assert {item["value"]["author"] for item in (await get(api))["items"]} == {bob.id}
    assert {item["value"]["author"] for item in (await get(api, include_muted=1))["items"]} == {ann.id, bob.id}
    await api.store.ingest.publish({"type": "contact", "contact": bob.id, "blocking": True})
    assert (await get(api))["items"] == []


async def test_a_deleted_feed_is_left_out(api: Api, early: EarlyPosts, tmp_path: Path) -> None:
    ann = ending("ann")
    await api.receive(*ann.texts[:2])
    await early.hold(ann.id, ann.texts[2:], first=3)
    assert (await get(api))["items"]
    assert (await api.client.delete(f"/v1/feeds/{quote(ann.id, safe='')}")).status_code < 300
    assert (await get(api))["items"] == []
    assert (await get(api, include_muted=1))["items"] == []


async def test_what_the_log_reached_is_gone(api: Api, early: EarlyPosts) -> None:
    ann = ending("ann")
    await early.hold(ann.id, ann.texts[2:], first=3)
    await api.receive(*ann.texts[:5])
    assert [item["key"] for item in (await get(api))["items"]] == [ann.ids[5]]
    await api.receive(*ann.texts[5:])
    assert (await get(api))["items"] == []
