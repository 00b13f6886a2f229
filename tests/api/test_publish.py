"""POST /v1/messages: what is published, what is refused and why, conditions, dry runs, bodies of every wrong kind."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.models import DryRun, Message
from api.services import MESSAGE_UNITS, HttpSettings
from feeds.formats.classic import MAX_UNITS
from tests.api.test_access import code
from tests.support import builders
from tests.support.api import Api, open_api

IN_MODULE = pytest.mark.asyncio(loop_scope="module")

JSON = {"Content-Type": "application/json"}


async def post(api: Api, body: bytes | str, **headers: str) -> httpx.Response:
    return await api.client.post("/v1/messages", content=body, headers={**JSON, **headers})


async def test_a_published_message_is_answered_and_stored(api: Api) -> None:
    answer = await api.client.post("/v1/messages", json={"content": {"type": "post", "text": "héllo 🎉"}})
    assert answer.status_code == 201
    message = Message.model_validate(answer.json())
    assert message.value["content"] == {"type": "post", "text": "héllo 🎉"}
    assert message.value["author"] == api.me
    assert message.value["sequence"] == 1
    assert answer.headers["etag"] == f'"{message.key}"'
    again = await api.client.get(answer.headers["location"])
    assert again.content == answer.content
    assert (await api.client.get("/v1/whoami")).json()["sequence"] == 1


async def test_an_already_encrypted_message(api: Api) -> None:
    boxed = "A" * 100 + ".box"
    answer = await api.client.post("/v1/messages", json={"content": boxed, "recps": None})
    assert answer.status_code == 201
    assert answer.json()["value"]["content"] == boxed


async def test_content_is_signed_as_v8_spells_it(api: Api) -> None:
    body = (
        r'{"content":{"type":"post","b":1.0,"10":1e3,"2":"\u00e9\ud800","e":1e400,"b":-0,"big":123456789012345678901}}'
    )
    answer = await post(api, body)
    assert answer.status_code == 201
    content = rb'"content":{"2":"\xc3\xa9\\ud800","10":1000,"type":"post","b":0,"e":null,"big":123456789012345680000}'
    assert content.decode("unicode_escape").encode("latin-1") in answer.content


async def test_one_after_another_and_all_at_once(api: Api) -> None:
    answers = await asyncio.gather(
        *(api.client.post("/v1/messages", json={"content": {"type": "post", "text": str(n)}}) for n in range(20))
    )
    assert sorted(answer.json()["value"]["sequence"] for answer in answers) == list(range(1, 21))


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "problem"),
    [
        (b"", 400, "invalid-json"),
        (b"{", 400, "invalid-json"),
        (b'{"content":{"type":"post"}', 400, "invalid-json"),
        (b"\xff\xfe", 400, "invalid-json"),
        (b'{"content":{"type":"post","text":"\xed\xa0\x80"}}', 400, "invalid-json"),
        (b'\xef\xbb\xbf{"content":{"type":"post"}}', 400, "invalid-json"),
        (b'{"content":{"type":"post","n":NaN}}', 400, "invalid-json"),
        (b'{"content":{"type":"post","n":Infinity}}', 400, "invalid-json"),
        (b'{"content":{"type":"post","n":01}}', 400, "invalid-json"),
        (b'{"content":{"type":"post"},}', 400, "invalid-json"),
        (b"{'content':{}}", 400, "invalid-json"),
        (b'{"content":' + b"[" * 100_000, 400, "invalid-json"),
        (b'{"content":' + b'{"a":' * 100_000, 400, "invalid-json"),
        (b'{"content":{"type":"post","a":' + b"[" * 600 + b"]" * 600 + b"}}", 400, "invalid-json"),
        (b"null", 422, "invalid-body"),
        (b"[]", 422, "invalid-body"),
        (b"1", 422, "invalid-body"),
        (b'"content"', 422, "invalid-body"),
        (b"{}", 422, "invalid-body"),
        (b'{"content":null}', 422, "invalid-body"),
        (b'{"content":[]}', 422, "invalid-body"),
        (b'{"content":1}', 422, "invalid-body"),
        (b'{"content":{"type":"post"},"recipients":["@x"]}', 422, "invalid-body"),
        (b'{"content":{"type":"post"},"\\ud800/~":1}', 422, "invalid-body"),
        (b'{"content":{"type":"post"},"recps":"@x"}', 422, "invalid-body"),
        (b'{"content":{"type":"post"},"recps":["@x"]}', 422, "invalid-message"),
        (b'{"content":{"type":"post"},"recps":[]}', 422, "invalid-message"),
        (b'{"content":{"type":"post","recps":["@x"]}}', 422, "invalid-message"),
        (b'{"content":{"type":"post","recps":"@x"}}', 422, "invalid-message"),
        (b'{"content":{"type":"post","recps":[]}}', 422, "invalid-message"),
        (b'{"content":{}}', 422, "invalid-message"),
        (b'{"content":{"type":1}}', 422, "invalid-message"),
        (b'{"content":{"type":"ab"}}', 422, "invalid-message"),
        (b'{"content":{"type":"' + b"x" * 53 + b'"}}', 422, "invalid-message"),
        (b'{"content":"hello"}', 422, "invalid-message"),
        (b'{"content":"\\ud800"}', 422, "invalid-message"),
        (b'{"content":{"type":"post","text":"' + b"x" * 8200 + b'"}}', 413, "message-too-large"),
        (b'{"content":{"type":"post","n":' + b"9" * 300_000 + b"}}", 201, ""),
        (b'{"content":{"type":"post","a":' + b"[" * 30 + b"]" * 30 + b"}}", 201, ""),
    ],
)
@IN_MODULE
async def test_bodies(shared: Api, body: bytes, status: int, problem: str) -> None:
    before = shared.store.log.position
    answer = await post(shared, body)
    assert answer.status_code == status
    assert shared.store.log.position == before + (status == 201)
    if problem:
        assert code(answer) == problem
        assert "Traceback" not in answer.text


async def test_too_large_a_message_is_measured(api: Api) -> None:
    answer = await api.client.post("/v1/messages", json={"content": {"type": "post", "text": "é" * 9000}})
    assert code(answer) == "message-too-large"
    problem = answer.json()
    assert problem["limit"] == MESSAGE_UNITS == MAX_UNITS
    assert 9000 < problem["size"] < 9600
    assert problem["unit"] == "UTF-16 units"


@pytest.mark.parametrize(
    "media_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json-seq"]
)
@IN_MODULE
async def test_bodies_of_other_types(shared: Api, media_type: str) -> None:
    before = shared.store.log.position
    answer = await shared.client.post(
        "/v1/messages",
        content=b'{"content":{"type":"post"}}',
        headers={"Content-Type": media_type} if media_type else {},
    )
    assert answer.status_code == 415
    assert code(answer) == "unsupported-media-type"
    assert shared.store.log.position == before


@pytest.mark.parametrize(
    ("media_type", "status"),
    [
        ("application/json; charset=utf-8", 201),
        ('Application/JSON;charset="UTF-8"', 201),
        ("application/json; charset=latin-1", 415),
        ("application/json;charset=utf-16", 415),
    ],
)
async def test_character_sets(api: Api, media_type: str, status: int) -> None:
    answer = await api.client.post(
        "/v1/messages", content=b'{"content":{"type":"post"}}', headers={"Content-Type": media_type}
    )
    assert answer.status_code == status


async def test_compressed_bodies_are_not_taken(api: Api) -> None:
    assert code(await post(api, b"\x1f\x8b", **{"Content-Encoding": "gzip"})) == "unsupported-media-type"


async def test_a_body_at_the_limit_and_one_beyond(api: Api) -> None:
    start = b'{"content":{"type":"post"}'
    limit = HttpSettings().body_limit
    assert limit == 1024 * 1024
    assert (await post(api, start + b" " * (limit - len(start) - 1) + b"}")).status_code == 201
    answer = await post(api, start + b" " * (limit - len(start)) + b"}")
    assert answer.status_code == 413
    assert code(answer) == "body-too-large"
    assert answer.json()["limit"] == limit
    assert api.store.log.position == 1


async def test_a_streamed_body_is_cut_at_the_limit(api: Api) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65536
            yield b" " * 65536

    answer = await api.client.post("/v1/messages", content=endless(), headers=JSON)
    assert answer.status_code == 413
    assert sent <= HttpSettings().body_limit + 2 * 65536


async def test_a_body_that_does_not_come(tmp_path: Path) -> None:
    async with open_api(tmp_path, HttpSettings(body_timeout=0.05)) as api:

        async def dawdling() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.sleep(10)

        answer = await api.client.post("/v1/messages", content=dawdling(), headers=JSON)
        assert answer.status_code == 408
        assert code(answer) == "body-timeout"


async def test_a_forked_feed_is_not_written_to(api: Api) -> None:
    feed = builders.Feed(api.store.own)
    one, _ = feed.make({"type": "post", "text": "one"})
    two, _ = feed.make({"type": "post", "text": "two"})
    await api.receive(one)
    await api.store.ingest.add([two], source="test")
    answer = await api.client.post("/v1/messages", json={"content": {"type": "post"}})
    assert answer.status_code == 423
    assert code(answer) == "feed-forked"
    assert answer.json()["state"] == "forked"
    assert answer.json()["reason"]
    assert (await api.client.get("/v1/whoami")).json()["state"] == "forked"
    assert (await api.client.get("/v1/status")).json()["state"] == "forked"


# --- conditions and dry runs ------------------------------------------------------------------------------------------

POST = json.dumps({"content": {"type": "post", "text": "x"}})


async def test_if_match_publishes_only_on_the_expected_tip(api: Api) -> None:
    assert (await post(api, POST, **{"If-Match": '"0"'})).status_code == 201
    answer = await post(api, POST, **{"If-Match": '"0"'})
    assert answer.status_code == 412
    assert code(answer) == "sequence-mismatch"
    assert (answer.json()["expected"], answer.json()["sequence"]) == (0, 1)
    etag = (await api.client.get("/v1/whoami")).headers["etag"]
    assert etag == '"1"'
    assert (await post(api, POST, **{"If-Match": etag})).status_code == 201
    assert (await post(api, POST, **{"If-Match": "2"})).status_code == 201
    assert (await post(api, POST, **{"If-Match": "*"})).status_code == 201
    assert api.store.log.position == 4


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ('"1"', 201),
        ('"7", "1"', 201),
        ('W/"3",\t"1"', 201),
        ('"x", "1"', 201),
        ('W/"1"', 412),
        ('"x"', 412),
        ('""', 412),
        ('"-1"', 412),
        ('"' + "1" * 17 + '"', 412),
        ('"0", "2"', 412),
    ],
)
async def test_if_match_compares_tags_as_http_does(api: Api, value: str, status: int) -> None:
    """Any of several will do; a weak one, or one that is no sequence, never does."""
    await api.publish("first")
    answer = await post(api, POST, **{"If-Match": value})
    assert answer.status_code == status
    if status == 412:
        assert code(answer) == "sequence-mismatch"
        assert answer.json()["sequence"] == 1
    assert api.store.log.position == (2 if status == 201 else 1)


@pytest.mark.parametrize("value", ["", '"1', "١", "x", '"1" "2"', '*, "1"', '"1",', "-1", "1" * 17])
@IN_MODULE
async def test_if_match_of_other_forms(shared: Api, value: str) -> None:
    before = shared.store.log.position
    headers = [(b"Content-Type", b"application/json"), (b"If-Match", value.encode())]
    answer = await shared.client.post("/v1/messages", content=POST, headers=headers)
    assert answer.status_code == 400
    assert code(answer) == "invalid-header"
    assert shared.store.log.position == before


async def test_what_was_published_comes_as_msgpack_too(api: Api) -> None:
    answer = await post(api, POST, Accept="application/msgpack")
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/msgpack"
    assert answer.headers["vary"] == "Accept"
    published = await api.client.get(answer.headers["location"])
    assert msgspec.msgpack.decode(answer.content) == published.json()
    measured = await api.client.post(
        "/v1/messages?dry_run=1", json=json.loads(POST), headers={"Accept": "application/msgpack"}
    )
    assert msgspec.msgpack.decode(measured.content)["sequence"] == 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", {"content": {"type": "post", "text": "x"}}),
        ("/v1/posts", {"text": "x"}),
        ("/v1/tokens", {"name": "bot", "scopes": ["read"]}),
        ("/v1/webhooks", {"url": "http://127.0.0.1:9/"}),
    ],
)
async def test_what_is_done_is_told_whatever_was_accepted(api: Api, path: str, body: dict[str, object]) -> None:
    """Refusing the form of an answer after the deed would lose a secret that is shown once, or publish twice."""
    answer = await api.client.post(path, json=body, headers={"Accept": "text/html"})
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    assert (await api.client.get("/v1/whoami", headers={"Accept": "text/html"})).status_code == 406


async def test_a_dry_run_measures_what_publishing_makes(api: Api) -> None:
    await api.publish("before")
    feed, message, blob = builders.keypair("friend").id, builders.message_id(1), builders.blob_id(1)
    content = {
        "type": "post",
        "text": f"é 🎉 ![a]({blob}) &nonsense.sha256",
        "mentions": [{"link": feed, "name": "friend"}, message, {"link": blob}, {"link": feed}, 7, {"link": None}],
    }
    answer = await api.client.post("/v1/messages?dry_run=1", json={"content": content})
    assert answer.status_code == 200
    measured = DryRun.model_validate(answer.json())
    assert api.store.log.position == 1
    published = await api.client.post("/v1/messages", json={"content": content})
    raw = (await api.client.get(published.headers["location"] + "/raw")).content
    assert measured.bytes == len(raw)
    assert measured.size == len(raw.decode().encode("utf-16-le")) // 2
    assert measured.sequence == 2
    assert set(measured.mentions) == {feed, message}
    assert len(measured.mentions) == 2
    assert measured.blobs == measured.missing_blobs == [blob]


@IN_MODULE
async def test_a_dry_run_refuses_what_publishing_refuses(shared: Api) -> None:
    for body, problem in (
        ({"content": {"type": "x"}}, "invalid-message"),
        ({"content": {"type": "post", "text": "x" * 9000}}, "message-too-large"),
        ({"content": {"type": "post"}, "recps": ["@x"]}, "invalid-message"),
    ):
        assert code(await shared.client.post("/v1/messages?dry_run=true", json=body)) == problem


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.binary(max_size=200)
    | json_values.map(lambda value: json.dumps(value).encode())
    | json_values.map(lambda value: json.dumps({"content": value}).encode())
    | json_values.map(lambda value: json.dumps({"content": {"type": "test", "value": value}}).encode())
)
async def test_no_body_makes_the_node_fail(api: Api, body: bytes) -> None:
    before = api.store.log.position
    answer = await post(api, body)
    assert answer.status_code in (201, 400, 413, 422)
    assert api.store.log.position == before + (answer.status_code == 201)
    if answer.status_code == 201:
        assert (await api.client.get(answer.headers["location"])).content == answer.content
    else:
        code(answer)
