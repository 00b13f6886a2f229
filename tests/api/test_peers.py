"""Peers: the list, dialling with every outcome, hanging up."""

from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest

from api.models import KnownPeerList, PeerList
from replication.errors import DialFailed, DialTimeout, HandshakeFailed, InvalidAddress, ReplicationError
from replication.peer_info import Direction, KnownPeer, PeerState
from tests.api.test_access import code
from tests.support import builders
from tests.support.api import Api, peer_info

IN_MODULE = pytest.mark.asyncio(loop_scope="module")

FRIEND = builders.keypair("friend").id
ADDRESS = "net:192.168.1.7:8008~shs:" + FRIEND[1:-8]


async def test_the_list(api: Api) -> None:
    api.peers.known = [
        peer_info(FRIEND, since=2, replication="ebt", bytes_in=10, redial_in=1.5),
        peer_info(
            builders.keypair("b").id, since=1, direction=Direction.INCOMING, state=PeerState.DISCONNECTED, error="gone"
        ),
        peer_info(builders.keypair("c").id, since=3, state=PeerState.DIALLING, failures=2),
    ]
    items = PeerList.model_validate((await api.client.get("/v1/peers")).json()).items
    assert [peer.since for peer in items] == [1, 2, 3]
    assert [peer.state for peer in items] == ["disconnected", "connected", "dialling"]
    first = (await api.client.get("/v1/peers?limit=2&order=desc")).json()
    second = (await api.client.get("/v1/peers", params={"order": "desc", "cursor": first["next"]})).json()
    assert [peer["since"] for peer in first["items"] + second["items"]] == [3, 2, 1]
    status = (await api.client.get("/v1/status")).json()
    assert status["peers"] == {"connected": 1, "known": 3}


async def test_dialling(api: Api) -> None:
    api.peers.answer = peer_info(FRIEND)
    answer = await api.client.post("/v1/peers", json={"address": ADDRESS})
    assert answer.status_code == 200
    assert answer.json() == {"id": FRIEND, "state": "connected", "address": ADDRESS}
    assert api.peers.dialled == [ADDRESS]


@pytest.mark.parametrize(
    ("failure", "status", "problem"),
    [
        (InvalidAddress("no port in 'net:x'"), 400, "invalid-address"),
        (HandshakeFailed("hello", "the peer closed the connection"), 502, "handshake-failed"),
        (DialFailed("connect", "connection refused"), 502, "handshake-failed"),
        (DialTimeout("connect", "no answer within 15 seconds"), 504, "dial-timeout"),
        (ReplicationError("something nobody thought of"), 500, "internal-error"),
    ],
)
async def test_dialling_in_vain(api: Api, failure: ReplicationError, status: int, problem: str) -> None:
    api.peers.failure = failure
    answer = await api.client.post("/v1/peers", json={"address": ADDRESS})
    assert answer.status_code == status
    assert code(answer) == problem
    if isinstance(failure, DialFailed):
        assert (answer.json()["step"], answer.json()["reason"]) == (failure.step, failure.reason)
    if status == 500:
        assert "nobody thought of" not in answer.text


@pytest.mark.parametrize(
    "body", ["{}", '{"address":1}', '{"address":null}', '{"address":["x"]}', '{"address":"x","port":1}', "[]", "7"]
)
@IN_MODULE
async def test_bodies_of_other_shapes(shared: Api, body: str) -> None:
    answer = await shared.client.post("/v1/peers", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert code(answer) == "invalid-body"
    assert not shared.peers.dialled


async def test_hanging_up(api: Api) -> None:
    api.peers.known = [peer_info(FRIEND)]
    path = f"/v1/peers/{quote(FRIEND, safe='')}"
    answer = await api.client.delete(path)
    assert answer.status_code == 204
    assert answer.content == b""
    assert api.peers.known == []
    assert code(await api.client.delete(path)) == "peer-not-found"
    assert code(await api.client.delete("/v1/peers/x")) == "invalid-id"


async def test_known_addresses_and_what_becomes_of_them(api: Api) -> None:
    def known(name: str, heard: int, **more: Any) -> KnownPeer:
        peer = builders.keypair(name).id
        plain = KnownPeer(
            id=peer,
            address=f"net:{name}.example:8008~shs:{peer[1:-8]}",
            source="pub",
            kind="pub",
            origin=FRIEND,
            group="pub",
            autoconnect=False,
            staged=False,
            state=PeerState.DISCONNECTED,
            hops=None,
            failures=3,
            first_heard=heard,
            last_success=None,
            last_failure=9,
            next_try=20,
            error="connect: refused",
            decision="wait",
            reason="back-off after 3 failures in a row",
            decided=9,
        )
        return replace(plain, **more)

    api.peers.addresses = [known("b", 2), known("a", 1, kind="lan", group="lan", staged=True, decision="dial")]
    items = KnownPeerList.model_validate((await api.client.get("/v1/peers/known")).json()).items
    assert [(each.first_heard, each.group, each.staged) for each in items] == [(1, "lan", True), (2, "pub", False)]
    assert items[1].reason == "back-off after 3 failures in a row"
    newest = (await api.client.get("/v1/peers/known?order=desc&limit=1")).json()
    assert [each["first_heard"] for each in newest["items"]] == [2]
    assert newest["next"]
