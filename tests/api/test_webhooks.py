"""Webhooks against a real HTTP server: what is sent, when the cursor moves, failures, pauses and restarts."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api.webhook_schedule import Patience
from api.webhooks import BATCH, MAX_WEBHOOKS, Webhooks
from tests.api.test_access import code
from tests.support.api import Api
from tests.support.builders import Feed, keypair
from tests.support.webhook_server import WebhookServer, webhook_server

IN_MODULE = pytest.mark.asyncio(loop_scope="module")
FEED = "@6CAxOI3f+LUOVrbAl0IemqiS7ATpQvr9Mdw9LC4+Uv0=.ed25519"


@pytest.fixture
async def hooks() -> AsyncIterator[WebhookServer]:
    async with webhook_server() as server:
        yield server


@pytest.fixture
async def running(api: Api) -> AsyncIterator[Api]:
    async with api.services.webhooks.running():
        yield api


async def create(api: Api, url: str, **more: Any) -> dict[str, Any]:
    answer = await api.client.post("/v1/webhooks", json={"url": url, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def state(api: Api, hook: dict[str, Any]) -> dict[str, Any]:
    answer = await api.client.get(f"/v1/webhooks/{hook['id']}")
    assert answer.status_code == 200
    shown: dict[str, Any] = answer.json()
    return shown


async def settled(api: Api, hook: dict[str, Any], **wanted: object) -> dict[str, Any]:
    """The webhook's state, once it is as wanted."""
    async with asyncio.timeout(10):
        while not wanted.items() <= (shown := await state(api, hook)).items():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
    return shown


# --- delivery ---------------------------------------------------------------------------------------------------------


async def test_messages_are_posted_as_they_come(running: Api, hooks: WebhookServer) -> None:
    await running.publish("before")
    hook = await create(running, hooks.url)
    assert hook["state"] == "active"
    assert hook["cursor"] == 1
    (id,) = await running.publish("hello")
    (delivery,) = await hooks.taken(1)
    assert delivery.line == "POST /hook?key=of-the-hook HTTP/1.1"
    assert delivery.headers["content-type"] == "application/json"
    assert delivery.headers["x-sbot-webhook"] == hook["id"]
    expected = hmac.new(hook["secret"].encode(), delivery.body, hashlib.sha256).hexdigest()
    assert delivery.headers["x-sbot-signature"] == f"sha256={expected}"
    assert delivery.batch["webhook"] == hook["id"]
    assert delivery.batch["cursor"] == 2
    (item,) = delivery.batch["items"]
    assert item == (await running.client.get(f"/v1/messages/{id.replace('%', '%25')}")).json()
    shown = await settled(running, hook, cursor=2, lag=0, failures=0)
    assert shown["delivered"] is not None
    assert "secret" not in shown
    assert hook["secret"] not in (await running.client.get("/v1/webhooks")).text


async def test_what_was_there_before_on_demand_in_bounded_batches(running: Api, hooks: WebhookServer) -> None:
    await running.publish(*(str(n) for n in range(2 * BATCH + 10)))
    hook = await create(running, hooks.url, since=5)
    await settled(running, hook, lag=0)
    assert [text for delivery in hooks.deliveries for text in delivery.texts] == [
        str(n) for n in range(5, 2 * BATCH + 10)
    ]
    assert [len(delivery.texts) for delivery in hooks.deliveries] == [BATCH, BATCH, 5]
    assert [delivery.batch["cursor"] for delivery in hooks.deliveries] == [105, 205, 210]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({}, ["a", "b", "c", "d", None, "about"]),
        ({"types": ["post"]}, ["a", "b", "c", "d"]),
        ({"types": ["about", "vote"]}, ["about"]),
        ({"channel": "#Cats"}, ["b"]),
        ({"mentions": FEED}, ["c"]),
        ({"types": ["post"], "mentions": FEED}, ["c"]),
        ({"types": ["about"], "mentions": FEED}, []),
        ({"feeds": [FEED]}, []),
        ({"feeds": ["me"]}, ["a", "b", "c", "d", None, "about"]),
        ({"feeds": ["me", FEED], "channel": "cats"}, ["b"]),
        ({"root": "first"}, ["d"]),
    ],
)
async def test_filters(running: Api, hooks: WebhookServer, rules: dict[str, Any], expected: list[str | None]) -> None:
    publish = running.store.ingest.publish
    first = await publish({"type": "post", "text": "a"})
    await publish({"type": "post", "text": "b", "channel": "cats"})
    await publish({"type": "post", "text": "c", "mentions": [{"link": FEED}]})
    await publish({"type": "post", "text": "d", "root": first.id, "branch": first.id})
    await publish({"type": "post", "text": "for us only"}, recps=[running.me])
    await publish({"type": "about", "about": running.me, "text": "about"})
    if "feeds" in rules:
        rules = {**rules, "feeds": [running.me if feed == "me" else feed for feed in rules["feeds"]]}
    if "root" in rules:
        rules = {**rules, "root": first.id}
    hook = await create(running, hooks.url, filter=rules, since=0)
    assert hook["filter"] == {name: sorted(rule) if isinstance(rule, list) else rule for name, rule in rules.items()}
    await settled(running, hook, lag=0)
    contents = [item["value"]["content"] for one in hooks.deliveries for item in one.batch["items"]]
    assert [None if isinstance(one, str) else one["text"] for one in contents] == expected
    assert b"for us only" not in b"".join(one.body for one in hooks.deliveries)


