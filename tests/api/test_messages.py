"""GET /v1/messages: lists and their filters, one message in three spellings of its id, forms, caching."""

import base64
import json
import sqlite3
from collections.abc import Sequence
from urllib.parse import quote

import httpx
import msgspec
import pytest

from api.models import Message, MessageList
from api.routes.messages import PROBE
from feeds import log as log_module
from feeds.formats.registry import CLASSIC
from feeds.log import Entry
from feeds.refs import MessageRef
from tests.api.test_access import code
from tests.support import builders
from tests.support.api import Api

IN_MODULE = pytest.mark.asyncio(loop_scope="module")

NDJSON = {"Accept": "application/x-ndjson"}
MSGPACK = {"Accept": "application/msgpack"}


async def pages(api: Api, path: str, **parameters: str | int) -> list[list[dict[str, object]]]:
    """Every page of a list, by its `next`; the Link header must say the same."""
    found = []
    answer = await api.client.get(path, params=parameters)
    while True:
        assert answer.status_code == 200, answer.text
        body = answer.json()
        found.append(body["items"])
        if body["next"] is None:
            assert "link" not in answer.headers
            return found
        link = answer.links["next"]["url"]
        linked = await api.client.get(link)
        answer = await api.client.get(path, params={**parameters, "cursor": body["next"]})
        assert linked.content == answer.content


def keys(items: list[dict[str, object]]) -> list[object]:
    return [item["key"] for item in items]


async def fill(api: Api, messages: int = 60, authors: int = 3) -> list[bytes]:
    texts = builders.generate(messages, authors)
    await api.receive(*texts)
    return texts


async def everything(api: Api) -> list[str]:
    return [entry.id for entry in await api.store.log.entries_after(0, 10_000)]


# --- one message ------------------------------------------------------------------------------------------------------


def spellings(message: str) -> list[str]:
    """The ways an id may be written in a path."""
    data = MessageRef.parse(message).data
    uri = MessageRef(data).uri
    bare = uri.rpartition("/")[2]
    return [
        quote(message, safe=""),
        message.replace("%", "%25"),
        quote(message, safe="/+="),
        uri,
        quote(uri, safe=""),
        uri.replace("ssb:message/classic/", "ssb:message:sha256:"),
        uri.replace("ssb:", "ssb://"),
        bare,
        bare.rstrip("="),
        quote(bare, safe=""),
    ]


async def test_every_spelling_of_an_id(api: Api) -> None:
    await fill(api)
    ids = await everything(api)
    assert any("/" in message for message in ids)
    assert any("+" in message for message in ids)
    for message in ids:
        expected = await api.store.log.get(message)
        assert expected is not None
        for spelling in spellings(message):
            answer = await api.client.get(f"/v1/messages/{spelling}")
            assert answer.status_code == 200, spelling
            assert answer.content == expected.as_kvt()
            raw = await api.client.get(f"/v1/messages/{spelling}/raw")
            assert raw.status_code == 200, spelling
            assert raw.content == CLASSIC.signed_text(expected.text)


async def test_a_message_is_its_stored_text(api: Api) -> None:
    (text,) = builders.generate(1, 1)
    await api.receive(text)
    answer = await api.client.get("/v1/messages")
    assert text in answer.content
    (item,) = MessageList.model_validate(answer.json()).items
    assert item.value == json.loads(text)
    answer = await api.client.get(f"/v1/messages/{quote(item.key, safe='')}")
    assert text in answer.content
    Message.model_validate(answer.json())


