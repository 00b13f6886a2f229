"""Profiles and names over HTTP: who is called what, and who says so."""

from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from api import models
from tests.api.test_access import code
from tests.api.test_messages import MSGPACK, pages
from tests.support.api import Api
from tests.support.builders import Feed, keypair

ANN, BOB, CID = (keypair(name).id for name in ("ann", "bob", "cid"))
BLOB = "&" + "A" * 43 + "=.sha256"


async def say(api: Api, author: Feed | None, about: str, **members: Any) -> str:
    content = {"type": "about", "about": about, **members}
    if author is None:
        return (await api.store.ingest.publish(content)).id
    await api.receive(author.append(content))
    return author.ids[-1]


async def profile(api: Api, feed: str) -> dict[str, Any]:
    answer = await api.client.get(f"/v1/profiles/{quote(feed, safe='')}")
    assert answer.status_code == 200, answer.text
    models.Profile.model_validate(answer.json())
    found: dict[str, Any] = answer.json()
    return found


async def test_a_profile_says_who_said_what(api: Api) -> None:
    ann, bob = Feed(keypair("ann")), Feed(keypair("bob"))
    assert (await profile(api, ANN))["name"] == ANN[:9]
    await say(api, bob, ANN, name="Annie", publicWebHosting=True)
    found = await profile(api, ANN)
    assert (found["name"], found["from"]["name"]) == ("Annie", {"who": "others", "authors": [BOB]})
    own = await say(api, ann, ANN, name="Ann", image={"link": BLOB, "size": 7}, description="x" * 2000)
    found = await profile(api, ANN)
    assert (found["name"], found["image"], found["description"]) == ("Ann", BLOB, "x" * 2000)
    assert found["from"]["image"] == {"who": "self", "authors": [ANN]}
    assert found["public_web_hosting"] is None
    mine = await say(api, None, ANN, name="Annie", birthday=[1, {"x": None}])
    found = await profile(api, ANN)
    assert found["from"]["name"] == {"who": "me", "authors": [api.me, BOB]}
    assert [claim["author"] for claim in found["claims"]] == [api.me, api.me, ANN, ANN, ANN, BOB, BOB]
    assert found["claims"][1]["field"] == "birthday"
    assert {claim["message"] for claim in found["claims"]} >= {own, mine}
    await say(api, ann, ANN, publicWebHosting=True, name=None)
    assert (await profile(api, ANN))["public_web_hosting"] is True
    listed = (await api.client.get(f"/v1/profiles/{quote(ANN, safe='')}/names")).json()
    models.GivenNameList.model_validate(listed)
    assert [(item["name"], item["author"]) for item in listed["items"]] == [("Annie", api.me), ("Annie", BOB)]


async def test_relations_and_the_words_of_blocked_feeds(api: Api) -> None:
    bob = Feed(keypair("bob"))
    await say(api, bob, ANN, name="Fool")
    await say(api, bob, BOB, name="Bob")
    await api.receive(bob.append({"type": "contact", "contact": api.me, "following": True}))
    assert (await api.client.put(f"/v1/profiles/{quote(BOB, safe='')}/block")).status_code == 201
    found = await profile(api, BOB)
    assert (found["following"], found["blocking"], found["follows_us"], found["name"]) == (False, True, True, "Bob")
    assert (await profile(api, ANN))["name"] == ANN[:9]


async def test_a_profile_as_msgpack_and_with_text_that_has_no_utf8(api: Api) -> None:
    await say(api, None, ANN, name="a\ud800b", odd={"\udfff": "\udfff"})
    path = f"/v1/profiles/{quote(ANN, safe='')}"
    assert (await profile(api, ANN))["name"] == "a\ud800b"
    answer = await api.client.get(path, headers=MSGPACK)
    assert msgspec.msgpack.decode(answer.content)["name"] == "a\ufffdb"
    for wrong in ("x", ANN.replace("@", "%"), BLOB):
        assert code(await api.client.get(f"/v1/profiles/{quote(wrong, safe='')}")) == "invalid-id"


async def test_names_of_ids_and_ids_of_names(api: Api) -> None:
    ann = Feed(keypair("ann"))
    await say(api, ann, ANN, name="Änne")
    await say(api, ann, CID, name="anna")
    await say(api, None, CID, name="Zoe")
    answer = (await api.client.get("/v1/names", params={"ids": f"{BOB},{ANN}"})).json()
    models.NameList.model_validate(answer)
    assert answer["items"] == [
        {"id": BOB, "name": BOB[:9], "from": "nobody"},
        {"id": ANN, "name": "Änne", "from": "self"},
    ]
    assert [[item["id"] for item in page] for page in await pages(api, "/v1/names", q="AN", limit=1)] == [[ANN]]
    everybody = await pages(api, "/v1/names", q="", limit=1)
    assert [[item["id"] for item in page] for page in everybody] == [[ANN], [CID]]


async def test_exact_names_stand_first_and_ours_among_them(api: Api) -> None:
    people = {name: Feed(keypair(name)) for name in ("ann", "bob", "cid", "dan")}
    for name, called in (("ann", "Roberta"), ("bob", "Robert"), ("cid", "robert"), ("dan", "@Rob")):
        await say(api, people[name], people[name].id, name=called)
    await say(api, None, CID, name="Robért")
    asked = (await api.client.get("/v1/names", params={"q": "@robert"})).json()["items"]
    assert [(item["id"], item["from"]) for item in asked] == [(CID, "me"), (BOB, "self"), (ANN, "self")]


async def test_the_short_form_of_an_id_leads_to_its_feed(api: Api) -> None:
    ann, bob = Feed(keypair("ann")), Feed(keypair("bob"))
    await api.receive(bob.append({"type": "post", "text": "nameless"}))
    await say(api, ann, ANN, name="Ann")
    for feed, name in ((BOB, BOB[:9]), (ANN, "Ann")):
        found = (await api.client.get("/v1/names", params={"q": feed[:9]})).json()["items"]
        assert [(item["id"], item["name"]) for item in found] == [(feed, name)]
    for too_short in (BOB[:6], BOB[:9].swapcase(), "@"):
        found = (await api.client.get("/v1/names", params={"q": too_short})).json()["items"]
        assert BOB not in [item["id"] for item in found]


@pytest.mark.parametrize("query", ["", "?ids=,", f"?ids={','.join([quote(ANN)] * 501)}", f"?q={'x' * 200}"])
async def test_names_of_nothing_or_too_much(api: Api, query: str) -> None:
    assert code(await api.client.get(f"/v1/names{query}")) == "invalid-parameter"


async def test_names_of_what_is_no_feed(api: Api) -> None:
    assert code(await api.client.get("/v1/names?ids=x")) == "invalid-id"
