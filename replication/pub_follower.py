"""Feeds the address book from messages of type `pub`, which name pubs that their authors use (protocol section 11).

It has a cursor of its own and reads on from there when the log grows. Only what people within reach of our follows say
counts; how much one author can say, and all together, is bounded by the address book. An address that leads into some
private network is no address of a pub.
"""

import asyncio
import json
import logging
import re
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from feeds.database import Database
from feeds.errors import InvalidRef
from feeds.live import Live
from feeds.log import Entry
from feeds.message import JsonValue
from feeds.refs import CLASSIC, FeedRef
from replication.address import DEFAULT_PORT, Address, parse_addresses
from replication.errors import InvalidAddress
from replication.network import is_public

logger = logging.getLogger(__name__)

READ_AT_ONCE: Final = 200
_NAME: Final = re.compile(r"(?=.{4,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]", re.IGNORECASE)

Hint = Callable[[str, str], Awaitable[object]]
"""`hint(address, author)`; may raise InvalidAddress."""


class Messages(Protocol):
    """The part of `feeds.log.Log` that is read."""

    async def entries_after(self, position: int, limit: int, *, type: str | None = None) -> list[Entry]: ...


class PubFollower:
    """`run` until cancelled."""

    def __init__(
        self,
        database: Database,
        log: Messages,
        live: Live,
        *,
        is_wanted: Callable[[str], bool],
        hint: Hint,
        rest: float = 2.0,
    ) -> None:
        """`is_wanted(author)`: whether what this author says counts; `rest`: seconds between two looks."""
        self._rest = rest
        self._database = database
        self._log = log
        self._live = live
        self._is_wanted = is_wanted
        self._hint = hint

    async def run(self) -> None:
        """Read from where it was left, and on with the log."""
        position = await self._database.read(_position)
        while True:
            end = self._live.position
            position = await self._read(position)  # not `end`: the index of types may lag behind the log
            await self._live.wait_beyond(end)
            await asyncio.sleep(self._rest)

    async def _read(self, position: int) -> int:
        """Take up all there is beyond a position; gives the last one read."""
        while entries := await self._log.entries_after(position, READ_AT_ONCE, type="pub"):
            for entry in entries:
                position = entry.position
                if self._is_wanted(entry.author):
                    await self._take(entry)
            await self._keep(position)
        return position

    async def _take(self, entry: Entry) -> None:
        address = pub_address(json.loads(entry.text)["content"])
        if address is None:
            return
        try:
            await self._hint(str(address), entry.author)
        except InvalidAddress as error:
            logger.debug("message %s: %s", entry.id, error)

    async def _keep(self, position: int) -> None:
        def write(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO pub_cursor(id, position) VALUES (1, ?)", (position,))

        await self._database.write(write)


def pub_address(content: JsonValue) -> Address | None:
    """The address in the content of a `pub` message; None if there is none that the world can reach."""
    told = content.get("address") if isinstance(content, dict) else None
    try:
        if isinstance(told, dict):
            return _address(told.get("host"), told.get("port", DEFAULT_PORT), told.get("key"))
        for each in parse_addresses(told) if isinstance(told, str) else ():
            if each.transport == "net":
                return _address(each.host, each.port, each.key)
    except (InvalidAddress, InvalidRef):
        pass  # whatever it is, it leads nowhere
    return None


def _address(host: object, port: object, key: object) -> Address | None:
    """The address made of these, each of which may be anything. Raises InvalidRef."""
    if isinstance(port, str) and re.fullmatch("[0-9]{1,5}", port):
        port = int(port)
    if not isinstance(host, str) or not isinstance(key, str):
        return None
    if not isinstance(port, int | float) or isinstance(port, bool) or not 0 < port < 65_536 or port != int(port):
        return None
    host = host.strip().rstrip(".").removeprefix("[").removesuffix("]")
    feed = FeedRef.parse(key)
    if feed.format != CLASSIC or not is_public(host, names=_NAME.fullmatch(host) is not None):
        return None
    return Address.net(host, int(port), feed.data)


def _position(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT position FROM pub_cursor").fetchone()
    return 0 if row is None else int(row[0])
