"""Programs for the old sbot, on the npm package ssb-client: by socket and by port, all that they use works."""

import asyncio
import base64
import hashlib
from typing import Any

import pytest

from feeds.keys import Keypair
from tests.interop.conftest import Lab
from tests.interop.line_process import CommandFailed
from tests.interop.our_node import OurNode

OTHER = Keypair.generate(b"\x03" * 32).id
DATA = b"a blob \x00\xff" * 20_000
BLOB = f"&{base64.b64encode(hashlib.sha256(DATA).digest()).decode()}.sha256"
SOON = 0.6


class Program:
    """An attached program."""

    def __init__(self, process: Any) -> None:
        self._process = process

    async def ask(self, method: str, *args: Any, kind: str = "async", **more: Any) -> Any:
        return await self._process.call("call", method=method, args=args, kind=kind, **more)

    async def read(self, method: str, *args: Any, **more: Any) -> list[Any]:
        items: list[Any] = await self.ask(method, *args, kind="source", **more)
        return items


async def attach(lab: Lab, ours: OurNode, way: str) -> Program:
    process = await lab.program()
    remote = f"unix:{ours.path / 'socket'}~noauth" if way == "unix socket" else ours.address
    await process.call(
        "attach", dir=str(ours.path), remote=remote, networkKey=lab.network_key, ownManifest=way != "unix socket"
    )
    return Program(process)


@pytest.mark.parametrize("way", ["unix socket", "port, own key and manifest.json"])
async def test_a_program_for_the_old_sbot_attaches_and_works(lab: Lab, way: str) -> None:
    ours = await lab.ours()
    program = await attach(lab, ours, way)
    assert await program.ask("whoami") == {"id": ours.id}
    await _messages(program, ours)
    await _people(program, ours)
    await _private(program, ours)
    await _blobs(program)
    await _queries(program, ours)
    await _node(program, ours)


async def _messages(program: Program, ours: OurNode) -> None:
    ask, read = program.ask, program.read
    live = asyncio.create_task(read("createLogStream", {"live": True, "keys": True}, take=2))
    message = await ask("publish", {"type": "post", "text": "from an old program"})
    assert message["value"]["author"] == ours.id
    assert message["value"]["content"] == {"type": "post", "text": "from an old program"}
    assert (await ask("get", message["key"])) == message["value"]
    assert (await ask("get", {"id": message["key"], "meta": True})) == message
    vote = await ask("publish", {"type": "vote", "vote": {"link": message["key"], "value": 1}})
    assert await live == [message, vote]
    log = await read("createLogStream", {"limit": 10})
    assert [item["value"]["sequence"] for item in log] == [1, 2]
    newest = await read("createLogStream", {"reverse": True, "limit": 1})
    assert [item["value"]["sequence"] for item in newest] == [2]
    assert [item["value"]["sequence"] for item in await read("messagesByType", "vote")] == [2]
    assert [item["key"] for item in await read("messagesByType", {"type": "post"})] == [message["key"]]
    assert len(await read("createUserStream", {"id": ours.id})) == 2
    assert len(await read("createHistoryStream", {"id": ours.id, "seq": 2})) == 1
    assert len(await read("createFeedStream", {})) == 2
    links = await read("links", {"dest": message["key"], "values": True})
    assert [(link["dest"], link["key"], link["value"]) for link in links] == [
        (message["key"], vote["key"], vote["value"])
    ]
    assert await ask("getVectorClock") == {ours.id: 2}
    assert await ask("getLatest", ours.id) == vote
    assert await ask("latestSequence", ours.id) == 2
    assert [(line["id"], line["sequence"]) for line in await read("latest")] == [(ours.id, 2)]
    with pytest.raises(CommandFailed, match="not found"):
        await ask("get", "%" + "A" * 43 + "=.sha256")


async def _people(program: Program, ours: OurNode) -> None:
    ask, read = program.ask, program.read
    changes = asyncio.create_task(read("friends.stream", {"live": True, "old": False}, take=1))
    await asyncio.sleep(SOON)
    followed = await ask("friends.follow", OTHER, {})
    assert followed["value"]["content"] == {"type": "contact", "contact": OTHER, "following": True}
    assert await changes == [{ours.id: {OTHER: 1}}]
    assert await ask("friends.isFollowing", {"source": ours.id, "dest": OTHER}) is True
    assert await ask("friends.hops", {}) == {ours.id: 0, OTHER: 1}
    await asyncio.sleep(SOON)
    assert OTHER in {line["id"] for line in await read("replicate.upto", {})}
    assert (await read("friends.hopStream", {}))[0][OTHER] == 1
    await ask("friends.follow", OTHER, {"state": False})
    await ask("friends.block", OTHER, {})
    await asyncio.sleep(SOON)
    assert await ask("friends.isBlocking", {"source": ours.id, "dest": OTHER}) is True
    assert await ask("friends.isFollowing", {"source": ours.id, "dest": OTHER}) is False
    assert await ask("ebt.block", ours.id, OTHER, True) is True
    assert await ask("ebt.request", OTHER, False) is True
    assert (await ask("ebt.peerStatus", ours.id))["id"] == ours.id
    await ask("publish", {"type": "about", "about": ours.id, "name": "Ours"})
    await asyncio.sleep(SOON)
    assert await ask("names.getSignifier", ours.id) == "Ours"
    assert [one["id"] for one in await ask("names.getSignifies", "ours")] == [ours.id]
    assert await ask("about.socialValue", {"key": "name", "dest": ours.id}) == "Ours"


