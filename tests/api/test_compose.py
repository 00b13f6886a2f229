"""Posts, replies, votes, abouts and contacts by routes of their own: what is filled in, for whom, what is refused."""

import asyncio
import os
from typing import Any

import pytest

from feeds.private.key_ring import KeyRing
from feeds.private.sealing import seal
from tests.api.test_access import code
from tests.api.test_messages import keys
from tests.api.test_threads import feed, get, path, post, write
from tests.api.test_tokens import holder
from tests.support.api import Api
from tests.support.builders import blob_id, keypair, message_id

IN_MODULE = pytest.mark.asyncio(loop_scope="module")
FRIEND, OTHER = keypair("friend"), keypair("other")
PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 20


async def send(api: Api, route: str, body: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = await api.client.post(f"/v1/{route}", json=body, **more)
    assert answer.status_code == 201, answer.text
    message: dict[str, Any] = answer.json()
    return message


async def content(api: Api, route: str, body: dict[str, Any]) -> Any:
    return (await send(api, route, body))["value"]["content"]


def opened(boxed: str, *readers: Any) -> list[Any]:
    found = [KeyRing([reader]).open(boxed) for reader in readers]
    return [None if one is None else one.content for one in found]


# --- posts ------------------------------------------------------------------------------------------------------------


async def test_a_post_with_all_that_it_mentions(api: Api) -> None:
    blob = (await api.client.post("/v1/blobs", content=PNG)).json()["id"]
    text = f"hi [@friend]({FRIEND.id}) ![cat]({blob}) [gone]({blob_id(7)}) #Cats"
    body = {"text": text, "channel": "#My Pets", "content_warning": "cats", "mentions": ["#pets", OTHER.id]}
    assert await content(api, "posts", body) == {
        "type": "post",
        "text": text,
        "channel": "mypets",
        "contentWarning": "cats",
        "mentions": [
            {"link": FRIEND.id, "name": "friend"},
            {"type": "image/png", "size": len(PNG), "link": blob, "name": "cat"},
            {"link": blob_id(7), "name": "gone"},
            {"link": "#cats"},
            {"link": "#pets"},
            {"link": OTHER.id},
        ],
    }


async def test_a_conversation(api: Api) -> None:
    a = feed("a")
    root = await write(api, a, post("root", channel="talk"))
    first = await send(api, "posts", {"text": "one", "reply_to": root})
    assert first["value"]["content"] == {
        "type": "post",
        "text": "one",
        "channel": "talk",
        "root": root,
        "branch": [root],
    }
    beside = await write(api, a, post("beside", root=root, branch=root))
    second = await content(api, "posts", {"text": "two", "reply_to": first["key"]})
    assert (second["root"], set(second["branch"])) == (root, {first["key"], beside})
    third = await content(api, "posts", {"text": "three", "reply_to": root, "channel": "other"})
    assert third["branch"] != [root]
    assert third["channel"] == "other"
    thread = await get(api, path("threads", root))
    assert len(keys(thread["items"])) == 5


async def test_a_reply_in_a_thread_whose_beginning_is_missing(api: Api) -> None:
    a = feed("a")
    reply = await write(api, a, post(root=message_id(1), branch=message_id(2)))
    made = await content(api, "posts", {"text": "x", "reply_to": reply})
    assert (made["root"], made["branch"]) == (message_id(1), [reply])


async def test_a_reply_to_what_is_no_post(api: Api) -> None:
    a = feed("a")
    gathering = await write(api, a, {"type": "gathering"})
    made = await content(api, "posts", {"text": "x", "reply_to": gathering})
    assert (made["root"], made["branch"]) == (gathering, [gathering])
    update = await write(api, a, {"type": "update", "root": gathering})
    made = await content(api, "posts", {"text": "x", "reply_to": update})
    assert made["root"] == gathering


async def test_a_frayed_thread_does_not_make_replies_long(api: Api) -> None:
    a = feed("a")
    root = await write(api, a, post("root"))
    for n in range(40):
        await write(api, a, post(str(n), root=root, branch=root))
    made = await content(api, "posts", {"text": "x", "reply_to": root})
    assert made["branch"] == a.ids[-12:]


async def test_ends_by_blocked_feeds_are_not_named(api: Api) -> None:
    a, b = feed("a"), feed("b")
    root = await write(api, a, post("root"))
    await write(api, b, post("rude", root=root, branch=root))
    await send(api, "contacts", {"contact": b.id, "blocking": True})
    assert (await content(api, "posts", {"text": "x", "reply_to": root}))["branch"] == [root]


# --- private ----------------------------------------------------------------------------------------------------------


async def test_a_private_post_and_replies_to_it(api: Api) -> None:
    first = await send(api, "posts", {"text": "psst", "recps": [FRIEND.id, {"link": OTHER.id, "name": "o"}]})
    me = api.store.own
    for made in opened(first["value"]["content"], me, FRIEND, OTHER):
        assert made["text"] == "psst"
    reply = await send(api, "posts", {"text": "and", "reply_to": first["key"]})
    found = opened(reply["value"]["content"], FRIEND, OTHER, keypair("nobody"))
    assert found[2] is None
    assert found[0] == found[1]
    assert (found[0]["root"], found[0]["branch"]) == (first["key"], [first["key"]])
    assert set(found[0]["recps"]) == {me.id, FRIEND.id, OTHER.id}
    again = await send(api, "posts", {"text": "more", "reply_to": first["key"]})
    assert opened(again["value"]["content"], FRIEND)[0]["branch"] == [reply["key"]]
    fewer = await send(api, "posts", {"text": "more", "reply_to": first["key"], "recps": [FRIEND.id]})
    assert opened(fewer["value"]["content"], OTHER) == [None]


async def test_answers_to_the_private_message_of_another(api: Api) -> None:
    theirs = feed("friend")
    boxed = seal(post("psst", recps=[api.me]), [api.me], me=theirs.id, random=os.urandom)
    message = await write(api, theirs, boxed)  # type: ignore[arg-type]
    for route, body in (("posts", {"text": "x", "reply_to": message}), ("votes", {"message": message})):
        made = await content(api, route, body)
        assert isinstance(made, str)
        (plain,) = opened(made, FRIEND)
        assert set(plain["recps"]) == {api.me, theirs.id}
        assert plain["root"] == message
    measured = await api.client.post("/v1/posts?dry_run=1", json={"text": "x", "reply_to": message})
    assert set(measured.json()["recps"]) == {api.me, theirs.id}


async def test_private_answers_need_a_token_for_them(api: Api) -> None:
    private = (await send(api, "posts", {"text": "psst", "recps": [FRIEND.id]}))["key"]
    before = api.store.log.position
    async with holder(api, "publish") as client:
        for route, body in (("posts", {"text": "x", "reply_to": private}), ("votes", {"message": private})):
            for query in ("", "?dry_run=1"):
                answer = await client.post(f"/v1/{route}{query}", json=body)
                assert code(answer) == "insufficient-scope"
                assert answer.json()["missing"] == "private"
                assert FRIEND.id not in answer.text
        assert (await client.post("/v1/posts", json={"text": "x"})).status_code == 201
    assert api.store.log.position == before + 1


@pytest.mark.parametrize(
    ("route", "member", "body"), [("posts", "reply_to", {"text": "in public?"}), ("votes", "message", {})]
)
async def test_what_we_cannot_read_is_not_answered_in_public(
    api: Api, route: str, member: str, body: dict[str, Any]
) -> None:
    theirs = feed("friend")
    boxed = seal(post("psst"), [OTHER.id], me=theirs.id, random=os.urandom)
    message = await write(api, theirs, boxed)  # type: ignore[arg-type]
    before = api.store.log.position
    for more in ({}, {"Idempotency-Key": "k"}):
        answer = await api.client.post(f"/v1/{route}", json={**body, member: message}, headers=more)
        assert code(answer) == "invalid-body"
        assert answer.json()["errors"][0]["pointer"] == f"#/{member}"
    assert api.store.log.position == before


# --- votes, abouts, contacts ------------------------------------------------------------------------------------------


async def test_votes(api: Api) -> None:
    a = feed("a")
    root = await write(api, a, post("root", channel="Talk"))
    reply = await write(api, a, post("reply", root=root, branch=root))
    assert await content(api, "votes", {"message": root}) == {
        "type": "vote",
        "channel": "talk",
        "vote": {"link": root, "value": 1, "expression": "Like"},
        "root": root,
        "branch": [root],
    }
    made = await content(api, "votes", {"message": reply, "value": -1, "expression": "Meh"})
    assert (made["vote"], made["root"]) == ({"link": reply, "value": -1, "expression": "Meh"}, root)
    assert (await get(api, path("messages", root, "/votes")))["totals"]["up"] == 1
    await send(api, "votes", {"message": root, "value": 0})
    assert (await get(api, path("messages", root, "/votes")))["totals"]["up"] == 0


async def test_abouts(api: Api) -> None:
    blob = (await api.client.post("/v1/blobs", content=PNG)).json()["id"]
    await send(api, "abouts", {"name": "me", "description": "it is me", "image": blob})
    profile = await get(api, path("profiles", api.me))
    assert (profile["name"], profile["description"], profile["image"]) == ("me", "it is me", blob)
    await send(api, "abouts", {"about": FRIEND.id, "name": "dear"})
    assert (await get(api, path("profiles", FRIEND.id)))["name"] == "dear"
    await send(api, "abouts", {"description": None})
    assert (await get(api, path("profiles", api.me)))["description"] is None
    assert (await content(api, "abouts", {"image": blob_id(3)}))["image"] == blob_id(3)


async def test_contacts_state_the_whole_relation(api: Api) -> None:
    async def relate(**asked: bool) -> tuple[bool, bool]:
        made = await content(api, "contacts", {"contact": FRIEND.id, **asked})
        assert set(made) == {"type", "contact", "following", "blocking"}
        graph = api.services.graph
        assert graph.is_following(api.me, FRIEND.id) is made["following"]
        assert graph.is_blocking(api.me, FRIEND.id) is made["blocking"]
        return made["following"], made["blocking"]

    assert await relate(following=True) == (True, False)
    assert await relate(blocking=False) == (True, False)
    assert await relate(blocking=True) == (False, True)
    assert await relate(following=False) == (False, True)
    assert await relate(following=True) == (True, False)
    assert await relate(following=False, blocking=False) == (False, False)


# --- conditions -------------------------------------------------------------------------------------------------------


async def test_conditions_are_those_of_messages(api: Api) -> None:
    root = (await send(api, "posts", {"text": "root"}))["key"]
    same = {"Idempotency-Key": "one", "If-Match": '"1"'}
    answers = await asyncio.gather(
        *(api.client.post("/v1/posts", json={"text": "x", "reply_to": root}, headers=same) for _ in range(4))
    )
    assert len({answer.json().get("key") for answer in answers if answer.status_code == 201}) == 1
    again = await api.client.post("/v1/posts", json={"text": "x", "reply_to": root}, headers=same)
    assert again.status_code == 201
    assert again.headers["idempotency-replayed"] == "true"
    late = await api.client.post("/v1/votes", json={"message": root}, headers={"If-Match": '"1"'})
    assert code(late) == "sequence-mismatch"
    measured = await api.client.post("/v1/posts?dry_run=1", json={"text": f"[@f]({FRIEND.id})", "reply_to": root})
    assert measured.status_code == 200
    assert FRIEND.id in measured.json()["mentions"]
    assert measured.json()["recps"] is None
    assert api.store.log.position == 2


@pytest.mark.parametrize(
    ("route", "body", "problem"),
    [
        ("posts", {}, "invalid-body"),
        ("posts", {"text": ""}, "invalid-body"),
        ("posts", {"text": " \n\u3000"}, "invalid-body"),
        ("posts", {"text": 1}, "invalid-body"),
        ("posts", {"text": "x", "root": message_id(1)}, "invalid-body"),
        ("posts", {"text": "x", "reply_to": 1}, "invalid-body"),
        ("posts", {"text": "x", "reply_to": "nonsense"}, "invalid-id"),
        ("posts", {"text": "x", "reply_to": FRIEND.id}, "invalid-id"),
        ("posts", {"text": "x", "reply_to": message_id(1)}, "message-not-found"),
        ("posts", {"text": "x", "channel": "#"}, "invalid-body"),
        ("posts", {"text": "x", "channel": 1}, "invalid-body"),
        ("posts", {"text": "x", "content_warning": []}, "invalid-body"),
        ("posts", {"text": "x", "recps": FRIEND.id}, "invalid-body"),
        ("posts", {"text": "x", "recps": [1]}, "invalid-body"),
        ("posts", {"text": "x", "recps": [{"name": "x"}]}, "invalid-body"),
        ("posts", {"text": "x", "recps": ["friend"]}, "invalid-id"),
        ("posts", {"text": "x", "recps": []}, "invalid-message"),
        ("posts", {"text": "x", "recps": [keypair(n).id for n in range(7)]}, "invalid-message"),
        ("posts", {"text": "x", "mentions": {}}, "invalid-body"),
        ("posts", {"text": "x", "mentions": [None]}, "invalid-body"),
        ("posts", {"text": "x", "mentions": [{"name": "x"}]}, "invalid-body"),
        ("posts", {"text": "x", "mentions": ["#"]}, "invalid-body"),
        ("posts", {"text": "x", "mentions": ["friend"]}, "invalid-id"),
        ("posts", {"text": "x" * 9000}, "message-too-large"),
        ("posts", {"text": "x" * 8100}, "message-too-large"),
        ("posts", {"text": "x" * 8000, "recps": [FRIEND.id]}, "message-too-large"),
        ("votes", {}, "invalid-body"),
        ("votes", {"message": "x"}, "invalid-id"),
        ("votes", {"message": message_id(1)}, "message-not-found"),
        ("votes", {"message": message_id(1), "value": 2}, "invalid-body"),
        ("votes", {"message": message_id(1), "value": True}, "invalid-body"),
        ("votes", {"message": message_id(1), "value": None}, "invalid-body"),
        ("votes", {"message": message_id(1), "value": [1]}, "invalid-body"),
        ("votes", {"message": message_id(1), "expression": "x" * 65}, "invalid-body"),
        ("votes", {"message": message_id(1), "expression": 1}, "invalid-body"),
        ("abouts", {}, "invalid-body"),
        ("abouts", {"about": FRIEND.id}, "invalid-body"),
        ("abouts", {"about": "x", "name": "x"}, "invalid-id"),
        ("abouts", {"name": " "}, "invalid-body"),
        ("abouts", {"name": "x" * 257}, "invalid-body"),
        ("abouts", {"name": 1}, "invalid-body"),
        ("abouts", {"image": "x"}, "invalid-id"),
        ("abouts", {"image": message_id(1)}, "invalid-id"),
        ("contacts", {}, "invalid-body"),
        ("contacts", {"contact": FRIEND.id}, "invalid-body"),
        ("contacts", {"contact": FRIEND.id, "following": 1}, "invalid-body"),
        ("contacts", {"contact": FRIEND.id, "following": None}, "invalid-body"),
        ("contacts", {"contact": FRIEND.id, "following": True, "blocking": True}, "invalid-body"),
        ("contacts", {"contact": message_id(1), "following": True}, "invalid-id"),
    ],
)
@IN_MODULE
async def test_what_is_refused(shared: Api, route: str, body: dict[str, Any], problem: str) -> None:
    before = shared.store.log.position
    for query in ("", "?dry_run=1"):
        answer = await shared.client.post(f"/v1/{route}{query}", json=body)
        assert code(answer) == problem, answer.text
    assert shared.store.log.position == before


async def test_nobody_follows_themselves(api: Api) -> None:
    answer = await api.client.post("/v1/contacts", json={"contact": api.me, "following": True})
    assert code(answer) == "invalid-message"
