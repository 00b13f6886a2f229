"""A marker in a hundred private messages is found where its reader asks for it, and nowhere else: not in any answer to
a peer, in no other answer of the HTTP API, not in errors, not in the log at its most talkative, in no file."""

import asyncio
import contextlib
import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from replication.errors import ReplicationError
from replication.peer import PeerConfig, connect_local, connect_peer
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import Kind, MethodTable
from tests.support import builders
from tests.support.processes import NodeProcess

MESSAGES = 100
WORD = "lighthouse"
"""Also in every message: what is searched for may come back in an answer, so it is another word than the marker."""
FRIEND = builders.keypair("friend")
ANSWER_SECONDS = 1.0
READ_SECONDS = 3.0


class Asked:
    """Answers of the HTTP API, whole, with their heads."""

    def __init__(self, node: NodeProcess) -> None:
        self._node = node

    def get(self, path: str, body: Any = None, *, most: int = 1 << 22, **headers: str) -> tuple[int, bytes]:
        head = {"Authorization": f"Bearer {self._node.token}", "Content-Type": "application/json", **headers}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._node.http + path, data=data, headers=head)
        try:
            with urllib.request.urlopen(request, timeout=READ_SECONDS) as answer:
                return answer.status, _whole(answer, most) + bytes(answer.headers)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read() + bytes(error.headers)


def _whole(answer: Any, most: int) -> bytes:
    """What comes of an answer until it ends, pauses (a stream of events does not end) or is enough."""
    found = b""
    with contextlib.suppress(TimeoutError):
        while len(found) < most and (more := answer.read1(65536)):
            found += more
    return found


def publish_all(asked: Asked, marker: str) -> list[str]:
    """A hundred private messages in threads of ten; their ids."""
    keys: list[str] = []
    for number in range(MESSAGES):
        content: dict[str, Any] = {"type": "post", "text": f"{marker} {WORD} {number}", "channel": marker}
        if number % 10:
            content["root"] = content["branch"] = keys[number - number % 10]
        body = (
            {"content": content, "recps": [FRIEND.id]} if number % 2 else {"content": {**content, "recps": FRIEND.id}}
        )
        status, answer = asked.get("/v1/messages", body)
        assert status == 201
        assert marker.encode() not in answer
        keys.append(json.loads(answer[: answer.rindex(b"}") + 1])["key"])
    return keys


def errors(asked: Asked, marker: str) -> Iterator[bytes]:
    """What is answered to private messages that cannot be published."""
    post = {"type": "post", "text": marker}
    for content, recps in (
        (post, ["@x"]),
        (post, []),
        (post, [builders.keypair(n).id for n in range(8)]),
        ({**post, "text": marker * 500}, [FRIEND.id]),
        ({**post, "type": 5}, [FRIEND.id]),
        ({**post, "recps": [marker]}, None),
    ):
        status, answer = asked.get("/v1/messages", {"content": content, "recps": recps})
        assert 400 <= status < 500
        yield answer


def routes_without_private(asked: Asked, key: str, feed: str) -> Iterator[tuple[str, bytes]]:
    """Every GET route of the OpenAPI document, with the query that might find something, but for `private`."""
    _, text = asked.get("/openapi.json")
    document = json.loads(text[: text.rindex(b"}") + 1])
    for path, item in document["paths"].items():
        if "get" not in item or path.startswith("/v1/private"):
            continue
        named = {parameter["name"] for parameter in item["get"].get("parameters", [])}
        for id in (key, feed, WORD):
            where = path
            for name in ("id", "name", "feed", "thread", "method", "peer"):
                where = where.replace("{" + name + "}", quote(id, safe=""))
            query = [f"q={WORD}"] if "q" in named else []
            query += [f"ref={quote(id, safe='')}"] if "ref" in named else []
            query += ["since=0"] if path == "/v1/stream" else []
            most = 200_000 if path == "/v1/stream" else 1 << 22
            yield where, asked.get(f"{where}?{'&'.join(query)}", most=most)[1]


async def everything_from(connection: RpcConnection, name: str, kind: str, args: list[Any]) -> bytes:
    """All bytes that a call brings within a moment, errors included."""
    found = bytearray()
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            if kind in ("async", "sync"):
                value = await connection.call(name, args, kind=Kind(kind))
                return json.dumps(value, default=repr).encode()
            stream: Any = connection.source(name, args) if kind == "source" else connection.duplex(name, args)
            if kind == "duplex" and args and isinstance(args[0], dict):
                await stream.send([json.dumps(args[-1]).encode()])
            while batch := await stream.read_batch():
                found += b"\n".join(bytes(body.data) for body in batch)
    except (ReplicationError, TimeoutError) as error:
        found += str(error).encode()
    return bytes(found)


