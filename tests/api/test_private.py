"""Private messages over HTTP: published for some, given in plain where that is asked for and nowhere else."""

import asyncio
import json
import os
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest

from api.models import FoundList, Message, PrivateMessageList, PrivateThreadList
from feeds.keys import Keypair, to_x25519_public
from feeds.private import box1
from feeds.private.key_ring import KeyRing
from feeds.private.sealing import seal
from tests.api.test_access import code
from tests.support import builders
from tests.support.api import Api, connect, serve

FRIEND, OTHER = builders.keypair("friend"), builders.keypair("other")
MARKER = "not for everybody"


def boxed(content: dict[str, Any], author: Keypair, *readers: str) -> str:
    return seal(content, list(readers), me=author.id, random=os.urandom)


def post(text: str = MARKER, **members: Any) -> dict[str, Any]:
    return {"type": "post", "text": text, **members}


async def publish(api: Api, content: dict[str, Any], *recps: Any) -> dict[str, Any]:
    answer = await api.client.post("/v1/messages", json={"content": content, "recps": list(recps) or None})
    assert answer.status_code == 201, answer.text
    message: dict[str, Any] = answer.json()
    return message


async def items(api: Api, path: str, **query: Any) -> list[dict[str, Any]]:
    answer = await api.client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def texts(messages: list[dict[str, Any]]) -> list[str]:
    return [message["value"]["content"]["text"] for message in messages]


def path_of(message: str) -> str:
    return f"/v1/messages/{quote(message, safe='')}"


# --- one message ------------------------------------------------------------------------------------------------------


async def test_published_for_some(api: Api) -> None:
    message = await publish(api, post(), FRIEND.id)
    content = message["value"]["content"]
    assert content.endswith(".box")
    assert "meta" not in message
    for keypair in (FRIEND, api.store.own):
        opened = KeyRing([keypair]).open(content)
        assert opened is not None
        assert opened.content == post(recps=[FRIEND.id, api.me])
    assert KeyRing([OTHER]).open(content) is None


async def test_recipients_within_the_content_and_with_names(api: Api) -> None:
    message = await publish(api, post(recps=[{"link": FRIEND.id, "name": "a friend"}]))
    assert message["value"]["content"].endswith(".box")
    plain = (await api.client.get(path_of(message["key"]), params={"private": 1})).json()
    assert plain["value"]["content"]["recps"] == [{"link": FRIEND.id, "name": "a friend"}, api.me]


async def test_in_plain_only_when_asked_for(api: Api) -> None:
    message = await publish(api, post(), FRIEND.id)
    path = path_of(message["key"])
    assert MARKER not in (await api.client.get(path)).text
    assert (await api.client.get(path)).json() == message
    answer = await api.client.get(path, params={"private": 1})
    plain = Message.model_validate(answer.json())
    assert plain.value["content"] == post(recps=[FRIEND.id, api.me])
    assert plain.meta is not None
    assert plain.meta.private
    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers
    assert {**answer.json()["value"], "content": 0} == {**message["value"], "content": 0}
    assert list(answer.json()["value"]) == list(message["value"])
    packed = await api.client.get(path, params={"private": "yes"}, headers={"Accept": "application/msgpack"})
    assert msgspec.msgpack.decode(packed.content) == answer.json()
    for quiet in (f"{path}/raw", f"{path}?private=0", "/v1/messages", f"/v1/feeds/{quote(api.me, safe='')}/messages"):
        assert MARKER not in (await api.client.get(quiet)).text


async def test_what_is_not_for_us_stays_as_it_is(api: Api) -> None:
    theirs = builders.Feed(OTHER)
    await api.receive(theirs.append(boxed(post(), OTHER, FRIEND.id)), theirs.append(post("plain")))
    for message in theirs.ids:
        plain = (await api.client.get(path_of(message))).json()
        answer = await api.client.get(path_of(message), params={"private": 1})
        assert answer.json() == plain
        assert answer.headers["cache-control"] == "no-store"


async def test_too_large_when_encrypted(api: Api) -> None:
    content = post("x" * 6200)
    await publish(api, content)
    answer = await api.client.post("/v1/messages", json={"content": content, "recps": [FRIEND.id]})
    assert code(answer) == "message-too-large"
    assert answer.json()["size"] > answer.json()["limit"] == 8192
    assert "xxx" not in answer.text


