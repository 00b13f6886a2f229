"""Whether our own feed may be written to: the verdict at the start, and the way out of a lock. Pure.

A feed forks when its key signs two messages at one sequence. That happens when a store that is older than what was once
published goes on publishing: a restored backup, a copied folder, a second machine. So next to the database lies what
the database cannot take back (protocol: none; the ten rules are in docs/publishing.md):

mark       feed, epoch and the highest message that was published. The *intent* is on the disk before a commit, *done*
           before anybody can see the message. A mark ahead of the store means that the store is old.
install    a random epoch, also in the database, with the machine, file system and file it was written on. Files know
           their own number and time of birth, so a copy is told from the original, whatever way it was copied.

`judge` compares all that at the start. `Unlocking` is the way back: peers that finished telling us what they have of
our feed, none of them more than we hold, at least one as much, and a quiet minute; and never with less than the mark
says was published. What a peer claims is asked for; a
claim that is never made good stops counting (`CLAIM_PATIENCE`, `CLAIM_FADES`), because anybody can make one.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from feeds.message import EMPTY, Tip

__all__ = ["CLAIM_FADES", "CLAIM_PATIENCE", "PEERS_NEEDED", "QUIET", "WAY_OUT"]
__all__ += ["Evidence", "Install", "Lock", "Mark", "Origin", "Place", "Progress", "Reason", "Unlocking", "judge"]

PEERS_NEEDED: Final = 2
"""Distinct peers that must have told what they have of our feed."""
QUIET: Final = 60.0
"""Seconds without news of our feed, in the presence of such a peer, before it is opened."""
CLAIM_PATIENCE: Final = 600.0
"""Seconds that a connected peer has for delivering a first message of those it claims."""
CLAIM_FADES: Final = 7 * 86400.0
"""Seconds after which the claim of a peer that is gone no longer counts."""
LONGEST_STEP: Final = 5.0
"""Time passes by at most so much between two looks: a suspended machine has waited for nothing."""

WAY_OUT: Final = (
    "Connect to peers that have your feed and leave the node running: it opens the feed by itself once they agree. "
    "sbot unlock shows what is missing, and opens the feed by hand."
)


class Reason(StrEnum):
    """Why our feed is locked; the value is the code that programs see."""

    NO_MARK = "no-mark"
    BAD_MARK = "bad-mark"
    COPIED_MARK = "copied-mark"
    OTHER_FEED = "other-feed"
    NO_INSTALL = "no-install"
    COPIED = "copied"
    OTHER_STORE = "other-store"
    SNAPSHOT = "snapshot"
    STORE_OLD = "store-is-older"
    MARK_OLD = "mark-is-older"
    CONTRADICTION = "other-message"
    SHOWN = "peer-shows-more"
    DELIVERED = "peer-delivered"

    @property
    def text(self) -> str:
        """What it means, for people."""
        return _TEXTS[self]

    @property
    def from_peers(self) -> bool:
        """Whether a peer gave rise to it, so that comparing our own files cannot clear it."""
        return self in (Reason.SHOWN, Reason.DELIVERED)


_TEXTS: Final[Mapping[Reason, str]] = {
    Reason.NO_MARK: "it is not known what was last published with this key: it was imported, or the file `publishing` "
    "is missing",
    Reason.BAD_MARK: "the file `publishing` cannot be read",
    Reason.COPIED_MARK: "the file `publishing` was put back or copied from somewhere, so it may be out of date",
    Reason.OTHER_FEED: "the file `publishing` belongs to another feed",
    Reason.NO_INSTALL: "the file `install` is missing or cannot be read",
    Reason.COPIED: "this data directory is a copy: it was made on another machine, disk or folder",
    Reason.OTHER_STORE: "the database does not belong to this installation: it was replaced or copied",
    Reason.SNAPSHOT: "the database is a backup",
    Reason.STORE_OLD: "the database is older than what was already published",
    Reason.MARK_OLD: "the database holds messages of this feed that this installation did not publish",
    Reason.CONTRADICTION: "the database ends with another message than the one that was last published",
    Reason.SHOWN: "a peer says that it has more of this feed than this node",
    Reason.DELIVERED: "a peer delivered messages of this feed that this node did not have",
}


class Origin(NamedTuple):
    """A file as the file system knows it: its number, and its birth in ns since 1970 (None: not told here)."""

    inode: int
    born: int | None

    def is_same(self, other: "Origin") -> bool:
        """Whether both are one file. A copy, even over the old file, has either another number or another birth."""
        return self.inode == other.inode and (self.born is None or other.born is None or self.born == other.born)


class Place(NamedTuple):
    """Where an installation lives. None: not told here, and then not compared."""

    machine: str | None
    """A hash of the machine's id."""
    device: int
    filesystem: int | None
    """An id that stays when devices are numbered anew after a restart."""
    file: Origin

    def is_same(self, other: "Place") -> bool:
        """Whether both are one folder on one machine. A folder moved within its file system is the same."""
        if self.machine is not None and other.machine is not None and self.machine != other.machine:
            return False
        same_device = self.device == other.device
        same_filesystem = self.filesystem is not None and self.filesystem == other.filesystem
        return (same_device or same_filesystem) and self.file.is_same(other.file)


