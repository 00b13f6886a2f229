"""The verdict about our own feed at the start, and the machine that opens it again: values only."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.message import EMPTY, Tip
from feeds.publisher_state import (
    CLAIM_FADES,
    CLAIM_PATIENCE,
    QUIET,
    Evidence,
    Install,
    Lock,
    Mark,
    Origin,
    Place,
    Reason,
    Unlocking,
    judge,
)

FILE = Origin(7, 1_700_000_000_000_000_001)
MARK_FILE = Origin(8, 1_700_000_000_000_000_002)
PLACE = Place("machine", 65024, 99, FILE)
TIP = Tip(5, "%five")
GOOD = Evidence(
    feed="@me",
    tip=TIP,
    mark=Mark("@me", "epoch", TIP, None, MARK_FILE),
    mark_file=MARK_FILE,
    install=Install("epoch", PLACE),
    place=PLACE,
    store_epoch="epoch",
)


def mark(done: Tip = TIP, intent: Tip | None = None, feed: str = "@me", epoch: str = "epoch") -> Mark:
    return Mark(feed, epoch, done, intent, MARK_FILE)


@pytest.mark.parametrize(
    "evidence",
    [
        GOOD,
        replace(GOOD, mark=mark(Tip(4, "%four"), TIP)),  # cut off after the commit
        replace(GOOD, mark=mark(TIP, Tip(6, "%six"))),  # cut off before it
        replace(GOOD, mark=mark(EMPTY), tip=EMPTY, store_epoch=None),  # the first start
        replace(GOOD, mark=mark(EMPTY), tip=EMPTY),
        replace(GOOD, place=PLACE._replace(device=1)),  # devices numbered anew after a restart
        replace(GOOD, place=PLACE._replace(filesystem=None)),
        replace(GOOD, place=PLACE._replace(machine=None)),  # a container without a machine id
        replace(GOOD, mark_file=Origin(8, None)),  # a system that does not tell births
        replace(GOOD, locked=Lock(Reason.COPIED, 1)),  # everything is back in its place
    ],
)
def test_what_starts_open(evidence: Evidence) -> None:
    assert judge(evidence, now=9) is None


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        (replace(GOOD, mark=None, mark_file=None), Reason.NO_MARK),
        (replace(GOOD, mark=None, mark_unreadable=True), Reason.BAD_MARK),
        (replace(GOOD, mark=mark(feed="@other")), Reason.OTHER_FEED),
        (replace(GOOD, install=None), Reason.NO_INSTALL),
        (replace(GOOD, place=PLACE._replace(machine="other")), Reason.COPIED),
        (replace(GOOD, place=PLACE._replace(device=1, filesystem=1)), Reason.COPIED),
        (replace(GOOD, place=PLACE._replace(file=Origin(9, FILE.born))), Reason.COPIED),
        (replace(GOOD, place=PLACE._replace(file=Origin(7, 5))), Reason.COPIED),  # the number was used again
        (replace(GOOD, mark_file=Origin(8, 5)), Reason.COPIED_MARK),  # an old mark was written over it
        (replace(GOOD, mark=mark(epoch="earlier")), Reason.COPIED_MARK),
        (replace(GOOD, store_epoch="other"), Reason.OTHER_STORE),
        (replace(GOOD, store_epoch=None), Reason.OTHER_STORE),
        (replace(GOOD, store_epoch=None, tip=EMPTY, mark=mark(EMPTY, Tip(1, "%one"))), Reason.OTHER_STORE),
        (replace(GOOD, store_epoch=None, tip=EMPTY), Reason.STORE_OLD),  # the database was deleted
        (replace(GOOD, snapshot=True), Reason.SNAPSHOT),
        (replace(GOOD, tip=Tip(4, "%four")), Reason.STORE_OLD),
        (replace(GOOD, tip=Tip(6, "%six")), Reason.MARK_OLD),
        (replace(GOOD, tip=Tip(5, "%other")), Reason.CONTRADICTION),
        (replace(GOOD, tip=Tip(6, "%other"), mark=mark(TIP, Tip(6, "%six"))), Reason.CONTRADICTION),
        (replace(GOOD, locked=Lock(Reason.SHOWN, 1, "@p", 9)), Reason.SHOWN),
        (replace(GOOD, locked=Lock(Reason.DELIVERED, 1)), Reason.DELIVERED),
    ],
)
def test_what_starts_locked(evidence: Evidence, reason: Reason) -> None:
    lock = judge(evidence, now=9)
    assert lock is not None
    assert lock.reason is reason
    assert reason.text


def test_the_same_lock_keeps_its_date() -> None:
    old = replace(GOOD, tip=Tip(4, "%four"), locked=Lock(Reason.STORE_OLD, 1))
    assert judge(old, now=9) == Lock(Reason.STORE_OLD, 1)
    assert judge(replace(old, locked=Lock(Reason.COPIED, 1)), now=9) == Lock(Reason.STORE_OLD, 9)


class Clock:
    """An `Unlocking` that is looked at each second."""

    def __init__(self, held: int = 5, **options: object) -> None:
        self.now = 100.0
        self.machine = Unlocking(held=held, now=self.now, **options)  # type: ignore[arg-type]

    def after(self, seconds: float) -> bool:
        """Whether it is open after so long."""
        for _ in range(int(seconds)):
            self.now += 1.0
            self.machine.progress(self.now)
        return self.machine.progress(self.now).open

    def shows(self, peer: str, sequence: int) -> None:
        self.machine.shows(peer, sequence, self.now)


def test_two_peers_that_agree_and_a_quiet_minute_open_it() -> None:
    clock = Clock()
    assert not clock.after(500)
    clock.shows("@a", 5)
    assert not clock.after(500)
    clock.shows("@b", 3)
    assert not clock.after(QUIET - 1)
    assert clock.after(1)


def test_one_peer_twice_is_one_peer() -> None:
    clock = Clock()
    for _ in range(5):
        clock.shows("@a", 5)
        clock.machine.left("@a", clock.now)
        clock.shows("@a", 5)
    assert not clock.after(1000)


def test_our_own_pub_alone_is_enough() -> None:
    clock = Clock(own_pubs=["@pub"])
    clock.shows("@a", 5)
    assert not clock.after(200)
    clock.shows("@pub", 5)
    assert clock.after(QUIET)


def test_somebody_must_have_as_much_as_we() -> None:
    clock = Clock()
    for peer in ("@a", "@b", "@c"):
        clock.shows(peer, -1)
    assert not clock.after(1000)
    clock.shows("@c", 5)
    assert clock.after(QUIET)


def test_a_key_that_was_never_used_needs_peers_that_say_so() -> None:
    clock = Clock(held=0)
    assert not clock.after(1000)
    clock.shows("@a", -1)
    clock.shows("@b", 0)
    assert clock.after(QUIET)


def test_nobody_there_is_no_quiet() -> None:
    clock = Clock()
    clock.shows("@a", 5)
    clock.shows("@b", 5)
    for peer in ("@a", "@b"):
        clock.machine.left(peer, clock.now)
    assert not clock.after(1000)
    clock.shows("@a", 5)
    assert clock.after(QUIET)


def test_a_suspended_machine_has_not_waited() -> None:
    clock = Clock()
    clock.shows("@a", 5)
    clock.shows("@b", 5)
    clock.now += 3600
    assert not clock.after(10)


def test_a_peer_that_has_more_is_waited_for_until_it_is_fetched() -> None:
    clock = Clock()
    clock.shows("@a", 5)
    clock.shows("@b", 5)
    assert not clock.after(QUIET - 1)
    clock.shows("@c", 9)
    assert not clock.after(QUIET * 3)
    (ahead,) = clock.machine.progress(clock.now).ahead
    assert (ahead.peer, ahead.sequence, ahead.connected) == ("@c", 9, True)
    for held in (6, 7, 8):
        clock.machine.grew(held, clock.now)
        assert not clock.after(CLAIM_PATIENCE - 10)  # it delivers, so it has time again
    clock.machine.grew(9, clock.now)
    clock.shows("@a", 9)
    assert not clock.after(QUIET - 1)
    assert clock.after(1)


def test_a_connected_peer_that_never_delivers_stops_counting() -> None:
    clock = Clock()
    clock.shows("@a", 5)
    clock.shows("@b", 5)
    clock.shows("@liar", 900)
    assert not clock.after(CLAIM_PATIENCE - 1)
    assert clock.after(QUIET + 1)
    assert clock.machine.claims() == ["@liar"]


def test_raising_the_claim_buys_no_more_time() -> None:
    clock = Clock()
    clock.shows("@a", 5)
    clock.shows("@b", 5)
    for claim in range(6, 706):
        clock.shows("@liar", claim)
        if clock.after(1):
            break
    else:
        assert clock.after(QUIET)


def test_a_liar_is_no_witness() -> None:
    clock = Clock()
    clock.shows("@liar", 900)
    clock.shows("@a", 5)
    assert not clock.after(CLAIM_PATIENCE * 2)


def test_the_claim_of_a_peer_that_is_gone_counts_for_a_week() -> None:
    clock = Clock()
    clock.machine.remembers("@gone", 8)
    clock.machine.remembers("@less", 2)
    clock.shows("@a", 5)
    clock.shows("@b", 5)
    assert not clock.after(CLAIM_PATIENCE * 2)
    later = Clock(gone_for=CLAIM_FADES)
    later.machine.remembers("@gone", 8)
    later.shows("@a", 5)
    later.shows("@b", 5)
    assert later.after(QUIET)


def test_those_set_aside_neither_help_nor_hinder() -> None:
    clock = Clock(set_aside=["@liar"])
    clock.shows("@liar", 900)
    clock.shows("@a", 5)
    assert not clock.after(200)
    clock.shows("@liar", 5)
    assert not clock.after(200)
    clock.shows("@b", 5)
    assert clock.after(QUIET)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("shows"), st.sampled_from("abcd"), st.integers(-1, 12)),
            st.tuples(st.just("left"), st.sampled_from("abcd"), st.just(0)),
            st.tuples(st.just("grew"), st.just(""), st.integers(0, 12)),
            st.tuples(st.just("wait"), st.just(""), st.integers(1, 90)),
        ),
        max_size=30,
    )
)
def test_open_only_when_the_rule_holds(events: list[tuple[str, str, int]]) -> None:
    """Whatever happens: open means two agreeing peers, one complete, and nobody ahead for a quiet minute."""
    machine, now, held, changed = Unlocking(held=5, now=0.0), 0.0, 5, 0.0
    last: dict[str, int] = {}
    for kind, peer, number in events:
        match kind:
            case "shows":
                last[peer] = number
                changed = now if number > held else changed
                machine.shows(peer, number, now)
            case "left":
                machine.left(peer, now)
            case "grew":
                changed = now if number != held else changed
                held = number
                machine.grew(held, now)
            case _:
                for _ in range(number):
                    now += 1.0
                    machine.progress(now)
        if machine.progress(now).open:
            agreeing = [peer for peer, has in last.items() if has <= held]
            assert len(agreeing) >= 2
            assert any(max(last[peer], 0) == held for peer in agreeing)
            assert now - changed >= QUIET
            assert all(has <= held for has in last.values()) or now >= CLAIM_PATIENCE
