"""Replication as the API shows it, and asking for a feed by hand."""

from urllib.parse import quote

import pytest

from api.models import FeedReplication, Preview, Replication
from tests.api.test_access import code
from tests.support import builders
from tests.support.api import Api

IN_MODULE = pytest.mark.asyncio(loop_scope="module")

FRIEND = builders.keypair("friend").id


@IN_MODULE
async def test_the_overview(shared: Api) -> None:
    Replication.model_validate((await shared.client.get("/v1/replication")).json())


@IN_MODULE
async def test_one_feed_in_every_spelling(shared: Api) -> None:
    bare = FRIEND[1:-8].replace("+", "-").replace("/", "_")
    for spelling in (quote(FRIEND, safe=""), f"ssb:feed/ed25519/{bare}", bare):
        answer = await shared.client.get(f"/v1/replication/{spelling}")
        assert FeedReplication.model_validate(answer.json()).feed == FRIEND
    assert code(await shared.client.get("/v1/replication/nonsense")) == "invalid-id"


@IN_MODULE
async def test_the_preview(shared: Api) -> None:
    Preview.model_validate((await shared.client.get("/v1/replication/preview?hops=4")).json())
    for query in ("", "?hops=33", "?hops=-1", "?hops=x"):
        assert code(await shared.client.get(f"/v1/replication/preview{query}")) == "invalid-parameter"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
@IN_MODULE
async def test_the_order_cannot_be_read(shared: Api, method: str) -> None:
    answer = await shared.client.request(method, "/v1/replication/request")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("replicate", [True, False])
async def test_asking_by_hand(api: Api, replicate: bool) -> None:
    body = {"feed": FRIEND[1:-8].replace("+", "-").replace("/", "_"), "replicate": replicate}
    answer = await api.client.post("/v1/replication/request", json=body)
    assert answer.status_code == 200
    assert answer.json() == {"feed": FRIEND, "replicate": replicate}
    assert api.replication.requests == {FRIEND: replicate}


@pytest.mark.parametrize(
    ("body", "status", "problem"),
    [
        ({"feed": FRIEND}, 422, "invalid-body"),
        ({"replicate": True}, 422, "invalid-body"),
        ({"feed": FRIEND, "replicate": 1}, 422, "invalid-body"),
        ({"feed": FRIEND, "replicate": "true"}, 422, "invalid-body"),
        ({"feed": 7, "replicate": True}, 422, "invalid-body"),
        ({"feed": FRIEND, "replicate": True, "hops": 3}, 422, "invalid-body"),
        ({"feed": "x", "replicate": True}, 400, "invalid-id"),
        ({"feed": builders.message_id(1), "replicate": True}, 400, "invalid-id"),
    ],
)
@IN_MODULE
async def test_requests_of_other_shapes(shared: Api, body: dict[str, object], status: int, problem: str) -> None:
    answer = await shared.client.post("/v1/replication/request", json=body)
    assert answer.status_code == status
    assert code(answer) == problem
    assert shared.replication.requests == {}


async def test_our_own_feed_cannot_be_refused(api: Api) -> None:
    answer = await api.client.post("/v1/replication/request", json={"feed": api.me, "replicate": False})
    assert code(answer) == "invalid-body"
    assert (
        await api.client.post("/v1/replication/request", json={"feed": api.me, "replicate": True})
    ).status_code == 200
