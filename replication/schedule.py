"""Which address to dial now, on whom to hang up, what to forget, and why (protocol section 15). Pure.

`decide` looks at every known address and every connection, and says of each address what becomes of it and for what
reason. The first rule that fits an address decides:

1. Connected, being dialled, or barred (blocked, hung up on by hand): nothing.
2. Failed long and often without an answer: forgotten, unless a person picked it.
3. Not to be dialled unasked (`Rules.autoconnect`, `Rules.strangers`), or no network: it waits.
4. Its back-off is not over: it waits until then.
5. It is one of those due. Of several addresses of a peer one is dialled. Those picked by hand go first, then the local
   network, then the group that is filled least; within a group the one that we met longest ago, or never. Each group
   has a quota, and all together have one.

Whoever is due and finds no place waits for one: the longest connection of its group is then rotated out, the sooner
the more are waiting. Peers picked by hand need no place in a group, are never rotated out, and may push out others.
Times are seconds of one clock.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from operator import itemgetter
from typing import Final, NamedTuple

from replication.backoff import Backoff


class Group(StrEnum):
    """What a connection counts as: the first that fits."""

    HAND = "by hand"
    LAN = "lan"
    ROOM = "room"
    PUB = "pub"
    FOLLOWED = "followed"
    STRANGER = "stranger"


def group_of(kind: str, *, by_hand: bool, hops: int | None) -> Group:
    """`kind` as the address book has it; `hops` the distance by follows, None or negative if there is none."""
    if by_hand:
        return Group.HAND
    if kind in (Group.LAN, Group.ROOM, Group.PUB):
        return Group(kind)
    return Group.FOLLOWED if hops is not None and hops >= 0 else Group.STRANGER


class Network(Enum):
    """What dialling beyond this machine and its neighbours promises."""

    UP = "there is a network"
    PROBE = "everything failed of late: one dial, to see whether anything answers"
    SILENT = "everything failed of late: the next dial comes after a pause"
    NONE = "there is no network"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """Connections that the node opens by itself, by group; `total` bounds all together, those picked by hand too."""

    lan: int = 2
    room: int = 2
    pub: int = 2
    followed: int = 3
    stranger: int = 1
    total: int = 10

    def of(self, group: Group) -> int:
        """The places of one group."""
        return self.total if group is Group.HAND else int(getattr(self, group.name.lower()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a person may set. Times in seconds."""

    quotas: Quotas = field(default_factory=Quotas)
    autoconnect: bool = True
    """Dial what nobody picked by hand."""
    strangers: bool = True
    """Dial peers that are not within reach of our follows."""
    backoff: Backoff = field(default_factory=Backoff)
    """For addresses picked by hand, and on the local network."""
    patient: Backoff = field(default_factory=lambda: Backoff(minimum=5.0, maximum=86_400.0))
    """For all others: a dead one is dialled once a day in the end."""
    rest: float = 60.0
    """Others are left alone for up to this time after a connection that lasted."""
    rotation: float = 7_200.0
    """How long a connection is kept while one peer waits for its place; divided by the root of their number."""
    fading: float = 14 * 86_400.0
    """After this time without an answer an address is forgotten."""
    hopeless: int = 10
    """... if it also failed this often in a row."""

    def backoff_of(self, group: Group) -> Backoff:
        """How long addresses of a group rest after failures."""
        return self.backoff if group in (Group.HAND, Group.LAN) else self.patient


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One address, as far as dialling goes. `barred` says why it must not be dialled; empty: it may."""

    address: str
    peer: str
    group: Group
    hops: int | None = None
    failures: int = 0
    next_try: float = 0.0
    last_try: float = 0.0
    """When it was last dialled in vain or left; 0: never."""
    last_worked: float = 0.0
    """When it last worked; 0: never."""
    last_heard: float = 0.0
    """When it last worked, or else when we first heard of it."""
    near: bool = False
    """It is reached without a network beyond our neighbours."""
    lasting: bool = True
    """Kept in the address book, so that it may be forgotten; others vanish by themselves."""
    barred: str = ""


class Held(NamedTuple):
    """A live connection. `fate` is random in [0, 1), drawn once; `group` counts only where we opened it."""

    peer: str
    group: Group
    since: float
    outgoing: bool
    fate: float
    closing: bool = False
    """It is on its way out, and holds its place until it is gone."""


class Dial(NamedTuple):
    """Dial it now."""

    address: str
    peer: str
    reason: str


class HangUp(NamedTuple):
    """End the connection with the peer; `address` is empty, for the peer may be connected by any."""

    address: str
    peer: str
    reason: str


class Forget(NamedTuple):
    """Drop it from the address book."""

    address: str
    peer: str
    reason: str


class Wait(NamedTuple):
    """Leave it alone; `until` when time alone changes that, None if something must happen first."""

    address: str
    peer: str
    reason: str
    until: float | None = None


Decision = Dial | HangUp | Forget | Wait

_ORDER: Final = {group: place for place, group in enumerate(Group)}
_FIRST: Final = (Group.HAND, Group.LAN)
_RANK: Final = itemgetter(0, 1, 2)


def decide(
    now: float,
    known: Iterable[Known],
    held: Sequence[Held],
    dialling: Mapping[str, Group],
    rules: Rules,
    *,
    network: Network,
    random: Callable[[], float],
) -> list[Decision]:
    """One decision for each known address, and those to hang up.

    `dialling` holds the peers with a dial under way and the group that each counts in; `random` gives [0, 1).
    """
    busy = dict.fromkeys(dialling, "a dial to this peer is under way")
    busy.update((each.peer, "connected") for each in held)
    # a longer wait than any pause means that the clock was set back
    latest = {group: now + max(rules.backoff_of(group).maximum, rules.rest, rules.rotation) for group in Group}
    stopped = network.value if network in (Network.NONE, Network.SILENT) else ""
    decisions: list[Decision] = []
    due: list[Known] = []
    for each in known:
        reason = busy.get(each.peer) or each.barred or _unwanted(each, rules)
        if reason:
            decisions.append(Wait(each.address, each.peer, reason))
        elif each.failures >= rules.hopeless and _is_hopeless(now, each, rules):
            reason = f"no answer for {rules.fading / 86_400:g} days and {each.failures} dials"
            decisions.append(Forget(each.address, each.peer, reason))
        elif stopped and not each.near:
            decisions.append(Wait(each.address, each.peer, stopped))
        elif now < each.next_try <= latest[each.group]:
            reason = (
                f"back-off after {each.failures} failures in a row" if each.failures else "a rest, it was connected"
            )
            decisions.append(Wait(each.address, each.peer, reason, each.next_try))
        else:
            due.append(each)
    return decisions + _Places(now, held, dialling, rules, network, random).give(due)


def next_look(decisions: Iterable[Decision]) -> float:
    """When to decide again if nothing happens before; infinite if time alone changes nothing."""
    return min(
        (each.until for each in decisions if isinstance(each, Wait) and each.until is not None), default=math.inf
    )


def after_failure(now: float, group: Group, failures: int, rules: Rules, jitter: float) -> float:
    """When to dial again after so many failures in a row; `jitter` is random in [0, 1)."""
    return now + rules.backoff_of(group).delay(failures, jitter)


def after_loss(
    now: float, group: Group, failures: int, lasted: float, rules: Rules, jitter: float
) -> tuple[int, float]:
    """The failures to remember, and when to dial again, after a connection of `lasted` seconds."""
    backoff = rules.backoff_of(group)
    failures = backoff.ended(failures, lasted)
    pause = backoff.delay(failures, jitter)
    if group not in _FIRST:
        pause = max(pause, rules.rest * (1 - jitter / 2))
    return failures, now + pause


def _unwanted(each: Known, rules: Rules) -> str:
    """Why nobody wants it dialled; empty if somebody does."""
    if not rules.autoconnect and each.group is not Group.HAND:
        return "autoconnect is off, and nobody asked for this peer"
    if not rules.strangers and each.group is Group.STRANGER:
        return "strangers are not wanted, and none of our follows leads there"
    return ""


def _is_hopeless(now: float, each: Known, rules: Rules) -> bool:
    return each.lasting and each.group is not Group.HAND and now - each.last_heard > rules.fading


class _Places:
    """Hands out the places there are to the addresses that are due."""

    def __init__(
        self,
        now: float,
        held: Sequence[Held],
        dialling: Mapping[str, Group],
        rules: Rules,
        network: Network,
        random: Callable[[], float],
    ) -> None:
        self._now = now
        self._ours = [each for each in held if each.outgoing]
        self._rules = rules
        self._quotas = rules.quotas
        self._network = network
        self._random = random
        self._counts = Counter(each.group for each in self._ours)
        self._counts.update(dialling.values())
        self._decisions: list[Decision] = []
        self._probed = bool(dialling)  # how they end is what a probe would tell

    def give(self, due: Iterable[Known]) -> list[Decision]:
        full: list[Known] = []  # wait for a place in their group
        crowded: list[Known] = []  # wait for any place
        first, rest = self._in_turn(self._one_each(due))
        for each in first:
            if self._counts.total() >= self._quotas.total:
                crowded.append(each)
            elif self._is_full(each.group):
                full.append(each)
            elif self._network is Network.PROBE and not each.near and self._probed:
                self._wait(each, self._network.value)
            else:
                self._probed = self._probed or not each.near
                self._counts[each.group] += 1
                self._decisions.append(Dial(each.address, each.peer, self._why(each)))
        for group, line in rest.items():
            (full if self._is_full(group) else crowded).extend(line)
        self._make_room(full, crowded)
        return self._decisions

    def _is_full(self, group: Group) -> bool:
        return self._counts[group] >= self._quotas.of(group)

    def _one_each(self, due: Iterable[Known]) -> Iterable[Known]:
        """The most promising address of each peer."""
        chosen: dict[str, Known] = {}
        for each in due:
            other = chosen.setdefault(each.peer, each)
            if other is not each:
                better, worse = sorted((other, each), key=_promise)
                chosen[each.peer] = better
                self._wait(worse, "another address of this peer goes first")
        return chosen.values()

    def _in_turn(self, due: Iterable[Known]) -> tuple[list[Known], dict[Group, list[Known]]]:
        """Those picked by hand, the local network, then by turns from the group that is filled least; and the rest.

        The rest are those for whom their group has no place in any case, in no order.
        """
        lines: dict[Group, list[Known]] = {}
        for each in due:
            lines.setdefault(each.group, []).append(each)
        ranked: list[tuple[float, int, int, Known]] = []
        rest: dict[Group, list[Known]] = {}
        for group, line in lines.items():
            quota, count, order = self._quotas.of(group), self._counts[group], _ORDER[group]
            free = len(line) if group is Group.HAND or self._network is Network.PROBE else max(0, quota - count)
            if free:
                line.sort(key=self._turn)
            rest[group] = line[free:]
            for at, each in enumerate(line[:free]):
                ranked.append((-1.0 if group in _FIRST else (count + at) / max(1, quota), order, at, each))
        ranked.sort(key=_RANK)
        return [each for *_, each in ranked], rest

    def _turn(self, each: Known) -> tuple[float, float, int, int, float]:
        """Never met, not tried for long, near: a dial in vain holds a place for seconds, a connection for hours."""
        return (each.last_worked, each.last_try, _distance(each), each.failures, self._random())

    def _make_room(self, full: list[Known], crowded: list[Known]) -> None:
        """Rotate long-held connections out where others wait; at most one a group at a time."""
        going: set[str] = set()
        picked = [each for each in crowded if each.group is Group.HAND]
        leaving = sum(held.closing for held in self._ours)
        for each in picked[:leaving]:
            self._wait(each, "waits for a connection to close")
        for each in picked[leaving:]:
            least = min(
                (held for held in self._open(self._ours) if held.peer not in going and held.group is not Group.HAND),
                key=lambda held: (-_ORDER[held.group], held.since),
                default=None,
            )
            if least is None:
                self._wait(each, f"all {self._quotas.total} connections are to peers picked by hand")
            else:
                going.add(least.peer)
                self._decisions.append(HangUp("", least.peer, "made room for a peer picked by hand"))
                self._wait(each, "waits for a connection to close")
        for group, waiting in Counter(each.group for each in full).items():
            until = self._rotate([held for held in self._ours if held.group is group], waiting, going)
            reason = f"its group ({group}) has its {self._quotas.of(group)} connections"
            self._decisions += [Wait(each.address, each.peer, reason, until) for each in full if each.group is group]
        others = [each for each in crowded if each.group is not Group.HAND]
        if others:
            until = self._rotate([held for held in self._ours if held.group is not Group.HAND], len(others), going)
            reason = f"all {self._quotas.total} connections are in use"
            self._decisions += [Wait(each.address, each.peer, reason, until) for each in others]

    def _rotate(self, pool: list[Held], waiting: int, going: set[str]) -> float | None:
        """Hang up on the one held longest if its time is over; else when that will be, None if there is nobody.

        While one is on its way out, its place is waited for.
        """
        period = self._rules.rotation / math.sqrt(waiting)
        ends = [(held.since + period * (0.8 + 0.4 * held.fate), held) for held in self._open(pool)]
        if not ends or len(ends) < len(pool) or any(held.peer in going for held in pool):
            return None
        end, held = min(ends, key=lambda item: item[0])
        if end > self._now:
            return end
        going.add(held.peer)
        minutes = (self._now - held.since) / 60
        self._decisions.append(HangUp("", held.peer, f"held for {minutes:.0f} minutes while {waiting} others wait"))
        return None

    @staticmethod
    def _open(held: Iterable[Held]) -> list[Held]:
        return [each for each in held if not each.closing]

    def _wait(self, each: Known, reason: str, until: float | None = None) -> None:
        self._decisions.append(Wait(each.address, each.peer, reason, until))

    def _why(self, each: Known) -> str:
        if each.group is Group.HAND:
            return "picked by hand"
        used, quota = self._counts[each.group], self._quotas.of(each.group)
        return f"{used} of {quota} connections of its group ({each.group})"


def _promise(each: Known) -> tuple[int, int, float]:
    return (_ORDER[each.group], each.failures, -each.last_heard)


def _distance(each: Known) -> int:
    return each.hops if each.hops is not None and each.hops >= 0 else 1_000


class Outlook:
    """Whether the network seems to be there, judged by how dials end.

    When `SUSPICION` different peers in a row could not be reached and nobody is connected, it is likely that we are cut
    off: then one dial at a time is made, with growing pauses, until one works or a person asks for one. While somebody
    is connected it takes more to believe that, for that connection may be dead too, and pauses stay short.
    """

    SUSPICION: Final = 5
    STRONG_SUSPICION: Final = 15
    FIRST_PAUSE: Final = 10.0
    LAST_PAUSE: Final = 300.0

    def __init__(self) -> None:
        self._failed: set[str] = set()
        self._cut_off = False
        self._began = 0.0
        self._last = 0.0
        self._pause = self.FIRST_PAUSE

    def failed(self, now: float, peer: str) -> None:
        """Nobody answered at an address of `peer` beyond our neighbours."""
        if not self._failed:
            self._began = now
        if self._cut_off:
            self._pause = min(self._pause * 2, self.LAST_PAUSE)
        if len(self._failed) < self.STRONG_SUSPICION:
            self._failed.add(peer)
        self._last = now

    def worked(self) -> float | None:
        """Somebody answered. Gives the time since when nobody had, if we thought ourselves cut off."""
        since = self._began if self._cut_off else None
        self._failed.clear()
        self._cut_off = False
        self._pause = self.FIRST_PAUSE
        return since

    def network(self, now: float, *, has_network: bool, connected: bool) -> Network:
        """What to expect now; `connected`: somebody beyond our neighbours is."""
        if not has_network:
            return Network.NONE
        if len(self._failed) < (self.STRONG_SUSPICION if connected else self.SUSPICION):
            return Network.UP
        self._cut_off = self._cut_off or not connected
        return Network.SILENT if self._last <= now < self._last + self._pause else Network.PROBE

    def next_look(self, now: float) -> float:
        """When the answer changes by itself; infinite if it does not."""
        probe = self._last + self._pause
        return probe if len(self._failed) >= self.SUSPICION and probe > now else math.inf
