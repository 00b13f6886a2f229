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

from tests.support.ebt_link import feed_id
from tests.support.simulated_nodes import DISTURBED, Conn, HostileNode, MachineNode, Node, ReferenceNode

PATIENCE = 150.0
"""Seconds after which a world without disturbances must have come to rest (and time for the slowest links)."""


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
    forks: bool = False
    topology: str | None = None


@dataclass(slots=True)
class Report:
    """What one run cost."""

    seed: int
    needed: int = 0
    redundant: int = 0
    frames: int = 0
    disturbances: Counter[str] = field(default_factory=Counter)


class World:
    """The nodes, the links between them, and virtual time."""

    def __init__(self, seed: int, options: Options, *, trace: bool = False) -> None:
        self.random = random.Random(seed)
        self.report = Report(seed)
        self.options = options
        self.now = 0.0
        self.trace = trace
        self.truth: dict[str, int] = {}
        self.split: dict[str, int] = {}
        """Feeds whose author signed two branches, and the last sequence they have in common."""
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
        for feed in self.truth.keys() - self.split.keys():
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
        return self._missing_of_forked() + [
            f"{node.name} ({node.kind}) has {node.log.get(feed, 0)} of {best} of {feed}"
            for node, feed, best in self.reachable()
            if node.log.get(feed, 0) != best
        ]

    def _missing_of_forked(self) -> list[str]:
        """A node that has not met the fork holds as much as its neighbours."""
        missing = []
        for feed in self.split:
            for one, two in (pair for edge in self.edges for pair in (edge, edge[::-1])):
                node, other = self.nodes[one], self.nodes[two]
                exchanged = feed in node.wants & other.wants and feed not in node.forked
                apart = (feed, two) in node.blocks or (feed, one) in other.blocks
                if exchanged and not apart and node.log.get(feed, 0) < other.log.get(feed, 0):
                    missing.append(f"{one} has less than {two} of the forked {feed}")
        return missing


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
    if options.forks:
        _forge_forks(world, honest)
    world.edges = _links(rng, [node.name for node in honest], options.topology)
    for number in range(options.hostile):
        liar = HostileNode(world, f"h{number}")
        world.nodes[liar.name] = liar
        for node in honest:
            if node.kind == "machine" and rng.random() < 0.6:
                world.edges.append(_either_way(rng, liar.name, node.name))
    return world


def _forge_forks(world: World, honest: list[Node]) -> None:
    """Two feeds with two branches each, already spread in part."""
    rng = world.random
    for number in range(2):
        feed = feed_id(f"forked {number}")
        world.truth[feed] = rng.randint(1, world.options.length)
        split = world.split[feed] = rng.randrange(world.truth[feed])
        for node in honest:
            node.wants.add(feed)
            if rng.random() < 0.6:
                node.log[feed] = rng.randint(0, world.truth[feed])
                if node.log[feed] > split:
                    node.branch[feed] = rng.choice("ab")


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
    """``python -m tests.support.simulator FIRST LAST [reference=SHARE] [hostile=COUNT] [length=N] [forks=1]``."""
    first, last = int(sys.argv[1]), int(sys.argv[2])
    given = dict(argument.split("=") for argument in sys.argv[3:])
    options = Options(
        reference=float(given.get("reference", 0)),
        hostile=int(given.get("hostile", 0)),
        forks="forks" in given,
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
