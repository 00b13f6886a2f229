"""Which blobs the messages of wanted feeds name, so that they are wanted: pictures of near feeds first.

The log is searched once, in the order of receipt, and how far is kept; what is wanted is kept by `feeds.blobs`. When a
feed comes to be wanted whose messages are here already, the view of references tells which blobs its newest ones name.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from sqlite3 import Connection
from typing import Final

from feeds.blob_ranks import AVATAR, HOPS_MAX, NAMED
from feeds.blobs import Blobs
from feeds.database import Database
from feeds.errors import InvalidRef
from feeds.live import Live
from feeds.log import Entry, Log
from feeds.log_rows import entries_with
from feeds.refs import BlobRef
from feeds.views.blob_references import named_by
from replication.policy import Policy

__all__ = ["BlobSearch", "blobs_named", "rank_of"]

SETTLE_SECONDS: Final = 0.1
"""What came in meanwhile is looked at together; and a new follow has its effect on the policy first."""
AT_ONCE: Final = 1000
NOTED_AFTER: Final = 5000
LOOK_SECONDS: Final = 1.0
LOOKED_BACK: Final = 1000
"""Messages of a newly wanted feed that are looked at."""

_CLASSIC: Final = re.compile(rb"&[A-Za-z0-9+/]{43}=\.sha256")
_URI: Final = re.compile(rb"ssb:(?://)?blob[:/](?:sha256|classic)[:/][A-Za-z0-9_-]{43}=?")
_MARKS: Final = (b"&", b"ssb:")
"""A text without any of these names no blob; SQLite finds that out faster."""
_ABOUT: Final = b'"type":"about"'


def blobs_named(text: bytes) -> Iterator[str]:
    """The ids of all blobs that the JSON text of a message names, in Markdown too; each may come more than once."""
    for found in _CLASSIC.findall(text):
        if (blob := _canonical(found)) is not None:
            yield blob
    if b"ssb:" in text:
        for found in _URI.findall(text):
            if (blob := _canonical(found)) is not None:
                yield blob


def _canonical(found: bytes) -> str | None:
    try:
        return str(BlobRef.parse(found.decode("ascii")))
    except InvalidRef:
        return None


def _marked(after: int, upto: int, connection: Connection) -> list[Entry]:
    return entries_with(connection, after, upto, _MARKS)


def rank_of(text: bytes, hops: int) -> int:
    """How soon the blobs of a message are fetched, its author being so many hops from us."""
    return (AVATAR if _ABOUT in text else NAMED) + min(max(hops, 0), HOPS_MAX)


class BlobSearch:
    """`run` follows the log."""

    def __init__(self, blobs: Blobs, *, database: Database, log: Log, live: Live, policy: Callable[[], Policy]) -> None:
        self._blobs = blobs
        self._database = database
        self._log = log
        self._live = live
        self._policy = policy

    async def run(self) -> None:
        """Search what there is and what comes, until cancelled. Raises StoreError (in a group)."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_log())
            group.create_task(self._follow_policy())

    async def _follow_policy(self) -> None:
        seen = self._policy()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            policy = self._policy()
            if policy is not seen:
                for feed in policy.wanted - seen.wanted:
                    if self._log.sequence(feed):
                        await self._look_back(feed)
                seen = policy

    async def _look_back(self, feed: str) -> None:
        """Want what the newest messages of a feed name."""
        found = await self._database.read(lambda connection: named_by(connection, feed, limit=LOOKED_BACK))
        wanted = self._wanted(reference.entry for reference in found)
        if wanted:
            await self._blobs.want_all(list(wanted.items()))

    async def _follow_log(self) -> None:
        at = noted = self._blobs.searched()
        while True:
            await self._live.wait_beyond(at)
            await asyncio.sleep(SETTLE_SECONDS)
            while at < (end := self._live.position):
                start, at = at, min(at + AT_ONCE, end)
                wanted = self._wanted(await self._database.read(partial(_marked, start, at)))
                if wanted or at - noted >= NOTED_AFTER:
                    await self._blobs.want_all(list(wanted.items()), searched=at)
                    noted = at

    def _wanted(self, entries: Iterable[Entry]) -> dict[str, int]:
        """Blobs that messages of wanted feeds name, with their ranks."""
        policy = self._policy()
        found: dict[str, int] = {}
        for entry in entries:
            if entry.author in policy.wanted:
                rank: int | None = None
                for blob in blobs_named(entry.text):
                    if rank is None:
                        rank = rank_of(entry.text, policy.hops.get(entry.author, 1))
                    found[blob] = min(rank, found.get(blob, rank))
        return found
