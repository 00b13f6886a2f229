"""Who wants and who has which blob, what to tell whom, and what to get from where (protocol.md section 10). Pure.

A note of a peer is `{blob: number}`: -1 it wants the blob, -2 a peer of it does, -3 one further away; a positive number
is the size of a blob that it holds. What a peer wants at -1 or -2 we want for it too, one further away (sympathy), and
tell everybody, it included: that is how a blob that somebody pushes is answered for. A want is told once for each time
it comes nearer, so notes cannot go in circles; an answer to a want of ours is no want to be passed on.

Events are the methods, with the time in seconds of any steady clock; what is to be done is drained from `effects`, and
what is to be told to a peer is taken with `take_notes` as fast as that peer reads. Everything is bounded by `Limits`.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from heapq import heapify, heappop, heappush
from typing import Any, Final, NamedTuple

from replication.limits import DEFAULT_LIMITS, Limits

__all__ = [
    "SYMPATHY",
    "Blame",
    "BlobWants",
    "Effect",
    "Fault",
    "Fetch",
    "Get",
    "Notes",
    "Pushed",
    "Stop",
]

SYMPATHY: Final = 3
"""A want this many hops away is still counted."""

RELAYED: Final = 100
"""Rank of what peers want, plus the distance; those of our own wants are in `feeds.blob_ranks`."""

_RETRY_SECONDS: Final = 10.0
_REFUSED_SECONDS: Final = 60.0
_LIED_SECONDS: Final = 3600.0
_RETRY_SECONDS_MAX: Final = 3600.0
_LIED_SECONDS_MAX: Final = 86_400.0
_LOCAL_SECONDS: Final = 30.0
_REASONS_KEPT: Final = 2000


class Fetch(StrEnum):
    """What a node fetches."""

    ALL = "all"
    """What messages of wanted feeds name, what its user asks for, and what peers ask it for."""
    WANTED = "wanted"
    """Only what its user asks for."""
    OFF = "off"
    """Nothing; what it holds is given to others all the same."""


class Fault(Enum):
    """Why a get failed."""

    LIED = "lied"
    """Other bytes than the blob's, or more than the peer said: it is not asked for this blob again for an hour."""
    REFUSED = "refused"
    """The peer answered with an error."""
    LOST = "lost"
    """It took too long, or the connection ended."""
    LOCAL = "local"
    """This node could not store it: all gets wait a while, and nobody is blamed."""


class Get(NamedTuple):
    """Fetch a blob from a peer, `size` bytes at most; then report `got` or `failed` with the number."""

    number: int
    blob: str
    peer: str
    size: int


class Stop(NamedTuple):
    """End a get under way; nothing need be reported."""

    number: int
    blob: str
    peer: str
    reason: str


class Notes(NamedTuple):
    """There is something to tell a peer: `take_notes`."""

    peer: str


class Pushed(NamedTuple):
    """Enough peers have taken a blob that was to be announced."""

    blob: str


class Blame(NamedTuple):
    """A peer lied too often: hang up on it."""

    peer: str
    reason: str


Effect = Get | Stop | Notes | Pushed | Blame


@dataclass(slots=True)
class _Failure:
    """What went wrong between one peer and one blob; `until` is when it may be tried again."""

    count: int
    until: float
    reason: str


@dataclass(slots=True)
class _Peer:
    """One connected peer. `wants` has distances as it said them, `haves` sizes."""

    tokens: float
    tokens_at: float
    open: bool = False
    wants: dict[str, int] = field(default_factory=dict)
    haves: dict[str, int] = field(default_factory=dict)
    offers: list[tuple[int, int, str]] = field(default_factory=list)
    """A heap of (rank, order, blob) of what it has and we may want; entries may be out of date."""
    pending: dict[str, int] = field(default_factory=dict)
    gets: set[int] = field(default_factory=set)
    trouble: int = 0
    lies: int = 0


@dataclass(frozen=True, slots=True)
class _Running:
    get: Get
    since: float