async def test_a_dry_run_measures_what_would_be_encrypted(api: Api) -> None:
    body = {"content": post(mentions=[{"link": FRIEND.id}]), "recps": [FRIEND.id]}
    measured = (await api.client.post("/v1/messages?dry_run=1", json=body)).json()
    assert measured["mentions"] == [FRIEND.id]
    assert api.store.log.position == 0
    published = (await api.client.post("/v1/messages", json=body)).json()
    raw = await api.client.get(f"{path_of(published['key'])}/raw")
    assert abs(measured["size"] - len(raw.text)) <= 8  # the claimed time may be a digit longer


async def test_an_idempotency_key_works_for_private_messages(api: Api) -> None:
    body = {"content": post(), "recps": [FRIEND.id]}
    first, second = [
        await api.client.post("/v1/messages", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)
    ]
    assert first.json() == second.json()
    assert api.store.log.position == 1


@pytest.mark.parametrize(
    "recps", [["@x"], [5], [builders.keypair(n).id for n in range(7)], ["@" + "A" * 43 + "=.ed25519"], []]
)
async def test_what_cannot_be_encrypted_is_not_published(api: Api, recps: list[Any]) -> None:
    for body in ({"content": post(), "recps": recps}, {"content": post(recps=recps)}):
        answer = await api.client.post("/v1/messages", json=body)
        assert code(answer) == "invalid-message"
        assert answer.json()["field"] == "recps"
        assert MARKER not in answer.text
    assert api.store.log.position == 0


# --- released keys ----------------------------------------------------------------------------------------------------


async def test_a_released_key_opens_one_message(api: Api) -> None:
    theirs = builders.Feed(OTHER)
    content, second = boxed(post(), OTHER, FRIEND.id), boxed(post("another"), OTHER, FRIEND.id)
    await api.receive(theirs.append(content), theirs.append(second), theirs.append(post("plain")))
    opened = KeyRing([FRIEND]).open(content)
    assert opened is not None
    link = f"{theirs.ids[0]}?unbox={opened.unbox}"
    for url in (
        f"/v1/messages/{quote(link, safe='')}",
        f"{path_of(theirs.ids[0])}?unbox={quote(opened.unbox, safe='')}",
        f"{path_of(theirs.ids[0])}?unbox={opened.unbox}",
    ):
        answer = await api.client.get(url)
        assert answer.json()["value"]["content"]["text"] == MARKER
        assert answer.json()["meta"] == {"private": True}
        assert answer.headers["cache-control"] == "no-store"
    wrong = await api.client.get(path_of(theirs.ids[1]), params={"unbox": opened.unbox})
    assert code(wrong) == "unbox-failed"
    assert code(await api.client.get(path_of(theirs.ids[0]), params={"unbox": "nonsense"})) == "unbox-failed"
    plain = await api.client.get(path_of(theirs.ids[2]), params={"unbox": opened.unbox})
    assert "meta" not in plain.json()


# --- lists and threads ------------------------------------------------------------------------------------------------


async def conversation(api: Api) -> tuple[str, str, builders.Feed]:
    """Two threads with a friend: the first of four messages, then one; a public post and one for others in between."""
    root = await publish(api, post("first thread", channel="cats"), FRIEND.id)
    key = root["key"]
    theirs, others = builders.Feed(FRIEND), builders.Feed(OTHER)
    await api.receive(theirs.append(boxed(post("answer", root=key, branch=key), FRIEND, api.me)))
    await api.receive(others.append(boxed(post("for others"), OTHER, FRIEND.id)), others.append(post("public")))
    second = await publish(api, post("Second THREAD about dogs", mentions=[{"link": OTHER.id}]), FRIEND.id)
    await publish(api, post("late answer", root=key, branch=[theirs.ids[0]]), FRIEND.id)
    early = boxed(post("crossing answer", root=key, branch=key), FRIEND, api.me)
    await api.receive(theirs.append(early))
    return key, second["key"], theirs


