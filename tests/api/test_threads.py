"""Threads, votes, backlinks, timelines, channels and types over HTTP, and the filters of messages that go with them."""

from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from api import models
from tests.api.test_access import code
from tests.api.test_messages import MSGPACK, NDJSON, keys, pages
from tests.support.api import Api
from tests.support.builders import Feed, keypair, message_id

LATER = 1_900_000_000_000


def post(text: str = "x", **more: Any) -> dict[str, Any]:
    return {"type": "post", "text": text, **more}


def feed(name: str, at: int = 1_500_000_000_000) -> Feed:
    return Feed(keypair(name), timestamp=at)


def path(kind: str, message: str, below: str = "") -> str:
    return f"/v1/{kind}/{quote(message, safe='')}{below}"


async def get(api: Api, url: str, **parameters: str | int) -> Any:
    answer = await api.client.get(url, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def write(api: Api, author: Feed, content: dict[str, Any], **overrides: Any) -> str:
    await api.receive(author.append(content, **overrides))
    return author.ids[-1]


# --- one thread -------------------------------------------------------------------------------------------------------


async def test_a_thread_in_causal_order(api: Api) -> None:
    a, b = feed("a"), feed("b")
    root = await write(api, a, post())
    first = await write(api, b, post(root=root, branch=root), timestamp=LATER)
    second = await write(api, a, post(root=root, branch=[first]), timestamp=5)
    await write(api, b, {"type": "vote", "vote": {"link": root, "value": 1}, "root": root, "branch": root})
    await write(api, b, post(root=message_id(1)))
    thread = await get(api, path("threads", root))
    assert keys(thread["items"]) == [root, first, second]
    assert (thread["id"], thread["parent"], thread["replies"], thread["missing"]) == (root, None, 2, [])
    assert thread["authors"] == [a.id, b.id]
    assert thread["truncated"] is False
    models.Thread.model_validate(thread)
    packed = await api.client.get(path("threads", root), headers=MSGPACK)
    assert msgspec.msgpack.decode(packed.content) == thread


async def test_missing_messages_are_marked(api: Api) -> None:
    a = feed("a")
    root, gone, elsewhere = message_id(1), message_id(2), await write(api, a, post())
    reply = await write(api, a, post(root=root, branch=[gone, elsewhere, root, gone]))
    thread = await get(api, path("threads", root))
    assert thread["missing"] == [root, gone]
    (item,) = thread["items"]
    assert (item["key"], item["missing"]) == (reply, [gone, root])
    assert code(await api.client.get(path("threads", message_id(3)))) == "message-not-found"
    assert code(await api.client.get("/v1/threads/nonsense")) == "invalid-id"


@pytest.mark.parametrize("habit", ["root is the thread it leaves", "root is what it carries off from"])
async def test_sub_threads(api: Api, habit: str) -> None:
    a, b = feed("a"), feed("b")
    root = await write(api, a, post())
    reply = await write(api, b, post(root=root, branch=root))
    if habit == "root is the thread it leaves":
        fork = await write(api, a, post(root=root, fork=reply, branch=reply))
        inside = [root, reply, fork]
    else:
        fork = await write(api, a, post(root=reply, fork=root, branch=reply))
        inside = [root, reply]
    after = await write(api, b, post(root=reply, branch=fork))
    thread = await get(api, path("threads", root))
    assert keys(thread["items"]) == inside
    assert [item["replies"] for item in thread["items"]] == [0, 2, 0][: len(inside)]
    below = await get(api, path("threads", reply))
    assert keys(below["items"]) == [reply, fork, after]
    assert (below["parent"], below["missing"]) == (root, [])


async def test_threads_of_hostile_shapes(api: Api) -> None:
    a = feed("a")
    roots: list[Any] = [
        None,
        1,
        [],
        {},
        {"link": 5},
        "x",
        "%",
        a.id,
        message_id(1) + "?unbox=x",
        {"link": message_id(1)},
    ]
    branches: list[Any] = [None, [[]], [1, "x", message_id(1)], {"link": message_id(2)}, "y"]
    for root in roots:
        for branch in branches:
            a.append(post(root=root, branch=branch, fork=branch))
    await api.receive(*a.texts)
    found = await get(api, "/v1/threads", limit=500)
    assert sum(1 + item["replies"] if item["root"] else item["replies"] for item in found["items"]) == 50
    models.ThreadList.model_validate(found)
    for item in found["items"]:
        models.Thread.model_validate(await get(api, path("threads", item["id"])))


# --- the list of threads ----------------------------------------------------------------------------------------------


async def test_threads_by_latest_reply(api: Api) -> None:
    a, b = feed("a"), feed("b")
    old = await write(api, a, post("old"))
    new = await write(api, a, post("new"))
    reply = await write(api, b, post(root=old), timestamp=1_500_000_009_000)
    orphan = await write(api, b, post(root=message_id(1)), timestamp=1_500_000_010_000)
    found = (await get(api, "/v1/threads"))["items"]
    assert [item["id"] for item in found] == [message_id(1), old, new]
    assert [item["replies"] for item in found] == [1, 1, 0]
    assert [item["root"] and item["root"]["key"] for item in found] == [None, old, new]
    assert [item["latest"] and item["latest"]["key"] for item in found] == [orphan, reply, None]
    assert [item["authors"] for item in found] == [[b.id], [a.id, b.id], [a.id]]
    assert found[1]["time"] == 1_500_000_009_000


async def test_pages_of_threads_stay_put_while_replies_come_in(api: Api) -> None:
    a = feed("a")
    roots = [await write(api, a, post(str(at))) for at in range(6)]
    page = await get(api, "/v1/threads", limit=2)
    assert [item["id"] for item in page["items"]] == roots[:3:-1]
    for root in roots[:4]:
        await write(api, a, post(root=root))
    await write(api, a, post("newer"))
    rest = await get(api, "/v1/threads", limit=3, cursor=page["next"])
    assert [item["id"] for item in rest["items"]] == roots[3:0:-1]
    rest = await get(api, "/v1/threads", cursor=rest["next"])
    assert [item["id"] for item in rest["items"]] == roots[:1]
    assert rest["next"] is None
    answer = await api.client.get("/v1/threads", headers=NDJSON)
    assert len(answer.content.splitlines()) == 7


async def test_a_long_thread_costs_the_list_no_page(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feeds.thread_reading.SCAN_LIMIT", 5)
    a = feed("a")
    first, second = await write(api, a, post()), await write(api, a, post())
    for _ in range(12):
        a.append(post(root=second))
    await api.receive(*a.texts[2:])
    found = await pages(api, "/v1/threads")
    assert [item["id"] for page in found for item in page] == [second, first]
    assert len(found) == 3


async def test_nobody_pushes_a_thread_away_with_an_id_that_begins_alike(api: Api) -> None:
    a, b = feed("a"), feed("b")
    root = await write(api, a, post())
    other = root[:12] + "A" * 31 + "A=.sha256"
    await write(api, b, post(root=other))
    assert [item["id"] for item in (await get(api, "/v1/threads"))["items"]] == [other, root]
    assert (await get(api, path("threads", root)))["replies"] == 0


@pytest.mark.parametrize("cursor", ["", "1", "1.1", "x/1.1", "1.0/x", "1.0/1", "1.0/" + "9" * 30 + ".1"])
async def test_marks_that_are_none(api: Api, cursor: str) -> None:
    from tests.api.test_messages import cursor as made

    for url, name in (("/v1/threads", "threads.desc"), ("/v1/timelines/public", "public.desc")):
        if cursor == "1.1" and name == "public.desc":
            continue
        answer = await api.client.get(url, params={"cursor": made(name, cursor)})
        assert (answer.status_code, code(answer)) == (400, "invalid-cursor"), cursor


# --- reactions --------------------------------------------------------------------------------------------------------


async def test_the_last_vote_of_each_author_counts(api: Api) -> None:
    a, b, c = feed("a"), feed("b"), feed("c")
    root = await write(api, a, post())
    for author, votes in ((a, (1, 0)), (b, (1, -5, 2.5 > 1 and 2)), (c, (1, -1))):
        for value in votes:
            await write(api, author, {"type": "vote", "vote": {"link": root, "value": value, "expression": "Like"}})
    malformed: list[Any] = [None, [], {"link": root}, {"link": root, "value": "1"}, {"link": root, "value": True}]
    for broken in malformed:
        await write(api, a, {"type": "vote", "vote": broken})
    await write(api, a, {"type": "vote", "vote": {"link": message_id(1), "value": 1, "expression": 5}})
    found = await get(api, path("messages", root, "/votes"))
    models.VoteList.model_validate(found)
    assert found["totals"] == {"up": 1, "down": 1, "expressions": {"Like": 2}}
    assert [(item["author"], item["value"], item["key"]) for item in found["items"]] == [
        (b.id, 1, b.ids[2]),
        (c.id, -1, c.ids[1]),
    ]
    assert [[item["author"] for item in page] for page in await pages(api, path("messages", root, "/votes"), limit=1)]
    missing = await get(api, path("messages", message_id(1), "/votes"))
    assert missing["totals"]["expressions"] == {"": 1}
    assert code(await api.client.get(path("messages", message_id(2), "/votes"))) == "message-not-found"
    packed = await api.client.get(path("messages", root, "/votes"), headers=MSGPACK)
    assert msgspec.msgpack.decode(packed.content) == found


async def test_backlinks_show_each_link(api: Api) -> None:
    a = feed("a")
    root = await write(api, a, post())
    reply = await write(api, a, post(root=root, branch=root))
    vote = await write(api, a, {"type": "vote", "vote": {"link": root, "value": 1}})
    expected = [(reply, "branch"), (reply, "root"), (vote, "vote.link")]
    url = path("messages", root, "/backlinks")
    for limit in (1, 2, 50):
        for order in ("asc", "desc"):
            found = [item for page in await pages(api, url, limit=limit, order=order) for item in page]
            shown = [(item["key"], item["rel"]) for item in found]
            assert sorted(shown) == sorted(expected)
            assert [key for key, _ in shown] in ([reply, reply, vote], [vote, reply, reply])
    models.BacklinkList.model_validate(await get(api, url))
    assert keys((await get(api, url, rel="vote"))["items"]) == [vote]
    assert keys((await get(api, url, rel="vote.link"))["items"]) == [vote]
    assert (await get(api, url, rel="vot"))["items"] == []


# --- timelines --------------------------------------------------------------------------------------------------------


async def test_timelines_go_by_the_earlier_of_claimed_and_received(api: Api) -> None:
    a, b = feed("a"), feed("b")
    future = await write(api, a, post(), timestamp=LATER * 1000)
    past = await write(api, b, post(), timestamp=-5)
    now = await write(api, b, post(), timestamp=1_550_000_000_000.5)
    (own,) = await api.publish("mine")
    await write(api, a, {"type": "vote", "vote": {"link": own, "value": 1}})
    found = await get(api, "/v1/timelines/public")
    assert keys(found["items"]) == [own, future, now, past]
    assert found["items"][1]["value"]["timestamp"] == LATER * 1000
    assert found["items"][1]["timestamp"] < LATER
    assert keys((await get(api, "/v1/timelines/public", order="asc"))["items"]) == [past, now, future, own]
    for limit in (1, 3):
        for order, expected in (("desc", [own, future, now, past]), ("asc", [past, now, future, own])):
            paged = await pages(api, "/v1/timelines/public", limit=limit, order=order)
            assert [key for page in paged for key in keys(page)] == expected


async def test_home_holds_us_and_whom_we_follow(api: Api) -> None:
    followed, stranger, blocked = feed("followed"), feed("stranger"), feed("blocked")
    posts = {author.id: await write(api, author, post()) for author in (followed, stranger, blocked)}
    reply = await write(api, followed, post(root=posts[stranger.id]))
    (own,) = await api.publish("mine")
    for author, relation in ((followed, "following"), (blocked, "blocking")):
        await api.store.ingest.publish({"type": "contact", "contact": author.id, relation: True})
    assert keys((await get(api, "/v1/timelines/home"))["items"]) == [own, reply, posts[followed.id]]
    assert keys((await get(api, "/v1/timelines/home", replies=0))["items"]) == [own, posts[followed.id]]
    public = set(keys((await get(api, "/v1/timelines/public"))["items"]))
    assert public == {own, reply, posts[followed.id], posts[stranger.id]}
    threads = await get(api, "/v1/threads")
    assert posts[blocked.id] not in [item["id"] for item in threads["items"]]


async def test_blocked_replies_do_not_lift_a_thread(api: Api) -> None:
    a, blocked = feed("a"), feed("blocked")
    first, second = await write(api, a, post()), await write(api, a, post())
    hostile = await write(api, blocked, post(root=first), timestamp=1_500_000_100_000)
    await api.store.ingest.publish({"type": "contact", "contact": blocked.id, "blocking": True})
    found = (await get(api, "/v1/threads"))["items"]
    assert [(item["id"], item["replies"]) for item in found] == [(second, 0), (first, 0)]
    thread = await get(api, path("threads", first))
    assert [(item["key"], item["blocked"]) for item in thread["items"]] == [(first, False), (hostile, True)]


async def test_sparse_timelines_go_on(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feeds.views.timeline.SCAN_LIMIT", 4)
    (own,) = await api.publish("mine")
    stranger = feed("stranger", LATER)
    for _ in range(10):
        stranger.append(post())
    await api.receive(*stranger.texts)
    assert [keys(page) for page in await pages(api, "/v1/timelines/home")] == [[], [], [own]]


async def test_mentions_of_us(api: Api) -> None:
    a, b = feed("a"), feed("b")
    first = await write(api, a, post(mentions=[{"link": api.me, "name": "me"}, api.me]))
    await write(api, a, post(root=message_id(1), about=api.me))
    second = await write(api, b, {"type": "gathering", "mentions": api.me}, timestamp=LATER)
    await api.store.ingest.publish(post(mentions=[api.me]))
    assert keys((await get(api, "/v1/timelines/mentions"))["items"]) == [second, first]
    paged = await pages(api, "/v1/timelines/mentions", limit=1)
    assert [key for page in paged for key in keys(page)] == [second, first]


async def test_channels_and_hashtags(api: Api) -> None:
    a, b = feed("a"), feed("b")
    by_channel = await write(api, a, post(channel="New People"))
    by_text = await write(api, b, post("hello #newpeople, see http://x/#no and C# and &#39;"))
    by_mention = await write(api, b, post(mentions=[{"link": "#NewPeople"}, "#art", 5, {"link": 5}], channel=5))
    for author, name, wanted in ((a, "art", True), (b, "#Art", True), (b, "art", False), (a, "!?", True)):
        await write(api, author, {"type": "channel", "channel": name, "subscribed": wanted})
    await api.store.ingest.publish({"type": "channel", "channel": "quiet", "subscribed": True})
    for spelling in ("newpeople", "%23New%20People"):
        found = await get(api, f"/v1/timelines/channels/{spelling}")
        assert set(keys(found["items"])) == {by_channel, by_text, by_mention}
        paged = await pages(api, f"/v1/timelines/channels/{spelling}", limit=2)
        assert [len(page) for page in paged] == [2, 1]
    assert (await get(api, "/v1/timelines/channels/%3F"))["items"] == []
    listed = await get(api, "/v1/channels")
    models.ChannelList.model_validate(listed)
    assert [(c["name"], c["messages"], c["subscribers"], c["subscribed"]) for c in listed["items"]] == [
        ("newpeople", 3, 0, False),
        ("art", 1, 1, False),
        ("quiet", 0, 1, True),
    ]
    await api.store.ingest.publish({"type": "contact", "contact": a.id, "blocking": True})
    assert set(keys((await get(api, "/v1/timelines/channels/newpeople"))["items"])) == {by_text, by_mention}


async def test_types(api: Api) -> None:
    a = feed("a")
    for kind in ("chess_move", "post", "post", "no one knows"):
        await write(api, a, {"type": kind})
    found = await get(api, "/v1/types")
    models.TypeList.model_validate(found)
    assert [(item["type"], item["messages"]) for item in found["items"]] == [
        ("post", 2),
        ("chess_move", 1),
        ("no one knows", 1),
    ]


# --- filters of messages ----------------------------------------------------------------------------------------------


async def test_filters_by_channel_root_and_mentions(api: Api) -> None:
    a, b = feed("a"), feed("b")
    root = await write(api, a, post("#art"))
    both = await write(api, b, post("#art", root=root, mentions=[{"link": a.id}, a.id]))
    reply = await write(api, a, post(root=root, branch=root))
    blog = await write(api, a, {"type": "blog", "channel": "Art", "mentions": [a.id]}, timestamp=5)
    for parameters, expected in (
        ({"channel": "#Art"}, [root, both, blog]),
        ({"root": root}, [both, reply]),
        ({"mentions": a.id}, [both, blog]),
        ({"channel": "art", "root": root}, [both]),
        ({"channel": "art", "mentions": a.id, "type": "blog"}, [blog]),
        ({"root": root, "author": a.id}, [reply]),
        ({"channel": "art", "until": 5}, [blog]),
        ({"channel": "none"}, []),
        ({"channel": "?"}, []),
        ({"root": message_id(1)}, []),
    ):
        for limit in (1, 2, 50):
            for order, wanted in (("asc", expected), ("desc", expected[::-1])):
                found = await pages(api, "/v1/messages", limit=limit, order=order, **parameters)
                assert [key for page in found for key in keys(page)] == wanted, (parameters, limit, order)
    for parameters in ({"root": a.id}, {"root": "x"}, {"mentions": "x"}, {"mentions": ""}):
        assert code(await api.client.get("/v1/messages", params=parameters)) == "invalid-id"


async def test_filters_by_ids_that_begin_alike(api: Api) -> None:
    a = feed("a")
    other = "@" + a.id[1:13] + "A" * 31 + "=.ed25519"
    await write(api, a, post(mentions=[other]))
    assert (await get(api, "/v1/messages", mentions=a.id))["items"] == []
    assert len((await get(api, "/v1/messages", mentions=other))["items"]) == 1
    both = await write(api, a, post(a.id, about=a.id, mentions=[{"link": other}]))
    assert (await get(api, "/v1/messages", mentions=a.id))["items"] == []
    assert keys((await get(api, path("feeds", a.id, "/messages"), after=1))["items"]) == [both]
