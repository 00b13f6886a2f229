"""The invites that this node gives out: made, used, revoked (protocol.md section 16).

An invite is a key of its own: whoever has its seed may ask us, through `invite.use`, to follow a feed, so many times.
Only the key's id is kept; the seed leaves with the code. Uses are counted in the transaction that holds the contact
message, so that there are never more of those than the invite is good for.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from feeds.database import Database
from feeds.keys import Keypair
from feeds.log import Entry
from feeds.message import JsonObject
from feeds.refs import CLASSIC, FeedRef
from replication.address import Address
from replication.errors import RemoteVisible, TooManyInvites
from replication.invite_codes import format_code
from replication.rpc.methods import Who

__all__ = ["LONGEST_NOTE", "MOST_SECONDS", "MOST_USES", "Invite", "Invites"]

MOST_INVITES: Final = 10_000
"""Ended ones are forgotten, the oldest first, to stay below."""
MOST_USES: Final = 100_000
MOST_SECONDS: Final = 10 * 365 * 24 * 3600
LONGEST_NOTE: Final = 300
_EXPIRED: Final = "invite has expired"
_ALREADY: Final = "already following"  # clients take this one as success


@dataclass(frozen=True, slots=True)
class Invite:
    """One invite. Times are integer milliseconds since the epoch."""

    id: str
    """The id of the invite's key, which whoever uses it proves to have."""
    uses: int
    used: int
    note: str
    address: str
    """Where the code leads."""
    created: int
    expires: int | None
    revoked: bool

    def state(self, now: int) -> str:
        """ "open", "used-up", "expired" or "revoked"; `now` in milliseconds."""
        if self.revoked:
            return "revoked"
        if self.used >= self.uses:
            return "used-up"
        return "expired" if self.expires is not None and self.expires <= now else "open"


class Publishes(Protocol):
    """The part of `feeds.ingest.Ingest` that is needed."""

    async def publish(
        self, content: JsonObject | str, *, also: Callable[[sqlite3.Connection, Entry], None] | None = None
    ) -> Entry: ...


class Follows(Protocol):
    """The part of `feeds.views.social_graph.SocialGraph` that is needed."""

    def is_following(self, source: str, destination: str) -> bool: ...

    def is_blocking(self, source: str, destination: str) -> bool: ...


