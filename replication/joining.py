"""Redeeming an invite of another node: it follows us, we follow it and tell where it is (protocol.md section 16)."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Protocol

from feeds.errors import FeedLocked
from feeds.log import Entry
from feeds.message import JsonObject
from feeds.publisher import State
from replication.address import Address, parse_invite
from replication.address_book import Remembered
from replication.errors import (
    ConnectionClosed,
    DialFailed,
    DialTimeout,
    InvalidInvite,
    InviteRefused,
    RemoteCallError,
    RemoteError,
)
from replication.peer import Peer
from replication.rpc.connection import RpcConnection

__all__ = ["Joined", "Joining"]

logger = logging.getLogger(__name__)

TRIES: Final = 3
CALL_SECONDS: Final = 20.0
ALL_SECONDS: Final = 50.0
PAUSE_SECONDS: Final = 0.5
_ALREADY: Final = "already following"


class Hub(Protocol):
    """The part of `replication.connections.Connections` that is needed."""

    async def visit(self, address: Address) -> Peer: ...

    async def remember(
        self, address: str, source: str = "manual", *, auto: bool = True, kind: str = ""
    ) -> Remembered: ...


class OwnFeed(Protocol):
    """The part of `feeds.ingest.Ingest` that is needed."""

    @property
    def own_state(self) -> State: ...

    async def publish(self, content: JsonObject | str) -> Entry: ...


class Follows(Protocol):
    """The part of `feeds.views.social_graph.SocialGraph` that is needed."""

    def is_following(self, source: str, destination: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Joined:
    """What became of an invite."""

    pub: str
    address: str
    """Where the pub is, without the secret."""
    already: bool
    """It followed us before, so the invite was not used up."""
    messages: tuple[Entry, ...]
    """What we published: that we follow it and where it is; nothing if we followed it already."""


class Joining:
    """Takes one invite at a time."""

    def __init__(
        self,
        me: str,
        hub: Callable[[], Hub],
        *,
        own: OwnFeed,
        graph: Follows,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._me: Final = me
        self._hub: Final = hub
        self._own: Final = own
        self._graph: Final = graph
        self._sleep: Final = sleep
        self._turn: Final = asyncio.Lock()

    async def accept(self, code: str) -> Joined:
        """Redeem a code of either form.

        Raises InvalidInvite; DialFailed when the pub cannot be reached in three tries; InviteRefused with its words;
        FeedLocked, ForkedFeed before anything was used up; StoreError.
        """
        invite = parse_invite(code)
        pub = invite.key
        if pub is None:
            raise InvalidInvite("not an invite: it names no key of a pub")
        if pub == self._me:
            raise InvalidInvite("this invite leads to this very node; it is for others")
        if self._own.own_state is not State.OPEN:
            state = str(self._own.own_state)
            raise FeedLocked(state, f"our feed is {state}, so the pub cannot be followed; the invite was not used")
        async with self._turn:
            try:
                async with asyncio.timeout(ALL_SECONDS):
                    already = await self._ask(invite)
            except TimeoutError:
                raise DialTimeout("invite.use", f"the pub did not answer within {ALL_SECONDS:g} seconds") from None
            plain = Address(invite.transport, invite.data, invite.public)
            published = [] if self._graph.is_following(self._me, pub) else await self._tell(plain, pub)
            await self._hub().remember(str(plain), "invite", auto=True, kind="pub")
            return Joined(pub, str(plain), already, tuple(published))

    async def _tell(self, address: Address, pub: str) -> list[Entry]:
        follow: JsonObject = {"type": "contact", "contact": pub, "following": True, "autofollow": True}
        published = [await self._own.publish(follow)]
        if address.transport in ("net", "onion"):  # the old form has no place for others
            where: JsonObject = {"host": address.host, "port": address.port, "key": pub}
            published.append(await self._own.publish({"type": "pub", "address": where}))
        return published

    async def _ask(self, invite: Address) -> bool:
        """Have the pub follow us; true if it did before. The same question may be put again: it is answered then."""
        for attempt in range(1, TRIES + 1):
            try:
                return await self._ask_once(invite)
            except RemoteCallError as error:
                if _ALREADY in error.message:
                    return True
                raise InviteRefused(f"The pub did not take the invite: {_quoted(error.message)}") from None
            except (DialFailed, RemoteError) as error:
                logger.info("invite to %s: try %d of %d failed: %s", invite.key, attempt, TRIES, error)
                if attempt == TRIES:
                    raise
                await self._sleep(PAUSE_SECONDS * attempt)
        raise AssertionError("the last try returns or raises")

    async def _ask_once(self, invite: Address) -> bool:
        async with self._visit(invite) as connection:
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    await connection.call("invite.use", [{"feed": self._me}])
            except TimeoutError:
                raise DialTimeout("invite.use", f"no answer within {CALL_SECONDS:g} seconds") from None
            except ConnectionClosed:
                raise DialFailed("invite.use", "the pub closed the connection; the invite may be used up") from None
        return False

    @asynccontextmanager
    async def _visit(self, invite: Address) -> AsyncIterator[RpcConnection]:
        peer = await self._hub().visit(invite)
        running = asyncio.create_task(peer.run(), name=f"invite to {invite.key}")
        try:
            yield peer.connection
        finally:
            with suppress(ConnectionClosed):
                await peer.close()
            await asyncio.wait([running], timeout=1.0)
            running.cancel()
            peer.connection.abort()


def _quoted(words: str) -> str:
    """What a stranger said, on one line that no terminal obeys."""
    shown = "".join(letter if letter.isprintable() else " " for letter in words[:300]).strip()
    return shown or "it gave no reason"
