"""Whom the node dials: by hand and by the scheduler, one dial a peer at a time, and the addresses known for it.

Discovery, invites, rooms and people bring addresses (`stage`, `remember`); the scheduler picks from them. What a
connection is, once it is there, is the hub's.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from replication.address import Address, parse_addresses
from replication.address_book import AddressBook, Remembered
from replication.errors import DialFailed, InvalidAddress
from replication.network import has_route
from replication.peer import Peer, PeerConfig, connect_peer
from replication.peer_info import Decided, Direction, KnownPeer, PeerInfo, PeerState
from replication.replicator import Clocks, Replicator
from replication.schedule import Group, Held, Rules
from replication.scheduler import Scheduler, Times
from replication.staging import Staging
from replication.transport import Dialler

logger = logging.getLogger(__name__)

ROOM_SECONDS = 3.0
"""How long a dial by hand waits for another connection to make room."""


class Hub(Protocol):
    """What dialling asks of the hub of connections."""

    def connected(self, peer: str) -> PeerInfo | None: ...

    def held(self) -> list[tuple[str, Held]]:
        """Address and state of each connection with a peer, closing ones too."""

    def opened(self, peer: Peer, address: str, source: str, group: Group) -> PeerInfo:
        """A dial worked: take the connection over."""

    def dial_failed(self, info: PeerInfo, error: DialFailed) -> None: ...

    def hang_up(self, peer: str, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _Dial:
    """A dial under way; there is one a peer at most."""

    target: Address
    group: Group
    task: asyncio.Task[PeerInfo]


class Dialling:
    """All dials of one node. `run` the scheduler beside; `stop` ends the dials under way."""

    def __init__(
        self,
        me: str,
        hub: Hub,
        config: PeerConfig,
        *,
        replicator: Replicator,
        book: AddressBook,
        clocks: Clocks,
        rules: Rules,
        diallers: dict[str, Dialler],
        has_network: Callable[[], bool] = has_route,
    ) -> None:
        """`config.diallers` must be the same table as `diallers`, to which transports may be added later."""
        self._me = me
        self._hub = hub
        self._config = config
        self._replicator = replicator
        self._book = book
        self._clocks = clocks
        self._diallers = diallers
        self._patience: dict[str, float] = {}
        self._outbound = rules.quotas.total
        self._dials: dict[str, _Dial] = {}
        self._staging = Staging()
        self._freed = asyncio.Event()
        times = Times(clocks.wall, clocks.random)
        self.scheduler = Scheduler(book, self._staging, self, rules, times, has_network=has_network)

    async def run(self) -> None:
        """Dial by ourselves, until cancelled."""
        await self.scheduler.run()

    def stop(self) -> None:
        """Cancel the dials under way."""
        for dial in self._dials.values():
            dial.task.cancel()

    def add_dialler(self, transport: str, dialler: Dialler, patience: float | None) -> None:
        """Dial addresses of one more transport."""
        self._diallers[transport] = dialler
        if patience is not None:
            self._patience[transport] = patience
        self.scheduler.wake()

    def autoconnect(self, on: bool) -> None:
        """Whether to dial peers that nobody picked by hand."""
        self.scheduler.rules = replace(self.scheduler.rules, autoconnect=on)
        self.scheduler.wake()

    async def retry(self) -> None:
        """Forget every wait that there is."""
        for known in self._book.all():
            if known.next_try:
                await self._book.update(replace(known, next_try=0))
        self.scheduler.wake()

    # ---- addresses

    async def remember(self, address: str, source: str, *, auto: bool, kind: str = "", origin: str = "") -> Remembered:
        """Keep an address, with all alternatives; with `auto` a person picked it. Raises InvalidAddress."""
        found = []
        for target, peer in [self._another(address, each) for each in self._alternatives(address)]:
            found.append(await self._book.remember(plain(target), peer, source, auto=auto, kind=kind, origin=origin))
            if auto:
                await self._unpause(peer)
        self.scheduler.wake()
        return found[0]

    async def hint(self, address: str, source: str, *, kind: str, origin: str) -> bool:
        """Keep an address that somebody told us, if there is room. Raises InvalidAddress."""
        target, peer = self._foreign(address)
        new = await self._book.hint(plain(target), peer, source, kind=kind, origin=origin)
        if new:
            self.scheduler.wake()
        return new

    async def forget(self, address: str) -> bool:
        """Drop an address; false if it was not known. Raises InvalidAddress."""
        return await self._book.forget(plain(self.dialable(address)))

    def stage(self, address: str, *, kind: str, source: str, ttl: float | None, origin: str) -> bool:
        """Offer an address for now; true if that is new. Raises InvalidAddress."""
        target, peer = self._foreign(address)
        now = self._clocks.wall()
        known = Remembered(plain(target), peer, source, False, int(now * 1000), kind=kind, origin=origin)
        new = self._staging.put(known, now=now, ttl=ttl)
        if new:
            self.scheduler.wake()
        return new

    def unstage(self, address: str) -> bool:
        """Take a staged address back; false if it was not staged. Raises InvalidAddress."""
        return self._staging.take_back(plain(self.dialable(address)), now=self._clocks.wall())

    async def leave_alone(self, peer: str) -> None:
        """Do not dial a peer by ourselves until somebody asks for it again."""
        for known in self._book.of_peer(peer):
            await self._book.update(replace(known, auto=False, paused=True))
        for known in self._staging.here(self._clocks.wall()):
            if known.peer == peer:
                self._staging.update(replace(known, paused=True))

    async def _unpause(self, peer: str) -> None:
        for known in self._book.of_peer(peer):
            await self._book.update(replace(known, paused=False))
        for known in self._staging.here(self._clocks.wall()):
            if known.peer == peer:
                self._staging.update(replace(known, paused=False))

    def picked(self, peer: str) -> bool:
        """Whether a person picked an address of this peer."""
        return any(known.auto for known in self._book.of_peer(peer))

    # ---- dialling

    def dialable(self, address: str) -> Address:
        """The first alternative of an address text that can be dialled. Raises InvalidAddress."""
        return self._alternatives(address)[0]

    def _alternatives(self, address: str) -> list[Address]:
        """Those that can be dialled, at least one. Raises InvalidAddress."""
        found = [
            target
            for target in parse_addresses(address)
            if target.key is not None and (target.transport == "net" or target.transport in self._diallers)
        ]
        if found:
            return found
        if any(target.transport == "onion" for target in parse_addresses(address)):
            raise InvalidAddress(f"{address}: an onion address needs a SOCKS proxy such as Tor's; name it with --socks")
        ways = " or ".join(sorted({"net", *self._diallers}))
        raise InvalidAddress(f"{address}: only {ways} addresses with a key can be dialled, as in net:HOST:PORT~shs:KEY")

    def _foreign(self, address: str) -> tuple[Address, str]:
        return self._another(address, self.dialable(address))

    def _another(self, address: str, target: Address) -> tuple[Address, str]:
        assert target.key is not None
        if target.key == self._me:
            raise InvalidAddress(f"{address}: this is our own address")
        return target, target.key

    async def dial(self, address: str) -> PeerInfo:
        """Connect by hand, by the first of the alternatives that works, and remember that one."""
        *others, last = [self._another(address, target) for target in self._alternatives(address)]
        for target, peer in others:
            with suppress(DialFailed):
                return await self._dial_by_hand(target, peer)
        return await self._dial_by_hand(*last)

    async def _dial_by_hand(self, target: Address, peer: str) -> PeerInfo:
        connected = self._hub.connected(peer)
        if connected is not None:
            return connected
        if not self._replicator.allows_peer(peer):
            raise DialFailed("authorize", f"we block {peer}")
        if peer not in self._dials:
            await self._make_room()
        known = self._book.get(plain(target)) or self._staging.get(plain(target))
        info = await self._dial_once(target, known.source if known else "manual", Group.HAND)
        if target.seed is None:
            kind = known.kind if known else ""
            await self._book.remember(plain(target), peer, "manual", auto=True, kind=kind)
            await self._book.succeeded(plain(target))
            await self._unpause(peer)
        return info

    async def dial_known(self, known: Remembered) -> PeerInfo:
        """Connect because the scheduler said so."""
        return await self._dial_once(self.dialable(known.address), known.source, self.scheduler.group(known))

    async def reach(self, peer: str) -> PeerInfo:
        """Connect to a peer by one of the addresses in the book that lead to it directly."""
        if not self._replicator.allows_peer(peer):
            raise DialFailed("authorize", f"we block {peer}")
        for known in self._book.of_peer(peer):
            target = self.dialable(known.address)
            if target.transport != "tunnel":
                return await self.dial_known(known)
        raise InvalidAddress(f"no address of {peer} is known; connect to it by its address first")

    async def _dial_once(self, target: Address, source: str, group: Group) -> PeerInfo:
        """Dial. A dial of the same address that is under way is shared, one of another address of the peer awaited."""
        assert target.key is not None
        peer = target.key
        while (running := self._dials.get(peer)) is not None:
            if running.target == target:
                return await asyncio.shield(running.task)
            await asyncio.wait([running.task])
            connected = self._hub.connected(peer)
            if connected is not None:
                return connected
        task = asyncio.create_task(self._connect(target, source, group), name=f"dial {target.transport} {peer}")
        self._dials[peer] = _Dial(target, group, task)
        task.add_done_callback(lambda task: self._dialled(peer, task))
        return await asyncio.shield(task)

    def _dialled(self, peer: str, task: asyncio.Task[PeerInfo]) -> None:
        del self._dials[peer]
        if not task.cancelled():
            task.exception()  # whoever asked may have gone

    async def _connect(self, target: Address, source: str, group: Group) -> PeerInfo:
        assert target.key is not None
        address = plain(target)
        if self._outgoing > self._outbound:  # this dial is among them
            raise DialFailed("connect", f"{self._outbound} connections are open already; hang up on one first")
        patience = self._patience.get(target.transport, self._config.limits.dial_timeout)
        try:
            peer = await connect_peer(target, self._config, timeout=patience)
        except DialFailed as error:
            await self.scheduler.failed(address, error)
            self._hub.dial_failed(self._in_vain(target, source, str(error)), error)
            raise
        info = self._hub.opened(peer, address, source, group)
        await self.scheduler.reached(address)
        return info

    @property
    def _outgoing(self) -> int:
        """Connections we opened and dials under way."""
        return sum(1 for _, each in self._hub.held() if each.outgoing) + len(self._dials)

    async def _make_room(self) -> None:
        """For a peer that a person asks for, a connection that nobody asked for goes."""
        if self._outgoing < self._outbound:
            return
        held = [each for _, each in self._hub.held() if each.outgoing and each.group is not Group.HAND]
        if not held:
            return
        if not any(each.closing for each in held):
            order = list(Group)
            least = max(held, key=lambda each: (order.index(each.group), -each.since))
            self._hub.hang_up(least.peer, "made room for a peer picked by hand")
        with suppress(TimeoutError):
            async with asyncio.timeout(ROOM_SECONDS):
                while self._outgoing >= self._outbound:
                    await self._freed.wait()

    async def ended(self, address: str, *, outgoing: bool, lasted: float) -> None:
        """A connection is over after so many seconds."""
        self._freed.set()
        self._freed = asyncio.Event()
        if outgoing:
            await self.scheduler.ended(address, lasted)
        else:
            self.scheduler.wake()

    # ---- what the scheduler asks

    def hang_up(self, peer: str, reason: str) -> None:
        """End the connection with a peer."""
        self._hub.hang_up(peer, reason)

    def held(self) -> list[tuple[str, Held]]:
        """Every connection with a peer."""
        return self._hub.held()

    def dialling(self) -> Mapping[str, Group]:
        """Peers with a dial under way."""
        return {peer: dial.group for peer, dial in self._dials.items()}

    def barred(self, peer: str) -> str:
        """Why a peer must not be dialled at all."""
        return "" if self._replicator.allows_peer(peer) else "we block this peer"

    def hops(self, peer: str) -> int | None:
        """The distance of a peer by follows, if we replicate that far."""
        policy = self._replicator.policy
        found = policy.hops.get(peer)
        return None if found is not None and found > policy.max_hops else found

    # ---- for people

    def known(self) -> list[KnownPeer]:
        """Every address that we know, and what the scheduler makes of it."""
        decisions = self.scheduler.decisions()
        return [self._known(known, decisions.get(known.address)) for known in self.scheduler.candidates()]

    def _known(self, known: Remembered, decided: Decided | None) -> KnownPeer:
        state = PeerState.DISCONNECTED
        if self._hub.connected(known.peer) is not None:
            state = PeerState.CONNECTED
        elif known.peer in self._dials:
            state = PeerState.DIALLING
        return KnownPeer(
            id=known.peer,
            address=known.address,
            source=known.source,
            kind=known.kind,
            origin=known.origin,
            group=str(self.scheduler.group(known)),
            autoconnect=known.auto,
            staged=self.scheduler.is_staged(known.address),
            state=state,
            hops=self.hops(known.peer),
            failures=known.failures,
            first_heard=known.added,
            last_success=known.last_success,
            last_failure=known.last_failure,
            next_try=known.next_try or None,
            error=known.error,
            decision=decided.what if decided else "",
            reason=decided.reason if decided else "",
            decided=decided.at if decided else None,
        )

    def idle(self, connected: set[str]) -> list[PeerInfo]:
        """Remembered addresses of peers that are not connected."""
        decisions = self.scheduler.decisions()
        return [
            self._idle(known, decisions.get(known.address)) for known in self._book.all() if known.peer not in connected
        ]

    def _idle(self, known: Remembered, decided: Decided | None) -> PeerInfo:
        wait = max(0.0, known.next_try / 1000 - self._clocks.wall())
        return PeerInfo(
            id=known.peer,
            address=known.address,
            direction=Direction.OUTGOING,
            state=PeerState.DIALLING if known.peer in self._dials else PeerState.DISCONNECTED,
            since=max(known.added, known.last_success or 0, known.last_failure or 0),
            source=known.source,
            failures=known.failures,
            redial_in=None if known.paused else wait,
            error=known.error,
            reason=decided.reason if decided else "",
        )

    def reason(self, address: str, group: Group) -> str:
        """Why a connection that we opened is there."""
        decided = self.scheduler.decisions().get(address)
        if decided is not None and decided.what in ("dial", "hang-up"):
            return decided.reason
        return "picked by hand" if group is Group.HAND else ""

    def _in_vain(self, target: Address, source: str, error: str) -> PeerInfo:
        return PeerInfo(
            id=target.key or "",
            address=plain(target),
            direction=Direction.OUTGOING,
            state=PeerState.DISCONNECTED,
            since=int(self._clocks.wall() * 1000),
            source=source,
            error=error,
        )


def plain(target: Address) -> str:
    """The address without an invite's seed, as it is remembered and shown."""
    return str(Address(target.transport, target.data, target.public))