@pytest.mark.parametrize(
    ("path", "status", "problem"),
    [
        (quote(builders.message_id(1), safe=""), 404, "message-not-found"),
        ("x", 400, "invalid-id"),
        ("%25", 400, "invalid-id"),
        ("", 400, "invalid-id"),
        (quote(builders.keypair("a").id, safe=""), 400, "invalid-id"),
        (quote(builders.blob_id(1), safe=""), 400, "invalid-id"),
        (quote(builders.message_id(1), safe="")[:-1], 400, "invalid-id"),
        (quote(builders.message_id(1) + "x", safe=""), 400, "invalid-id"),
        ("%00", 400, "invalid-id"),
        ("%ff%fe", 400, "invalid-id"),
        ("%ed%a0%80", 400, "invalid-id"),
        ("..%2f..%2f..%2fetc%2fpasswd", 400, "invalid-id"),
        ("%2e%2e/%2e%2e/secret", 400, "invalid-id"),
        ("ssb:message/sha256/../../x", 400, "invalid-id"),
        ("ssb:feed/ed25519/" + "A" * 43 + "=", 400, "invalid-id"),
        ("x" * 5000, 400, "invalid-id"),
        (quote(builders.message_id(1), safe="") + "/nonsense", 404, "not-found"),
        (quote(builders.message_id(1), safe="") + "/", 400, "invalid-id"),
    ],
)
@IN_MODULE
async def test_ids_that_are_none(shared: Api, path: str, status: int, problem: str) -> None:
    for suffix in ("", "/raw") if problem != "not-found" else ("",):
        answer = await shared.client.get(f"/v1/messages/{path}{suffix}")
        assert answer.status_code == status
        assert code(answer) == problem


async def test_messages_never_change_so_they_are_cached(api: Api) -> None:
    (message,) = await api.publish("hello")
    path = f"/v1/messages/{quote(message, safe='')}"
    for where in (path, path + "/raw"):
        answer = await api.client.get(where)
        assert answer.headers["etag"] == f'"{message}"'
        assert "immutable" in answer.headers["cache-control"]
        assert "private" in answer.headers["cache-control"]
        for tag in (f'"{message}"', "*", f'"x", "{message}"', f'W/"{message}"'):
            known = await api.client.get(where, headers={"If-None-Match": tag})
            assert known.status_code == 304
            assert known.content == b""
            assert known.headers["etag"] == f'"{message}"'
            assert known.headers["x-content-type-options"] == "nosniff"
        assert (await api.client.get(where, headers={"If-None-Match": '"x"'})).status_code == 200
    packed = await api.client.get(path, headers=MSGPACK)
    assert packed.headers["etag"] != f'"{message}"'
    assert (await api.client.get("/v1/messages", headers={"If-None-Match": "*"})).headers["cache-control"] == "no-store"


# --- forms ------------------------------------------------------------------------------------------------------------


async def test_msgpack_is_the_same_body(api: Api) -> None:
    await fill(api, 30)
    for path in ("/v1/messages?limit=20", "/v1/feeds", "/v1/whoami", "/v1/status", "/v1/replication"):
        plain, packed = await api.client.get(path), await api.client.get(path, headers=MSGPACK)
        assert packed.headers["content-type"] == "application/msgpack"
        assert "Accept" in packed.headers["vary"]
        same = msgspec.msgpack.decode(packed.content)
        if path != "/v1/status":  # measures differ from one request to the next
            assert same == plain.json()
    message = (await everything(api))[0]
    answer = await api.client.get(f"/v1/messages/{quote(message, safe='')}", headers=MSGPACK)
    assert msgspec.msgpack.decode(answer.content)["key"] == message


async def test_msgpack_of_what_utf8_cannot_hold(api: Api) -> None:
    body = rb'{"content":{"type":"post","text":"a\ud800b","n":1e300,"big":123456789012345678901}}'
    posted = await api.client.post("/v1/messages", content=body, headers={"Content-Type": "application/json"})
    assert rb'"a\ud800b"' in posted.content
    for path in (posted.headers["location"], "/v1/messages"):
        answer = await api.client.get(path, headers=MSGPACK)
        value = msgspec.msgpack.decode(answer.content)
        content = (value["items"][0] if "items" in value else value)["value"]["content"]
        assert content == {"type": "post", "text": "a\ufffdb", "n": 1e300, "big": 123456789012345678901.0}


async def test_ndjson_is_everything_in_lines(api: Api) -> None:
    await fill(api, 450)
    answer = await api.client.get("/v1/messages", headers=NDJSON)
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.content.endswith(b"\n")
    lines = answer.content[:-1].split(b"\n")
    assert keys([json.loads(line) for line in lines]) == await everything(api)
    some = await api.client.get("/v1/messages?limit=7&order=desc", headers=NDJSON)
    assert keys([json.loads(line) for line in some.content.splitlines()]) == (await everything(api))[:-8:-1]
    page = (await api.client.get("/v1/messages?limit=440")).json()
    rest = await api.client.get("/v1/messages", params={"cursor": page["next"]}, headers=NDJSON)
    assert keys([json.loads(line) for line in rest.content[:-1].split(b"\n")]) == (await everything(api))[440:]


