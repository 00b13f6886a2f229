"""Invites between our node and ssb-server 16, whose ssb-invite plugin made the codes what they are."""

import asyncio

import pytest

from replication.address import parse_invite
from tests.interop.conftest import Lab


@pytest.mark.parametrize("modern", [False, True])
async def test_ssb_server_redeems_our_invite(lab: Lab, modern: bool) -> None:
    peer, ours = await asyncio.gather(lab.js("server", invites=True), lab.ours())
    body = {"external": "127.0.0.1", "note": "from us", "modern": modern}
    code = (await ours.request("POST", "/v1/invites", json=body)).json()["invite"]
    published = await peer.ask("invite.accept", code, on=None)
    assert {message["value"]["content"]["type"] for message in published} == {"contact", "pub"}
    (follow,) = (await ours.request("GET", "/v1/messages", params={"type": "contact", "author": ours.id})).json()[
        "items"
    ]
    assert follow["value"]["content"] == {
        "type": "contact",
        "contact": peer.id,
        "following": True,
        "pub": True,
        "note": "from us",
    }
    (kept,) = (await ours.request("GET", "/v1/invites")).json()["items"]
    assert (kept["used"], kept["state"]) == (1, "used-up")
    await peer.dial(ours.address)
    await asyncio.gather(ours.reach({peer.id: 2}, timeout=10), peer.reach({ours.id: 1}, timeout=10))


async def test_we_redeem_an_invite_of_ssb_server(lab: Lab) -> None:
    peer, ours = await asyncio.gather(lab.js("server", invites=True), lab.ours())
    code = await peer.ask("invite.create", {"uses": 2, "note": "from them"}, on=None)
    assert parse_invite(code).key == peer.id
    joined = (await ours.request("POST", "/v1/invites/accept", json={"invite": code})).json()
    assert (joined["pub"], joined["already"], len(joined["messages"])) == (peer.id, False, 2)
    await asyncio.gather(peer.reach({ours.id: 2}, timeout=15), ours.reach({peer.id: 1}, timeout=15))
    (follow,) = (await ours.request("GET", "/v1/messages", params={"type": "contact", "author": peer.id})).json()[
        "items"
    ]
    assert follow["value"]["content"]["contact"] == ours.id
    assert follow["value"]["content"]["pub"] is True
    again = (await ours.request("POST", "/v1/invites/accept", json={"invite": code})).json()
    assert (again["already"], again["messages"]) == (True, [])
