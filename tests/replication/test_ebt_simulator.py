"""Many seeded worlds of EBT nodes; see tests/support/simulator.py for what happens in them and what is checked.

Thousands more are run by hand: ``python -m tests.support.simulator 0 10000 reference=0.4 hostile=1``.
"""

from typing import Any

import pytest

from replication.ebt.outbox import Outbox
from replication.ebt.sources import Sources
from replication.ebt.state import EbtState
from replication.ebt.tables import PeerTable
from tests.support.simulator import Options, Report, run

KINDS: dict[str, tuple[range, Options]] = {
    "machines": (range(150), Options()),
    "with reference peers": (range(80), Options(reference=0.5)),
    "with liars": (range(40), Options(hostile=2)),
    "with both": (range(40), Options(reference=0.4, hostile=1)),
    "long feeds": (range(20), Options(length=800)),
    "many nodes": (range(10), Options(nodes=(12, 18), feeds=(10, 20))),
    "forked feeds": (range(30), Options(forks=True)),
    "only links fail": (range(30), Options(crashes=False, stalls=False, clocks=False, wishes=False, blocks=False)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_worlds_come_to_rest_with_everything_delivered_and_little_waste(kind: str) -> None:
    seeds, options = KINDS[kind]
    reports = [run(seed, options) for seed in seeds]
    needed, redundant = (sum(getattr(report, name) for report in reports) for name in ("needed", "redundant"))
    assert needed > 20 * len(reports), "worlds in which hardly anything had to be sent"
    assert redundant <= 0.1 * needed
    if options.crashes:
        happened = sum((report.disturbances for report in reports), reports[0].disturbances)
        assert {"publish", "cut", "crash", "stall", "clock", "unfollow", "block"} <= happened.keys()
        assert (happened["fork"] > 0) is options.forks


@pytest.mark.parametrize("topology", ["chain", "star", "ring", "mesh", "small world", "tree"])
def test_each_topology(topology: str) -> None:
    for seed in range(5):
        run(seed, Options(nodes=(5, 9), topology=topology))


# Each of these once failed.
@pytest.mark.parametrize("seed", [782, 1209])  # a peer that said -1 and came back was not answered
@pytest.mark.parametrize("extra", [0, 1])
def test_a_peer_that_comes_back_is_answered(seed: int, extra: int) -> None:
    run(seed + extra)


@pytest.mark.parametrize("seed", [1212, 1417, 3841])  # retracted, wanted again, and the note was lost with the link
def test_a_retracted_feed_is_mentioned_at_the_next_session(seed: int) -> None:
    run(seed)


def test_a_source_that_lags_is_not_made_to_start_over() -> None:
    report = run(533, Options(reference=0.4, hostile=1))
    assert report.redundant <= 0.25 * report.needed


@pytest.mark.parametrize("seed", [2130, 7669])  # two peers asked at once by a node that joins late
def test_a_peer_that_has_not_spoken_yet_keeps_the_feed(seed: int) -> None:
    report = run(seed)
    assert report.redundant <= 0.25 * report.needed


class TestTheSimulatorNoticesPlantedFaults:
    def fails(self, options: Options | None = None, seeds: int = 60) -> str:
        for seed in range(seeds):
            try:
                run(seed, options)
            except AssertionError as problem:
                return str(problem)
        return "nothing noticed"

    def test_messages_sent_back_to_where_they_came_from(self, monkeypatch: pytest.MonkeyPatch) -> None:
        received_run = EbtState.received_run

        def forgetful(self: EbtState, peer: str, feed: str, first: int, last: int, now: float) -> int:
            table = self._peers[peer]
            f = self._feeds.index.get(feed)
            sent = 0 if f is None else table.sent[f]
            start = received_run(self, peer, feed, first, last, now)
            if f is not None:
                table.sent[f] = sent
            return start

        monkeypatch.setattr(EbtState, "received_run", forgetful)
        assert "twice" in self.fails()

    def test_blocks_that_are_not_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(EbtState, "block", lambda *_: None)
        assert "which it blocks" in self.fails()

    def test_a_source_that_is_never_replaced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Sources, "tick", lambda *_: None)
        monkeypatch.setattr(Sources, "hand_over", lambda *_: None)
        assert "never converged" in self.fails()

    def test_notes_that_repeat_themselves(self, monkeypatch: pytest.MonkeyPatch) -> None:
        confirm = Outbox.confirm

        def chatty(self: Outbox, table: PeerTable) -> None:
            confirm(self, table)
            if table.told and not len(table.unconfirmed):
                table.unconfirmed.push(0)
                table.told[0] = -2

        monkeypatch.setattr(Outbox, "confirm", chatty)
        assert "while nothing happens" in self.fails()

    def test_feeds_of_strangers_that_are_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        notes_received = EbtState.notes_received

        def keeping(self: EbtState, peer: str, value: Any, now: float) -> None:
            for feed in value if isinstance(value, dict) else ():
                if isinstance(feed, str):
                    self._intern(feed)
            notes_received(self, peer, value, now)

        monkeypatch.setattr(EbtState, "notes_received", keeping)
        assert "remembers" in self.fails(Options(hostile=2))


def test_the_same_seed_gives_the_same_world() -> None:
    def world() -> Report:
        return run(11, Options(reference=0.3, hostile=1))

    assert world() == world()