class Install(NamedTuple):
    """The file `install`: the epoch, and where it was written."""

    epoch: str
    place: Place


class Mark(NamedTuple):
    """The file `publishing`. `done` was published; `intent` was about to be committed, and nobody can have seen it."""

    feed: str
    epoch: str
    done: Tip
    intent: Tip | None
    file: Origin | None
    """The file it was written as."""


class Lock(NamedTuple):
    """Why our feed is locked, since when (ms since 1970), and which peer says what, if it was a peer."""

    reason: Reason
    since: int
    peer: str | None = None
    sequence: int | None = None

    @property
    def text(self) -> str:
        """One sentence without its full stop."""
        if self.reason is Reason.SHOWN and self.peer is not None:
            return f"{self.reason.text} ({self.peer}: {self.sequence})"
        return self.reason.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that is known at the start."""

    feed: str
    tip: Tip
    """Last message of our feed in the store."""
    mark: Mark | None
    mark_unreadable: bool = False
    mark_file: Origin | None
    """What the mark's file is now."""
    install: Install | None
    place: Place | None
    """Where the install file is now."""
    store_epoch: str | None
    """None for a store that was never opened for publishing."""
    snapshot: bool = False
    locked: Lock | None = None
    """The lock that was on when the node last ran."""


def judge(evidence: Evidence, *, now: int) -> Lock | None:
    """The lock to start with, None when our feed may be written to. now -- ms since 1970."""
    locked = evidence.locked
    if locked is not None and locked.reason.from_peers:
        return locked
    reason = _files(evidence) or _store(evidence)
    if reason is None:
        return None
    return locked if locked is not None and locked.reason is reason else Lock(reason, now)


def _files(evidence: Evidence) -> Reason | None:
    """What the mark and the install file say."""
    mark, install = evidence.mark, evidence.install
    if evidence.mark_unreadable:
        return Reason.BAD_MARK
    if mark is None:
        return Reason.NO_MARK
    if mark.feed != evidence.feed:
        return Reason.OTHER_FEED
    if install is None or evidence.place is None:
        return Reason.NO_INSTALL
    if not install.place.is_same(evidence.place):
        return Reason.COPIED
    if mark.file is None or evidence.mark_file is None or not mark.file.is_same(evidence.mark_file):
        return Reason.COPIED_MARK
    return None if mark.epoch == install.epoch else Reason.COPIED_MARK


def _store(evidence: Evidence) -> Reason | None:
    """What the store says beside a good mark and install file."""
    mark, install, tip = evidence.mark, evidence.install, evidence.tip
    assert mark is not None
    assert install is not None
    if evidence.snapshot:
        return Reason.SNAPSHOT
    fresh = evidence.store_epoch is None and mark.done == EMPTY and mark.intent is None and tip == EMPTY
    if evidence.store_epoch != install.epoch and not fresh:
        return Reason.STORE_OLD if tip.sequence < mark.done.sequence else Reason.OTHER_STORE
    if tip in (mark.done, mark.intent):
        return None
    if tip.sequence < mark.done.sequence:
        return Reason.STORE_OLD
    highest = mark.intent or mark.done
    return Reason.MARK_OLD if tip.sequence > highest.sequence else Reason.CONTRADICTION


class Ahead(NamedTuple):
    """A peer that claims more of our feed than we hold."""

    peer: str
    sequence: int
    connected: bool
    patience: float
    """Seconds until its claim alone stops counting."""


class Progress(NamedTuple):
    """How far the way out of a lock is."""

    met: bool
    """All conditions but the quiet time are met."""
    open: bool
    """All conditions are met."""
    agreeing: tuple[str, ...]
    """Peers that told what they have of our feed, and it is not more than we hold."""
    complete: tuple[str, ...]
    """Those of them that have as much as we hold."""
    needed: int
    """How many agreeing peers it takes: fewer if one of them is our own pub."""
    ahead: tuple[Ahead, ...]
    """Peers whose claims stand in the way."""
    floor: int
    """The sequence that was surely published, so that it must be here."""
    quiet: float
    """Seconds of quiet still to come."""