class BlobWants:
    """The machine of one node. Blob ids are canonical; whoever calls has checked them."""

    def __init__(
        self, limits: Limits = DEFAULT_LIMITS, *, max_size: int = 5 * 1024 * 1024, fetch: Fetch = Fetch.ALL
    ) -> None:
        self.fetch: Final = fetch
        self._limits: Final = limits
        self._max_size: Final = max_size
        self._peers: dict[str, _Peer] = {}
        self._own: dict[str, int] = {}
        self._relayed: dict[str, dict[str, int]] = {}
        self._announced: dict[str, int] = {}
        self._pushes: dict[str, set[str]] = {}
        self._running: dict[str, _Running] = {}
        self._failures: dict[tuple[str, str], _Failure] = {}
        self._reasons: dict[str, str] = {}
        self._retries: list[tuple[float, int, str, str]] = []
        self._paused_until = 0.0
        self._wanted_by_others = 0
        self._had = 0
        self._count = 0
        self._begun = 0
        self._effects: deque[Effect] = deque()
        self.breaches: Counter[str] = Counter()
        """How often which limit held a peer back."""

    # ---- effects

    def effects(self) -> list[Effect]:
        """What is to be done since the last call, in order."""
        done = list(self._effects)
        self._effects.clear()
        return done

    def take_notes(self, peer: str, limit: int = 500) -> dict[str, int]:
        """What the peer is to be told next; {} when that is all."""
        state = self._peers.get(peer)
        if state is None:
            return {}
        if len(state.pending) <= limit:
            taken, state.pending = state.pending, {}
            return taken
        return {blob: state.pending.pop(blob) for blob in list(state.pending)[:limit]}

    # ---- peers come and go

    def connect(self, peer: str, now: float) -> None:
        """There is a connection; the peer may be asked."""
        self._peers.setdefault(peer, _Peer(self._limits.blob_wants, now))

    def opened(self, peer: str) -> None:
        """The peer listens to our notes from now on, from the beginning."""
        state = self._peers[peer]
        state.open = True
        answers = {blob: note for blob, note in state.pending.items() if note > 0}
        wanted = sorted(self._announced, key=self._rank)[: self._limits.blob_notes_pending - len(answers)]
        state.pending = answers | {blob: self._announced[blob] for blob in wanted if blob not in answers}
        self._effects.append(Notes(peer))

    def closed(self, peer: str) -> None:
        """The peer listens no more."""
        if (state := self._peers.get(peer)) is not None:
            state.open = False
            state.pending = {}

    def disconnect(self, peer: str, now: float) -> None:
        """The last connection has ended: what the peer wanted and had is forgotten."""
        state = self._peers.get(peer)
        if state is None:
            return
        for running in [run for run in self._running.values() if run.get.peer == peer]:
            self._stop(running, "the connection ended")
            self._note_failure(running.get, Fault.LOST, "the connection ended", now)
            self._offer(running.get.blob)
        for blob in list(state.wants):
            self._drop_want(peer, state, blob)
        self._had -= len(state.haves)
        del self._peers[peer]
        self._schedule(now)

    # ---- what this node wants, has and pushes

    def want(self, blob: str, rank: int, now: float) -> None:
        """This node wants a blob that it does not have; the better of two ranks counts."""
        if self.fetch is Fetch.OFF or rank >= self._own.get(blob, rank + 1):
            return
        self._own[blob] = rank
        self._announce(blob)
        self._offer(blob)
        self._schedule(now)

    def unwant(self, blob: str, now: float) -> None:
        """This node wants a blob no more; peers may still want it."""
        if self._own.pop(blob, None) is not None:
            self._unneeded(blob, "not wanted any more")
            self._schedule(now)

    def push(self, blob: str) -> None:
        """Announce a blob that is held until enough peers have it."""
        if blob not in self._pushes:
            self._pushes[blob] = {peer for peer, state in self._peers.items() if blob in state.haves}
            self._announce(blob)
            self._check_pushed(blob)

    def held(self, blob: str, size: int, now: float) -> None:
        """A blob is here now, wherever it came from: those who want it, or heard that we do, are told."""
        announced = blob in self._announced and blob not in self._pushes
        if (running := self._running.get(blob)) is not None:
            self._stop(running, "it is here")
            self._well(running.get)
        self._own.pop(blob, None)
        self._reasons.pop(blob, None)
        for peer, state in self._peers.items():
            wants = blob in state.wants
            if wants:
                self._drop_want(peer, state, blob)
            if size and (wants or announced):
                self._tell(peer, state, blob, size)
        self._unneeded(blob, "it is here")
        self._schedule(now)

    def removed(self, blob: str) -> None:
        """A blob is not here any more."""
        if self._pushes.pop(blob, None) is not None:
            self._unneeded(blob, "removed")

    # ---- what peers say

    def notes_received(self, peer: str, notes: Mapping[str, int], held: Mapping[str, int], now: float) -> None:
        """A peer's notes; `held` has the sizes of those blobs among them that this node has."""
        state = self._peers[peer]
        for blob, note in notes.items():
            if note > 0:
                self._peer_has(peer, state, blob, note)
            elif note < 0 and (size := held.get(blob)) is not None:
                if size:
                    self._tell(peer, state, blob, size)
            elif -SYMPATHY <= note < 0:
                self._peer_wants(peer, state, blob, note, now)
        self._schedule(now)

    def _peer_wants(self, peer: str, state: _Peer, blob: str, note: int, now: float) -> None:
        known = state.wants.get(blob)
        if known is not None and known >= note:
            return
        if known is None:
            if not self._admit(state, now):
                return
            self._make_room(peer, state)
            self._wanted_by_others += 1
        state.wants[blob] = note
        told = self._announced.get(blob)
        is_answer = told is not None and state.open and note < told
        if self.fetch is Fetch.ALL and note > -SYMPATHY and not is_answer:
            self._relayed.setdefault(blob, {})[peer] = note - 1
            self._announce(blob)
            self._offer(blob)

    def _admit(self, state: _Peer, now: float) -> bool:
        """Whether the peer may want one thing more: as many as are kept at once, and then so many a second."""
        limits = self._limits
        earned = (now - state.tokens_at) * limits.blob_wants_per_second
        state.tokens, state.tokens_at = min(limits.blob_wants, state.tokens + max(0.0, earned)), now
        if state.tokens < 1.0:
            self.breaches["blob_wants_per_second"] += 1
            return False
        state.tokens -= 1.0
        return True

    def _make_room(self, peer: str, state: _Peer) -> None:
        """Forget an old want of this peer, or of the one that wants most."""
        if len(state.wants) >= self._limits.blob_wants:
            self.breaches["blob_wants"] += 1
            self._drop_want(peer, state, next(iter(state.wants)))
        if self._wanted_by_others >= self._limits.blob_wants_total:
            self.breaches["blob_wants_total"] += 1
            greedy = max(self._peers, key=lambda name: len(self._peers[name].wants))
            self._drop_want(greedy, self._peers[greedy], next(iter(self._peers[greedy].wants)))

    def _peer_has(self, peer: str, state: _Peer, blob: str, size: int) -> None:
        self._drop_want_it_has(peer, state, blob)
        if (takers := self._pushes.get(blob)) is not None:
            takers.add(peer)
            self._check_pushed(blob)
        known = state.haves.get(blob)
        if known == size:
            return
        if known is None:
            self._make_room_for_have(state)
            self._had += 1
        state.haves[blob] = size
        if self._is_wanted(blob):
            self._add_offer(state, blob)

    def _drop_want_it_has(self, peer: str, state: _Peer, blob: str) -> None:
        """Who has a blob wants it no more; but what it alone wanted is still fetched: so it pushes its own blobs."""
        if blob in state.wants and (blob in self._own or self._relayed.get(blob, {}).keys() != {peer}):
            self._drop_want(peer, state, blob)

    def _make_room_for_have(self, state: _Peer) -> None:
        if len(state.haves) >= self._limits.blob_haves:
            self.breaches["blob_haves"] += 1
            self._forget_have(state, next(iter(state.haves)))
        if self._had >= self._limits.blob_haves_total:
            self.breaches["blob_haves_total"] += 1
            largest = max(self._peers.values(), key=lambda other: len(other.haves))
            self._forget_have(largest, next(iter(largest.haves)))

    def _forget_have(self, state: _Peer, blob: str) -> None:
        if state.haves.pop(blob, None) is not None:
            self._had -= 1

    def _check_pushed(self, blob: str) -> None:
        if len(self._pushes[blob]) >= self._limits.blob_pushed_to:
            del self._pushes[blob]
            self._unneeded(blob, "pushed")
            self._effects.append(Pushed(blob))

    # ---- gets

    def got(self, number: int, now: float) -> None:
        """A get has ended well; `held` was or will be called too."""
        running = self._ended(number)
        if running is None:
            return
        self._well(running.get)
        self._schedule(now)

    def _well(self, get: Get) -> None:
        """A peer gave us a blob: what it did before is forgiven, save its lies."""
        if (state := self._peers.get(get.peer)) is not None:
            state.trouble = 0
        self._failures.pop((get.peer, get.blob), None)

    def failed(self, number: int, fault: Fault, reason: str, now: float) -> None:
        """A get has ended badly; `reason` is for a person."""
        running = self._ended(number)
        if running is None:
            return
        get = running.get
        if fault is Fault.LOCAL:
            self._paused_until = max(self._paused_until, now + _LOCAL_SECONDS)
            self._remember_reason(get.blob, reason)
        else:
            self._blame(get, fault, reason, now)
        self._offer(get.blob)
        self._schedule(now)

    def _blame(self, get: Get, fault: Fault, reason: str, now: float) -> None:
        self._note_failure(get, fault, reason, now)
        state = self._peers.get(get.peer)
        if state is None:
            return
        if fault is not Fault.REFUSED:
            state.trouble += 1
        if fault is Fault.LIED:
            self._forget_have(state, get.blob)
            state.lies += 1
            if state.lies == self._limits.blob_lies:
                self.breaches["blob_lies"] += 1
                self._effects.append(Blame(get.peer, f"it sent {state.lies} wrong blobs"))

    def tick(self, now: float) -> None:
        """Time has passed: end gets that take too long, try again what failed."""
        if now >= self._paused_until:
            self._paused_until = 0.0
        for running in list(self._running.values()):
            if now - running.since >= self._limits.blob_get_timeout:
                self.breaches["blob_get_timeout"] += 1
                reason = f"not complete within {self._limits.blob_get_timeout:g} seconds"
                self._effects.append(Stop(*running.get[:3], reason))
                self.failed(running.get.number, Fault.LOST, reason, now)
        while self._retries and self._retries[0][0] <= now:
            _, _, peer, blob = heappop(self._retries)
            state = self._peers.get(peer)
            if state is not None and blob in state.haves and self._is_wanted(blob):
                self._add_offer(state, blob)
        self._schedule(now)

    def next_tick(self) -> float | None:
        """When `tick` has something to do; None: only after another event."""
        moments = [running.since + self._limits.blob_get_timeout for running in self._running.values()]
        if self._retries:
            moments.append(self._retries[0][0])
        if self._paused_until:
            moments.append(self._paused_until)
        return min(moments, default=None)

    def _ended(self, number: int) -> _Running | None:
        running = next((run for run in self._running.values() if run.get.number == number), None)
        if running is not None:
            self._forget_get(running)
        return running

    def _forget_get(self, running: _Running) -> None:
        del self._running[running.get.blob]
        if (state := self._peers.get(running.get.peer)) is not None:
            state.gets.discard(running.get.number)

    def _stop(self, running: _Running, reason: str) -> None:
        self._forget_get(running)
        self._effects.append(Stop(*running.get[:3], reason))

    def _schedule(self, now: float) -> None:
        """Begin gets while there is room: the best rank first, from the peer with the least trouble."""
        if now < self._paused_until or self.fetch is Fetch.OFF:
            return
        while len(self._running) < self._limits.blob_gets:
            best: tuple[tuple[int, int, int, int], str, str] | None = None
            for peer, state in self._peers.items():
                if len(state.gets) < self._allowance(state) and (offer := self._best_offer(peer, state, now)):
                    rank, order, blob = offer
                    key = (rank, state.trouble, len(state.gets), order)
                    if best is None or key < best[0]:
                        best = key, peer, blob
            if best is None:
                return
            self._begin(best[1], best[2], now)

    def _allowance(self, state: _Peer) -> int:
        """Gets from one peer at once: never all of them, and one when it made trouble."""
        return 1 if state.trouble else max(1, self._limits.blob_gets - 1)

    def _best_offer(self, peer: str, state: _Peer, now: float) -> tuple[int, int, str] | None:
        offers = state.offers
        while offers:
            rank, _, blob = offers[0]
            size = state.haves.get(blob, self._max_size + 1)
            if size > self._max_size or blob in self._running or not self._is_wanted(blob):
                heappop(offers)
            elif (failure := self._failures.get((peer, blob))) is not None and failure.until > now:
                heappop(offers)
                heappush(self._retries, (failure.until, self._number(), peer, blob))
            elif rank < self._rank(blob):
                heappop(offers)
                self._add_offer(state, blob)
            else:
                return offers[0]
        return None

    def _begin(self, peer: str, blob: str, now: float) -> None:
        state = self._peers[peer]
        heappop(state.offers)
        self._begun += 1
        get = Get(self._begun, blob, peer, state.haves[blob])
        self._running[blob] = _Running(get, now)
        state.gets.add(get.number)
        self._effects.append(get)

    def _offer(self, blob: str) -> None:
        """A blob is wanted, or wanted more: put it among the offers of all who have it."""
        if self._is_wanted(blob) and blob not in self._running:
            for state in self._peers.values():
                if blob in state.haves:
                    self._add_offer(state, blob)

    def _add_offer(self, state: _Peer, blob: str) -> None:
        if state.haves[blob] > self._max_size:
            reason = f"it has {state.haves[blob]} bytes, more than the {self._max_size} allowed here"
            self._remember_reason(blob, reason)
            return
        if len(state.offers) > 2 * len(state.haves) + 100:  # many are out of date
            state.offers = [
                (self._rank(have), self._number(), have)
                for have, size in state.haves.items()
                if have != blob and size <= self._max_size and self._is_wanted(have) and have not in self._running
            ]
            heapify(state.offers)
        heappush(state.offers, (self._rank(blob), self._number(), blob))

    def _number(self) -> int:
        self._count += 1
        return self._count

    # ---- failures

    def _note_failure(self, get: Get, fault: Fault, reason: str, now: float) -> None:
        key = (get.peer, get.blob)
        count = self._failures.pop(key, _Failure(0, 0.0, "")).count
        first, most = {
            Fault.LIED: (_LIED_SECONDS, _LIED_SECONDS_MAX),
            Fault.REFUSED: (_REFUSED_SECONDS, _RETRY_SECONDS_MAX),
        }.get(fault, (_RETRY_SECONDS, _RETRY_SECONDS_MAX))
        self._failures[key] = _Failure(count + 1, now + min(most, first * 2 ** min(count, 16)), reason)
        if len(self._failures) > self._limits.blob_failures:
            del self._failures[next(iter(self._failures))]
        self._remember_reason(get.blob, f"{get.peer}: {reason}")

    def _remember_reason(self, blob: str, reason: str) -> None:
        self._reasons.pop(blob, None)
        self._reasons[blob] = reason
        if len(self._reasons) > _REASONS_KEPT:
            del self._reasons[next(iter(self._reasons))]

    # ---- wants

    def _is_wanted(self, blob: str) -> bool:
        return blob in self._own or blob in self._relayed

    def _distance(self, blob: str) -> int | None:
        """What we say of a blob: -1 if we want or push it, less for others, None if nobody wants it."""
        if blob in self._own or blob in self._pushes:
            return -1
        wanters = self._relayed.get(blob)
        return max(wanters.values()) if wanters else None

    def _rank(self, blob: str) -> int:
        rank = self._own.get(blob)
        return RELAYED - (self._distance(blob) or 0) if rank is None else rank

    def _announce(self, blob: str) -> None:
        """Tell everybody that we want a blob, if that is nearer than what they know."""
        distance = self._distance(blob)
        if distance is None or distance <= self._announced.get(blob, -SYMPATHY - 1):
            return
        self._announced[blob] = distance
        for peer, state in self._peers.items():
            self._tell(peer, state, blob, distance)

    def _tell(self, peer: str, state: _Peer, blob: str, note: int) -> None:
        if not state.open:
            return
        if not state.pending:
            self._effects.append(Notes(peer))
        state.pending.pop(blob, None)
        if len(state.pending) >= self._limits.blob_notes_pending:  # it does not read
            self.breaches["blob_notes_pending"] += 1
            if note < 0:
                return
            del state.pending[next(iter(state.pending))]
        state.pending[blob] = note

    def _drop_want(self, peer: str, state: _Peer, blob: str) -> None:
        del state.wants[blob]
        self._wanted_by_others -= 1
        wanters = self._relayed.get(blob)
        if wanters is not None and wanters.pop(peer, None) is not None and not wanters:
            del self._relayed[blob]
            self._unneeded(blob, "nobody wants it any more")

    def _unneeded(self, blob: str, reason: str) -> None:
        """Forget what there is about a blob if nobody wants it."""
        if self._is_wanted(blob):
            return
        if blob not in self._pushes:
            self._announced.pop(blob, None)
        if (running := self._running.get(blob)) is not None:
            self._stop(running, reason)

    # ---- for people

    def sources(self, blob: str) -> dict[str, int]:
        """Connected peers that say they have a blob, and the size they say."""
        return {peer: state.haves[blob] for peer, state in self._peers.items() if blob in state.haves}

    def status(self) -> dict[str, Any]:
        """Totals, gets under way, pushes, and a line for each peer; plain JSON values."""
        return {
            "fetch": str(self.fetch),
            "wanted": len(self._own),
            "wanted_for_peers": len(self._relayed),
            "transfers": [
                {"blob": run.get.blob, "peer": run.get.peer, "size": run.get.size} for run in self._running.values()
            ],
            "pushes": {blob: len(takers) for blob, takers in self._pushes.items()},
            "peers": {
                peer: {"wants": len(state.wants), "has": len(state.haves), "wrong": state.lies}
                for peer, state in self._peers.items()
            },
        }

    def blob_status(self, blob: str, now: float) -> dict[str, Any]:
        """Who wants a blob, who has it, what is being done about it and what went wrong; plain JSON values."""
        running = self._running.get(blob)
        failures = {
            peer: {"reason": failure.reason, "again_in": round(max(0.0, failure.until - now), 1)}
            for peer in self._peers
            if (failure := self._failures.get((peer, blob))) is not None
        }
        return {
            "rank": self._own.get(blob),
            "wanted_by_peers": {peer: state.wants[blob] for peer, state in self._peers.items() if blob in state.wants},
            "sources": self.sources(blob),
            "getting_from": None if running is None else running.get.peer,
            "failures": failures,
            "last_error": self._reasons.get(blob),
            "limit": self._max_size,
            "pushed_to": len(self._pushes[blob]) if blob in self._pushes else None,
        }

    def wanted(self) -> Iterable[str]:
        """What this node wants for itself."""
        return self._own.keys()
