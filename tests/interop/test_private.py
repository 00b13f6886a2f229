"""box1 with both JavaScript stacks: what they encrypt for us we read, what we encrypt for them they read."""

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from feeds.private.key_ring import KeyRing
from node import keyfile
from tests.interop.conftest import Lab
from tests.interop.js_peer import JsPeer, Stack
from tests.interop.our_node import OurNode
from tests.interop.test_bulk import join
from tests.interop.test_live import arrived, each_wants_the_other
from tests.support import builders

TEXTS = ("psst", "naïve café 日本語 🎉 \u2028", "x" * 3000)
CROWD = [builders.keypair(f"one of a crowd {number}").id for number in range(5)]


async def plain(ours: OurNode, message: str) -> dict[str, Any]:
    """A message as our API gives it to whoever asks for it decrypted."""
    answer = await ours.request("GET", f"/v1/messages/{quote(message, safe='')}", params={"private": 1})
    shown: dict[str, Any] = answer.json()
    assert shown["meta"] == {"private": True}
    return shown


async def opened_by(peer: JsPeer, message: str) -> Any:
    """The content as the peer's own stack decrypts it."""
    if peer.stack == "server":
        return (await peer.ask("get", {"id": message, "private": True, "meta": True}, on=None))["value"]["content"]
    return (await peer.ask("db.getMsg", message, on=None))["value"]["content"]


async def send(peer: JsPeer, text: str, recps: list[str]) -> dict[str, Any]:
    return await peer.publish({"type": "post", "text": text, "recps": recps}, recps=recps)


@pytest.mark.parametrize("stack", ["server", "db2"])
async def test_private_messages_both_ways(lab: Lab, stack: Stack) -> None:
    peer, ours = await asyncio.gather(lab.js(stack), lab.ours())
    await each_wants_the_other(ours, peer)
    await join("we dial", ours, peer)
    for number, text in enumerate(TEXTS):
        theirs = await send(peer, text, [ours.id, peer.id])
        await ours.reach({peer.id: number + 1}, timeout=10)
        shown = await plain(ours, theirs["key"])
        assert shown["value"]["content"] == {"type": "post", "text": text, "recps": [ours.id, peer.id]}
        stored = await ours.request("GET", f"/v1/messages/{quote(theirs['key'], safe='')}")
        assert stored.json()["value"]["content"].endswith(".box")

        content = {"type": "post", "text": text}
        answer = await ours.request("POST", "/v1/messages", json={"content": content, "recps": [peer.id]})
        message = answer.json()
        assert message["value"]["content"].endswith(".box")
        await arrived(peer, message["key"])
        assert await opened_by(peer, message["key"]) == {**content, "recps": [peer.id, ours.id]}
        assert (await plain(ours, message["key"]))["value"]["content"]["text"] == text
    private = await ours.request("GET", "/v1/messages", params={"private": 1, "order": "asc"})
    texts = [item["value"]["content"]["text"] for item in private.json()["items"]]
    assert texts == [text for text in TEXTS for _ in range(2)]
    threads = (await ours.request("GET", "/v1/private")).json()["items"]
    assert len(threads) == 2 * len(TEXTS)
    assert await ours.digest() == await peer.digest()


@pytest.mark.parametrize("stack", ["server", "db2"])
async def test_seven_recipients(lab: Lab, stack: Stack) -> None:
    peer, ours = await asyncio.gather(lab.js(stack), lab.ours())
    await each_wants_the_other(ours, peer)
    await join("they dial", ours, peer)
    theirs = await send(peer, "to seven", [*CROWD, peer.id, ours.id])
    await ours.reach({peer.id: 1}, timeout=10)
    assert len((await plain(ours, theirs["key"]))["value"]["content"]["recps"]) == 7
    body = {"content": {"type": "post", "text": "to seven"}, "recps": [*CROWD, peer.id]}
    message = (await ours.request("POST", "/v1/messages", json=body)).json()
    await arrived(peer, message["key"])
    assert (await opened_by(peer, message["key"]))["recps"] == [*CROWD, peer.id, ours.id]
    # Whoever is not among them reads nothing.
    others = await send(peer, "not for us", [*CROWD, peer.id])
    await ours.reach({peer.id: 2}, timeout=10)
    shown = await ours.request("GET", f"/v1/messages/{quote(others['key'], safe='')}", params={"private": 1})
    assert "meta" not in shown.json()


async def test_released_keys(lab: Lab) -> None:
    """What ssb-server gives away for an ?unbox= link opens the message here, and the other way round."""
    peer, ours = await asyncio.gather(lab.js("server"), lab.ours())
    await each_wants_the_other(ours, peer)
    await join("we dial", ours, peer)
    theirs = await send(peer, "released later", [peer.id])
    await ours.reach({peer.id: 1}, timeout=10)
    released = (await peer.ask("get", {"id": theirs["key"], "private": True, "meta": True}, on=None))["value"]["unbox"]
    path = f"/v1/messages/{quote(theirs['key'], safe='')}"
    shown = await ours.request("GET", path, params={"unbox": released})
    assert shown.json()["value"]["content"]["text"] == "released later"

    body = {"content": {"type": "post", "text": "mine"}, "recps": [ours.id]}
    message = (await ours.request("POST", "/v1/messages", json=body)).json()
    keys = keyfile.load(ours.path / "secret")
    assert keys is not None
    opened = KeyRing([keys]).open(message["value"]["content"])
    assert opened is not None
    await arrived(peer, message["key"])
    there = await peer.ask("get", f"{message['key']}?unbox={opened.unbox}", on=None)
    assert there["content"]["text"] == "mine"