@IN_MODULE
async def test_ndjson_of_nothing_is_empty(shared: Api) -> None:
    answer = await shared.client.get("/v1/messages", headers=NDJSON)
    assert answer.status_code == 200
    assert answer.content == b""


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("text/html, */*;q=0.1", "application/json"),
        ("application/msgpack;q=0.5, application/json", "application/json"),
        ("application/json;q=0.5, application/x-msgpack", "application/msgpack"),
        ("application/x-ndjson, application/json;q=0.9", "application/x-ndjson"),
        ("application/json;q=0, application/msgpack", "application/msgpack"),
        ("application/json;q=nonsense, application/msgpack;q=0.1", "application/msgpack"),
    ],
)
@IN_MODULE
async def test_negotiation(shared: Api, accept: str, form: str) -> None:
    answer = await shared.client.get("/v1/messages", headers={"Accept": accept})
    assert answer.headers["content-type"] == form


@pytest.mark.parametrize("accept", ["text/html", "image/png, text/plain", "application/json;q=0", ";;;,,,"])
@IN_MODULE
async def test_forms_there_are_none_of(shared: Api, accept: str) -> None:
    answer = await shared.client.get("/v1/messages", headers={"Accept": accept})
    assert answer.status_code == 406
    assert code(answer) == "not-acceptable"


# --- lists ------------------------------------------------------------------------------------------------------------


async def test_pages_hold_everything_once(api: Api) -> None:
    await fill(api, 130)
    ids = await everything(api)
    for limit in (1, 7, 65, 129, 130, 131, 500):
        for order, expected in (("asc", ids), ("desc", ids[::-1])):
            if limit == 1 and order == "asc":
                continue
            found = await pages(api, "/v1/messages", limit=limit, order=order)
            assert [key for page in found for key in keys(page)] == expected
            assert all(len(page) == limit for page in found[:-1])
            assert found[-1]
    assert [len(page) for page in await pages(api, "/v1/messages")] == [50, 50, 30]


@IN_MODULE
async def test_an_empty_log(shared: Api) -> None:
    for order in ("asc", "desc"):
        assert (await shared.client.get(f"/v1/messages?order={order}")).json() == {"items": [], "next": None}


async def test_pages_go_on_while_messages_come_in(api: Api) -> None:
    await api.publish(*"abcdef")
    page = (await api.client.get("/v1/messages?limit=3&order=desc")).json()
    await api.publish(*"ghi")
    rest = (await api.client.get("/v1/messages", params={"cursor": page["next"], "order": "desc"})).json()
    texts = [item["value"]["content"]["text"] for item in page["items"] + rest["items"]]
    assert "".join(texts) == "fedcba"


async def test_filters_by_author_and_type(api: Api) -> None:
    await fill(api, 90)
    entries = await api.store.log.entries_after(0, 1000)
    for author in {entry.author for entry in entries}:
        for spelling in (author, author.replace("+", " "), author[1:-8].replace("+", "-").replace("/", "_")):
            found = await pages(api, "/v1/messages", author=spelling, limit=20)
            assert [k for page in found for k in keys(page)] == [
                entry.id for entry in entries if entry.author == author
            ]
        posts = [entry.id for entry in entries if entry.author == author and b'"content":{"type":"post"' in entry.text]
        for order, expected in (("asc", posts), ("desc", posts[::-1])):
            found = await pages(api, "/v1/messages", author=author, type="post", limit=3, order=order)
            assert [k for page in found for k in keys(page)] == expected
    stranger = builders.keypair("stranger").id
    assert await pages(api, "/v1/messages", author=stranger) == [[]]
    assert await pages(api, "/v1/messages", type="no-such-type") == [[]]


async def test_filters_by_claimed_time(api: Api) -> None:
    feed = builders.Feed(builders.keypair("someone"))
    times = [5000, 1000, 3000, 2000.5, 4000, -10]
    for time in times:
        feed.append({"type": "post"}, timestamp=time)
    await api.receive(*feed.texts)
    ids = await everything(api)
    for parameters, expected in (
        ({"since": 3000}, [0, 2, 4]),
        ({"until": 2000}, [1, 5]),
        ({"since": 1000, "until": 3000}, [1, 2, 3]),
        ({"since": 2000, "until": 2001}, [3]),
        ({"since": 6000}, []),
        ({"until": -1}, [5]),
        ({"since": 0, "type": "post", "author": feed.id}, [0, 1, 2, 3, 4]),
    ):
        for limit in (1, 2, 50):
            found = await pages(api, "/v1/messages", limit=limit, **parameters)
            assert [k for page in found for k in keys(page)] == [ids[place] for place in expected]
            found = await pages(api, "/v1/messages", limit=limit, order="desc", **parameters)
            assert [k for page in found for k in keys(page)] == [ids[place] for place in expected][::-1]