async def test_messages_of_others(running: Api, hooks: WebhookServer) -> None:
    other = Feed(keypair("other"))
    hook = await create(running, hooks.url, filter={"feeds": [other.id]})
    await running.publish("ours")
    await running.receive(other.append({"type": "post", "text": "theirs"}))
    (delivery,) = await hooks.taken(1)
    assert delivery.texts == ["theirs"]
    await settled(running, hook, lag=0)


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [500, 503, 302, 307, 404, 199 + 200, None])
async def test_the_cursor_moves_only_on_success(running: Api, hooks: WebhookServer, failure: int | None) -> None:
    hooks.script = [failure, failure]
    hook = await create(running, hooks.url)
    await running.publish("one")
    first, second, third = await hooks.taken(3)
    assert first.texts == second.texts == third.texts == ["one"]
    shown = await settled(running, hook, cursor=1, failures=0, state="active")
    assert shown["error"] is None
    assert len(hooks.deliveries) == 3


async def test_what_came_meanwhile_joins_the_next_try(running: Api, hooks: WebhookServer) -> None:
    hooks.script, hooks.delay = [500], 0.1
    await create(running, hooks.url)
    await running.publish("one")
    await hooks.taken(1)
    await running.publish("two")
    assert [one.texts for one in await hooks.taken(2)] == [["one"], ["one", "two"]]


async def test_a_pause_after_too_many_failures_and_its_end(running: Api, hooks: WebhookServer) -> None:
    hooks.script = [500, 501, 502, 503]
    hook = await create(running, hooks.url)
    await running.publish("one")
    shown = await settled(running, hook, state="paused")
    assert shown["failures"] == 4
    assert shown["error"] == "the server answered 503"
    assert shown["cursor"] == 0
    assert shown["lag"] == 1
    assert shown["next_try"] is None
    await running.publish("two")
    await asyncio.sleep(0.05)
    assert len(hooks.deliveries) == 4
    answer = await running.client.post(f"/v1/webhooks/{hook['id']}/resume")
    assert answer.json()["state"] == "active"
    assert (await hooks.taken(5))[4].texts == ["one", "two"]
    await settled(running, hook, cursor=2, error=None)


async def test_gone_is_believed_at_once(running: Api, hooks: WebhookServer) -> None:
    hooks.script = [410]
    hook = await create(running, hooks.url)
    await running.publish("one")
    assert (await settled(running, hook, state="paused"))["error"] == "the server answered 410"
    assert len(hooks.deliveries) == 1


async def test_a_server_that_never_answers(running: Api, hooks: WebhookServer) -> None:
    hooks.script = [0]
    hook = await create(running, hooks.url)
    await running.publish("one")
    await hooks.taken(2)
    await settled(running, hook, cursor=1)


async def test_nobody_listens(running: Api, hooks: WebhookServer) -> None:
    hook = await create(running, "http://127.0.0.1:1/x?secret=of-the-hook")
    await running.publish("one")
    shown = await settled(running, hook, state="paused")
    assert shown["error"] == "the server could not be reached"


async def test_one_that_fails_holds_up_no_other(running: Api, hooks: WebhookServer) -> None:
    await create(running, "http://127.0.0.1:1/")
    await create(running, hooks.url)
    await running.publish("one")
    assert (await hooks.taken(1))[0].texts == ["one"]


async def test_only_so_many_deliveries_at_once(running: Api, hooks: WebhookServer) -> None:
    hooks.delay = 0.05
    for _ in range(10):
        await create(running, hooks.url)
    await running.publish("one")
    await hooks.taken(10)
    assert hooks.most_at_once == 4


# --- restarts ---------------------------------------------------------------------------------------------------------


async def again(api: Api) -> Webhooks:
    """What a node that starts on the same directory has, whatever the one before was about to write."""
    store = api.store
    return await Webhooks.open(
        store.database, store.log, store.live, version="1", now=api.clock, random=lambda: 0.0, patience=Patience()
    )


async def test_a_restart_goes_on_after_what_was_acknowledged(api: Api, hooks: WebhookServer) -> None:
    async with api.services.webhooks.running():
        hook = await create(api, hooks.url)
        await api.publish("one")
        await settled(api, hook, cursor=1)
        await hooks.taken(1)
    await api.publish("two")
    later = await again(api)
    async with later.running():
        assert (await hooks.taken(2))[1].texts == ["two"]
    shown = later.get(hook["id"])
    assert shown is not None
    assert (shown.url, shown.secret) == (hooks.url, hook["secret"])


