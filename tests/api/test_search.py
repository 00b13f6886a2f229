"""Full-text search over HTTP."""

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api import models
from api.routes import search as route
from tests.api.test_access import code
from tests.api.test_messages import MSGPACK, keys, pages
from tests.support.api import Api
from tests.support.builders import Feed, keypair

HOSTILE = [
    '"',
    "'",
    "-",
    "*",
    "a*",
    'a"b',
    "a AND",
    "NOT",
    "NEAR(a b, 2)",
    "words:a",
    "^a",
    "a -",
    "-a",
    "{a}",
    "\0",
    "%00",
]


async def find(api: Api, q: str, **more: str) -> list[dict[str, Any]]:
    answer = await api.client.get("/v1/search", params={"q": q, **more})
    assert answer.status_code == 200, answer.text
    models.FoundList.model_validate(answer.json())
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def test_finding_words(api: Api) -> None:
    first, second, third = await api.publish("Red wine & <cheese>", "wine, red as Crème", "whitewash")
    title = (await api.store.ingest.publish({"type": "blog", "title": "Red", "summary": "wine"})).id
    await api.store.ingest.publish({"type": "post", "text": "red wine in secret"}, recps=[api.me])
    await api.store.ingest.publish({"type": "post", "other": "red wine"})
    assert keys(await find(api, "RED wine")) == [title, second, first]
    assert keys(await find(api, "red wine", order="asc")) == [first, second, title]
    assert keys(await find(api, '"red wine"')) == [first]
    assert keys(await find(api, "wine -creme")) == [title, first]
    assert keys(await find(api, "wine -cre*")) == [title, first]
    assert keys(await find(api, 'wine -"red wine"')) == [title, second]
    assert keys(await find(api, "whi*")) == [third]
    assert keys(await find(api, "wine", type="blog")) == [title]
    assert keys(await find(api, "wine", author=api.me)) == [title, second, first]
    assert await find(api, "wine", author=keypair("nobody").id) == []
    assert await find(api, "secret") == []
    (found,) = await find(api, "cheese")
    assert found["snippet"] == {
        "field": "text",
        "text": "Red wine & <cheese>",
        "html": "Red wine &amp; &lt;<mark>cheese</mark>&gt;",
    }
    assert found["value"]["content"]["text"] == "Red wine & <cheese>"


async def test_pages(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = await api.publish(*("wine " + ("odd" if number % 2 else "even") for number in range(9)))
    monkeypatch.setattr(route, "SCAN_CHUNK", 2)
    assert [keys(page) for page in await pages(api, "/v1/search", q="wine", limit=4)] == [
        ids[:4:-1],
        ids[4:0:-1],
        ids[:1],
    ]
    asked: dict[str, str | int] = {"q": '"wine odd"', "order": "asc", "limit": 3}
    assert [keys(page) for page in await pages(api, "/v1/search", **asked)] == [ids[1:6:2], ids[7:8]]
    monkeypatch.setattr(route, "SCAN_LIMIT", 2)
    short = await pages(api, "/v1/search", q="wine", limit=5)
    assert [key for page in short for key in keys(page)] == ids[::-1]
    answer = await api.client.get("/v1/search", params={"q": "wine"}, headers=MSGPACK)
    assert msgspec.msgpack.decode(answer.content)["behind"] == 0


async def test_blocked_feeds_are_found_only_by_name(api: Api) -> None:
    bob = Feed(keypair("bob"))
    await api.receive(bob.append({"type": "post", "text": "wine"}))
    assert keys(await find(api, "wine")) == bob.ids
    await api.store.ingest.publish({"type": "contact", "contact": bob.id, "blocking": True})
    assert await find(api, "wine") == []
    assert keys(await find(api, "wine", author=bob.id)) == bob.ids


async def test_the_list_of_messages_by_words(api: Api) -> None:
    first, second, _ = await api.publish("red wine #ssb", "wine red #ssb", "red")
    for asked, expected in [
        ({"q": "red wine"}, [first, second]),
        ({"q": '"red wine"'}, [first]),
        ({"q": "wine", "channel": "ssb", "order": "desc"}, [second, first]),
        ({"q": "wine", "type": "vote"}, []),
    ]:
        answer = await api.client.get("/v1/messages", params=asked)
        assert keys(answer.json()["items"]) == expected, asked
    assert [keys(page) for page in await pages(api, "/v1/messages", q="wine", limit=1)] == [[first], [second]]
    assert code(await api.client.get("/v1/messages?q=-wine")) == "invalid-parameter"


@pytest.mark.parametrize("q", ["", "-a", '""', "\u3000", "a " * 65, "a" * 1001])
async def test_queries_without_a_word_or_with_too_many(api: Api, q: str) -> None:
    assert code(await api.client.get("/v1/search", params={"q": q})) == "invalid-parameter"


async def test_no_query_at_all(api: Api) -> None:
    assert code(await api.client.get("/v1/search")) == "invalid-parameter"
    assert code(await api.client.get("/v1/search?q=a&author=x")) == "invalid-id"
    assert code(await api.client.get("/v1/search?q=a&cursor=x")) == "invalid-cursor"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.lists(st.sampled_from(HOSTILE)).map(" ".join)
)
async def test_no_query_breaks_it(api: Api, q: str) -> None:
    for path in ("/v1/search", "/v1/messages"):
        answer = await api.client.get(path, params={"q": q})
        assert answer.status_code == 200 or code(answer) == "invalid-parameter", q