async def test_a_rare_time_is_found_without_looking_at_the_others(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = builders.Feed(builders.keypair("someone"))
    for number in range(2000):
        feed.append({"type": "post"}, **({"timestamp": number} if number in (3, 1500, 1990) else {}))
    await api.receive(*feed.texts)
    read: list[int] = []
    plain = log_module.entries_at

    def counting(connection: sqlite3.Connection, positions: Sequence[int]) -> list[Entry]:
        read.extend(positions)
        return plain(connection, positions)

    monkeypatch.setattr(log_module, "entries_at", counting)
    for parameters, expected in (
        ({"until": 5}, [3]),
        ({"since": 1400, "until": 2000}, [1500, 1990]),
        ({"until": 2000, "limit": 1}, [3, 1500, 1990]),
        ({"until": 2000, "type": "post", "author": feed.id}, [3, 1500, 1990]),
        ({"until": 2000, "type": "vote"}, []),
    ):
        for order in ("asc", "desc"):
            found = await pages(api, "/v1/messages", order=order, **parameters)
            times = [json.loads(json.dumps(item))["value"]["timestamp"] for page in found for item in page]
            assert times == (expected if order == "asc" else expected[::-1])
            assert len(read) <= 2 * len(expected) + PROBE * ("type" in parameters)
            read.clear()
    answer = await api.client.get("/v1/messages?until=2000", headers=NDJSON)
    assert len(answer.content.splitlines()) == 3


@pytest.mark.parametrize(
    "parameters",
    [
        {"limit": "0"},
        {"limit": "501"},
        {"limit": "-1"},
        {"limit": "x"},
        {"limit": ""},
        {"limit": "1.5"},
        {"limit": "9" * 5000},
        {"order": "up"},
        {"since": "x"},
        {"since": "1" * 400},
        {"until": "nan"},
        {"until": "inf"},
        {"cursor": "x" * 600},
        {"type": "x" * 300},
    ],
)
@IN_MODULE
async def test_parameters_of_wrong_forms(shared: Api, parameters: dict[str, str]) -> None:
    answer = await shared.client.get("/v1/messages", params=parameters)
    assert answer.status_code == 400
    assert code(answer) == "invalid-parameter"
    (error,) = answer.json()["errors"]
    assert error["parameter"] in parameters


@IN_MODULE
async def test_authors_that_are_no_feeds(shared: Api) -> None:
    for author in ("x", "", builders.message_id(1), "\x00", "@"):
        assert code(await shared.client.get("/v1/messages", params={"author": author})) == "invalid-id"


def cursor(*value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "!!!!",
        "\ud7ff",
        "=",
        "bnVsbA",
        cursor(),
        cursor("messages.asc"),
        cursor("messages.asc", "1"),
        cursor("messages.asc", -1),
        cursor("messages.asc", 2**63),
        cursor("messages.asc", 2**70),
        cursor("messages.asc", True),
        cursor("messages.asc", 1.0),
        cursor("messages.asc", None),
        cursor("messages.desc", 1),
        cursor("feeds.asc", 1),
        cursor("messages.asc", 1, 2),
        cursor(["messages.asc"], 1),
    ],
)
@IN_MODULE
async def test_cursors_that_are_none(shared: Api, text: str) -> None:
    answer = await shared.client.get("/v1/messages", params={"cursor": text})
    assert answer.status_code == 400
    assert code(answer) == "invalid-cursor"


async def test_a_cursor_beyond_the_end(api: Api) -> None:
    await api.publish("x")
    for order in ("asc", "desc"):
        for mark in (0, 1, 2, 2**63 - 1):
            parameters = {"cursor": cursor(f"messages.{order}", mark), "order": order}
            answer: httpx.Response = await api.client.get("/v1/messages", params=parameters)
            assert answer.status_code == 200
