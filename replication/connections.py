"""The hub of live peers: listens, answers, and keeps each peer's doings apart from everybody else's.

Each peer runs in one task group: its muxrpc connection, its replication and its ping. Whatever goes wrong there ends
that connection and nothing more. Peers that we block are turned away in the handshake, and hung up on when the block
comes later; so are strangers, if they are not wanted (`Strangers`). Whom to dial is `replication.dialling`'s, which
discovery, invites and rooms feed through `stage` and `remember`.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from feeds.keys import Keypair
from feeds.message import JsonValue
from replication.address import Address
from replication.address_book import AddressBook, Remembered
from replication.admission import Admission
from replication.backoff import Backoff
from replication.blob_exchange import BlobExchange
from replication.dialling import Dialling
from replication.errors import (
    ConnectionClosed,
    DialFailed,
    DialTimeout,
    HandshakeFailed,
    HandshakeTimeout,
    RemoteCallError,
    RemoteError,
)
from replication.limits import DEFAULT_LIMITS, LOCAL_LIMITS, Limits
from replication.methods.ping import keep_pinging
from replication.network import has_route
from replication.peer import Peer, PeerConfig, answer_stream, connect_peer, listen_local, listen_peers
from replication.peer_info import Decided, Direction, KnownPeer, PeerEvent, PeerInfo, PeerState, Traffic
from replication.policy import Strangers
from replication.replicator import Clocks, Replicator
from replication.rpc.bodies import Payload
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import MethodTable, Who
from replication.schedule import Group, Held, Quotas, Rules
from replication.secret_handshake import MAIN_NETWORK
from replication.secret_stream import feed_id
from replication.transport import ByteStream, Dialler, StreamServer, listen_tcp
from replication.websocket_stream import answer_websocket

logger = logging.getLogger(__name__)

CROSSED_SECONDS: Final = 5.0
"""Two connections between the same peers that began within this time crossed each other: one of them is closed."""
IDLE_SECONDS: Final = 2.0
"""A stranger that was silent for so long gives its place to another stranger, if there is none left."""
STOP_SECONDS: Final = 2.5
CALL_SECONDS: Final = 20.0


@dataclass(slots=True, eq=False)
class _Link:
    """One live connection. `began` is a monotonic time, `since` milliseconds since the epoch."""

    peer: Peer
    address: str
    direction: Direction
    source: str
    began: float
    since: int
    group: Group = Group.STRANGER
    """In which quota it counts, if we opened it."""
    fate: float = 0.5
    closing: bool = False
    task: asyncio.Task[None] | None = None


class Connections:
    """All connections of one node. `start`, then `stop`; everything else in between."""

    def __init__(
        self,
        keypair: Keypair,
        table: MethodTable,
        *,
        replicator: Replicator,
        book: AddressBook,
        clocks: Clocks,
        network_key: bytes = MAIN_NETWORK,
        limits: Limits = DEFAULT_LIMITS,
        local_limits: Limits = LOCAL_LIMITS,
        masters: Collection[str] = (),
        backoff: Backoff | None = None,
        blob_exchange: BlobExchange | None = None,
        diallers: Mapping[str, Dialler] | None = None,
        rules: Rules | None = None,
        strangers: Strangers = Strangers.ANYONE,
        has_network: Callable[[], bool] = has_route,
    ) -> None:
        """`diallers` open streams of transports besides `net`, by the transport's name in addresses.

        `rules` say whom to dial unasked (their total is `limits.outbound`), `strangers` who may come in.
        """
        self.id = keypair.id
        self._public = keypair.public
        self._replicator = replicator
        self._blob_exchange = blob_exchange
        self._book = book
        self._clocks = clocks
        self._limits = limits
        self._strangers = strangers
        self._guests: list[Callable[[str], bool]] = []
        self._rights: list[Callable[[str], frozenset[Who] | None]] = []
        table_of_diallers = dict(diallers or {})
        self._config = PeerConfig(
            keypair=keypair,
            table=table,
            network_key=network_key,
            limits=limits,
            local_limits=local_limits,
            masters=masters,
            authorize=self._authorize,
            rights_of=self._rights_of,
            diallers=table_of_diallers,
        )
        self._admission = Admission(limits)
        self._links: set[_Link] = set()
        wanted = rules or Rules(quotas=Quotas(), backoff=backoff or Backoff())
        self._dialling = Dialling(
            self.id,
            self,
            self._config,
            replicator=replicator,
            book=book,
            clocks=clocks,
            rules=replace(wanted, quotas=replace(wanted.quotas, total=limits.outbound)),
            diallers=table_of_diallers,
            has_network=has_network,
        )
        self._servers: list[StreamServer] = []
        self._net_addresses: list[str] = []
        self._web_addresses: list[str] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._subscribers: list[Callable[[PeerEvent], None]] = []
        self._stopping = False
        self.refused: Final[list[int]] = [0]
        self._past = Traffic(0, 0, 0, 0, {})
        self._breaches: Counter[str] = Counter()
        self._counted = [self._breaches, self._admission.breaches, replicator.ebt.state.breaches]
        if blob_exchange is not None:
            self._counted.append(blob_exchange.breaches)
        replicator.on_refused(self._hang_up_on)

    # ---- life

    async def start(
        self,
        listen: Collection[tuple[str | None, int]] = (),
        *,
        socket_path: Path | str | None = None,
        websockets: Collection[tuple[str | None, int]] = (),
    ) -> None:
        """Listen on the given hosts and ports (0: a free one), on a unix socket and for WebSockets; begin to dial.

        Raises AddressInUse or LocalError, naming what could not be listened on; nothing stays open then.
        """
        try:
            for host, port in listen:
                server = await listen_peers(
                    host, port, self._config, self._answer, on_refused=self._on_refused, admission=self._admission
                )
                self._servers.append(server)
                self._net_addresses += [
                    str(Address.net(bound, number, self._public)) for bound, number in server.addresses
                ]
            for host, port in websockets:
                server = await listen_tcp(host, port, self._answer_websocket, limits=self._limits)
                self._servers.append(server)
                self._web_addresses += [_web_address(*bound, self._public) for bound in server.addresses]
                logger.info("listening for WebSockets at %s", ", ".join(self._web_addresses))
            if socket_path is not None:
                self._servers.append(await listen_local(socket_path, self._config, self._serve_local))
        except BaseException:
            await self._stop_listening()
            raise
        self._spawn(self._dialling.run(), "scheduler")

    async def stop(self) -> None:
        """Stop listening and dialling, say goodbye to everybody, and be done within three seconds whatever peers do."""
        self._stopping = True
        self._dialling.stop()
        for task in self._tasks:
            task.cancel()
        closing = [asyncio.create_task(link.peer.close()) for link in self._links]
        running = [link.task for link in self._links if link.task is not None]
        if closing:
            await asyncio.wait(closing, timeout=STOP_SECONDS - 0.3)
        if running:
            await asyncio.wait(running, timeout=0.2)
        for link in list(self._links):
            link.peer.connection.abort("the node is stopping")
            if link.task is not None:
                link.task.cancel()
        for task in closing:
            task.cancel()
        await self._stop_listening()
        left = [task for task in [*running, *closing, *self._tasks] if not task.done()]
        if left:
            await asyncio.wait(left, timeout=0.3)

    async def _stop_listening(self) -> None:
        servers, self._servers = self._servers, []
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                for server in servers:
                    await server.close()

    def _spawn(self, job: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(job, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ---- other transports

    def add_dialler(self, transport: str, dialler: Dialler, *, patience: float | None = None) -> None:
        """Dial addresses of one more transport; `patience` is how many seconds a dial may take."""
        self._dialling.add_dialler(transport, dialler, patience)

    async def _answer_websocket(self, stream: ByteStream) -> None:
        host = getattr(stream, "host", "")
        try:
            with self._admission.admit(host, lambda: stream.abort("made room for others")):
                opened = await answer_websocket(stream, limits=self._limits)
        except HandshakeFailed as error:
            self._on_refused(stream.peername, error)
            return
        await self.accept(opened, kind="websocket")

    async def accept(
        self, stream: ByteStream, *, kind: str, admits: Callable[[str], bool] = lambda _peer: True
    ) -> None:
        """Answer a caller on a stream from elsewhere (a WebSocket, a tunnel), and serve it until it has ended.

        `kind` says where it came from. The same limits, blocks and firewall hold as for TCP, and `admits(id)` may turn
        more callers away. Raises nothing: a caller that does not get through the handshake is hung up on.
        """
        if self._stopping:
            stream.abort("the node is stopping")
            return

        async def serve(peer: Peer) -> None:
            await self._answer(peer, kind)

        config = replace(self._config, authorize=lambda key: self._authorize(key) and admits(feed_id(key)))
        await answer_stream(stream, config, serve, on_refused=self._on_refused, admission=self._admission)

    # ---- what others ask

    @property
    def address(self) -> str:
        """The first address that peers can dial; empty when there is none."""
        return self._net_addresses[0] if self._net_addresses else ""

    def addresses(self) -> list[str]:
        """All addresses that peers can dial, as bound."""
        return self._net_addresses + self._web_addresses

    def peers(self) -> list[PeerInfo]:
        """Live connections of peers, then remembered addresses of peers without one."""
        found = [self._info(link) for link in self._links if not _is_program(link)]
        connected = {info.id for info in found}
        return found + self._dialling.idle(connected)

    def known_peers(self) -> list[KnownPeer]:
        """Every address that we know, staged ones too, with the scheduler's last word on it."""
        return self._dialling.known()

    def decisions(self) -> dict[str, Decided]:
        """The scheduler's last decision about each address."""
        return dict(self._dialling.scheduler.decisions())

    def traffic(self) -> Traffic:
        """What went over connections with peers so far."""
        found = self._past
        for link in self._links:
            found = _with(found, link)
        breaches = sum(self._counted, Counter(found.breaches))
        return replace(found, refused=self.refused[0], breaches=breaches)

    def count_also(self, breaches: Counter[str]) -> None:
        """Let `traffic` count the breaches that something else notes down in `breaches`, by the limit's name."""
        self._counted.append(breaches)

    def connected(self, peer: str) -> PeerInfo | None:
        """The newest live connection with a peer."""
        links = self._links_of(peer)
        return self._info(links[-1]) if links else None

    def rpc_of(self, peer: str) -> RpcConnection | None:
        """The newest live connection with a peer, to make calls on."""
        links = self._links_of(peer)
        return links[-1].peer.connection if links else None

    def picked(self, peer: str) -> bool:
        """Whether a person picked an address of this peer."""
        return self._dialling.picked(peer)

    async def set_kind(self, address: str, kind: str) -> None:
        """Put down what answers at a remembered address: "room", for one."""
        known = self._book.get(address)
        if known is not None:
            await self._book.update(replace(known, kind=kind))

    async def reach(self, peer: str) -> PeerInfo:
        """Connect to a peer by an address that we know of, because something else needs it.

        Raises DialFailed, or InvalidAddress if no such address can be dialled.
        """
        return self.connected(peer) or await self._dialling.reach(peer)

    def subscribe(self, callback: Callable[[PeerEvent], None]) -> Callable[[], None]:
        """Call back when a peer connects, disconnects or cannot be dialled; returns the function that ends it."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def remembered(self) -> list[Remembered]:
        """Every known address."""
        return self._book.all()

    async def remember(
        self, address: str, source: str = "manual", *, auto: bool = True, kind: str = "", origin: str = ""
    ) -> Remembered:
        """Keep an address; with `auto` a person picked it: dialled now, and whenever the connection is lost.

        Raises InvalidAddress.
        """
        return await self._dialling.remember(address, source, auto=auto, kind=kind, origin=origin)

    async def hint(self, address: str, source: str, *, kind: str, origin: str) -> bool:
        """Keep an address that `origin` told us of, as far as there is room for such; false if it is no news.

        Raises InvalidAddress.
        """
        return await self._dialling.hint(address, source, kind=kind, origin=origin)

    async def forget(self, address: str) -> bool:
        """Drop a known address; false if it was not known. Raises InvalidAddress."""
        return await self._dialling.forget(address)

    def stage(
        self, address: str, *, kind: str, source: str, ttl: float | None = None, portal: str | None = None
    ) -> bool:
        """Offer an address that holds only now to the scheduler; true if it is new.

        `kind` is "lan", "room-attendant", ... With `ttl` it vanishes after so many seconds unless it is staged again,
        without when `unstage` takes it back. `portal` is the room through which it leads. Raises InvalidAddress.
        """
        return self._dialling.stage(address, kind=kind, source=source, ttl=ttl, origin=portal or "")

    def unstage(self, address: str) -> bool:
        """Take a staged address back; false if it was not staged. Raises InvalidAddress."""
        return self._dialling.unstage(address)

    async def dial(self, address: str) -> PeerInfo:
        """Connect, and return when the handshake is done; a peer that is connected already is not dialled again.

        The address is remembered once it has worked. Raises InvalidAddress, DialTimeout, or DialFailed with the step.
        """
        return await self._dialling.dial(address)

    async def call(
        self, peer: str, method: str, args: Sequence[JsonValue] = (), *, timeout: float = CALL_SECONDS
    ) -> Payload:
        """Call an async method of a connected peer. Raises RemoteError and its kinds."""
        links = self._links_of(peer)
        if not links:
            raise ConnectionClosed(f"not connected to {peer}")
        try:
            async with asyncio.timeout(timeout):
                return await links[-1].peer.connection.call(method, args)
        except TimeoutError:
            raise RemoteCallError("timeout", f"{peer} did not answer within {timeout:g} seconds") from None

    async def disconnect(self, peer: str) -> bool:
        """Hang up, and do not redial by ourselves; false if there was no connection."""
        links = self._links_of(peer)
        await self._dialling.leave_alone(peer)
        for link in links:
            self._close_soon(link, "disconnected by hand")
        return bool(links)

    def autoconnect(self, on: bool) -> None:
        """Whether to dial peers that nobody picked by hand, from now on."""
        self._dialling.autoconnect(on)

    async def reconnect(self) -> None:
        """Hang up on every peer, and dial anew without waiting."""
        ending = [link.task for link in self._links if not _is_program(link) and link.task is not None]
        for link in list(self._links):
            if not _is_program(link):
                self._close_soon(link, "connecting anew, as a program asked")
        if ending:
            await asyncio.wait(ending, timeout=STOP_SECONDS)
        await self._dialling.retry()

    # ---- answering

    def admit_also(self, is_guest: Callable[[str], bool]) -> None:
        """Let in whom `is_guest(id)` names though no follow leads there: whoever holds an invite, for one."""
        self._guests.append(is_guest)

    def give_rights(self, rights_of: Callable[[str], frozenset[Who] | None]) -> None:
        """Let `rights_of(id)` say what a peer may call, where it gives no None; others may what anybody may."""
        self._rights.append(rights_of)

    def _rights_of(self, peer: str) -> frozenset[Who]:
        found = (rights_of(peer) for rights_of in self._rights)
        return next((rights for rights in found if rights is not None), frozenset({Who.ANON}))

    async def visit(self, address: Address) -> Peer:
        """Dial as a guest, with the identity of the address's seed and offering nothing; the caller runs the peer.

        It is none of our connections. Raises InvalidAddress, DialFailed and its kinds.
        """
        return await connect_peer(address, replace(self._config, table=MethodTable()))

    def _authorize(self, public: bytes) -> bool:
        """Asked in the handshake: peers that we block, strangers, and more than there is room for are turned away."""
        peer = feed_id(public)
        if peer == self.id or peer in self._config.masters:
            return True
        if self._stopping or not self._replicator.allows_peer(peer) or not self._has_room(peer):
            return False
        return (
            self._replicator.policy.admits(peer, self._strangers)
            or any(is_guest(peer) for is_guest in self._guests)
            or self._dialling.picked(peer)
        )

    def _has_room(self, peer: str) -> bool:
        """Whether a caller gets in: there is a place, or one that it may have instead of who holds it."""
        if len(self._incoming()) < self._limits.inbound or self._least(peer) is not None:
            return True
        self._breaches["inbound"] += 1
        return False

    def _make_room(self, peer: str) -> bool:
        """Take a place for a caller; false if it gets none."""
        if not self._has_room(peer):
            return False
        if len(self._incoming()) >= self._limits.inbound and (least := self._least(peer)) is not None:
            self._breaches["inbound"] += 1
            self._close_soon(least, "made room for another peer")
        return True

    def _least(self, newcomer: str) -> _Link | None:
        """Of the strangers that hold a place, the one silent for longest; for a stranger, only one that is idle."""
        strangers = [link for link in self._incoming() if link.peer.id is not None and self._is_strange(link.peer.id)]
        least = max(strangers, key=lambda link: link.peer.connection.silent_for, default=None)
        if least is not None and self._is_strange(newcomer) and least.peer.connection.silent_for < IDLE_SECONDS:
            return None
        return least

    def _is_strange(self, peer: str) -> bool:
        """Whether neither follows lead to a peer nor anybody picked it."""
        return not self._replicator.policy.admits(peer, Strangers.HOPS) and not self._dialling.picked(peer)

    def _incoming(self) -> list[_Link]:
        return [
            link
            for link in self._links
            if link.direction is Direction.INCOMING and not link.peer.local and not link.closing
        ]

    def _on_refused(self, peername: str, error: Exception) -> None:
        self.refused[0] += 1
        if isinstance(error, HandshakeTimeout):
            self._breaches["handshake_timeout"] += 1
        logger.info("handshake with %s failed: %s", peername, error)

    async def _answer(self, peer: Peer, source: str = "incoming") -> None:
        if self._stopping or not (peer.local or self._make_room(peer.id or "")):
            return  # many may have passed the handshake at the same time
        await self._attend(self._link(peer, peer.peername, Direction.INCOMING, source))

    async def _serve_local(self, peer: Peer) -> None:
        if not self._stopping:
            await self._attend(self._link(peer, "unix", Direction.INCOMING, "local"))

    # ---- what dialling asks

    def held(self) -> list[tuple[str, Held]]:
        """Address and state of each connection with a peer, closing ones too."""
        return [
            (
                link.address,
                Held(
                    link.peer.id,
                    link.group,
                    link.since / 1000,
                    link.direction is Direction.OUTGOING,
                    link.fate,
                    link.closing,
                ),
            )
            for link in self._links
            if link.peer.id is not None and not link.peer.local
        ]

    def opened(self, peer: Peer, address: str, source: str, group: Group) -> PeerInfo:
        """A dial worked: take the connection over."""
        link = self._link(peer, address, Direction.OUTGOING, source)
        link.group, link.fate = group, self._clocks.random()
        link.task = asyncio.create_task(self._attend(link), name=f"peer {peer.id}")
        return self._info(link)

    def dial_failed(self, info: PeerInfo, error: DialFailed) -> None:
        """A dial led to nothing: tell everybody."""
        if isinstance(error, DialTimeout):
            self._breaches["handshake_timeout" if isinstance(error, HandshakeTimeout) else "dial_timeout"] += 1
        self._tell("dial-failed", info)

    def hang_up(self, peer: str, reason: str) -> None:
        """End the connections with a peer."""
        for link in self._links_of(peer):
            self._close_soon(link, reason)

    # ---- one connection

    def _link(self, peer: Peer, address: str, direction: Direction, source: str) -> _Link:
        link = _Link(peer, address, direction, source, self._clocks.now(), int(self._clocks.wall() * 1000))
        self._settle_crossed(link)
        self._links.add(link)
        return link

    def _settle_crossed(self, new: _Link) -> None:
        """Bound the connections with one peer, and let both sides agree which of two that crossed is kept."""
        peer = new.peer.id
        if peer is None or new.peer.local or _is_guest(new):
            return  # many people may use one invite at the same time
        links = self._links_of(peer)
        for old in links:
            if old.direction is not new.direction and new.began - old.began < CROSSED_SECONDS:
                ours_kept = self.id < peer  # the connection dialled by the smaller id stays
                extra = new if (new.direction is Direction.OUTGOING) is not ours_kept else old
                self._close_soon(extra, "crossed another connection with the same peer")
                return
        for old in links[: max(0, len(links) + 1 - self._limits.connections_per_key)]:
            self._breaches["connections_per_key"] += 1
            self._close_soon(old, "replaced by a newer connection of the same peer")

    async def _attend(self, link: _Link) -> None:
        """Run one connection to its end; nothing gets out of here but cancellation."""
        link.task = link.task or asyncio.current_task()
        peer = link.peer
        if not _is_program(link):
            logger.info("connected to %s (%s, %s)", peer.id, link.direction, link.address)
            self._tell("connected", self._info(link))
        error: str | None = None
        try:
            await self._run(link)
        except* Exception:
            logger.exception("the connection with %s failed", peer.id or "a local program")
            error = "internal error"
        finally:
            self._links.discard(link)
            self._past = _with(self._past, link)
            peer.connection.abort()
            self._ended(link, error or (str(peer.connection.error) if peer.connection.error else None))

    async def _run(self, link: _Link) -> None:
        connection = link.peer.connection
        async with asyncio.TaskGroup() as group:
            beside: list[asyncio.Task[None]] = []
            if link.peer.id is not None and not link.peer.local and not _is_guest(link):
                exchange = self._replicator.exchange(
                    connection, link.peer.id, lambda reason: self._close_soon(link, reason)
                )
                jobs = [exchange, keep_pinging(connection, self._clocks.wall)]
                if self._blob_exchange is not None:
                    jobs.append(
                        self._blob_exchange.attend(
                            connection, link.peer.id, lambda reason: self._close_soon(link, reason)
                        )
                    )
                beside = [group.create_task(self._beside(link, job)) for job in jobs]
            try:
                await link.peer.run()
            finally:
                for task in beside:
                    task.cancel()

    async def _beside(self, link: _Link, job: Coroutine[Any, Any, None]) -> None:
        """What runs beside a connection must not end it before it has said goodbye."""
        try:
            await job
        except* ConnectionClosed:
            pass
        except* RemoteError as group:
            self._close_soon(link, str(_first(group)))

    def _ended(self, link: _Link, error: str | None) -> None:
        if _is_program(link):
            return
        peer = link.peer.id
        logger.info("disconnected from %s%s", peer, f": {error}" if error else "")
        self._tell("disconnected", self._info(link, PeerState.DISCONNECTED, error))
        if not self._stopping:  # ends of our own making say nothing about the peer
            lasted = self._clocks.now() - link.began
            outgoing = link.direction is Direction.OUTGOING
            self._spawn(self._dialling.ended(link.address, outgoing=outgoing, lasted=lasted), f"put down {peer}")

    def _hang_up_on(self, peers: Collection[str]) -> None:
        for peer in peers:
            for link in self._links_of(peer):
                self._close_soon(link, "we block this peer now")

    def _close_soon(self, link: _Link, reason: str) -> None:
        if link.closing:
            return
        link.closing = True
        logger.info("hanging up on %s: %s", link.peer.id, reason)
        self._spawn(self._close(link), f"close {link.peer.id}")

    async def _close(self, link: _Link) -> None:
        with suppress(ConnectionClosed):
            await link.peer.close()

    def _links_of(self, peer: str) -> list[_Link]:
        """Live connections with a peer that are not being closed, oldest first."""
        found = [link for link in self._links if link.peer.id == peer and not link.closing and not link.peer.local]
        return sorted(found, key=lambda link: link.began)

    # ---- for people

    def _tell(self, kind: str, info: PeerInfo) -> None:
        event = PeerEvent(kind, info)
        for callback in tuple(self._subscribers):
            try:
                callback(event)
            except Exception:
                logger.exception("a follower of peer events failed")

    def _info(self, link: _Link, state: PeerState | None = None, error: str | None = None) -> PeerInfo:
        connection = link.peer.connection
        exchange = self._replicator.exchange_of(connection)
        return PeerInfo(
            id=link.peer.id or "",
            address=link.address,
            direction=link.direction,
            state=state or (PeerState.CLOSING if link.closing else PeerState.CONNECTED),
            since=link.since,
            local=link.peer.local,
            source=link.source,
            replication=None if exchange is None else exchange.protocol,
            bytes_in=connection.bytes_in,
            bytes_out=connection.bytes_out,
            error=error,
            reason=self._dialling.reason(link.address, link.group) if link.direction is Direction.OUTGOING else "",
        )


def _web_address(host: str, port: int, public: bytes) -> str:
    shown = f"[{host}]" if ":" in host else host
    return str(Address("ws", tuple(f"//{shown}:{port}".split(":")), public))


def _is_program(link: _Link) -> bool:
    """A program of the node's own user, which is no peer."""
    return link.peer.local


def _is_guest(link: _Link) -> bool:
    """Whoever holds an invite's key: it may do what the invite is for, and has no feed to exchange."""
    return Who.ANON not in link.peer.connection.caller.rights


def _with(traffic: Traffic, link: _Link) -> Traffic:
    """Also what went over one connection."""
    if _is_program(link):
        return traffic
    connection = link.peer.connection
    return Traffic(
        traffic.bytes_in + connection.bytes_in,
        traffic.bytes_out + connection.bytes_out,
        traffic.connections + 1,
        traffic.refused,
        Counter(traffic.breaches) + connection.breaches,
    )


def _first(group: BaseExceptionGroup[RemoteError]) -> BaseException:
    """The first error inside groups of groups."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
