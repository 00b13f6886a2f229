"""Idempotency-Key: one message a key and day, whatever happens in between."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from api.idempotency import KEPT_SECONDS
from feeds.log import Entry
from tests.api.test_access import code
from tests.support.api import Api, open_api

IN_MODULE = pytest.mark.asyncio(loop_scope="module")

BODY = {"content": {"type": "post", "text": "once"}}
KEY = {"Idempotency-Key": "one"}


async def test_the_first_answer_is_given_again(api: Api) -> None:
    first = await api.client.post("/v1/messages", json=BODY, headers=KEY)
    assert first.status_code == 201
    assert "idempotency-replayed" not in first.headers
    await api.publish("something else meanwhile")
    again = await api.client.post("/v1/messages", json=BODY, headers=KEY)
    assert again.status_code == 201
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["idempotency-replayed"] == "true"
    assert api.store.log.position == 2


async def test_other_keys_are_other_messages(api: Api) -> None:
    answers = [await api.client.post("/v1/messages", json=BODY, headers={"Idempotency-Key": key}) for key in "ab"]
    assert answers[0].json()["key"] != answers[1].json()["key"]
    assert api.store.log.position == 2


async def test_the_same_key_with_another_body(api: Api) -> None:
    await api.client.post("/v1/messages", json=BODY, headers=KEY)
    answer = await api.client.post("/v1/messages", json={"content": {"type": "post", "text": "two"}}, headers=KEY)
    assert answer.status_code == 422
    assert code(answer) == "idempotency-key-reused"
    assert api.store.log.position == 1


async def test_many_at_once_publish_once(api: Api) -> None:
    answers = await asyncio.gather(*(api.client.post("/v1/messages", json=BODY, headers=KEY) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert api.store.log.position == 1
    assert api.store.log.sequence(api.me) == 1


async def test_many_at_once_with_other_bodies(api: Api) -> None:
    bodies = [{"content": {"type": "post", "text": str(number)}} for number in range(10)]
    answers = await asyncio.gather(*(api.client.post("/v1/messages", json=body, headers=KEY) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [201] + [422] * 9
    assert api.store.log.position == 1


async def test_over_a_restart(tmp_path: Path) -> None:
    async with open_api(tmp_path) as api:
        first = await api.client.post("/v1/messages", json=BODY, headers=KEY)
    async with open_api(tmp_path) as api:
        again = await api.client.post("/v1/messages", json=BODY, headers=KEY)
        assert again.content == first.content
        assert api.store.log.position == 1


async def test_for_a_day(api: Api) -> None:
    await api.client.post("/v1/messages", json=BODY, headers=KEY)
    api.clock.at += KEPT_SECONDS - 60
    await api.client.post("/v1/messages", json=BODY, headers=KEY)
    assert api.store.log.position == 1
    api.clock.at += 120
    answer = await api.client.post("/v1/messages", json=BODY, headers=KEY)
    assert "idempotency-replayed" not in answer.headers
    assert api.store.log.position == 2
    rows = api.store.database.peek(lambda connection: connection.execute("SELECT * FROM http_first_answer").fetchall())
    assert len(rows) == 1


async def test_a_replay_does_not_mind_the_condition(api: Api) -> None:
    headers = {**KEY, "If-Match": '"0"'}
    first = await api.client.post("/v1/messages", json=BODY, headers=headers)
    again = await api.client.post("/v1/messages", json=BODY, headers=headers)
    assert again.content == first.content


async def test_what_was_refused_uses_no_key(api: Api) -> None:
    refused = await api.client.post("/v1/messages", json=BODY, headers={**KEY, "If-Match": '"7"'})
    assert refused.status_code == 412
    await api.client.post("/v1/messages?dry_run=1", json=BODY, headers=KEY)
    other = {"content": {"type": "post", "text": "another"}}
    assert (await api.client.post("/v1/messages", json=other, headers=KEY)).status_code == 201


async def test_message_and_record_are_written_together_or_not_at_all(api: Api) -> None:
    def fail(connection: sqlite3.Connection, entry: Entry) -> None:
        assert connection.execute("SELECT count(*) FROM message").fetchone() == (1,)
        assert entry.sequence == 1
        raise LookupError("on purpose")

    with pytest.raises(LookupError, match="on purpose"):
        await api.store.ingest.publish({"type": "post"}, also=fail)
    assert api.store.log.position == 0
    assert await api.store.log.entries_after(0, 10) == []
    assert (await api.client.post("/v1/messages", json=BODY, headers=KEY)).json()["value"]["sequence"] == 1


@pytest.mark.parametrize("key", [b"", b" ", b"x" * 256, b"caf\xc3\xa9", b"a\x7fb"])
@IN_MODULE
async def test_keys_of_other_forms(shared: Api, key: bytes) -> None:
    answer = await shared.client.post("/v1/messages", json=BODY, headers=[(b"Idempotency-Key", key)])
    assert answer.status_code == 400
    assert code(answer) == "invalid-header"
    assert shared.store.log.position == 0