async def test_lists_of_private_messages(api: Api) -> None:
    key, _, _ = await conversation(api)
    everything = ["first thread", "answer", "Second THREAD about dogs", "late answer", "crossing answer"]
    found = await items(api, "/v1/messages", private=1)
    assert texts(found) == everything
    assert all(Message.model_validate(message).meta for message in found)
    assert texts(await items(api, "/v1/messages", private=1, order="desc")) == everything[::-1]
    assert texts(await items(api, "/v1/messages", private=1, q="thread")) == [everything[0], everything[2]]
    assert texts(await items(api, "/v1/messages", private=1, q="DOGS thread")) == [everything[2]]
    assert texts(await items(api, "/v1/messages", private=1, q="others")) == []
    assert texts(await items(api, "/v1/messages", private=1, author=FRIEND.id)) == ["answer", "crossing answer"]
    assert texts(await items(api, "/v1/messages", private=1, root=key)) == ["answer", "late answer", "crossing answer"]
    assert texts(await items(api, "/v1/messages", private=1, channel="#cats")) == ["first thread"]
    assert texts(await items(api, "/v1/messages", private=1, mentions=OTHER.id)) == [everything[2]]
    assert texts(await items(api, "/v1/messages", private=1, type="vote")) == []
    assert len(await items(api, "/v1/messages")) == 7
    assert code(await api.client.get("/v1/messages", params={"private": "perhaps"})) == "invalid-parameter"


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("query", [{}, {"q": "answer"}])
async def test_pages_of_private_messages(api: Api, order: str, query: dict[str, str]) -> None:
    await conversation(api)
    whole = await items(api, "/v1/messages", private=1, order=order, **query)
    pages: list[dict[str, Any]] = []
    url: str | None = f"/v1/messages?private=1&order={order}&limit=2" + "".join(f"&{k}={v}" for k, v in query.items())
    while url is not None:
        answer = await api.client.get(url)
        pages += answer.json()["items"]
        url = answer.links["next"]["url"] if "next" in answer.links else None
    assert pages == whole
    lines = await api.client.get(
        "/v1/messages", params={"private": 1, "order": order, **query}, headers={"Accept": "application/x-ndjson"}
    )
    assert [json.loads(line) for line in lines.text.splitlines()] == whole


async def test_threads(api: Api) -> None:
    assert await items(api, "/v1/private") == []
    key, second, theirs = await conversation(api)
    answer = await api.client.get("/v1/private")
    listed = PrivateThreadList.model_validate(answer.json()).items
    assert [thread.id for thread in listed] == [key, second]
    assert [thread.messages for thread in listed] == [4, 1]
    assert listed[0].last is not None
    assert listed[0].last.value["content"]["text"] == "crossing answer"
    assert set(listed[0].recps) == {api.me, FRIEND.id}
    assert theirs.ids[1] in listed[0].tips
    assert len(listed[0].tips) == 2
    assert [thread["id"] for thread in await items(api, "/v1/private", order="asc")] == [second, key]
    assert [thread["id"] for thread in await items(api, "/v1/private", q="dogs")] == [second]
    first = (await api.client.get("/v1/private?limit=1")).json()
    rest = (await api.client.get("/v1/private", params={"limit": 1, "cursor": first["next"]})).json()
    assert [thread["id"] for thread in first["items"] + rest["items"]] == [key, second]
    assert rest["next"] is None


async def test_a_thread(api: Api) -> None:
    key, second, theirs = await conversation(api)
    answer = await api.client.get(f"/v1/private/{quote(key, safe='')}")
    thread = PrivateMessageList.model_validate(answer.json())
    order = [message.value["content"]["text"] for message in thread.items]
    assert order[0] == "first thread"
    assert order.index("answer") < order.index("late answer")
    assert len(order) == 4
    assert answer.headers["cache-control"] == "no-store"
    backwards = await items(api, f"/v1/private/{quote(key, safe='')}", order="desc")
    assert texts(backwards) == order[::-1]
    assert len(await items(api, f"/v1/private/{quote(second, safe='')}")) == 1
    for nothing in (theirs.ids[0], builders.message_id(5)):
        assert code(await api.client.get(f"/v1/private/{quote(nothing, safe='')}")) == "message-not-found"
    assert code(await api.client.get("/v1/private/nonsense")) == "invalid-id"


async def test_a_reply_to_what_is_not_here(api: Api) -> None:
    root = builders.message_id(1)
    message = await publish(api, post("to whom?", root=root, branch=root), FRIEND.id)
    (thread,) = await items(api, "/v1/private")
    assert thread["id"] == root
    assert thread["tips"] == [message["key"]]
    assert texts(await items(api, f"/v1/private/{quote(root, safe='')}")) == ["to whom?"]


@pytest.mark.parametrize(
    "odd", [{"root": 5}, {"root": "%x"}, {"branch": {"link": []}}, {"recps": 5}, {"type": None}, {"mentions": "x"}]
)
async def test_odd_contents_of_others(api: Api, odd: dict[str, Any]) -> None:
    """Whatever a friend's client writes is listed, and breaks nothing."""
    theirs = builders.Feed(FRIEND)
    content = json.dumps({**post(), **odd}).encode()
    await api.receive(theirs.append(raw_box(content, api)), theirs.append(raw_box(b'"only a string"', api)))
    assert len(await items(api, "/v1/messages", private=1)) == 2
    assert len(await items(api, "/v1/private")) == 2
    assert len(await items(api, "/v1/messages", private=1, q="everybody", channel="x")) == 0


