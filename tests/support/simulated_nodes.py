"""The inhabitants of a simulated world: our EBT machine with a simple driver, the reference's model, a liar; and links.

The world (``tests.support.simulator``) gives them time, randomness, and a place to complain.
"""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from replication.ebt.notes import decode
from replication.ebt.state import Breach, EbtState, SendNotes, SendRange
from tests.support.ebt_link import feed_id
from tests.support.reference_peer import ReferencePeer

if TYPE_CHECKING:
    from tests.support.simulator import World

DISTURBED = 40.0
"""Seconds during which things happen to the world."""


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive messages of one feed; ``valid`` is what ingest will find, ``branch`` tells forks of it apart."""

    feed: str
    first: int
    last: int
    valid: bool = True
    branch: str = ""


Frame: TypeAlias = object
"""A Run, or the decoded JSON of notes, of any type."""


class Conn:
    """One connection: two ends, in-order delivery, nothing after a cut."""

    def __init__(self, world: "World", client: "Node", server: "Node") -> None:
        self.world = world
        self.client = client
        self.server = server
        self.latency = world.random.choice((0.001, 0.02, 0.1, 0.4))
        self.cost = 1 / world.random.choice((30, 300, 3000))
        self.alive = True
        self.busy = {client.name: 0.0, server.name: 0.0}
        self.frames = 0
        self.messages = 0

    def other(self, node: "Node") -> "Node":
        return self.server if node is self.client else self.client

    def send(self, node: "Node", frame: Frame) -> None:
        """Put a frame on its way; it occupies the direction for as long as its size needs."""
        if not self.alive:
            return
        self.frames += 1
        self.world.report.frames += 1
        size = frame.last - frame.first + 1 if isinstance(frame, Run) else 0.1
        if isinstance(frame, Run):
            self.messages += frame.last - frame.first + 1
        start = max(self.world.now, self.busy[node.name])
        self.busy[node.name] = start + size * self.cost
        self.world.at(self.busy[node.name] + self.latency, self._arrive, node, frame)

    def _arrive(self, node: "Node", frame: Frame) -> None:
        other = self.other(node)
        if self.alive and other.sessions.get(node.name) is self:
            self.world.log(f"{node.name}->{other.name} {frame}")
            other.receive(node.name, frame)

    def cut(self, spread: float = 2.0) -> None:
        """Break the connection; each end notices within ``spread`` seconds."""
        if not self.alive:
            return
        self.alive = False
        for node in (self.client, self.server):
            delay = self.world.random.uniform(0, spread) if spread else 0.0
            self.world.at(self.world.now + delay, node.closed, self)


class Node:
    """What all kinds of nodes have: a log, wishes, connections."""

    kind = "node"

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.own = feed_id(name)
        self.log: dict[str, int] = {}
        self.branch: dict[str, str] = {}
        """Which branch is held of a feed that has several (and of which more is held than the common beginning)."""
        self.forked: set[str] = set()
        self.wants: set[str] = set()
        self.blocks: set[tuple[str, str]] = set()
        self.sessions: dict[str, Conn] = {}
        self.up = False
        self.locked = False
        self.stalled_until = 0.0

    def start(self) -> None:
        self.up = True

    def opened(self, conn: Conn, *, client: bool) -> None:
        raise NotImplementedError

    def closed(self, conn: Conn) -> None:
        raise NotImplementedError

    def receive(self, peer: str, frame: Frame) -> None:
        raise NotImplementedError

    def publish(self) -> None:
        raise NotImplementedError


class MachineNode(Node):
    """A node of ours: the EBT machine with the simplest driver, a log that can lose its tail, and slow ingest."""

    kind = "machine"

    def __init__(self, world: "World", name: str) -> None:
        super().__init__(world, name)
        self.ebt = EbtState()
        self.numbers: dict[str, int] = {}
        self.asked: dict[str, dict[str, int]] = {}
        """Per session: where the peer's last request, or what went either way since, has brought each feed."""
        self.store: dict[str, dict[str, int]] = {}
        self.synced: tuple[dict[str, int], dict[str, dict[str, int]]] = ({}, {})
        self.queue: list[tuple[str, Run]] = []
        self.skew = world.random.uniform(-1e6, 1e6)
        self.ingest_delay = world.random.choice((0.001, 0.05, 0.5))
        self.pumping: set[str] = set()
        self.life = 0

    @property
    def now(self) -> float:
        return self.world.now + self.skew

    # life

    def start(self) -> None:
        if self.up:
            return
        self.up = True
        self.life += 1
        self.ebt = EbtState()
        for feed, sequence in self.log.items():
            self.ebt.set_clock(feed, sequence)
        for feed in sorted(self.wants):
            self.ebt.want(feed, True, self.now)
        for feed, peer in sorted(self.blocks):
            self.ebt.block(feed, peer, True, self.now)
        for feed in sorted(self.forked):
            self.ebt.fork(feed, self.now)
        self._sync()
        self._tick(self.life)

    def _sync(self) -> None:
        """Everything so far survives a loss of power."""
        self.synced = (dict(self.log), {peer: dict(clock) for peer, clock in self.store.items()})

    def crash(self, loss: str) -> None:
        """Stop at once and lose what is in ingest; with "power" also what was not synced, with "restore" any tail."""
        self.world.log(f"-- {self.name} crashes: {loss}")
        self.up = False
        saved = {peer: self.ebt.clock_of(peer) for peer in self.sessions} if loss == "kill" else {}
        for conn in list(self.sessions.values()):
            conn.cut()
        self.sessions.clear()
        self.queue.clear()
        self.pumping.clear()
        self.store.update(saved)
        if loss == "power":
            self.log, self.store = dict(self.synced[0]), dict(self.synced[1])
        elif loss == "restore":
            self.locked = True
            self.log = {feed: self.world.random.randint(0, last) for feed, last in self.log.items()}
            self.store = {}

    def _tick(self, life: int) -> None:
        if self.up and self.life == life:
            if self.ebt.busy:
                self.ebt.tick(self.now)
                self._effects()
            self.world.at(self.world.now + 0.5, self._tick, life)

    # sessions

    def opened(self, conn: Conn, *, client: bool) -> None:
        peer = conn.other(self).name
        self.sessions[peer] = conn
        self.asked[peer] = {}
        remembered = self.store.pop(peer, {})
        self._sync()
        self.numbers[peer] = self.ebt.connect(peer, remembered, client=client, now=self.now)
        self._effects()

    def closed(self, conn: Conn) -> None:
        peer = conn.other(self).name
        if self.sessions.get(peer) is conn:
            del self.sessions[peer]
            self.store[peer] = self.ebt.disconnect(peer, self.now, self.numbers[peer])
            self._sync()
            self._effects()

    def receive(self, peer: str, frame: Frame) -> None:
        if not self.up:
            return
        if isinstance(frame, Run):
            self._run(peer, frame)
        else:
            self._note_requests(peer, frame)
            self.ebt.notes_received(peer, frame, self.now)
        self._effects()

    def _note_requests(self, peer: str, frame: Frame) -> None:
        if isinstance(frame, dict):
            for feed, number in frame.items():
                note = decode(number)
                if note is not None and note.receive:
                    self.asked[peer][feed] = note.sequence

    def _run(self, peer: str, run: Run) -> None:
        if run.feed in self.asked[peer]:
            self.asked[peer][run.feed] = max(self.asked[peer][run.feed], run.last)
        first = run.first
        while first <= run.last:
            last = min(run.last, first + self.world.random.choice((0, 3, 1000)))
            start = self.ebt.received_run(peer, run.feed, first, last, self.now)
            self.world.count(self, peer, last - first + 1, last - start + 1 if start else 0)
            if start:
                self.queue.append((peer, Run(run.feed, start, last, run.valid, run.branch)))
                if len(self.queue) == 1:
                    self.world.at(self.world.now + self.ingest_delay, self._ingest, self.life)
            first = last + 1

    def _ingest(self, life: int) -> None:
        if life != self.life or not self.up:
            return
        batch, self.queue = self.queue, []
        for peer, run in batch:
            have = self.log.get(run.feed, 0)
            if run.first > have + 1:
                self.ebt.rejected(peer, run.feed, "gap", self.now)
            elif not run.valid:
                self.ebt.rejected(peer, run.feed, "invalid", self.now)
            elif run.last > have and not self._on_our_branch(run, have):
                self.world.report.disturbances["fork"] += 1
                self.forked.add(run.feed)
                self.ebt.rejected(peer, run.feed, "fork", self.now)
            elif run.last > have:
                assert run.last <= self.world.truth[run.feed], "added a message that nobody wrote"
                self.log[run.feed] = run.last
                self.ebt.appended(run.feed, run.last, self.now)
        self._effects()

    def _on_our_branch(self, run: Run, have: int) -> bool:
        """Whether the run continues what we hold of a feed that was forked; the first branch seen is kept."""
        split = self.world.split.get(run.feed)
        if split is None:
            return True
        if have <= split:
            self.branch[run.feed] = run.branch
        return self.branch[run.feed] == run.branch

    def _effects(self) -> None:
        for effect in self.ebt.effects():
            if isinstance(effect, Breach):
                self.world.breached(self.name, effect.peer)
            else:
                self._pump(effect.peer)

    def _pump(self, peer: str) -> None:
        """Write for as long as the direction is free, then come back when it is."""
        conn = self.sessions.get(peer)
        if conn is None or peer in self.pumping or not self.up:
            return
        resume = max(conn.busy[self.name], self.stalled_until)
        if resume > self.world.now:
            self.pumping.add(peer)
            self.world.at(resume, self._resume, peer)
            return
        batch = self.ebt.outgoing(peer, 20)
        for item in batch:
            self._send(conn, peer, item)
        if batch:
            self.pumping.add(peer)
            self.world.at(conn.busy[self.name], self._resume, peer)

    def _resume(self, peer: str) -> None:
        self.pumping.discard(peer)
        self._pump(peer)

    def _send(self, conn: Conn, peer: str, item: SendNotes | SendRange) -> None:
        if isinstance(item, SendNotes):
            conn.send(self, item.notes)
            return
        feed = item.feed
        self.world.check(feed in self.wants, f"{self.name} sends {feed}, which it does not want")
        self.world.check((feed, peer) not in self.blocks, f"{self.name} sends {feed} to {peer}, which it blocks")
        self.world.check(feed in self.asked[peer], f"{self.name} sends {feed} to {peer}, unasked")
        self.world.check(item.after >= self.asked[peer].get(feed, 0), f"{self.name} sends {feed} to {peer} twice")
        self.world.check(item.upto <= self.log[feed], f"{self.name} sends more than it holds")
        self.asked[peer][feed] = item.upto
        conn.send(self, Run(feed, item.after + 1, item.upto, branch=self.branch.get(feed, "")))

    # wishes

    def publish(self) -> None:
        self.log[self.own] = self.world.truth[self.own] = self.log.get(self.own, 0) + 1
        self._sync()
        self.ebt.appended(self.own, self.log[self.own], self.now)
        self._effects()

    def want(self, feed: str, wanted: bool) -> None:
        self.world.log(f"-- {self.name} wants {feed}: {wanted}")
        (self.wants.add if wanted else self.wants.discard)(feed)
        self.ebt.want(feed, wanted, self.now)
        self._effects()

    def block(self, feed: str, peer: str, blocked: bool) -> None:
        self.world.log(f"-- {self.name} keeps {feed} from {peer}: {blocked}")
        (self.blocks.add if blocked else self.blocks.discard)((feed, peer))
        self.ebt.block(feed, peer, blocked, self.now)
        self._effects()


