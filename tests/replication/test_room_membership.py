"""Joining and leaving rooms, names in them, and what is asked of their web pages."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from feeds.message import JsonValue
from replication.errors import DialFailed, InvalidAddress, InvalidAlias, InvalidInvite, RemoteVisible, RoomFailed
from replication.room_aliases import Alias, alias_uri, is_signed, sign_alias
from replication.room_membership import RoomMembership
from replication.rpc.methods import Caller, Kind, Method, Who
from replication.web_json import MOST_BYTES, WebJson
from tests.support.peers import Node, key, open_node, until


def membership(node: Node, *, private: bool = True) -> RoomMembership:
    web = WebJson(version="0", private=private)
    return RoomMembership(
        node.store.own, node.store.database, node.rooms, web, hub=lambda: node.connections, wall=lambda: 5.0
    )


@asynccontextmanager
async def site(pages: dict[str, tuple[int, bytes]]) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A web server on loopback with fixed pages by `METHOD path`; its address and the bodies it was sent."""
    bodies: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((int(line[15:]) for line in head.splitlines() if line.lower().startswith("content-length:")), 0)
        if length:
            bodies.append(await reader.readexactly(length))
        status, body = pages.get(" ".join(head.split(" ")[:2]), (404, b"{}"))
        more = "Location: http://127.0.0.1:1/\r\n" if 300 <= status < 400 else ""
        writer.write(f"HTTP/1.1 {status} X\r\n{more}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode())
        writer.write(body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", bodies


def keeping_aliases(room: Node) -> None:
    """Let a room keep names."""
    taken: dict[str, str] = {}

    async def register(caller: Caller, args: list[JsonValue]) -> str:
        alias, signature = args
        assert isinstance(alias, str)
        if alias in taken:
            raise RemoteVisible(f"alias {alias} is taken")
        assert caller.id is not None
        assert is_signed(signature, room.id, caller.id, alias)
        taken[alias] = caller.id
        return f"https://{alias}.room.example"

    async def revoke(caller: Caller, args: list[JsonValue]) -> bool:
        assert isinstance(args[0], str)
        return taken.pop(args[0], None) == caller.id

    room.table.add(Method(("room", "registerAlias"), Kind.ASYNC, Who.ANON, register))
    room.table.add(Method(("room", "revokeAlias"), Kind.ASYNC, Who.ANON, revoke))


async def test_join_list_and_leave(tmp_path: Path) -> None:
    async with open_node(tmp_path, "room", room="Lobby") as room, open_node(tmp_path, "a") as a:
        rooms = membership(a)
        assert await rooms.all() == []
        joined = await rooms.join(room.address + ":SSB+Room+PSK3TLYC2T86EHQCUHBUHASCASE18JBV24=")
        assert (joined.id, joined.address, joined.name, joined.joined) == (room.id, room.address, "Lobby", 5000)
        assert (joined.connected, joined.version, joined.membership) == (True, 2, True)
        assert [known.kind for known in a.connections.remembered()] == ["room"]
        assert await rooms.join(room.address) == joined
        assert await rooms.leave(room.id)
        await until(lambda: not a.rooms.present())
        assert await rooms.all() == []
        assert a.connections.remembered() == []
        assert not await rooms.leave(room.id)


async def test_what_cannot_be_joined(tmp_path: Path) -> None:
    async with open_node(tmp_path, "b") as b, open_node(tmp_path, "a") as a:
        rooms = membership(a)
        for text in ("", "nonsense", "ssb:experimental?action=claim-http-invite"):
            with pytest.raises((InvalidAddress, InvalidInvite)):
                await rooms.join(text)
        with pytest.raises(RoomFailed, match="no room"):
            await rooms.join(b.address)
        with pytest.raises(InvalidAddress):
            await rooms.join(a.address)


async def test_names_are_taken_given_back_and_followed(tmp_path: Path) -> None:
    async with (
        open_node(tmp_path, "room", room="Lobby") as room,
        open_node(tmp_path, "a") as a,
        open_node(tmp_path, "b") as b,
    ):
        keeping_aliases(room)
        mine, theirs = membership(a), membership(b)
        await mine.join(room.address)
        assert await mine.register(room.id, "Ann") == {"alias": "ann", "url": "https://ann.room.example"}
        with pytest.raises(RoomFailed, match="taken"):
            await mine.register(room.id, "ann")
        with pytest.raises(InvalidAlias):
            await mine.register(room.id, "no alias")
        assert (await mine.all())[0].aliases == ({"alias": "ann", "url": "https://ann.room.example"},)

        alias = Alias("ann", a.id, room.id, room.address, sign_alias(a.store.own, room.id, "ann"))
        fields = {"userId": a.id, "roomId": room.id, "multiserverAddress": room.address, "signature": alias.signature}
        good = json.dumps({"status": "successful", "alias": "ann", **fields}).encode()
        bad = json.dumps({"status": "successful", "alias": "ben", **fields}).encode()
        pages = {"GET /ann?encoding=json": (200, good), "GET /ben?encoding=json": (200, bad)}
        async with site(pages) as (url, _):
            with pytest.raises(InvalidAlias, match="not its owner"):
                await theirs.consume(f"{url}/ben")
            assert await theirs.consume(f"{url}/ann") == alias
        assert b.connections.connected(a.id)
        await b.connections.disconnect(a.id)
        await until(lambda: not b.connections.connected(a.id))
        assert await theirs.consume(alias_uri(alias)) == alias
        with pytest.raises(InvalidAlias, match="our own"):
            await mine.consume(alias_uri(alias))

        await mine.revoke(room.id, "ann")
        assert (await mine.all())[0].aliases == ()
        with pytest.raises(RoomFailed, match="did not revoke"):
            await mine.revoke(room.id, "ann")
        gone = Alias("x", key("x").id, room.id, room.address, sign_alias(key("x"), room.id, "x"))
        with pytest.raises(DialFailed):
            await theirs.consume(alias_uri(gone))


async def test_a_web_invite_is_claimed(tmp_path: Path) -> None:
    async with open_node(tmp_path, "room", room="Lobby") as room, open_node(tmp_path, "a") as a:
        pages: dict[str, tuple[int, bytes]] = {}
        answer = {"status": "successful", "multiserverAddress": room.address}
        async with site(pages) as (url, bodies):
            invite = {"status": "successful", "invite": "abc", "postTo": f"{url}/claim"}
            pages["GET /join?invite=abc&encoding=json"] = (200, json.dumps(invite).encode())
            pages["POST /claim"] = (200, json.dumps(answer).encode())
            joined = await membership(a).join(f"{url}/join?invite=abc")
            assert (joined.id, json.loads(bodies[0])) == (room.id, {"id": a.id, "invite": "abc"})
            pages["POST /claim"] = (409, json.dumps({"status": "failed", "error": "used already"}).encode())
            with pytest.raises(RoomFailed, match="used already"):
                await membership(a).join(f"{url}/join?invite=abc")
            with pytest.raises(RoomFailed, match="only https"):
                await membership(a, private=False).join(f"{url}/join?invite=abc")
            with pytest.raises(RoomFailed, match="private network"):
                await WebJson(version="0").get("https://localhost/x")


async def test_the_web_is_bounded() -> None:
    pages = {
        "GET /large": (200, b'{"x":"' + b"x" * MOST_BYTES + b'"}'),
        "GET /away": (302, b"{}"),
        "GET /text": (200, b"hello"),
        "GET /list": (200, b"[]"),
        "GET /failed": (200, b'{"status":"error","error":"no such alias"}'),
    }
    web = WebJson(version="0", private=True)
    async with site(pages) as (url, _):
        for path, words in (
            ("large", "more than"),
            ("away", "refused: status 302"),
            ("text", "not answer as rooms do"),
            ("list", "not answer as rooms do"),
            ("failed", "no such alias"),
            ("missing", "refused: status 404"),
        ):
            with pytest.raises(RoomFailed, match=words):
                await web.get(f"{url}/{path}")
    for text in ("https://", "nonsense", "http://[", "ftp://127.0.0.1/", "https://user:pw@127.0.0.1/", f"{url}/gone"):
        with pytest.raises(RoomFailed):
            await web.get(text)