async def _private(program: Program, ours: OurNode) -> None:
    sent = await program.ask("private.publish", {"type": "post", "text": "secret"}, [ours.id])
    assert sent["value"]["content"].endswith(".box")
    assert (await program.ask("private.unbox", sent["value"]["content"]))["text"] == "secret"
    opened = await program.ask("get", {"id": sent["key"], "private": True})
    assert opened["content"]["text"] == "secret"
    assert [item["key"] for item in await program.read("private.read", {})] == [sent["key"]]


async def _blobs(program: Program) -> None:
    ask, read = program.ask, program.read
    assert await ask("blobs.has", BLOB) is False
    await ask("blobs.add", BLOB, kind="sink", base64=base64.b64encode(DATA).decode())
    assert await ask("blobs.has", BLOB) is True
    assert await ask("blobs.size", BLOB) == len(DATA)
    pieces = await read("blobs.get", BLOB)
    assert b"".join(base64.b64decode(piece["base64"]) for piece in pieces) == DATA
    (part,) = await read("blobs.getSlice", {"hash": BLOB, "start": 2, "end": 12})
    assert base64.b64decode(part["base64"]) == DATA[2:12]
    assert await read("blobs.ls") == [BLOB]
    assert await ask("blobs.want", BLOB) is True
    with pytest.raises(CommandFailed):
        await ask("blobs.add", "&" + "A" * 43 + "=.sha256", kind="sink", base64="AAAA")
    await ask("blobs.rm", BLOB)
    assert await ask("blobs.has", BLOB) is False


async def _queries(program: Program, ours: OurNode) -> None:
    ask, read = program.ask, program.read
    root = await ask("publish", {"type": "post", "text": "root of a thread"})
    reply = await ask("publish", {"type": "post", "text": "reply", "root": root["key"], "branch": root["key"]})
    await asyncio.sleep(SOON)
    thread = {"value": {"content": {"type": "post", "root": root["key"]}}}
    found = await read("query.read", {"query": [{"$filter": thread}], "reverse": True})
    assert [{name: item[name] for name in ("key", "value", "timestamp")} for item in found] == [reply]
    counted = [
        {"$filter": {"value": {"author": ours.id}}},
        {"$reduce": {"type": ["value", "content", "type"], "count": {"$count": True}}},
    ]
    rows = await read("query.read", {"query": counted})
    assert {row.get("type"): row["count"] for row in rows} == {"post": 3, "vote": 1, "contact": 3, "about": 1, None: 1}
    pointing = await read("backlinks.read", {"query": [{"$filter": {"dest": root["key"]}}], "index": "DTA"})
    assert [item["key"] for item in pointing] == [reply["key"]]
    assert [item["key"] for item in await read("tangles.thread", {"root": root["key"]})] == [root["key"], reply["key"]]
    assert [item["key"] for item in await read("search.query", {"query": "thread root"})] == [root["key"]]
    live = asyncio.create_task(read("query.read", {"query": [{"$filter": thread}], "old": False}, take=1))
    await asyncio.sleep(SOON)
    newer = await ask("publish", {"type": "post", "text": "later", "root": root["key"], "branch": reply["key"]})
    assert [item["key"] for item in await live] == [newer["key"]]


async def _node(program: Program, ours: OurNode) -> None:
    ask, read = program.ask, program.read
    status = await ask("status")
    assert status["sequence"] == len(await read("createUserStream", {"id": ours.id}))
    assert set((await ask("progress"))["ebt"]) == {"start", "current", "target"}
    assert await ask("address") is not None
    code = await ask("invite.create", {"uses": 1, "external": "pub.example.org"})
    assert code.startswith("pub.example.org:")
    with pytest.raises(CommandFailed):
        await ask("invite.accept", "nonsense")


async def test_a_program_for_the_old_sbot_sees_to_connections(lab: Lab) -> None:
    ours, peer = await asyncio.gather(lab.ours(), lab.ours())
    program = await attach(lab, ours, "unix socket")
    ask, read = program.ask, program.read
    events = asyncio.create_task(read("gossip.changes", take=2))
    assert await read("conn.peers", take=1) == [[]]
    assert await read("conn.stagedPeers", take=1) == [[]]
    connected = await ask("gossip.connect", peer.address)
    assert (connected["key"], connected["state"]) == (peer.id, "connected")
    ((line,),) = await read("conn.peers", take=1)
    assert line[1]["key"] == peer.id
    assert await ask("conn.disconnect", peer.address) is True
    assert [(event["type"], event["peer"]["key"]) for event in await events] == [
        ("connect", peer.id),
        ("disconnect", peer.id),
    ]
    await ask("conn.remember", peer.address)
    assert [known["key"] for known in await ask("gossip.peers")] == [peer.id]
    assert [address for address, _ in await ask("conn.dbPeers")] == [peer.address]
    await ask("conn.forget", peer.address)
    assert await ask("conn.dbPeers") == []
    _, port = peer.address.split(":")[1:3]
    added = await ask("gossip.add", {"host": "127.0.0.1", "port": int(port.partition("~")[0]), "key": peer.id})
    assert added["key"] == peer.id
    await ask("gossip.remove", peer.address)
