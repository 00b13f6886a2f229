"""A small model of how the deployed JavaScript peer behaves on an EBT stream, as a counterpart for our machine.

Written from protocol section 9 and observed sessions, oddities included: it waits for notes when it is the client,
answers -1, announces with the receive bit off, restarts a feed wherever a note says, goes lazy on any duplicate,
looks for stalled peers only every three seconds, does nothing when a source disconnects, and loses count of a feed
(its numbers become NaN) if messages of it arrive before the first notes.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TypeAlias

Frame: TypeAlias = dict[str, int] | tuple[str, int]
"""Notes, or one message as (feed, sequence)."""


@dataclass(slots=True)
class _Pair:
    tx: bool
    rx: bool
    sent: float | None


@dataclass(slots=True)
class _Session:
    claims: dict[str, float]
    client: bool
    pairs: dict[str, _Pair] | None
    notes: dict[str, int] | None = None
    messages: deque[tuple[str, int]] = field(default_factory=deque)
    fetch: deque[str] = field(default_factory=deque)
    last: float = float("-inf")


def _value(sequence: int, receive: bool) -> int:
    return -1 if sequence == -1 else sequence * 2 + (not receive)


class ReferencePeer:
    """One node of the reference's kind. ``outgoing`` empties what it wants to write to a peer."""

    def __init__(self, name: str, *, timeout: float = 3.0) -> None:
        self.name = name
        self.timeout = timeout
        self.log: dict[str, int] = {}
        self.follows: dict[str, bool] = {}
        self.blocks: set[tuple[str, str]] = set()
        self.sessions: dict[str, _Session] = {}
        self.stored: dict[str, dict[str, float]] = {}
        self.accepted: list[tuple[str, str, int]] = []
        """Messages for its ingest: (from peer, feed, sequence)."""

    # sessions

    def connect(self, peer: str, *, client: bool) -> None:
        self.sessions[peer] = _Session(dict(self.stored.get(peer, {})), client, None if client else {})
        if not client:
            self._first_notes(peer)

    def disconnect(self, peer: str) -> None:
        session = self.sessions.pop(peer, None)
        if session is not None:
            self.stored[peer] = {feed: claim for feed, claim in session.claims.items() if not math.isnan(claim)}

    def _first_notes(self, peer: str) -> None:
        session = self.sessions[peer]
        session.notes = {} if session.notes is None else session.notes
        for feed, followed in self.follows.items():
            claim = session.claims.get(feed, 0)
            if followed and self._shared(feed, peer) and claim != -1 and claim != self.log.get(feed):
                supplied = self._supplier(feed, peer)
                assert session.pairs is not None
                session.pairs[feed] = _Pair(tx=False, rx=supplied is None, sent=None)
                self._say(session, feed, self.log.get(feed, 0), supplied is None)

    # local side

    def follow(self, feed: str, followed: bool) -> None:
        if self.follows.get(feed, False) is followed:
            return
        self.follows[feed] = followed
        asked = False
        for peer, session in self.sessions.items():
            claim = session.claims.get(feed, 0)
            if session.pairs is None or (feed, peer) in self.blocks or claim == -1:
                continue
            if not followed:
                continue  # the reference only retracts feeds that it still shares, so never
            if claim != self.log.get(feed):
                session.pairs[feed] = _Pair(tx=False, rx=True, sent=-1)
                self._say(session, feed, self.log.get(feed, 0), not asked)
                asked = True

    def block(self, feed: str, peer: str) -> None:
        self.blocks.add((feed, peer))
        session = self.sessions.get(peer)
        if session is not None and session.pairs is not None and feed in session.pairs:
            self._say(session, feed, -1, False)

    def appended(self, feed: str, sequence: int) -> None:
        """The log has grown by the one message ``sequence``."""
        self.log[feed] = sequence
        for peer, session in self.sessions.items():
            if session.pairs is None or not self._shared(feed, peer):
                continue
            claim, pair = session.claims.get(feed), session.pairs.get(feed)
            if pair is not None and pair.tx and pair.sent == sequence - 1 and claim is not None and sequence > claim:
                session.messages.append((feed, sequence))
                pair.sent = sequence
            elif (claim is None or (claim != -1 and sequence > claim)) and (
                pair is None or (not pair.tx and pair.sent is not None)
            ):
                self._say(session, feed, sequence, False)

    # what arrives

    def receive(self, peer: str, frame: Frame, now: float) -> None:
        session = self.sessions[peer]
        if isinstance(frame, tuple):
            self._message(peer, session, *frame, now)
        else:
            if session.pairs is None:
                session.pairs = {}
                self._first_notes(peer)
            for feed, number in frame.items():
                self._note(peer, session, feed, number, now)

    def _message(self, peer: str, session: _Session, feed: str, sequence: int, now: float) -> None:
        pair = None if session.pairs is None else session.pairs.get(feed)
        if pair is None:
            return
        session.claims[feed] = max(session.claims.get(feed, math.nan), sequence)  # NaN first: it stays NaN
        pair.sent = max(pair.sent or 0, sequence)
        if self.log.get(feed, 0) >= sequence:
            if pair.rx:
                self._say(session, feed, self.log[feed], False)
            return
        session.last = now
        if self._shared(feed, peer):
            self.accepted.append((peer, feed, sequence))

    def _note(self, peer: str, session: _Session, feed: str, number: int, now: float) -> None:
        assert session.pairs is not None
        old = session.claims.get(feed)
        claim: float = number >> 1
        if old is not None and math.isnan(old) and claim > 0:
            claim = math.nan
        session.claims[feed] = claim
        wants = not number & 1
        local = self.log.get(feed, 0)
        if not self._shared(feed, peer):
            if feed not in session.pairs:
                self._say(session, feed, -1, False)
            session.pairs[feed] = _Pair(tx=False, rx=False, sent=-1)
            return
        pair = session.pairs.get(feed)
        supplier = self._supplier(feed, peer)
        if pair is None:
            pair = session.pairs[feed] = _Pair(tx=True, rx=True, sent=claim)
            self._say(session, feed, local, local < claim and supplier is None)
        elif not pair.rx and claim > local:
            if supplier is None:
                session.last = now
                self._say(session, feed, local, True)
            elif claim > self.sessions[supplier].claims.get(feed, 0):
                session.last = now
                self._say(session, feed, local, True)
                self._say(self.sessions[supplier], feed, local, False)
        pair.tx = wants
        pair.sent = claim
        if local > claim:
            if wants:
                session.fetch.append(feed)
            elif number != -1:
                self._say(session, feed, local, pair.rx)

    def tick(self, now: float) -> None:
        """Every ``timeout`` seconds: take feeds from peers that were silent, give them to the next that has them."""
        wanted: dict[str, str] = {}
        for peer, session in self.sessions.items():
            if session.last + self.timeout < now:
                for feed, pair in (session.pairs or {}).items():
                    if pair.rx and self._available(feed, peer):
                        wanted[feed] = peer
                        self._say(session, feed, self.log.get(feed, 0), False)
        names = list(self.sessions)
        for feed, silent in wanted.items():
            start = names.index(silent)
            for peer in names[start + 1 :] + names[:start]:
                session = self.sessions[peer]
                if session.claims.get(feed) and session.pairs is not None:
                    session.pairs.setdefault(feed, _Pair(tx=False, rx=True, sent=-1))
                    self._say(session, feed, self.log.get(feed, 0), True)
                    session.last = now
                    break

    def outgoing(self, peer: str) -> list[Frame]:
        """All frames waiting for ``peer``, messages first."""
        session = self.sessions.get(peer)
        frames: list[Frame] = []
        while session is not None and session.fetch:
            feed = session.fetch.popleft()
            pair = (session.pairs or {}).get(feed)
            local = self.log.get(feed, 0)
            if pair is None or not pair.tx or pair.sent is None or pair.sent >= local:
                continue
            pair.sent += 1
            session.messages.append((feed, int(pair.sent)))
            if pair.sent < local and feed not in session.fetch:
                session.fetch.append(feed)
        if session is not None:
            frames.extend(session.messages)
            session.messages.clear()
            if session.notes is not None:
                frames.append(session.notes)
                session.notes = None
        return frames

    # helpers

    def _shared(self, feed: str, peer: str) -> bool:
        return self.follows.get(feed, False) and (feed, peer) not in self.blocks

    def _say(self, session: _Session, feed: str, sequence: int, receive: bool) -> None:
        session.notes = {} if session.notes is None else session.notes
        session.notes[feed] = _value(sequence, receive)
        pair = None if session.pairs is None else session.pairs.get(feed)
        if pair is not None:
            pair.rx = receive

    def _supplier(self, feed: str, peer: str) -> str | None:
        for other, session in self.sessions.items():
            pair = (session.pairs or {}).get(feed)
            if other != peer and pair is not None and pair.rx and pair.sent != -1:
                return other
        return None

    def _available(self, feed: str, peer: str) -> bool:
        local = self.log.get(feed, 0)
        return any(
            other != peer and session.claims.get(feed, 0) > local and self._shared(feed, other)
            for other, session in self.sessions.items()
        )