async def test_what_was_not_acknowledged_at_a_crash_comes_again(api: Api, hooks: WebhookServer) -> None:
    hooks.script = [204, 0]
    async with api.services.webhooks.running():
        hook = await create(api, hooks.url)
        await api.publish("one")
        await settled(api, hook, cursor=1)
        await api.publish("two")
        await hooks.taken(2)
        later = await again(api)  # as after a kill: nothing was closed
        async with later.running():
            assert [one.texts for one in (await hooks.taken(3))[:3]] == [["one"], ["two"], ["two"]]


async def test_failures_and_pauses_outlive_a_restart(api: Api, hooks: WebhookServer) -> None:
    hooks.script = [500, 500, 500, 500]
    async with api.services.webhooks.running():
        hook = await create(api, hooks.url)
        await api.publish("one")
        await settled(api, hook, state="paused")
    later = await again(api)
    async with later.running():
        await asyncio.sleep(0.05)
        kept = later.get(hook["id"])
        assert kept is not None
        assert kept.progress.paused
        assert kept.progress.error == "the server answered 500"
        assert len(hooks.deliveries) == 4
        await later.resume(hook["id"])
        await hooks.taken(5)


async def test_a_deleted_one_stays_deleted(api: Api, hooks: WebhookServer) -> None:
    async with api.services.webhooks.running():
        hook = await create(api, hooks.url)
        assert (await api.client.delete(f"/v1/webhooks/{hook['id']}")).status_code == 204
        await api.publish("one")
        await asyncio.sleep(0.05)
    for request in (api.client.get, api.client.delete):
        assert code(await request(f"/v1/webhooks/{hook['id']}")) == "webhook-not-found"
    assert code(await api.client.post(f"/v1/webhooks/{hook['id']}/resume")) == "webhook-not-found"
    assert (await again(api)).all() == []
    assert hooks.deliveries == []


# --- orders -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": 1},
        {"url": ""},
        {"url": "example.com"},
        {"url": "ftp://example.com/"},
        {"url": "file:///etc/passwd"},
        {"url": "http://"},
        {"url": "http:///x"},
        {"url": "http://me:secret@example.com/"},
        {"url": "http://example.com/#x"},
        {"url": "http://example.com:99999/"},
        {"url": "http://example.com/ x"},
        {"url": "http://exämple.com/"},
        {"url": "http://[::1/"},
        {"url": "http://example.com/" + "x" * 2048},
        {"url": "http://x/", "filter": []},
        {"url": "http://x/", "filter": {"private": True}},
        {"url": "http://x/", "filter": {"types": []}},
        {"url": "http://x/", "filter": {"types": "post"}},
        {"url": "http://x/", "filter": {"types": [1]}},
        {"url": "http://x/", "filter": {"types": ["\ud800"]}},
        {"url": "http://x/", "filter": {"channel": ""}},
        {"url": "http://x/", "filter": {"channel": {}}},
        {"url": "http://x/", "secret": "short"},
        {"url": "http://x/", "secret": "é" * 20},
        {"url": "http://x/", "since": -1},
        {"url": "http://x/", "since": True},
        {"url": "http://x/", "since": 2**64},
        {"url": "http://x/", "more": 1},
    ],
)
@IN_MODULE
async def test_orders_that_do_not_fit(shared: Api, body: dict[str, Any]) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await shared.client.post("/v1/webhooks", content=json.dumps(body), headers=headers)
    assert answer.status_code == 422, answer.text
    assert code(answer) == "invalid-body"
    assert (await shared.client.get("/v1/webhooks")).json()["items"] == []


@pytest.mark.parametrize("rules", [{"feeds": ["x"]}, {"mentions": "x"}, {"root": FEED}])
@IN_MODULE
async def test_ids_that_are_none(shared: Api, rules: dict[str, Any]) -> None:
    answer = await shared.client.post("/v1/webhooks", json={"url": "http://x/", "filter": rules})
    assert code(answer) == "invalid-id"


async def test_there_are_only_so_many(api: Api) -> None:
    for _ in range(MAX_WEBHOOKS):
        await create(api, "http://127.0.0.1:1/")
    answer = await api.client.post("/v1/webhooks", json={"url": "http://127.0.0.1:1/"})
    assert code(answer) == "too-many-webhooks"


async def test_a_secret_of_ones_own_and_a_start_beyond_the_end(running: Api, hooks: WebhookServer) -> None:
    hook = await create(running, hooks.url, secret="0123456789abcdef", since=10**6)
    assert hook["secret"] == "0123456789abcdef"
    assert hook["cursor"] == 0
    await running.publish("one")
    (delivery,) = await hooks.taken(1)
    expected = hmac.new(b"0123456789abcdef", delivery.body, hashlib.sha256).hexdigest()
    assert delivery.headers["x-sbot-signature"] == f"sha256={expected}"
