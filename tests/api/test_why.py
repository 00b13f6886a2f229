"""`GET /v1/why/{id}`: the spellings of ids; what it answers is in tests/replication/test_explaining.py."""

from urllib.parse import quote

import pytest

from api.models import Why
from tests.api.test_access import code
from tests.support import builders
from tests.support.api import Api

IN_MODULE = pytest.mark.asyncio(loop_scope="module")

FRIEND = builders.keypair("friend").id
SAFE = FRIEND[1:-8].replace("+", "-").replace("/", "_")


@pytest.mark.parametrize(
    ("spelling", "id"),
    [
        (quote(FRIEND, safe=""), FRIEND),
        (f"ssb:feed/ed25519/{SAFE}", FRIEND),
        (quote(builders.message_id(1), safe=""), builders.message_id(1)),
        (quote(builders.message_id(1) + "?unbox=AAAA", safe=""), builders.message_id(1)),
        (quote(builders.blob_id(1), safe=""), builders.blob_id(1)),
    ],
)
@IN_MODULE
async def test_every_kind_of_id(shared: Api, spelling: str, id: str) -> None:
    answer = await shared.client.get(f"/v1/why/{spelling}")
    assert Why.model_validate(answer.json()).id == id


@pytest.mark.parametrize("text", ["nonsense", SAFE, "@x", "%25", "ssb:feed/ed25519/x"])
@IN_MODULE
async def test_what_is_no_id(shared: Api, text: str) -> None:
    assert code(await shared.client.get(f"/v1/why/{text}")) == "invalid-id"


async def test_a_bare_id_is_of_what_is_here(api: Api) -> None:
    """It does not say its kind: what the node has decides."""
    (message,) = await api.publish("hello")
    blob = (await api.client.post("/v1/blobs", content=b"blob")).json()["id"]
    me = (await api.client.get("/v1/whoami")).json()["id"]
    for id in (message, blob, me):
        bare = id[1:].partition(".")[0].replace("+", "-").replace("/", "_")
        for spelling in (bare, quote(bare), bare.rstrip("=")):
            assert (await api.client.get(f"/v1/why/{spelling}")).json()["id"] == id
