"""The rooms that a person joined: join by address or invite, leave, and aliases (protocol section 17)."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from feeds.database import Component, Database, Migration
from feeds.keys import Keypair
from replication.address import parse_address
from replication.address_book import Remembered
from replication.errors import InvalidAlias, InvalidInvite, RoomFailed
from replication.peer_info import PeerInfo
from replication.room_aliases import Alias, checked_alias, read_alias, read_alias_uri, sign_alias
from replication.room_links import Claim, is_web_link, json_url, read_claim, read_claim_uri, read_room_address
from replication.room_state import tunnel_address
from replication.rooms import Rooms
from replication.web_json import WebJson

LONGEST_URL: Final = 500

ROOMS: Final = Component(
    "rooms",
    (
        Migration(
            1,
            (
                # times in ms since 1970; name: as the room last said it
                "CREATE TABLE room(id TEXT PRIMARY KEY, address TEXT NOT NULL, name TEXT NOT NULL, "
                "joined INTEGER NOT NULL) WITHOUT ROWID",
                # url: the web page of the alias, as the room said it
                "CREATE TABLE room_alias(room TEXT NOT NULL, alias TEXT NOT NULL, url TEXT NOT NULL, "
                "registered INTEGER NOT NULL, PRIMARY KEY(room, alias)) WITHOUT ROWID",
            ),
        ),
    ),
)


class Hub(Protocol):
    """The part of `replication.connections.Connections` that is needed."""

    async def dial(self, address: str) -> PeerInfo: ...

    async def disconnect(self, peer: str) -> bool: ...

    async def forget(self, address: str) -> bool: ...

    def remembered(self) -> list[Remembered]: ...

    async def remember(
        self, address: str, source: str = "manual", *, auto: bool = True, kind: str = ""
    ) -> Remembered: ...

    async def set_kind(self, address: str, kind: str) -> None: ...


@dataclass(frozen=True, slots=True)
class RoomInfo:
    """One room. `joined` in milliseconds since the epoch, None for a room that we are in without having joined it.

    `version` 1 or 2, None while we are not connected; `membership` is None if the room does not say; `aliases` are
    name and web page; `refused` is why the room does not tell who is there.
    """

    id: str
    address: str
    name: str
    joined: int | None
    connected: bool
    version: int | None
    membership: bool | None
    features: tuple[str, ...]
    attendants: tuple[str, ...]
    aliases: tuple[dict[str, str], ...]
    refused: str


class RoomMembership:
    """What a person does with rooms."""

    def __init__(
        self,
        keypair: Keypair,
        database: Database,
        rooms: Rooms,
        web: WebJson,
        *,
        hub: Callable[[], Hub],
        wall: Callable[[], float],
    ) -> None:
        """`hub` is a function because the hub is built later; `wall` gives seconds since the epoch."""
        self._keypair = keypair
        self._database = database
        self._rooms = rooms
        self._web = web
        self._hub = hub
        self._wall = wall

    async def all(self) -> list[RoomInfo]:
        """Rooms joined, the oldest first, then those that we are in otherwise."""

        def read(connection: sqlite3.Connection) -> tuple[list[Any], list[Any]]:
            rooms = connection.execute("SELECT id, address, name, joined FROM room ORDER BY joined, id").fetchall()
            return rooms, connection.execute("SELECT room, alias, url FROM room_alias ORDER BY alias").fetchall()

        rows, aliases = await self._database.read(read)
        present = {each.id: each for each in self._rooms.present()}
        known = {row[0]: row for row in rows}
        found = []
        for room in [*known, *(room for room in present if room not in known)]:
            here = present.get(room)
            _, address, name, joined = known.get(room) or (room, here.address if here else "", "", None)
            found.append(
                RoomInfo(
                    id=room,
                    address=here.address if here else address,
                    name=here.metadata.name or name if here else name,
                    joined=joined,
                    connected=here is not None,
                    version=here.metadata.version if here else None,
                    membership=here.metadata.membership if here else None,
                    features=here.metadata.features if here else (),
                    attendants=tuple(here.attendants) if here else (),
                    aliases=tuple({"alias": alias, "url": url} for at, alias, url in aliases if at == room),
                    refused=here.refused if here else "",
                )
            )
        return found

    async def join(self, text: str) -> RoomInfo:
        """Join by address, by an open room's invite, or by a web invite.

        Raises InvalidAddress or InvalidInvite, DialFailed, or RoomFailed when it is no room or refuses.
        """
        text = text.strip()
        address = read_room_address(await self._claimed(text) if is_web_link(text) or text.startswith("ssb:") else text)
        info = await self._hub().dial(address)
        here = await self._rooms.enter(info.id)
        await self._hub().set_kind(address, "room")
        row = (info.id, address, here.metadata.name, int(self._wall() * 1000))

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO room(id, address, name, joined) VALUES (?, ?, ?, ?) "
                "ON CONFLICT(id) DO UPDATE SET address=excluded.address, name=excluded.name",
                row,
            )

        await self._database.write(write)
        return await self._info(info.id)

    async def leave(self, room: str) -> bool:
        """Hang up on a room and forget it; false if it was not known. Aliases there stay until they are revoked."""
        hung_up = await self._hub().disconnect(room)
        for known in self._hub().remembered():
            if known.peer == room:
                await self._hub().forget(known.address)

        def write(connection: sqlite3.Connection) -> int:
            return connection.execute("DELETE FROM room WHERE id=?", (room,)).rowcount

        return await self._database.write(write) > 0 or hung_up

    async def register(self, room: str, text: str) -> dict[str, str]:
        """Take a name in a room; name and web page. Raises InvalidAlias, RoomFailed or DialFailed."""
        alias = read_alias(text)
        url = await self._rooms.call(room, "room.registerAlias", alias, sign_alias(self._keypair, room, alias))
        if not isinstance(url, str) or len(url) > LONGEST_URL or not url.isprintable():
            raise RoomFailed("the room registered the alias and did not say where it is")
        row = (room, alias, url, int(self._wall() * 1000))

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO room_alias VALUES (?, ?, ?, ?)", row)

        await self._database.write(write)
        return {"alias": alias, "url": url}

    async def revoke(self, room: str, text: str) -> None:
        """Give a name back. Raises InvalidAlias, RoomFailed or DialFailed."""
        alias = read_alias(text)
        if await self._rooms.call(room, "room.revokeAlias", alias) is not True:
            raise RoomFailed(f"the room did not revoke the alias {alias}")

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM room_alias WHERE room=? AND alias=?", (room, alias))

        await self._database.write(write)

    async def consume(self, text: str) -> Alias:
        """Connect to whom an alias link leads to, once its signature is found right.

        Raises InvalidAlias, RoomFailed, or DialFailed when its owner is not there.
        """
        alias = await self._alias(text.strip())
        if alias.user == self._keypair.id:
            raise InvalidAlias(f"the alias {alias.alias} is our own")
        address = parse_address(alias.address)
        await self._hub().remember(str(address), "room", auto=False, kind="room")
        await self._hub().dial(tunnel_address(alias.room, alias.user))
        return alias

    async def _alias(self, text: str) -> Alias:
        if not is_web_link(text):
            return read_alias_uri(text)
        try:
            url = json_url(text)
        except InvalidInvite:
            raise InvalidAlias("not a web link of an alias") from None
        return checked_alias(await self._web.get(url))

    async def _claimed(self, text: str) -> str:
        """Claim a web invite; the address of the room."""
        claim: Claim = read_claim(await self._web.get(json_url(text))) if is_web_link(text) else read_claim_uri(text)
        answer = await self._web.post(claim.post_to, {"id": self._keypair.id, "invite": claim.invite})
        address = answer.get("multiserverAddress")
        if not isinstance(address, str):
            raise RoomFailed("the room took the invite and did not say where it is")
        return address

    async def _info(self, room: str) -> RoomInfo:
        return next(each for each in await self.all() if each.id == room)
