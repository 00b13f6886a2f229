"""A seeded world of many EBT nodes in virtual time: delays, cuts, crashes, stalls, clock jumps, liars, late joiners.

``run(seed)`` builds a world from the seed alone, disturbs it for a while, lets it come to rest and checks

* that every node holds what its wishes, the blocks and the links make reachable;
* that no message was sent to a peer its feed blocks, that nobody asked for, or twice on a link without a new request;
* that feeds and queues stay within what is wanted;
* that the world falls silent, and that equal nodes reconnect with at most three frames and no message.

Links deliver in order and lose everything in flight when cut; each end learns of a cut at its own time. Messages take
time to send, and messages let through take time to be added. ``run(seed, trace=True)`` shows a failing seed at work.
"""

import heapq
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from replication.ebt.notes import decode
from replication.ebt.state import Breach, EbtState, SendNotes, SendRange
from tests.support.ebt_link import feed_id
from tests.support.reference_peer import ReferencePeer

DISTURBED = 40.0
"""Seconds during which things happen to the world."""
PATIENCE = 150.0
"""Seconds after which a world without disturbances must have come to rest (and time for the slowest links)."""


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive messages of one feed; ``valid`` is what ingest will find."""

    feed: str
    first: int
    last: int
    valid: bool = True


Frame: TypeAlias = object
"""A Run, or the decoded JSON of notes, of any type."""


@dataclass(slots=True)
class Options:
    """What may happen in a world; the shares are probabilities."""

    nodes: tuple[int, int] = (2, 8)
    feeds: tuple[int, int] = (2, 10)
    length: int = 40
    reference: float = 0.0
    hostile: int = 0
    cuts: bool = True
    crashes: bool = True
    stalls: bool = True
    clocks: bool = True
    wishes: bool = True
    blocks: bool = True
    late: bool = True
    topology: str | None = None


@dataclass(slots=True)
class Report:
    """What one run cost."""

    seed: int
    needed: int = 0
    redundant: int = 0
    frames: int = 0
    disturbances: Counter[str] = field(default_factory=Counter)


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
                self.queue.append((peer, Run(run.feed, start, last, run.valid)))
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
            elif run.last > have:
                assert run.last <= self.world.truth[run.feed], "added a message that nobody wrote"
                self.log[run.feed] = run.last
                self.ebt.appended(run.feed, run.last, self.now)
        self._effects()

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
        conn.send(self, Run(feed, item.after + 1, item.upto))

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


class World:
    """The nodes, the links between them, and virtual time."""

    def __init__(self, seed: int, options: Options, *, trace: bool = False) -> None:
        self.random = random.Random(seed)
        self.report = Report(seed)
        self.options = options
        self.now = 0.0
        self.trace = trace
        self.truth: dict[str, int] = {}
        self.nodes: dict[str, Node] = {}
        self.edges: list[tuple[str, str]] = []
        self.apart: set[frozenset[str]] = set()
        self._heap: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._count = 0

    # time

    def at(self, when: float, event: Callable[..., None], *args: object) -> None:
        """Call ``event(*args)`` at a time of the virtual clock; events of the same time keep their order."""
        self._count += 1
        heapq.heappush(self._heap, (max(when, self.now), self._count, event, args))

    def until(self, end: float) -> None:
        while self._heap and self._heap[0][0] <= end:
            self.now, _, event, args = heapq.heappop(self._heap)
            event(*args)
        self.now = end

    # what nodes report

    def log(self, text: str) -> None:
        if self.trace:
            print(f"{self.now:9.3f} {text}")

    def check(self, holds: bool, problem: str) -> None:
        assert holds, f"seed {self.report.seed}, at {self.now:.3f}: {problem}"

    def count(self, node: Node, peer: str, received: int, used: int) -> None:
        if self.nodes[peer].kind == "machine":
            self.report.needed += used
            self.report.redundant += received - used
        elif self.nodes[peer].kind == "reference":
            self.report.needed += used

    def breached(self, name: str, peer: str) -> None:
        self.check(self.nodes[peer].kind == "hostile", f"{name} takes {peer} for a breaker of the rules")
        self.apart.add(frozenset((name, peer)))
        conn = self.nodes[name].sessions.get(peer)
        if conn is not None:
            conn.cut()

    # links

    def dial(self, edge: tuple[str, str]) -> None:
        """Connect the two nodes of an edge, if they can be and are not."""
        client, server = self.nodes[edge[0]], self.nodes[edge[1]]
        current = client.sessions.get(server.name)
        if frozenset(edge) in self.apart or (current is not None and current.alive):
            return
        if not client.up or not server.up or current is not None:
            self.at(self.now + self.random.uniform(0.2, 2), self.dial, edge)
            return
        conn = Conn(self, client, server)
        client.opened(conn, client=True)
        server.opened(conn, client=False)

    def cut(self, edge: tuple[str, str], spread: float = 2.0) -> None:
        conn = self.nodes[edge[0]].sessions.get(edge[1])
        if conn is not None:
            conn.cut(spread)

    # at rest

    def reachable(self) -> Iterable[tuple[Node, str, int]]:
        """For every honest node and wanted feed: the most that is held where wishes, blocks and links lead."""
        honest = [node for node in self.nodes.values() if node.kind != "hostile"]
        for feed in self.truth:
            group = {node.name: node.name for node in honest if feed in node.wants}

            def find(name: str, group: dict[str, str] = group) -> str:
                while group[name] != name:
                    name = group[name]
                return name

            for one, two in self.edges:
                apart = (feed, two) in self.nodes[one].blocks or (feed, one) in self.nodes[two].blocks
                if one in group and two in group and not apart:
                    group[find(one)] = find(two)
            best: Counter[str] = Counter()
            for name in group:
                best[find(name)] = max(best[find(name)], self.nodes[name].log.get(feed, 0))
            for name in group:
                yield self.nodes[name], feed, best[find(name)]

    def missing(self) -> list[str]:
        return [
            f"{node.name} ({node.kind}) has {node.log.get(feed, 0)} of {best} of {feed}"
            for node, feed, best in self.reachable()
            if node.log.get(feed, 0) != best
        ]


# ---- building and disturbing a world


def build(seed: int, options: Options, *, trace: bool = False) -> World:
    """Nodes, feeds, initial logs, wishes, blocks and links, drawn from the seed."""
    world = World(seed, options, trace=trace)
    rng = world.random
    count = rng.randint(*options.nodes)
    kinds: list[type[Node]] = [ReferenceNode if rng.random() < options.reference else MachineNode for _ in range(count)]
    for number, kind in enumerate(kinds):
        node = kind(world, f"n{number}")
        world.nodes[node.name] = node
    honest = list(world.nodes.values())
    feeds = [node.own for node in honest] + [feed_id(f"x{number}") for number in range(rng.randint(*options.feeds))]
    world.truth = {feed: rng.choice((0, 1, rng.randint(0, options.length))) for feed in feeds}
    everything = rng.random() < 0.5
    for node in honest:
        node.wants = {node.own} | {feed for feed in feeds if everything or rng.random() < 0.7}
        node.log[node.own] = world.truth[node.own]
        for feed in feeds:
            if feed != node.own and rng.random() < 0.4:
                node.log[feed] = rng.choice((0, world.truth[feed], rng.randint(0, world.truth[feed])))
    if options.blocks and rng.random() < 0.4:
        for _ in range(rng.randint(1, 3)):
            feed, peer = rng.choice(feeds), rng.choice(honest)
            for node in honest:
                if node is not peer and feed != peer.own and rng.random() < 0.8:
                    node.blocks.add((feed, peer.name))
    world.edges = _links(rng, [node.name for node in honest], options.topology)
    for number in range(options.hostile):
        liar = HostileNode(world, f"h{number}")
        world.nodes[liar.name] = liar
        for node in honest:
            if node.kind == "machine" and rng.random() < 0.6:
                world.edges.append(_either_way(rng, liar.name, node.name))
    return world


def _either_way(rng: random.Random, one: str, two: str) -> tuple[str, str]:
    return (one, two) if rng.random() < 0.5 else (two, one)


def _links(rng: random.Random, names: list[str], topology: str | None) -> list[tuple[str, str]]:
    shape = topology or rng.choice(("chain", "star", "ring", "mesh", "small world", "tree"))
    pairs: set[tuple[int, int]] = set()
    count = len(names)
    for two in range(1, count):
        match shape:
            case "star":
                pairs.add((0, two))
            case "mesh":
                pairs.update((one, two) for one in range(two))
            case "tree":
                pairs.add((rng.randrange(two), two))
            case _:
                pairs.add((two - 1, two))
    if shape in {"ring", "small world"} and count > 2:
        pairs.add((0, count - 1))
    if shape == "small world" and count > 3:
        pairs.update(tuple(sorted(rng.sample(range(count), 2))) for _ in range(count // 2))  # type: ignore[misc]
    return [_either_way(rng, names[one], names[two]) for one, two in sorted(pairs)]


def _disturb(world: World) -> None:
    """Plan everything that will happen before DISTURBED."""
    rng, options = world.random, world.options
    honest = [node for node in world.nodes.values() if node.kind != "hostile"]
    for node in world.nodes.values():
        world.at(rng.uniform(0, DISTURBED / 2) if options.late and rng.random() < 0.2 else 0.0, node.start)
    for edge in world.edges:
        world.at(rng.uniform(0, 3), world.dial, edge)
    kinds = ["publish"] * 8
    kinds += ["cut"] * 3 * options.cuts + ["crash"] * options.crashes + ["stall"] * 2 * options.stalls
    kinds += ["clock"] * options.clocks + ["unfollow"] * options.wishes + ["block"] * options.blocks
    for _ in range(rng.randint(0, 5 * len(honest))):
        kind = rng.choice(kinds)
        node = rng.choice(honest)
        world.at(rng.uniform(0.5, DISTURBED), _happen, world, kind, node)


def _happen(world: World, kind: str, node: Node) -> None:
    rng = world.random
    if not node.up:
        return
    world.report.disturbances[kind] += 1
    world.log(f"-- {kind} {node.name}")
    soon = world.now + rng.uniform(0.1, 8)
    match kind:
        case "publish" if not node.locked:
            for _ in range(rng.choice((1, 1, 1, 5))):
                node.publish()
        case "cut" if world.edges:
            edge = rng.choice(world.edges)
            world.cut(edge, rng.choice((0.0, 2.0)))
            world.at(soon, world.dial, edge)
        case "stall":
            node.stalled_until = soon
        case "clock" if isinstance(node, MachineNode):
            node.skew += rng.choice((-1e5, -5, -1, 1, 5, 1e5))
        case "crash" if isinstance(node, MachineNode):
            node.crash(rng.choice(("kill", "power", "restore")))
            world.at(soon, node.start)
            for edge in world.edges:
                if node.name in edge:
                    world.at(soon, world.dial, edge)
        case "unfollow" if isinstance(node, MachineNode):
            feed = rng.choice(sorted(world.truth))
            if feed != node.own:
                node.want(feed, feed not in node.wants)
                if rng.random() < 0.7:
                    world.at(soon, _refollow, node, feed)
        case "block" if isinstance(node, MachineNode):
            feed, peer = rng.choice(sorted(world.truth)), rng.choice(sorted(world.nodes))
            node.block(feed, peer, (feed, peer) not in node.blocks)
        case _:
            pass


def _refollow(node: MachineNode, feed: str) -> None:
    if node.up:
        node.want(feed, True)


# ---- running


def run(seed: int, options: Options | None = None, *, trace: bool = False) -> Report:
    """One world from beginning to end; AssertionError, naming the seed, if it breaks a promise."""
    world = build(seed, options or Options(), trace=trace)
    _disturb(world)
    world.until(DISTURBED)
    world.log("-- peace")
    _settle(world)
    _check_memory(world)
    if all(node.kind == "machine" for node in world.nodes.values()):
        _check_silence(world)
        _check_reconnect(world)
    return world.report


def _settle(world: World) -> None:
    """Bring every node and link up and wait until nothing is missing."""
    for node in world.nodes.values():
        if not node.up:
            node.start()
    for edge in world.edges:
        world.at(world.now + world.random.uniform(0, 1), world.dial, edge)
    end, renewed = world.now + PATIENCE + sum(world.truth.values()) / 20, world.now
    while world.missing() and world.now < end:
        world.until(world.now + 1.0)
        if world.now - renewed >= 25.0:
            renewed = world.now
            _renew_reference_links(world)
    problems = world.missing()
    world.check(not problems, "never converged: " + "; ".join(problems[:3]))


def _renew_reference_links(world: World) -> None:
    """The reference forgets feeds whose source left; in life, too, only a new connection helps it."""
    for edge in world.edges:
        if any(world.nodes[name].kind == "reference" for name in edge):
            world.cut(edge, 0.0)
            world.at(world.now + world.random.uniform(0.1, 1), world.dial, edge)


def _check_memory(world: World) -> None:
    for node in world.nodes.values():
        if isinstance(node, MachineNode):
            known = node.ebt.known_feeds()
            world.check(known <= len(world.truth), f"{node.name} remembers {known} feeds of {len(world.truth)}")


def _check_silence(world: World) -> None:
    world.until(world.now + 20.0)
    frames = world.report.frames
    world.until(world.now + 60.0)
    world.check(world.report.frames == frames, f"{world.report.frames - frames} frames while nothing happens")


def _check_reconnect(world: World) -> None:
    for edge in world.edges:
        world.cut(edge, 0.0)
    world.until(world.now + 1.0)
    for edge in world.edges:
        world.dial(edge)
    world.until(world.now + 10.0)
    for edge in world.edges:
        conn = world.nodes[edge[0]].sessions[edge[1]]
        world.check(conn.messages == 0, f"{edge}: {conn.messages} messages between equal nodes")
        world.check(conn.frames <= 3, f"{edge}: {conn.frames} frames to find out that two nodes are equal")


def main() -> None:
    """``python -m tests.support.simulator FIRST LAST [reference=SHARE] [hostile=COUNT] [length=N]`` runs many seeds."""
    first, last = int(sys.argv[1]), int(sys.argv[2])
    given = dict(argument.split("=") for argument in sys.argv[3:])
    options = Options(
        reference=float(given.get("reference", 0)),
        hostile=int(given.get("hostile", 0)),
        length=int(given.get("length", 40)),
    )
    needed = redundant = failed = 0
    for seed in range(first, last):
        try:
            report = run(seed, options)
        except AssertionError as problem:
            failed += 1
            print(problem)
        else:
            needed += report.needed
            redundant += report.redundant
    share = redundant / max(1, needed)
    print(f"{last - first} worlds, {failed} failed; {needed} messages needed, {redundant} redundant: {share:.2%}")


if __name__ == "__main__":
    main()
