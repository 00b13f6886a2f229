"""Bytes a day: the counts, and that what is over a budget is asked for no more, until the day is over."""

import asyncio
import time
from pathlib import Path

import pytest

from replication.budget import DAY_SECONDS, Budgets, Spending
from replication.ebt.state import EbtState, SendNotes
from replication.replicator import Clocks
from tests.replication.test_explaining import asking
from tests.support import builders
from tests.support.peers import key, open_node, until

NOON = 20_000 * DAY_SECONDS + DAY_SECONDS / 2


def test_each_budget_runs_out_by_itself() -> None:
    spending = Spending(Budgets(total=1000, peer=600, hops={2: 100}), NOON)
    assert not spending.spend("@a", 99, {2: 99})
    assert spending.spend("@a", 1, {2: 1})
    assert (spending.hop_spent(2), spending.hop_spent(1)) == (True, False)
    assert not spending.spend("@a", 10, {2: 10})  # it has run out already
    assert spending.spend("@a", 490, {1: 490})
    assert (spending.peer_spent("@a"), spending.peer_spent("@b")) == (True, False)
    assert spending.spend("@b", 400)
    assert [spending.hop_spent(hop) for hop in (0, 1, 2, None)] == [False, True, True, True]
    assert "today" in (spending.reason(1) or "")
    assert spending.reason(0) is None
    assert spending.status()["spent"] == {"total": True, "hops": [2], "peers": ["@a"]}


def test_a_day_begins_anew_and_a_clock_that_goes_back_changes_nothing() -> None:
    spending = Spending(Budgets(total=10), NOON)
    spending.spend("@a", 10)
    assert not spending.begin_day(NOON + 3600)
    assert not spending.begin_day(NOON - DAY_SECONDS)
    assert spending.hop_spent(1)
    assert spending.begin_day(NOON + DAY_SECONDS / 2)
    assert not spending.hop_spent(1)
    assert spending.take_changes() == {}


def test_what_is_saved_is_loaded_and_counts_are_bounded() -> None:
    spending = Spending(Budgets(peer=10), NOON, keys=10)
    for number in range(100):
        spending.spend(f"@{number}", number)
    assert len(spending.take_changes()) <= 10
    assert spending.peer_spent("@99")
    again = Spending(Budgets(total=10), NOON)
    again.load({"all": 10})
    assert again.total_spent


def _notes(state: EbtState, peer: str) -> dict[str, int]:
    return {
        feed: value
        for effect in iter(lambda: state.outgoing(peer), [])
        for one in effect
        if isinstance(one, SendNotes)
        for feed, value in one.notes.items()
    }


@pytest.mark.parametrize("whole_peer", [False, True])
def test_what_is_paused_is_not_asked_for_and_still_served(whole_peer: bool) -> None:
    feed, peer = builders.keypair("feed").id, "@peer"

    def pause(paused: bool) -> None:
        if whole_peer:
            state.pause_peers(frozenset((peer,)) if paused else frozenset(), 0.0)
        else:
            state.pause(feed, paused, 0.0)

    state = EbtState()
    state.set_clock(feed, 5)
    state.want(feed, True, 0.0)
    state.connect(peer, {}, client=False, now=0.0)
    assert _notes(state, peer) == {feed: 5 << 1}
    pause(True)
    assert _notes(state, peer) == {feed: 5 << 1 | 1}
    state.notes_received(peer, {feed: 9 << 1}, 0.0)
    assert _notes(state, peer) == {}
    assert state.received(peer, feed, 6, 0.0)  # it was under way
    state.appended(feed, 6, 0.0)
    for second in range(60):
        state.tick(float(second))
    assert not any(value & 1 == 0 for value in _notes(state, peer).values())
    assert state.feed_status(feed).peers[peer].sending
    pause(False)
    assert _notes(state, peer) == {feed: 6 << 1}


async def test_feeds_over_a_budget_wait_for_the_next_day(tmp_path: Path) -> None:
    near, far = builders.Feed(key("near")), builders.chain("far", 40)
    near.append({"type": "contact", "contact": far.id, "following": True})
    wall = [NOON]
    clocks = Clocks(now=time.monotonic, wall=lambda: wall[0], random=lambda: 0.5)
    budgets = Budgets(hops={2: len(b"".join(far.texts[:10]))})
    async with open_node(tmp_path, "b") as b:
        await b.take([*near.texts, *far.texts[:20]])
        await b.want([near.id, far.id])
        async with open_node(tmp_path, "a", budgets=budgets, clocks=clocks) as a:
            await a.follow(near.id)
            await a.connections.dial(b.address)
            await until(lambda: a.clock().get(far.id) == 20)
            await until(lambda: a.replicator.spending.hop_spent(2))
            await b.take(far.texts[20:])
            await b.take([near.append({"type": "post", "text": "more"})])
            await until(lambda: a.clock().get(near.id) == 2)
            await asyncio.sleep(0.3)
            assert a.clock()[far.id] == 20
            assert a.replicator.status()["budget"]["spent"]["hops"] == [2]
            wall[0] += DAY_SECONDS
            await until(lambda: a.clock().get(far.id) == 40)
        async with open_node(tmp_path, "a", budgets=budgets, clocks=clocks) as a:
            assert a.replicator.spending.hop_spent(2)  # the next day's counts survived


async def test_blobs_count_and_wait_as_well(tmp_path: Path) -> None:
    data = [bytes([number]) * 5000 for number in range(2)]
    async with open_node(tmp_path, "b") as b:
        held = [(await b.blobs.add(one)).id for one in data]
        async with open_node(tmp_path, "a", budgets=Budgets(peer=4000)) as a:
            await a.connections.dial(b.address)
            await a.blobs.want(held[0])
            await until(lambda: a.blobs.has(held[0]))
            await until(lambda: a.replicator.spending.peer_spent(b.id))
            await a.blobs.want(held[1])
            await until(lambda: a.blob_exchange.blob_status(held[1])["failures"])
            (failure,) = a.blob_exchange.blob_status(held[1])["failures"].values()
            assert failure["reason"] == "its budget of today is used up"
            told = await asking(a)(held[1])
            assert told["limit"] == f"the budget of today is used up (4000 bytes) for {b.id}"
            assert "midnight" in told["would_change"][0]
            await b.post("x" * 100)
            await a.want([b.id])
            peers = a.replicator.ebt.state.feed_status
            await until(lambda: b.id in peers(b.id).peers and peers(b.id).peers[b.id].claim == 1)
            told = await asking(a)(b.id)
            assert told["limit"] == f"the budget of today is used up (4000 bytes) for {b.id}"
            assert not a.blobs.has(held[1])
