"""Two EBT machines wired back to back without a network: what one sends the other receives at once."""

import base64
import hashlib
from dataclasses import dataclass, field

from replication.ebt.state import EbtState, SendNotes, SendRange


@dataclass(slots=True)
class Side:
    """One machine with a pretended log; messages that it lets through are appended at once."""

    name: str
    ebt: EbtState = field(default_factory=EbtState)
    log: dict[str, int] = field(default_factory=dict)
    notes: list[dict[str, int]] = field(default_factory=list)
    """Frames of notes received."""
    messages: list[tuple[str, int]] = field(default_factory=list)
    """Messages received."""

    def hold(self, feed: str, sequence: int) -> None:
        self.log[feed] = sequence
        self.ebt.set_clock(feed, sequence)

    def append(self, feed: str, now: float = 0.0) -> None:
        """One more message of ``feed`` comes into the log, from nowhere."""
        self.log[feed] = self.log.get(feed, 0) + 1
        self.ebt.appended(feed, self.log[feed], now)


class Link:
    """A connection of two sides, the first being the client."""

    def __init__(self, client: Side, server: Side) -> None:
        self.client = client
        self.server = server

    def open(
        self,
        now: float = 0.0,
        remembered: tuple[dict[str, int], dict[str, int]] = ({}, {}),
    ) -> None:
        self.client.ebt.connect(self.server.name, remembered[0], client=True, now=now)
        self.server.ebt.connect(self.client.name, remembered[1], client=False, now=now)

    def close(self, now: float = 0.0) -> tuple[dict[str, int], dict[str, int]]:
        """Both ends learn of it; the clocks to remember, the client's first."""
        return (
            self.client.ebt.disconnect(self.server.name, now),
            self.server.ebt.disconnect(self.client.name, now),
        )

    def settle(self, now: float = 0.0) -> int:
        """Carry everything across, in both directions, until nothing is left; the number of frames."""
        frames = 0
        while moved := self._carry(self.server, self.client, now) + self._carry(self.client, self.server, now):
            frames += moved
            assert frames < 100_000, "the two sides never fall silent"
        return frames

    def _carry(self, source: Side, target: Side, now: float) -> int:
        frames = 0
        while batch := source.ebt.outgoing(target.name):
            for item in batch:
                frames += deliver(item, source, target, now)
        return frames


def deliver(item: SendNotes | SendRange, source: Side, target: Side, now: float) -> int:
    """Hand one effect over to the other side; the number of frames it takes on the wire."""
    if isinstance(item, SendNotes):
        target.notes.append(item.notes)
        target.ebt.notes_received(source.name, item.notes, now)
        return 1
    for sequence in range(item.after + 1, item.upto + 1):
        assert sequence <= source.log.get(item.feed, 0), "sends what it does not hold"
        target.messages.append((item.feed, sequence))
        if target.ebt.received(source.name, item.feed, sequence, now):
            assert sequence == target.log.get(item.feed, 0) + 1, "lets a message through out of order"
            target.log[item.feed] = sequence
            target.ebt.appended(item.feed, sequence, now)
    return item.upto - item.after


def feed_id(name: object) -> str:
    """The canonical id of a feed that nobody has the key of."""
    digest = hashlib.sha256(f"feed {name}".encode()).digest()
    return f"@{base64.b64encode(digest).decode()}.ed25519"
