"""Anything pasted, over HTTP: what it is, and whether it is here."""

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api import models
from api.pasted import read_pasted
from feeds.refs import BlobRef, FeedRef, MessageRef
from tests.api.test_access import code
from tests.support.api import Api
from tests.support.builders import keypair, message_id

ANN = keypair("ann").id
KEY = ANN[1:-8]
SEED = "A" * 43 + "="
MESSAGE = message_id(1)
NET = f"net:example.com:8008~shs:{KEY}"


async def ask(api: Api, ref: str) -> dict[str, Any]:
    answer = await api.client.get("/v1/resolve", params={"ref": ref})
    assert answer.status_code == 200, answer.text
    models.Resolved.model_validate(answer.json())
    found: dict[str, Any] = answer.json()
    return found


async def test_every_spelling_of_an_id_and_whether_it_is_here(api: Api) -> None:
    (message,) = await api.publish("x")
    blob = (await api.services.blobs.add(b"blob")).id
    for id, ref, kind in (
        (message, MessageRef.parse(message), "message"),
        (api.me, FeedRef.parse(api.me), "feed"),
        (blob, BlobRef.parse(blob), "blob"),
    ):
        bare = ref.uri.rpartition("/")[2]
        link = f"https://viewer.example/{quote(id, safe='')}"
        for text in (id, f" {id}\n", quote(id, safe=""), ref.uri, ref.uri.replace("ssb:", "ssb://"), bare, link):
            found = await ask(api, text)
            assert (found["kind"], found["id"], found["uri"], found["held"]) == (kind, id, ref.uri, True), text
    assert (await ask(api, f"{message}?unbox=x"))["id"] == message
    answer = await api.client.get(f"/v1/resolve?ref={api.me}")  # with its + as it is
    assert answer.json()["id"] == api.me


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ANN, {"kind": "feed", "id": ANN, "held": False}),
        (MESSAGE, {"kind": "message", "id": MESSAGE, "held": False}),
        (KEY.replace("+", "-").replace("/", "_"), {"kind": "id", "id": None, "held": False}),
        (NET, {"kind": "address", "id": ANN, "address": NET, "host": "example.com"}),
        (f"example.com:8008:{ANN}", {"kind": "address", "id": ANN, "host": "example.com"}),
        (f"example.com:8008:{ANN}~{SEED}", {"kind": "invite", "id": ANN, "address": NET}),
        (f"{NET}:{SEED}", {"kind": "invite", "id": ANN, "address": NET}),
        (f"ssb:address/multiserver?multiserverAddress={quote(NET)}", {"kind": "address", "id": ANN}),
        (
            f"ssb:experimental?action=consume-alias&alias=ann&userId={quote(ANN)}&multiserverAddress={quote(NET)}",
            {"kind": "alias", "alias": "ann", "id": ANN, "address": NET, "action": "consume-alias"},
        ),
        ("ssb:experimental?action=claim-http-invite&invite=x", {"kind": "room-invite"}),
        ("ssb:nonsense", {"kind": "unknown-uri", "id": None, "held": None}),
        ("https://ann.room.example", {"kind": "alias-link", "alias": "ann", "host": "room.example"}),
        ("https://room.example/ann", {"kind": "alias-link", "alias": "ann", "host": "room.example"}),
        ("https://room.example/join?token=abc", {"kind": "room-invite", "host": "room.example"}),
        ("https://example.com/a/b?c=d", {"kind": "web-link", "host": "example.com"}),
        ("http://[::1", {"kind": "unknown"}),
        ("#New-People!", {"kind": "channel", "alias": "new-people"}),
        (f"look at {MESSAGE} there", {"kind": "message", "id": MESSAGE}),
        ("hello", {"kind": "unknown", "id": None, "held": None}),
        (NET.replace("+", " "), {"kind": "address", "id": ANN}),
        (NET.replace("net:", "net:ex ample."), {"kind": "unknown"}),
        (f"localhost:65537:{ANN}~{SEED}", {"kind": "feed", "id": ANN}),
        ("", {"kind": "unknown"}),
    ],
)
async def test_what_is_pasted(api: Api, text: str, expected: dict[str, Any]) -> None:
    found = await ask(api, text)
    assert {name: found[name] for name in expected} == expected
    assert SEED not in str(found)


async def test_nothing_and_too_much(api: Api) -> None:
    assert code(await api.client.get("/v1/resolve")) == "invalid-parameter"
    assert code(await api.client.get("/v1/resolve", params={"ref": "x" * 5000})) == "invalid-parameter"


PIECES = [
    "ssb:",
    "experimental?",
    "action=",
    "net:",
    "~shs:",
    KEY,
    "@",
    ANN,
    "%25",
    "https://",
    "[",
    ":",
    "#",
    "/",
    "?",
    "\0",
]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40) | st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_any_text_may_come(text: str) -> None:
    assert read_pasted(text).kind