class Invites:
    """All invites of one node, kept in memory as well: each handshake asks for them."""

    def __init__(
        self,
        me: str,
        database: Database,
        *,
        ingest: Publishes,
        graph: Follows,
        now: Callable[[], float],
        seed: Callable[[], bytes] = lambda: os.urandom(32),
    ) -> None:
        self._me: Final = me
        self._database: Final = database
        self._ingest: Final = ingest
        self._graph: Final = graph
        self._clock: Final = now
        self._seed: Final = seed
        self._known: Final[dict[str, Invite]] = {}
        self._turn: Final = asyncio.Lock()

    async def load(self) -> None:
        """Read all of them; before anything else is asked."""

        def read(connection: sqlite3.Connection) -> list[Invite]:
            rows = connection.execute(
                "SELECT key, total, used, note, address, created, expires, revoked FROM invite ORDER BY created, key"
            )
            return [replace(Invite(*row), revoked=bool(row[7])) for row in rows]

        self._known.update((invite.id, invite) for invite in await self._database.read(read))

    @property
    def now(self) -> int:
        """Milliseconds since the epoch."""
        return int(self._clock() * 1000)

    async def create(
        self, address: Address, *, uses: int = 1, note: str = "", expires_in: int | None = None, modern: bool = False
    ) -> tuple[Invite, str]:
        """A new invite, and its code, which nobody can get a second time; expires_in in seconds.

        Raises TooManyInvites, StoreError.
        """
        self._make_room()
        seed = self._seed()
        now = self.now
        ends = None if expires_in is None else now + expires_in * 1000
        invite = Invite(Keypair.generate(seed).id, uses, 0, note, str(address), now, ends, False)
        await self._database.write(
            lambda connection: (
                connection.execute(
                    "INSERT INTO invite(key, total, note, address, created, expires) VALUES (?, ?, ?, ?, ?, ?)",
                    (invite.id, invite.uses, invite.note, invite.address, invite.created, invite.expires),
                ).rowcount
            )
        )
        self._known[invite.id] = invite
        await self._forget_old()
        return invite, format_code(address, seed, modern=modern)

    def all(self) -> list[Invite]:
        """Every invite, the oldest first, ended ones too."""
        return list(self._known.values())

    def get(self, key: str) -> Invite | None:
        return self._known.get(key)

    async def revoke(self, key: str) -> bool:
        """End an invite; false if there is none, or it was revoked before."""
        invite = self._known.get(key)
        if invite is None or invite.revoked:
            return False
        await self._database.write(
            lambda connection: connection.execute("UPDATE invite SET revoked=1 WHERE key=?", (key,)).rowcount
        )
        self._known[key] = replace(self._known[key], revoked=True)  # it may have been used meanwhile
        return True

    # ---- whoever comes with an invite's key

    def is_open(self, key: str | None) -> bool:
        """Whether this is the key of an invite that still is good for something."""
        invite = None if key is None else self._known.get(key)
        return invite is not None and invite.state(self.now) == "open"

    def rights_of(self, key: str) -> frozenset[Who] | None:
        """What a key may do because it is an invite's, None for other keys.

        The key of an ended invite is nothing else: it may still ask, to hear that it has ended.
        """
        return frozenset({Who.INVITE}) if key in self._known else None

    async def use(self, key: str | None, feed: str) -> Entry:
        """Follow a feed because an invite's holder asks for it; gives the contact message.

        Raises RemoteVisible in the words that deployed clients know, StoreError.
        """
        if key is None or key not in self._known:
            raise RemoteVisible("invite.use: only for whoever comes with the key of an invite")
        async with self._turn:
            invite = self._known[key]
            if self._graph.is_following(self._me, feed):
                raise RemoteVisible(_ALREADY)
            if not self.is_open(key):
                raise RemoteVisible(_EXPIRED)
            if feed == self._me or FeedRef.parse(feed).format != CLASSIC or self._graph.is_blocking(self._me, feed):
                raise RemoteVisible("this feed cannot be followed")
            content: JsonObject = {"type": "contact", "contact": feed, "following": True, "pub": True}
            if invite.note:
                content["note"] = invite.note
            now = self.now

            def count(connection: sqlite3.Connection, _entry: Entry) -> None:
                counted = connection.execute(
                    "UPDATE invite SET used=used+1 WHERE key=? AND used<total AND revoked=0 "
                    "AND (expires IS NULL OR expires>?)",
                    (key, now),
                ).rowcount
                if counted != 1:
                    raise RemoteVisible(_EXPIRED)
                connection.execute("INSERT OR REPLACE INTO invite_use VALUES (?, ?, ?)", (key, feed, now))

            entry = await self._ingest.publish(content, also=count)
            latest = self._known[key]  # it may have been revoked meanwhile
            self._known[key] = replace(latest, used=latest.used + 1)
            return entry

    async def guests(self, key: str) -> list[str]:
        """The feeds that came by an invite, the first one first."""

        def read(connection: sqlite3.Connection) -> list[str]:
            rows = connection.execute("SELECT feed FROM invite_use WHERE invite=? ORDER BY used, feed", (key,))
            return [str(feed) for (feed,) in rows]

        return await self._database.read(read)

    # ---- bounds

    def _make_room(self) -> None:
        now = self.now
        if len(self._known) >= MOST_INVITES and all(invite.state(now) == "open" for invite in self._known.values()):
            raise TooManyInvites(f"There are {MOST_INVITES} open invites; revoke some of them first.")

    async def _forget_old(self) -> None:
        now = self.now
        extra = len(self._known) - MOST_INVITES
        if extra <= 0:
            return
        ended = [key for key, invite in self._known.items() if invite.state(now) != "open"][:extra]

        def delete(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM invite WHERE key=?", [(key,) for key in ended])
            connection.executemany("DELETE FROM invite_use WHERE invite=?", [(key,) for key in ended])

        await self._database.write(delete)
        for key in ended:
            del self._known[key]