class ReferenceNode(Node):
    """A node that behaves like the deployed JavaScript one."""

    kind = "reference"

    def __init__(self, world: "World", name: str) -> None:
        super().__init__(world, name)
        self.peer = ReferencePeer(name)
        self.log = self.peer.log
        self.blocks = self.peer.blocks
        self.delay = world.random.choice((0.001, 0.25))
        self.heard: Counter[str] = Counter()

    def start(self) -> None:
        if self.up:
            return
        self.up = True
        for feed in sorted(self.wants):
            self.peer.follow(feed, True)
        self._tick()

    def _tick(self) -> None:
        self.peer.tick(self.world.now)
        self._flush()
        self.world.at(self.world.now + self.peer.timeout, self._tick)

    def opened(self, conn: Conn, *, client: bool) -> None:
        name = conn.other(self).name
        if name in self.sessions:
            self.peer.disconnect(name)
        self.sessions[name] = conn
        self.peer.connect(name, client=client)
        self._flush()

    def closed(self, conn: Conn) -> None:
        name = conn.other(self).name
        if self.sessions.get(name) is conn:
            del self.sessions[name]
            self.peer.disconnect(name)

    def receive(self, peer: str, frame: Frame) -> None:
        if isinstance(frame, Run):
            heard = max(self.heard[frame.feed], self.log.get(frame.feed, 0))
            self.world.count(self, peer, frame.last - frame.first + 1, max(0, frame.last - max(heard, frame.first - 1)))
            self.heard[frame.feed] = max(heard, frame.last)
            for sequence in range(frame.first, frame.last + 1):
                self.peer.receive(peer, (frame.feed, sequence), self.world.now)
        elif isinstance(frame, dict):
            self.peer.receive(peer, frame, self.world.now)
        if self.peer.accepted:
            batch, self.peer.accepted = self.peer.accepted, []
            self.world.at(self.world.now + self.delay, self._ingest, batch)
        self._flush()

    def _ingest(self, batch: list[tuple[str, str, int]]) -> None:
        for _, feed, sequence in batch:
            if self.log.get(feed, 0) == sequence - 1:
                self.peer.appended(feed, sequence)
        self._flush()

    def _flush(self) -> None:
        for name, conn in list(self.sessions.items()):
            for frame in self.peer.outgoing(name):
                conn.send(self, Run(frame[0], frame[1], frame[1]) if isinstance(frame, tuple) else frame)

    def publish(self) -> None:
        sequence = self.world.truth[self.own] = self.log.get(self.own, 0) + 1
        self.peer.appended(self.own, sequence)
        self._flush()


