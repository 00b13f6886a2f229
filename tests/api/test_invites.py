"""Invites over HTTP: made, listed, shown as a picture, revoked, and what is refused."""

from urllib.parse import quote
from xml.etree import ElementTree

import pytest

from replication.address import parse_invite
from tests.api.test_access import code
from tests.support.api import Api


async def make(api: Api, **body: object) -> dict[str, object]:
    answer = await api.client.post("/v1/invites", json={"external": "pub.example.org", **body})
    assert answer.status_code == 201, answer.text
    made: dict[str, object] = answer.json()
    return made


async def test_an_invite_is_made_listed_and_revoked(api: Api) -> None:
    made = await make(api, uses=3, note="party", expires_in=60)
    read = parse_invite(str(made["invite"]))
    assert (read.host, read.port, read.key) == ("pub.example.org", 8008, api.services.me)
    listed = (await api.client.get("/v1/invites")).json()["items"]
    assert listed == [{name: value for name, value in made.items() if name != "invite"}]
    assert (listed[0]["uses"], listed[0]["used"], listed[0]["note"], listed[0]["state"]) == (3, 0, "party", "open")
    assert listed[0]["expires"] - listed[0]["created"] == 60_000
    path = f"/v1/invites/{quote(str(made['id']), safe='')}"
    assert (await api.client.delete(path)).status_code == 204
    assert code(await api.client.delete(path)) == "invite-not-found"
    assert [item["state"] for item in (await api.client.get("/v1/invites")).json()["items"]] == ["revoked"]


async def test_the_modern_form(api: Api) -> None:
    assert str((await make(api, modern=True, external="[2001:db8::7]:99"))["invite"]).startswith(
        "net:2001!:db8!:!:7:99~shs:"
    )


async def test_without_an_address_the_way_out_is_named(api: Api) -> None:
    answer = await api.client.post("/v1/invites", json={})
    assert (answer.status_code, code(answer)) == (409, "no-public-address")
    assert "--external" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [{"uses": 0}, {"uses": True}, {"uses": 10**6}, {"note": "x" * 301}, {"expires_in": -1}, {"modern": 1}, {"use": 2}],
)
async def test_what_does_not_fit_is_refused(api: Api, body: dict[str, object]) -> None:
    answer = await api.client.post("/v1/invites", json={"external": "pub.example.org", **body})
    assert code(answer) == "invalid-body"


async def test_a_code_as_a_picture(api: Api) -> None:
    made = await make(api)
    answer = await api.client.post("/v1/invites/qr", json={"invite": made["invite"]})
    assert answer.headers["content-type"].startswith("image/svg+xml")
    assert ElementTree.fromstring(answer.text).tag.endswith("svg")
    assert code(await api.client.post("/v1/invites/qr", json={"invite": "hello"})) == "invalid-invite"


async def test_redeeming_what_is_none_or_leads_nowhere(api: Api) -> None:
    for text in ("hello", "net:pub.example.org:8008~shs:AAAA", str((await make(api))["invite"])):
        assert code(await api.client.post("/v1/invites/accept", json={"invite": text})) == "invalid-invite"
    for body in ({"invite": ""}, {"invite": 7}, {"code": "x"}, {"invite": "x" * 2001}):
        assert code(await api.client.post("/v1/invites/accept", json=body)) == "invalid-body"
    key = "A" * 43 + "="
    elsewhere = f"pub.example.org:8008:@{key}.ed25519~{key}"
    assert code(await api.client.post("/v1/invites/accept", json={"invite": elsewhere})) == "handshake-failed"


async def test_inviting_needs_admin(api: Api) -> None:
    token = (await api.client.post("/v1/tokens", json={"name": "p", "scopes": ["read", "publish"]})).json()["token"]
    async with api.stranger(Authorization=f"Bearer {token}") as client:
        assert code(await client.get("/v1/invites")) == "insufficient-scope"
        assert code(await client.post("/v1/invites", json={})) == "insufficient-scope"