def methods(tree: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and kinds of a manifest."""
    for name, below in tree.items():
        if isinstance(below, dict):
            yield from methods(below, f"{above}{name}.")
        else:
            yield f"{above}{name}", below


async def ask_as_a_stranger(node: NodeProcess, key: str, boxed: str) -> dict[str, bytes]:
    """Every method of the node with all manner of arguments, called by somebody who is nobody to it."""
    manifest = json.loads((node.directory / "manifest.json").read_text())
    arguments: list[list[Any]] = [
        [],
        [key],
        [{"id": key, "private": True, "meta": True}],
        [{"id": node.id, "private": True, "seq": 0, "limit": 1000}],
        [{"version": 3, "format": "classic", "private": True}, {node.id: 0}],
        [boxed],
    ]
    answers: dict[str, bytes] = {}
    for args in arguments:
        peer = await connect_peer(node.address, PeerConfig(keypair=builders.keypair("nobody"), table=MethodTable()))
        running = asyncio.create_task(peer.run())
        try:
            names = list(methods(manifest))
            found = await asyncio.gather(*(everything_from(peer.connection, name, kind, args) for name, kind in names))
            for (name, _), answer in zip(names, found, strict=True):
                answers[name] = answers.get(name, b"") + answer
        finally:
            await peer.close()
            await running
    return answers


async def read_over_the_socket(node: NodeProcess, key: str) -> bytes:
    """What a program of the node's own user is given when it asks."""
    config = PeerConfig(keypair=builders.keypair("program"), table=MethodTable())
    peer = await connect_local(node.directory / "socket", config)
    running = asyncio.create_task(peer.run())
    try:
        read = await everything_from(peer.connection, "private.read", "source", [{"limit": MESSAGES}])
        return read + await everything_from(peer.connection, "get", "async", [{"id": key, "private": True}])
    finally:
        await peer.close()
        await running


def holders(folder: Path, marker: bytes) -> list[str]:
    """Files in which the marker stands."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "sbot.db" for path in files)
    return [str(path) for path in files if marker in path.read_bytes()]


@pytest.mark.slow
async def test_nothing_of_private_messages_leaves(tmp_path: Path) -> None:
    marker = secrets.token_hex(16)
    found = marker.encode()
    with NodeProcess(tmp_path / "node", log_level="debug") as node:
        asked = Asked(node)
        keys = await asyncio.to_thread(publish_all, asked, marker)
        key = keys[0]
        _, stored = asked.get(f"/v1/messages/{quote(key, safe='')}")
        boxed = json.loads(stored[: stored.rindex(b"}") + 1])["value"]["content"]

        # Where it is asked for it is given: the scan below would find it.
        assert asked.get("/v1/messages?private=1&limit=500")[1].count(found) >= MESSAGES
        assert asked.get(f"/v1/messages?private=1&q={WORD}&limit=500")[1].count(found) >= MESSAGES
        assert asked.get("/v1/private")[1].count(found) >= 10
        assert asked.get(f"/v1/private/{quote(key, safe='')}")[1].count(found) >= 10
        assert asked.get(f"/v1/messages/{quote(key, safe='')}?private=1")[1].count(found) >= 1
        assert asked.get("/v1/stream?private=1&since=0", most=20_000)[1].count(found) >= 5
        assert (await read_over_the_socket(node, key)).count(found) > MESSAGES

        for answer in errors(asked, marker):
            assert found not in answer
        for route, answer in await asyncio.to_thread(lambda: list(routes_without_private(asked, key, node.id))):
            assert found not in answer, route
        answers = await ask_as_a_stranger(node, key, boxed)
        assert answers["createHistoryStream"].count(b".box") >= MESSAGES  # they do get what is public of it
        assert answers["ebt.replicate"].count(b".box") >= MESSAGES
        assert {name for name, answer in answers.items() if found in answer} == set()
        assert holders(node.directory, found) == []
        assert found not in node.log.encode()
        assert node.terminate() == 0
    assert holders(tmp_path / "node", found) == []
    assert found not in node.log.encode()