@dataclass(slots=True)
class _Peer:
    sequence: int = 0
    told: bool = False
    """It spoke of our feed since the lock, so this is no memory of earlier days."""
    connected: bool = False
    waited: float = 0.0
    """Seconds connected in which its claim was ahead of us and nothing came in."""
    gone: float = 0.0
    """Seconds since it left with such a claim."""


class Unlocking:
    """The way out of one lock. Times are seconds of a clock that never goes back."""

    def __init__(
        self,
        *,
        held: int,
        now: float,
        own_pubs: Collection[str] = (),
        set_aside: Collection[str] = (),
        gone_for: float = 0.0,
        floor: int = 0,
    ) -> None:
        """held -- sequence of our feed in the store. set_aside -- peers whose word on our feed no longer counts.

        gone_for -- seconds since the lock began, for peers that were never seen since. floor -- the sequence that was
        surely published: with less, nobody's agreement is enough.
        """
        self._held = held
        self._floor: Final = floor
        self._own_pubs: Final = frozenset(own_pubs)
        self._set_aside: Final = frozenset(set_aside)
        self._peers: Final[dict[str, _Peer]] = {}
        self._gone_for: Final = gone_for
        self._quiet = 0.0
        self._now = now

    def remembers(self, peer: str, sequence: int) -> None:
        """What a peer said before the lock: it may stand in the way, but is no witness."""
        if sequence > self._held:
            self._peers.setdefault(peer, _Peer(gone=self._gone_for)).sequence = sequence

    def shows(self, peer: str, sequence: int, now: float) -> None:
        """A connected peer told how much of our feed it has (-1: it does not replicate it)."""
        self._pass(now)
        known = self._peers.setdefault(peer, _Peer())
        known.gone = 0.0
        news = sequence > self._held and sequence > known.sequence
        known.told = known.connected = True
        known.sequence = sequence
        if news:
            self._quiet = 0.0

    def left(self, peer: str, now: float) -> None:
        """The connection with a peer has ended."""
        self._pass(now)
        if peer in self._peers:
            self._peers[peer].connected = False

    def grew(self, held: int, now: float) -> None:
        """The store holds more (or, restored meanwhile, less) of our feed: everybody has time again."""
        self._pass(now)
        if held != self._held:
            self._held = held
            self._quiet = 0.0
            for peer in self._peers.values():
                peer.waited = peer.gone = 0.0

    def progress(self, now: float) -> Progress:
        """Where we are; the clock runs only by calls of these methods, so ask about once a second."""
        self._pass(now)
        return self._progress()

    def claims(self) -> list[str]:
        """Peers that claim more than we hold: the ones to set aside when the feed is opened all the same."""
        return [name for name, peer in self._peers.items() if peer.sequence > self._held]

    def _progress(self) -> Progress:
        agreeing = tuple(sorted(name for name, peer in self._counting() if peer.told and peer.sequence <= self._held))
        complete = tuple(name for name in agreeing if max(self._peers[name].sequence, 0) == self._held)
        needed = 1 if self._own_pubs.intersection(agreeing) else PEERS_NEEDED
        ahead = tuple(
            Ahead(name, peer.sequence, peer.connected, round(patience, 1))
            for name, peer in sorted(self._counting())
            if peer.sequence > self._held and (patience := self._patience(peer)) > 0
        )
        met = len(agreeing) >= needed and bool(complete) and not ahead and self._held >= self._floor
        quiet = max(0.0, QUIET - self._quiet)
        return Progress(met, met and not quiet, agreeing, complete, needed, ahead, self._floor, round(quiet, 1))

    def _counting(self) -> list[tuple[str, _Peer]]:
        return [(name, peer) for name, peer in self._peers.items() if name not in self._set_aside]

    def _patience(self, peer: _Peer) -> float:
        if peer.connected or peer.waited >= CLAIM_PATIENCE:
            return CLAIM_PATIENCE - peer.waited
        return CLAIM_FADES - peer.gone

    def _pass(self, now: float) -> None:
        """Let time pass: for those whose claims are waited for, and as quiet where everything else is met."""
        step = min(max(now - self._now, 0.0), LONGEST_STEP)
        self._now = max(self._now, now)
        found = self._progress()
        present = any(self._peers[name].connected for name in found.agreeing)
        if not found.met:
            self._quiet = 0.0
        elif present:
            self._quiet += step
        for peer in self._peers.values():
            if peer.sequence > self._held and peer.connected:
                peer.waited += step
            elif peer.sequence > self._held:
                peer.gone += step
