"""Carries out `early_posts`: asks peers for the last messages of near feeds, and keeps what is held of them in step.

Whatever a peer answers, or does not, nothing else depends on it. Messages with a bad signature, or of another feed, are
held against the peer as in any other delivery.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from feeds.early_posts import EarlyPosts
from feeds.errors import InvalidMessage, StoreError
from feeds.message import JsonValue, Message
from replication.blob_search import blobs_named, rank_of
from replication.early_posts import Ask, Asking, Offer, wakes_old_replication
from replication.ebt.state import EbtState
from replication.errors import ConnectionClosed, RemoteCallError, RpcProtocolError
from replication.rpc.calls import Kind
from replication.rpc.connection import RpcConnection

__all__ = ["EarlyFetch", "WantBlobs"]

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
FIRST_LOOKS: Final = 25
FIRST_LOOK_SECONDS: Final = 0.2
"""At first more often: whatever a peer sends before the answer, the answer waits behind it."""
ANSWER_SECONDS: Final = 15.0
ANSWER_BYTES: Final = 512 * 1024

WantBlobs = Callable[[Sequence[tuple[str, int]]], Awaitable[None]]
"""Want (blob, rank) pairs."""


class EarlyFetch:
    """For all peers of a node. `run` must be running; `attend` runs beside the replication of each connection."""

    def __init__(
        self,
        posts: EarlyPosts,
        *,
        state: EbtState,
        near: Callable[[str], Iterable[str]],
        wanted: Callable[[str], bool],
        hop_of: Callable[[str], int],
        on_texts: Callable[[str, str, Sequence[bytes]], None],
        want_blobs: WantBlobs | None,
    ) -> None:
        """`near(peer)` gives the feeds that may be asked of a peer, nearest first; `on_texts(peer, feed, texts)`
        hears of what came when the feed was asked for."""
        self._posts = posts
        self._state = state
        self._near = near
        self._wanted = wanted
        self._hop_of = hop_of
        self._on_texts = on_texts
        self._want_blobs = want_blobs

    async def run(self) -> None:
        """Drop what is no longer early, until cancelled."""
        while True:
            try:
                await self._posts.tidy(self._wanted)
            except StoreError as error:
                logger.warning("early posts could not be dropped: %s", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def attend(self, connection: RpcConnection, peer: str, blame: Callable[[str, str], None]) -> None:
        """Ask one peer, for as long as there is something to ask. `blame(feed, reason)`: it delivered what is invalid.

        Raises nothing but cancellation.
        """
        try:
            await self._attend(connection, peer, blame)
        except* ConnectionClosed:
            pass
        except* Exception:
            logger.exception("asking %s for early posts failed", peer)

    async def _attend(self, connection: RpcConnection, peer: str, blame: Callable[[str, str], None]) -> None:
        asking = Asking()
        asked = False
        looks = 0
        while not asking.over:
            asks = asking.choose(self._offers(peer))
            if not asks:
                looks += 1
                await asyncio.sleep(FIRST_LOOK_SECONDS if looks < FIRST_LOOKS else LOOK_SECONDS)
                continue
            if not asked and not await self._may_ask(connection, peer):
                return
            asked = True
            async with asyncio.TaskGroup() as group:
                for ask in asks:
                    group.create_task(self._ask(connection, peer, ask, asking, blame))

    def _offers(self, peer: str) -> list[Offer]:
        return [
            Offer(feed, held, claimed, self._posts.seen(feed))
            for feed, held, claimed in self._state.ahead(peer, self._near(peer))
        ]

    async def _may_ask(self, connection: RpcConnection, peer: str) -> bool:
        """Look at what kind of node the peer is."""
        manifest: object = None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                manifest = await connection.call("manifest", kind=Kind.SYNC)
        except (RemoteCallError, RpcProtocolError, TimeoutError) as error:
            logger.debug("%s gives no manifest: %s", peer, error)
        feeds = self._state.mentioned(peer)
        if isinstance(manifest, dict) and wakes_old_replication(manifest, feeds):
            logger.info("%s is not asked for early posts: it replicates %d feeds in the old way too", peer, feeds)
            return False
        return True

    async def _ask(
        self, connection: RpcConnection, peer: str, ask: Ask, asking: Asking, blame: Callable[[str, str], None]
    ) -> None:
        texts = await self._answer(connection, ask)
        asking.received(sum(map(len, texts)))
        self._on_texts(peer, ask.feed, texts)
        try:
            held = await self._posts.hold(ask.feed, texts, first=ask.first)
            await self._want_named(ask.feed, held)
        except InvalidMessage as error:
            blame(ask.feed, error.reason)
        except StoreError as error:
            logger.warning("early posts of %s could not be held: %s", ask.feed, error)
        else:
            logger.debug("%d early posts of %s from %s", len(held), ask.feed, peer)

    async def _answer(self, connection: RpcConnection, ask: Ask) -> list[bytes]:
        """What the peer sends, as far as it was asked for."""
        options: dict[str, JsonValue] = {
            "id": ask.feed,
            "seq": ask.first,
            "limit": ask.most,
            "live": False,
            "keys": False,
        }
        texts: list[bytes] = []
        size = 0
        source = connection.source(("createHistoryStream",), [options])
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while len(texts) < ask.most and size < ANSWER_BYTES and (bodies := await source.read_batch()):
                    texts += [body.data for body in bodies]
                    size = sum(map(len, texts))
        except (RemoteCallError, TimeoutError) as error:
            logger.debug("the end of %s: %r", ask.feed, error)
        finally:
            await source.cancel()
        return texts[: ask.most]

    async def _want_named(self, feed: str, messages: Iterable[Message]) -> None:
        """Pictures are wanted as soon as anything shows them."""
        if self._want_blobs is None:
            return
        ranks: dict[str, int] = {}
        for message in messages:
            for blob in blobs_named(message.text):
                rank = rank_of(message.text, self._hop_of(feed))
                ranks[blob] = min(rank, ranks.get(blob, rank))
        if ranks:
            await self._want_blobs(list(ranks.items()))