def raw_box(plaintext: bytes, api: Api) -> str:
    key = to_x25519_public(api.store.own.public)
    return box1.to_text(
        box1.box(plaintext, [key], nonce=os.urandom(24), ephemeral_secret=os.urandom(32), body_key=os.urandom(32))
    )


# --- live -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("query", "plain"), [("private=1", True), ("private=1&types=post", True), ("", False)])
async def test_events(api: Api, query: str, plain: bool) -> None:
    async with serve(api) as server, connect(server) as (reader, writer):
        authorization = api.client.headers["authorization"]
        head = f"GET /v1/stream?since=0&{query} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\n\r\n"
        writer.write(head.encode())
        await publish(api, post(), FRIEND.id)
        seen = b""
        async with asyncio.timeout(10):
            while b'"timestamp"' not in seen or not seen.endswith(b"\n\n\r\n"):
                seen += await reader.read(65536)
                if b"event: message" in seen and seen.rstrip().endswith(b"}"):
                    break
        assert (MARKER.encode() in seen) == plain
        assert (b'"meta":{"private":true}' in seen) == plain


async def test_nobody_without_the_token(api: Api) -> None:
    message = await publish(api, post(), FRIEND.id)
    async with api.stranger() as stranger:
        for path in (path_of(message["key"]), "/v1/messages", "/v1/private", "/v1/stream"):
            answer: httpx.Response = await stranger.get(path, params={"private": 1})
            assert answer.status_code == 401
            assert MARKER not in answer.text


# --- search -----------------------------------------------------------------------------------------------------------


async def test_search_in_private_messages_only(api: Api) -> None:
    feed = builders.Feed(FRIEND)
    for number, text in enumerate(["a secret plan", "the plan, secretly", "nothing", "plan <b>a</b> secret"]):
        feed.append(boxed(post(text, title=f"letter {number}"), FRIEND, api.me))
    feed.append(boxed({"type": "note", "text": "my secret plan"}, FRIEND, api.me))
    feed.append(boxed(post("a secret plan of others"), FRIEND, OTHER.id))
    feed.append(post("a secret plan for everybody"))
    await api.receive(*feed.texts)
    own = await publish(api, post("our secret plan"), FRIEND.id)
    path = "/v1/search"
    public = await items(api, path, q="secret plan")
    assert texts(public) == ["a secret plan for everybody"]
    found = await items(api, path, q="secret plan", private=1)
    assert texts(found) == ["our secret plan", "my secret plan", "plan <b>a</b> secret", "a secret plan"]
    assert all(message["meta"] == {"private": True} for message in found)
    assert found[0]["key"] == own["key"]
    assert found[2]["snippet"] == {
        "field": "text",
        "text": "plan <b>a</b> secret",
        "html": "<mark>plan</mark> &lt;b&gt;a&lt;/b&gt; <mark>secret</mark>",
    }
    for query, expected in (
        ({"q": '"secret plan"'}, ["our secret plan", "my secret plan", "a secret plan"]),
        ({"q": "secret* -our -my"}, ["plan <b>a</b> secret", "the plan, secretly", "a secret plan"]),
        ({"q": "letter"}, ["plan <b>a</b> secret", "nothing", "the plan, secretly", "a secret plan"]),
        ({"q": "plan", "type": "note"}, ["my secret plan"]),
        ({"q": "plan", "author": api.me}, ["our secret plan"]),
        ({"q": "plan", "author": OTHER.id}, []),
        ({"q": "plan", "order": "asc", "limit": 2}, ["a secret plan", "the plan, secretly"]),
        ({"q": "everybody"}, []),
        ({"q": "others"}, []),
    ):
        assert texts(await items(api, path, private=1, **query)) == expected, query
    answer = await api.client.get(path, params={"q": "plan", "private": 1, "limit": 2})
    FoundList.model_validate(answer.json())
    rest = (await api.client.get(answer.links["next"]["url"])).json()
    assert texts([*answer.json()["items"], *rest["items"]]) == [
        "our secret plan",
        "my secret plan",
        "plan <b>a</b> secret",
        "the plan, secretly",
    ]
    crossed = {"q": "plan", "cursor": answer.json()["next"]}
    assert code(await api.client.get(path, params=crossed)) == "invalid-cursor"
    assert code(await api.client.get(path, params={"q": "!", "private": 1})) == "invalid-parameter"
    await api.client.post("/v1/messages", json={"content": {"type": "contact", "contact": FRIEND.id, "blocking": True}})
    assert texts(await items(api, path, q="plan", private=1)) == ["our secret plan"]
    assert len(await items(api, path, q="plan", private=1, author=FRIEND.id)) == 4