class HostileNode(Node):
    """Lies, replays, forges, floods and never serves."""

    kind = "hostile"

    def opened(self, conn: Conn, *, client: bool) -> None:
        self.sessions[conn.other(self).name] = conn
        if not client:
            conn.send(self, {})
        self._act(conn)

    def closed(self, conn: Conn) -> None:
        name = conn.other(self).name
        if self.sessions.get(name) is conn:
            del self.sessions[name]

    def receive(self, peer: str, frame: Frame) -> None:
        if self.world.random.random() < 0.1 and isinstance(frame, dict):
            self.sessions[peer].send(self, frame)

    def publish(self) -> None:
        pass

    def _act(self, conn: Conn) -> None:
        if not conn.alive or self.world.now > DISTURBED:
            return
        conn.send(self, self._frame())
        self.world.at(self.world.now + self.world.random.expovariate(2), self._act, conn)

    def _frame(self) -> Frame:
        rng, truth = self.world.random, self.world.truth
        feed = rng.choice(sorted(truth))
        match rng.randrange(7):
            case 0:
                return {feed: rng.choice((2**31 - 1, 2**31 - 2, 2 * truth[feed] + 20, 0, 1, -1)) for feed in truth}
            case 1:
                return {feed_id(f"nobody {rng.random()}"): rng.randrange(1000) for _ in range(rng.choice((1, 50)))}
            case 2:
                return rng.choice((None, 7, True, [], "notes", {"clock": None}, {feed: -2}, {feed: 1.5}, {"@x": 3}))
            case 3:
                return {feed: rng.randrange(2 * truth[feed] + 4)}
            case 4:
                first = rng.randint(1, truth[feed]) if truth[feed] else 1
                return Run(feed, first, min(first + 5, truth[feed])) if truth[feed] else {}
            case 5:
                first = rng.randint(1, truth[feed] + 2)
                return Run(feed, first, first + rng.randrange(5), valid=False)
            case _:
                return {feed: 2 * truth[feed] + 2}
