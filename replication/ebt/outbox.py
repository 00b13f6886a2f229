"""What is to be written to each peer of the EBT machine.

Only the numbers of feeds are queued. The value of a note, and how far a range reaches, are what is true when the frame
is built, so nothing piles up while a peer reads slowly, and nothing sent is out of date.
"""

from collections.abc import Iterator

from replication.ebt.effects import Breach, Ready, SendNotes, SendRange
from replication.ebt.notes import NOT_REPLICATING, encode
from replication.ebt.tables import (
    BLOCKED,
    FORCE,
    HEARD,
    NOTE_QUEUED,
    RETRACTED,
    RETRIED,
    SEND_QUEUED,
    TX,
    UNCONFIRMED,
    UNKNOWN,
    WANTED,
    FeedTable,
    PeerTable,
)


class Outbox:
    """Queues of all peers, and the effects that tell the driver of them."""

    def __init__(self, feeds: FeedTable, *, notes_per_frame: int, messages_per_range: int) -> None:
        self._feeds = feeds
        self._frame = notes_per_frame
        self._range = messages_per_range
        self._effects: list[Ready | Breach] = []

    def effects(self) -> list[Ready | Breach]:
        """What came up since the last call."""
        effects, self._effects = self._effects, []
        return effects

    def breach(self, table: PeerTable, reason: str) -> None:
        self._effects.append(Breach(table.id, reason))

    def signal(self, table: PeerTable) -> None:
        """There is something for the peer."""
        if not table.signalled:
            table.signalled = True
            self._effects.append(Ready(table.id))

    def tell(self, table: PeerTable, f: int) -> None:
        """Send the peer a note on the feed, if it does not repeat the last one."""
        if table.open and not table.flags[f] & NOTE_QUEUED:
            table.flags[f] |= NOTE_QUEUED
            table.notes.push(f)
            self.signal(table)

    def ask_again(self, table: PeerTable, f: int) -> None:
        """Repeat our note, so that the peer starts over after what we have; once until the feed has grown."""
        if not table.flags[f] & RETRIED or not table.asked(f):
            table.flags[f] |= RETRIED | FORCE
            self.tell(table, f)

    def send(self, table: PeerTable, f: int) -> None:
        """Send the peer what it lacks of the feed."""
        if not table.flags[f] & SEND_QUEUED:
            table.flags[f] |= SEND_QUEUED
            table.sends.push(f)
            self.signal(table)

    def confirm(self, table: PeerTable) -> None:
        """Tell the peer how much of what it delivered we hold; what is still in ingest waits for the next time."""
        feeds = self._feeds
        for _ in range(len(table.unconfirmed)):
            f = table.unconfirmed.pop()
            if feeds.heard[f] > feeds.local[f]:
                table.unconfirmed.push(f)
            else:
                table.flags[f] &= ~UNCONFIRMED
                self.tell(table, f)

    def take(self, table: PeerTable, messages: int) -> list[SendNotes | SendRange]:
        """The next frame of notes and, if no more notes wait, ranges of at most ``messages`` messages."""
        out: list[SendNotes | SendRange] = []
        notes = self._next_notes(table)
        if notes or table.first_due:
            table.first_due = False
            out.append(SendNotes(table.id, notes))
        if not len(table.notes):
            # A reference peer that gets a feed's messages before our first note on it loses count of that feed.
            out.extend(self._next_ranges(table, messages))
        if not out:
            table.signalled = False
        return out

    def _next_notes(self, table: PeerTable) -> dict[str, int]:
        told, flags = table.told, table.flags
        notes: dict[str, int] = {}
        while len(notes) < self._frame and len(table.notes):
            f = table.notes.pop()
            flags[f] &= ~NOTE_QUEUED
            value = self._note_value(table, f)
            if value is not None and (value != told[f] or flags[f] & FORCE):
                told[f] = notes[self._feeds.ids[f]] = value
                flags[f] &= ~FORCE
                if value == NOT_REPLICATING:
                    flags[f] |= RETRACTED
        waiting = table.refusals.waiting
        while waiting and len(notes) < self._frame:
            notes[waiting.pop()] = NOT_REPLICATING
        return notes

    def _note_value(self, table: PeerTable, f: int) -> int | None:
        """What to say now of the feed; None if there is nothing to say, or not yet."""
        feeds, told, flags = self._feeds, table.told[f], table.flags[f]
        if not feeds.flags[f] & WANTED or flags & BLOCKED:
            return NOT_REPLICATING if told != UNKNOWN or flags & HEARD else None
        if told == UNKNOWN and table.claims[f] == NOT_REPLICATING:
            return None
        reach = feeds.reach(f, table.claims[f])
        if feeds.source[f] != table.slot or reach < feeds.local[f]:
            return encode(reach, receive=False)
        if feeds.heard[f] > feeds.local[f] and (flags & FORCE or not table.asked(f)):
            return None  # asked for once the messages in hand are added: before, they would come again
        return encode(feeds.local[f], receive=True)

    def _next_ranges(self, table: PeerTable, messages: int) -> Iterator[SendRange]:
        feeds, sent, flags = self._feeds, table.sent, table.flags
        while messages > 0 and len(table.sends):
            f = table.sends.pop()
            flags[f] &= ~SEND_QUEUED
            after, local = sent[f], feeds.reach(f, sent[f])
            if not flags[f] & TX or flags[f] & BLOCKED or not feeds.flags[f] & WANTED or after >= local:
                continue
            share = min(messages, self._range) if len(table.sends) else messages
            upto = sent[f] = min(local, after + share)
            messages -= upto - after
            table.sent_messages += upto - after
            if upto < local:
                flags[f] |= SEND_QUEUED
                table.sends.push(f)
            yield SendRange(table.id, feeds.ids[f], after, upto)
