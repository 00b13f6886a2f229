"""Everything a node has to do with invites, put together: those it gives out, those it takes, and its own address."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from feeds.database import Database
from feeds.ingest import Ingest
from feeds.keys import Keypair
from feeds.views.social_graph import SocialGraph
from replication import joining
from replication.address import Address
from replication.invite_codes import advertised
from replication.invites import Invites
from replication.joining import Joining
from replication.network import own_addresses

__all__ = ["Hub", "Inviting"]


class Hub(joining.Hub, Protocol):
    """The part of `replication.connections.Connections` that is needed."""

    def addresses(self) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Inviting:
    """`invites` and `joining` of one node."""

    invites: Invites
    joining: Joining
    external: str
    _public: bytes
    _hub: Callable[[], Hub]
    _routed: Callable[[], Sequence[str]]

    @classmethod
    async def open(
        cls,
        keypair: Keypair,
        database: Database,
        *,
        ingest: Ingest,
        graph: SocialGraph,
        hub: Callable[[], Hub],
        external: str,
        wall: Callable[[], float],
        routed: Callable[[], Sequence[str]] = own_addresses,
    ) -> "Inviting":
        """external -- what the settings say of our address, "" for nothing; wall -- seconds since 1970."""
        invites = Invites(keypair.id, database, ingest=ingest, graph=graph, now=wall)
        await invites.load()
        joining = Joining(keypair.id, hub, own=ingest, graph=graph)
        return cls(invites, joining, external, keypair.public, hub, routed)

    def advertised(self, external: str = "") -> Address:
        """The address to tell others; `external` goes before the settings. Raises NoPublicAddress, InvalidAddress."""
        return advertised(self._hub().addresses(), external or self.external, self._public, self._routed())
