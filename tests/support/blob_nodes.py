"""Many machines of `replication.blob_wants` in one made-up network with a made-up clock: no sockets, no files."""

import base64
import itertools
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from replication.blob_wants import Blame, BlobWants, Fault, Fetch, Get, Notes, Pushed, Stop
from replication.limits import DEFAULT_LIMITS, Limits

LAG = 0.01
GET_SECONDS = 0.05


@dataclass(slots=True)
class SimulatedNode:
    """One node: its machine, what it holds, and what it did."""

    name: str
    machine: BlobWants
    held: dict[str, int] = field(default_factory=dict)
    lies: bool = False
    """Sends other bytes than those of the blob."""
    hangs: bool = False
    """Never sends anything."""
    gets: list[Get] = field(default_factory=list)
    pushed: list[str] = field(default_factory=list)
    blamed: list[str] = field(default_factory=list)
    stopped: set[int] = field(default_factory=set)


class BlobNetwork:
    """Nodes and links between them; `run` lets time pass until nothing happens any more."""

    def __init__(self, seed: int = 0, limits: Limits = DEFAULT_LIMITS) -> None:
        self.now = 0.0
        self.nodes: dict[str, SimulatedNode] = {}
        self.links: set[frozenset[str]] = set()
        self.notes_sent = 0
        self.most_gets = 0
        self._limits = limits
        self._random = random.Random(seed)
        self._events: list[tuple[float, float, str, tuple[Any, ...]]] = []

    def add(self, *names: str, fetch: Fetch = Fetch.ALL, **more: Any) -> None:
        for name in names:
            self.nodes[name] = SimulatedNode(name, BlobWants(self._limits, fetch=fetch), **more)

    def chain(self, names: str) -> None:
        for left, right in itertools.pairwise(names):
            self.link(left, right)

    def link(self, left: str, right: str) -> None:
        self.links.add(frozenset((left, right)))
        for one, other in ((left, right), (right, left)):
            self.nodes[one].machine.connect(other, self.now)
            self.nodes[one].machine.opened(other)
        self._pump(left)
        self._pump(right)

    def cut(self, left: str, right: str) -> None:
        self.links.discard(frozenset((left, right)))
        for one, other in ((left, right), (right, left)):
            self.nodes[one].machine.disconnect(other, self.now)
            self._pump(one)

    def give(self, name: str, blob: str, size: int = 10) -> None:
        self.nodes[name].held[blob] = size
        self.nodes[name].machine.held(blob, size, self.now)
        self._pump(name)

    def want(self, name: str, blob: str, rank: int = 0) -> None:
        self.nodes[name].machine.want(blob, rank, self.now)
        self._pump(name)

    def unwant(self, name: str, blob: str) -> None:
        self.nodes[name].machine.unwant(blob, self.now)
        self._pump(name)

    def push(self, name: str, blob: str) -> None:
        self.nodes[name].machine.push(blob)
        self._pump(name)

    def holders(self, blob: str) -> str:
        return "".join(sorted(name for name, node in self.nodes.items() if blob in node.held))

    def run(self, seconds: float = 60.0) -> None:
        """Let time pass."""
        end = self.now + seconds
        while True:
            due = min(self._events, default=None)
            ticks = [(at, name) for name, node in self.nodes.items() if (at := node.machine.next_tick()) is not None]
            tick = min(ticks, default=None)
            if tick is not None and tick[0] <= end and (due is None or tick[0] < due[0]):
                self.now = max(self.now, tick[0])
                self.nodes[tick[1]].machine.tick(self.now)
                self._pump(tick[1])
            elif due is not None and due[0] <= end:
                self._events.remove(due)
                self.now = max(self.now, due[0])
                self._happen(*due[2:])
            else:
                self.now = end
                return

    def _happen(self, name: str, event: tuple[Any, ...]) -> None:
        node = self.nodes[name]
        match event:
            case ("notes", peer, notes):
                if frozenset((name, peer)) in self.links:
                    held = {blob: node.held[blob] for blob, note in notes.items() if note < 0 and blob in node.held}
                    node.machine.notes_received(peer, notes, held, self.now)
            case ("get", Get() as get):
                if get.number not in node.stopped:
                    self._deliver(node, get)
        self._pump(name)

    def _deliver(self, node: SimulatedNode, get: Get) -> None:
        source = self.nodes[get.peer]
        if source.lies:
            node.machine.failed(get.number, Fault.LIED, "other bytes", self.now)
        elif get.blob not in source.held:
            node.machine.failed(get.number, Fault.REFUSED, "not here", self.now)
        else:
            node.held[get.blob] = source.held[get.blob]
            node.machine.got(get.number, self.now)
            node.machine.held(get.blob, node.held[get.blob], self.now)

    def _later(self, seconds: float, name: str, event: tuple[Any, ...]) -> None:
        self._events.append((self.now + seconds, self._random.random(), name, event))

    def _pump(self, name: str) -> None:
        node = self.nodes[name]
        for effect in node.machine.effects():
            match effect:
                case Notes(peer):
                    notes = node.machine.take_notes(peer, 10**6)
                    self.notes_sent += len(notes)
                    self._later(LAG * (1 + self._random.random()), peer, ("notes", name, notes))
                case Get():
                    node.gets.append(effect)
                    running = len(node.machine.status()["transfers"])
                    self.most_gets = max(self.most_gets, running)
                    if not self.nodes[effect.peer].hangs:
                        self._later(GET_SECONDS * (1 + self._random.random()), name, ("get", effect))
                case Stop():
                    node.stopped.add(effect.number)
                case Pushed(blob):
                    node.pushed.append(blob)
                case Blame(peer):
                    node.blamed.append(peer)


def blob(number: int) -> str:
    """A blob id for tests that hash nothing."""
    return f"&{base64.b64encode(number.to_bytes(32, 'big')).decode()}.sha256"


def blobs(numbers: Iterable[int]) -> list[str]:
    return [blob(number) for number in numbers]
