"""Gathers what `replication.why` needs to explain an id: from policy, clocks, log, blobs and connections."""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final, Protocol

from feeds import hiding
from feeds.database import Database
from feeds.log import Log
from feeds.views.links import links_to
from feeds.views.social_graph import SocialGraph
from replication import why
from replication.blob_exchange import BlobExchange
from replication.peer_info import KnownPeer
from replication.replicator import Replicator
from replication.why import BlobFacts, Failure, FeedFacts, Naming, Offer

__all__ = ["Explainer"]

NAMED_SHOWN: Final = 10


class _Hub(Protocol):
    def known_peers(self) -> list[KnownPeer]: ...


class Explainer:
    """Answers why something is fetched, or is not."""

    def __init__(
        self,
        *,
        database: Database,
        log: Log,
        graph: SocialGraph,
        replicator: Replicator,
        blob_exchange: BlobExchange,
        hub: _Hub,
    ) -> None:
        self._database = database
        self._log = log
        self._graph = graph
        self._replicator = replicator
        self._blob_exchange = blob_exchange
        self._hub = hub

    async def why(self, id: str) -> dict[str, Any]:
        """All about a canonical id of a feed (`@…`), blob (`&…`) or message; plain JSON values."""
        if id.startswith("&"):
            return self._blob(id)
        if id.startswith(("@", "ssb:feed/")):
            return why.feed(await self._feed_facts(id))
        return await self._message(id)

    # ---- feeds

    async def _feed_facts(self, feed: str) -> FeedFacts:
        status = self._replicator.ebt.state.feed_status(feed)
        offers = {
            peer: Offer(peer, False, claim)
            for peer, claim in (await self._replicator.remembered(feed)).items()
            if claim > 0 and peer != self._replicator.me
        }
        for peer, pair in status.peers.items():
            offers.pop(peer, None)
            if pair.claim is not None and pair.claim > 0:
                offers[peer] = Offer(peer, True, pair.claim)
        explanation, sequence = self._replicator.explain(feed), self._log.sequence(feed)
        givers = [offer.peer for offer in offers.values() if offer.connected and offer.has > sequence]
        return FeedFacts(
            explanation,
            sequence=sequence,
            forked=self._log.feed_state(feed) == "forked",
            deleted=self._database.peek(lambda connection: hiding.is_feed_deleted(connection, feed)),
            source=status.source,
            online=self._replicator.online,
            offers=list(offers.values()),
            failure=self._failure(feed, sequence, explanation.wanted),
            budget=self._replicator.spending.reason(self._replicator.hop_of(feed), givers)
            if explanation.wanted
            else None,
            later=self._replicator.waits_for_near(feed),
            blockers=[peer for peer in status.peers if not self._replicator.may_serve(feed, peer)],
        )

    def _failure(self, feed: str, sequence: int, wanted: bool) -> Failure | None:
        """What a peer delivered wrongly; else, of a wanted feed that we lack, why its owner cannot be reached."""
        failure = self._replicator.failure(feed)
        if failure is not None or not wanted or sequence:
            return failure
        tried = [
            known
            for known in self._hub.known_peers()
            if known.error and (known.id == feed or not self._replicator.online)
        ]
        last = max(tried, key=lambda known: (known.id == feed, known.last_failure or 0), default=None)
        return None if last is None else Failure(f"{last.address}: {last.error}", last.id, last.last_failure)

    # ---- messages

    async def _message(self, message: str) -> dict[str, Any]:
        entry = await self._log.get(message)
        if entry is not None:
            return why.message(message, entry.sequence, await self._feed_facts(entry.author), deleted=False)
        place = await self._database.read(lambda connection: hiding.place_of_deleted(connection, message))
        if place is not None:
            author, sequence = place
            return why.message(message, sequence, await self._feed_facts(author), deleted=True)

        def naming(connection: sqlite3.Connection) -> list[tuple[str, str]]:
            return [
                (link.id, link.source) for link in links_to(connection, message, limit=NAMED_SHOWN, descending=True)
            ]

        return why.missing_message(message, self._namings(await self._database.read(naming)))

    def _namings(self, found: Sequence[tuple[str, str]]) -> list[Naming]:
        namings = []
        for message, author in dict.fromkeys(found):
            told = self._replicator.explain(author)
            distance = told.hops if told.hops is not None and told.hops >= 0 else None
            namings.append(Naming(message, author, told.wanted, told.path, distance))
        return namings

    # ---- blobs

    def _blob(self, blob: str) -> dict[str, Any]:
        status = self._blob_exchange.blob_status(blob)
        failed = next(iter(status["failures"].items()), None)
        failure = None if status["last_error"] is None else Failure(status["last_error"])
        if failed is not None:
            failure = Failure(failed[1]["reason"], failed[0])
        return why.blob(
            BlobFacts(
                blob,
                size=status["size"],
                wanted=status["wanted"] or bool(status["wanted_by_peers"] and status["fetch"] == "all"),
                asked=status["asked"],
                fetch=status["fetch"],
                limit=status["limit"],
                named_in=self._namings([(one["message"], one["author"]) for one in status["named_in"]]),
                wanted_by=list(status["wanted_by_peers"]),
                offers=[Offer(peer, True, size) for peer, size in status["sources"].items()],
                getting_from=status["getting_from"],
                pushed_to=status["pushed_to"],
                online=self._replicator.online,
                failure=failure,
                budget=self._replicator.spending.reason(None, status["sources"]),
            )
        )
