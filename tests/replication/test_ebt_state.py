"""The rules of the EBT machine, one by one; the sections of replication/ebt/state.py."""

import sys
import tracemalloc
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replication.ebt.notes import MAX_NOTE, MAX_SEQUENCE
from replication.ebt.state import Breach, EbtState, Ready, SendNotes, SendRange
from tests.support.ebt_link import Link, Side, feed_id

F, G, H = feed_id("f"), feed_id("g"), feed_id("h")
NEVER = 1_000_000


def machine(log: dict[str, int] | None = None, wants: tuple[str, ...] = (F, G, H), **options: Any) -> EbtState:
    ebt = EbtState(**options)
    for feed, sequence in (log or {}).items():
        ebt.set_clock(feed, sequence)
    for feed in wants:
        ebt.want(feed, True, 0.0)
    return ebt


def drain(ebt: EbtState, peer: str) -> tuple[dict[str, int], list[tuple[str, int, int]]]:
    """All notes (later ones over earlier ones) and all ranges that wait for ``peer``."""
    notes: dict[str, int] = {}
    ranges: list[tuple[str, int, int]] = []
    while batch := ebt.outgoing(peer):
        for item in batch:
            if isinstance(item, SendNotes):
                notes.update(item.notes)
            else:
                ranges.append((item.feed, item.after, item.upto))
    return notes, ranges


def said(ebt: EbtState, peer: str) -> dict[str, int]:
    notes, ranges = drain(ebt, peer)
    assert not ranges
    return notes


def serving(log: dict[str, int] | None = None, *peers: str, **options: Any) -> EbtState:
    """A machine to which ``peers`` (default: "p") have connected; its first notes are out."""
    ebt = machine(log, **options)
    for peer in peers or ("p",):
        ebt.connect(peer, {}, client=False, now=0.0)
        drain(ebt, peer)
    return ebt


def on(sequence: int) -> int:
    return 2 * sequence


def off(sequence: int) -> int:
    return 2 * sequence + 1


class TestOpening:
    def test_the_server_speaks_first(self) -> None:
        ebt = machine({F: 3})
        ebt.connect("p", {}, client=False, now=0.0)
        assert ebt.effects() == [Ready("p")]
        assert ebt.outgoing("p") == [SendNotes("p", {F: on(3), G: on(0), H: on(0)})]
        assert ebt.outgoing("p") == []

    def test_even_if_it_has_nothing_to_say(self) -> None:
        ebt = machine(wants=())
        ebt.connect("p", {}, client=False, now=0.0)
        assert ebt.effects() == [Ready("p")]
        assert ebt.outgoing("p") == [SendNotes("p", {})]
        assert ebt.outgoing("p") == []

    def test_the_client_is_silent_until_it_has_heard_the_server(self) -> None:
        ebt = machine({F: 3})
        ebt.connect("p", {}, client=True, now=0.0)
        ebt.appended(F, 4, 0.0)
        ebt.want(feed_id("late"), True, 0.0)
        assert ebt.outgoing("p") == []
        assert ebt.effects() == []
        ebt.notes_received("p", {}, 1.0)
        assert said(ebt, "p") == {F: on(4), G: on(0), H: on(0), feed_id("late"): on(0)}

    def test_the_clients_first_notes_answer_the_servers(self) -> None:
        ebt = machine({F: 3, G: 1})
        ebt.connect("p", {}, client=True, now=0.0)
        ebt.notes_received("p", {F: on(1), feed_id("x"): on(4)}, 0.0)
        assert ebt.outgoing("p") == [
            SendNotes("p", {F: on(3), G: on(1), H: on(0), feed_id("x"): -1}),
            SendRange("p", F, 1, 3),
        ]

    def test_a_client_that_hears_a_message_first_still_waits(self) -> None:
        ebt = machine()
        ebt.connect("p", {}, client=True, now=0.0)
        assert not ebt.received("p", F, 1, 0.0)
        assert ebt.outgoing("p") == []

    def test_a_second_peer_is_told_but_not_asked(self) -> None:
        ebt = serving({F: 3})
        ebt.connect("q", {}, client=False, now=0.0)
        assert said(ebt, "q") == {F: off(3), G: off(0), H: off(0)}

    def test_what_a_peer_is_remembered_to_have_is_not_mentioned(self) -> None:
        ebt = machine({F: 3, G: 2})
        ebt.connect("p", {F: 3, G: -1, H: 0}, client=False, now=0.0)
        assert ebt.outgoing("p") == [SendNotes("p", {})]

    @pytest.mark.parametrize("remembered", [0, 2, 4, MAX_SEQUENCE])
    def test_what_differs_is(self, remembered: int) -> None:
        ebt = machine({F: 3}, wants=(F,))
        ebt.connect("p", {F: remembered}, client=False, now=0.0)
        assert said(ebt, "p") == {F: on(3)}

    @pytest.mark.parametrize("remembered", [-2, -7, MAX_SEQUENCE + 1, 2**40])
    def test_impossible_memories_are_none(self, remembered: int) -> None:
        ebt = machine({F: 3}, wants=(F,))
        ebt.connect("p", {F: remembered, feed_id("unknown"): 5}, client=False, now=0.0)
        assert said(ebt, "p") == {F: on(3)}

    def test_frames_are_split(self) -> None:
        feeds = tuple(feed_id(number) for number in range(2500))
        ebt = machine(wants=feeds)
        ebt.connect("p", {}, client=False, now=0.0)
        frames = [batch[0] for batch in iter(lambda: ebt.outgoing("p"), [])]
        assert [len(frame.notes) for frame in frames if isinstance(frame, SendNotes)] == [1000, 1000, 500]


class TestNotes:
    @pytest.mark.parametrize(
        ("note", "sends"), [(on(0), (F, 0, 5)), (on(3), (F, 3, 5)), (off(0), None), (off(3), None)]
    )
    def test_a_peer_that_lacks_messages(self, note: int, sends: tuple[str, int, int] | None) -> None:
        ebt = serving({F: 5})
        ebt.notes_received("p", {F: note}, 0.0)
        assert drain(ebt, "p") == ({}, [] if sends is None else [sends])

    def test_a_peer_that_does_not_want_messages_is_told_our_sequence_unless_it_knows(self) -> None:
        ebt = serving({F: 5})
        ebt.appended(F, 6, 0.0)
        assert said(ebt, "p") == {}, "it has not answered our first note yet"
        ebt.notes_received("p", {F: off(2)}, 0.0)
        assert said(ebt, "p") == {F: on(6)}
        ebt.notes_received("p", {F: off(3)}, 0.0)
        assert said(ebt, "p") == {}

    def test_a_note_on_a_feed_we_did_not_mention_is_answered(self) -> None:
        ebt = machine({F: 3}, wants=(F,))
        ebt.connect("p", {F: 3}, client=False, now=0.0)
        drain(ebt, "p")
        ebt.notes_received("p", {F: on(3)}, 0.0)
        assert said(ebt, "p") == {F: on(3)}
        ebt.notes_received("p", {F: on(3)}, 0.0)
        assert said(ebt, "p") == {}

    def test_a_lower_claim_is_believed(self) -> None:
        """The peer lost its disk: it says so although we remember more, and gets everything again."""
        ebt = machine({F: 3}, wants=(F,))
        ebt.connect("p", {F: 3}, client=False, now=0.0)
        drain(ebt, "p")
        ebt.notes_received("p", {F: on(0)}, 0.0)
        assert drain(ebt, "p") == ({F: on(3)}, [(F, 0, 3)])
        assert ebt.disconnect("p", 0.0)[F] == 0

    def test_not_replicating(self) -> None:
        ebt = serving({F: 5})
        ebt.notes_received("p", {F: on(0)}, 0.0)
        ebt.notes_received("p", {F: -1}, 0.0)
        assert drain(ebt, "p") == ({}, []), "what it asked for is not sent any more"
        ebt.appended(F, 6, 0.0)
        assert drain(ebt, "p") == ({}, [])
        assert ebt.disconnect("p", 0.0)[F] == -1

    def test_a_peer_that_starts_to_replicate_after_all_is_answered(self) -> None:
        ebt = serving({F: 5})
        ebt.notes_received("p", {F: -1}, 0.0)
        assert said(ebt, "p") == {}
        ebt.notes_received("p", {F: on(5)}, 0.0)
        assert said(ebt, "p") == {F: on(5)}

    def test_unwanted_feeds_are_refused_once(self) -> None:
        held, unknown = feed_id("held"), feed_id("unknown")
        ebt = serving({held: 7})
        for _ in range(3):
            ebt.notes_received("p", {held: on(0), unknown: on(3)}, 0.0)
        assert drain(ebt, "p") == ({held: -1, unknown: -1}, [])
        ebt.notes_received("p", {held: off(2), unknown: off(4)}, 0.0)
        assert drain(ebt, "p") == ({}, [])

    def test_a_refusal_is_not_answered_by_one(self) -> None:
        ebt = serving({feed_id("held"): 7})
        ebt.notes_received("p", {feed_id("held"): -1, feed_id("unknown"): -1}, 0.0)
        assert said(ebt, "p") == {}

    def test_a_clock_in_its_wrapping(self) -> None:
        ebt = serving({F: 5})
        ebt.notes_received("p", {"clock": {F: on(4)}}, 0.0)
        assert drain(ebt, "p")[1] == [(F, 4, 5)]

    def test_sending_starts_over_where_the_peer_says(self) -> None:
        ebt = serving({F: 5})
        ebt.notes_received("p", {F: on(0)}, 0.0)
        assert drain(ebt, "p")[1] == [(F, 0, 5)]
        ebt.notes_received("p", {F: on(2)}, 0.0)
        assert drain(ebt, "p")[1] == [(F, 2, 5)]


class TestLimits:
    @pytest.mark.parametrize("value", [None, 7, True, "notes", [], [{}], 1.5])
    def test_a_hundred_frames_that_are_no_notes_are_a_breach(self, value: object) -> None:
        ebt = serving()
        ebt.effects()
        for _ in range(99):
            ebt.notes_received("p", value, 0.0)
        assert ebt.effects() == []
        ebt.notes_received("p", value, 0.0)
        ebt.notes_received("p", value, 0.0)
        effects = ebt.effects()
        assert [effect.peer for effect in effects if isinstance(effect, Breach)] == ["p"]
        assert ebt.breaches == {"ebt_bad_entries": 1}

    @pytest.mark.parametrize("value", [-2, MAX_NOTE + 1, 2**70, 1.5, 4.0, True, None, "4", [], {}])
    def test_bad_values_are_skipped_and_counted(self, value: object) -> None:
        ebt = serving({F: 5})
        ebt.notes_received("p", {F: value, G: on(2)}, 0.0)
        status = ebt.peer_status("p")
        assert status is not None
        assert status.bad_entries == 1
        assert ebt.feed_status(F).peers["p"].claim is None
        assert ebt.feed_status(G).peers["p"].claim == 2

    @pytest.mark.parametrize("key", ["", "x", F[:-1], F.lower(), "%" + F[1:], 7])
    def test_bad_keys_are_skipped_and_counted(self, key: object) -> None:
        ebt = serving()
        ebt.notes_received("p", {key: 2}, 0.0)
        status = ebt.peer_status("p")
        assert status is not None
        assert status.bad_entries == 1
        assert said(ebt, "p") == {}

    def test_feeds_of_other_formats_are_skipped_in_peace(self) -> None:
        ebt = serving()
        ebt.notes_received("p", {f"ssb:feed/bendybutt-v1/{number}": 2 for number in range(500)}, 0.0)
        assert not [effect for effect in ebt.effects() if isinstance(effect, Breach)]
        assert said(ebt, "p") == {}

    def test_the_largest_note_is_taken(self) -> None:
        ebt = serving()
        ebt.notes_received("p", {F: MAX_NOTE}, 0.0)
        assert ebt.feed_status(F).peers["p"].claim == MAX_SEQUENCE
        assert ebt.disconnect("p", 0.0) == {F: MAX_SEQUENCE}

    def test_unknown_feeds_leave_nothing_behind(self) -> None:
        ebt = serving()
        known = ebt.known_feeds()
        notes = {feed_id(f"stranger {number}"): number for number in range(100_000)}
        tracemalloc.start()
        ebt.notes_received("p", notes, 0.0)
        after_notes, peak = tracemalloc.get_traced_memory()
        answered = said(ebt, "p")
        answers = len(answered)
        assert set(answered.values()) == {-1}
        del answered
        ebt.notes_received("p", notes, 0.0)
        assert said(ebt, "p") == {}, "answered a second time"
        remembered = ebt.disconnect("p", 0.0)
        at_rest, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 20_000_000
        assert after_notes < 2_000_000
        assert at_rest < 100_000
        assert 4_500 <= answers <= 5_000
        assert ebt.breaches["ebt_feeds_remembered"] > 90_000
        assert remembered == {}
        assert ebt.known_feeds() == known

    def test_flapping_notes_are_not_echoed(self) -> None:
        ebt = serving({F: 5})
        frames = 0
        for number in range(1000):
            ebt.notes_received("p", {F: (-1, off(3), off(9), off(0))[number % 4], G: off(number)}, number / 1000)
            frames += len(ebt.outgoing("p"))
        assert frames <= 300, "every return from -1 is answered, no more"


class TestMessages:
    def test_the_next_one_is_let_through(self) -> None:
        ebt = serving({F: 5})
        assert ebt.received("p", F, 6, 0.0)
        assert ebt.received("p", F, 7, 0.0), "although 6 is still in ingest"
        ebt.appended(F, 7, 0.0)
        assert ebt.feed_status(F).sequence == 7

    def test_runs(self) -> None:
        ebt = serving({F: 5})
        assert ebt.received_run("p", F, 1, 5, 0.0) == 0
        ebt = serving({F: 5})
        assert ebt.received_run("p", F, 4, 8, 0.0) == 6
        assert ebt.received_run("p", F, 9, 9, 0.0) == 9
        assert ebt.received_run("p", F, 11, 12, 0.0) == 0

    @pytest.mark.parametrize(("first", "last"), [(0, 3), (-5, 6), (7, 6), (6, 2**31), (2**40, 2**40)])
    def test_impossible_runs(self, first: int, last: int) -> None:
        ebt = serving({F: 5})
        assert ebt.received_run("p", F, first, last, 0.0) == 0

    def test_unasked_ones_are_dropped(self) -> None:
        ebt = machine({F: 5, G: 1}, wants=(F,))
        ebt.connect("p", {F: 5}, client=False, now=0.0)
        drain(ebt, "p")
        assert not ebt.received("p", F, 6, 0.0), "never mentioned in this session"
        assert not ebt.received("p", G, 2, 0.0), "not wanted"
        assert not ebt.received("p", feed_id("unknown"), 1, 0.0)
        assert not ebt.received("nobody", F, 6, 0.0)
        status = ebt.peer_status("p")
        assert status is not None
        assert status.unrequested == 3

    def test_late_ones_of_a_former_source_are_welcome(self) -> None:
        ebt = serving({F: 0}, "p", "q")
        ebt.notes_received("q", {F: on(9)}, 0.0)
        ebt.notes_received("p", {F: on(0)}, 0.0)
        ebt.tick(5.0)
        assert ebt.feed_status(F).source == "q"
        assert ebt.received("p", F, 1, 5.0)

    def test_a_duplicate_turns_receiving_off(self) -> None:
        ebt = serving({F: 5})
        ebt.notes_received("p", {F: on(4)}, 0.0)
        drain(ebt, "p")
        assert not ebt.received("p", F, 5, 0.0)
        assert said(ebt, "p") == {F: off(5)}
        ebt.notes_received("p", {F: off(6)}, 0.0)
        assert said(ebt, "p") == {F: on(5)}, "it announces more: asked again"

    def test_unless_the_peer_has_more(self) -> None:
        ebt = serving({F: 5})
        ebt.notes_received("p", {F: on(9)}, 0.0)
        assert not ebt.received("p", F, 5, 0.0)
        assert said(ebt, "p") == {}
        assert ebt.received("p", F, 6, 0.0)

    def test_after_a_gap_it_is_asked_again_once(self) -> None:
        ebt = serving({F: 5})
        for _ in range(3):
            assert not ebt.received("p", F, 8, 0.0)
        assert said(ebt, "p") == {F: on(5)}
        assert not ebt.received("p", F, 9, 0.0)
        assert said(ebt, "p") == {}
        assert ebt.received("p", F, 6, 0.0)
        ebt.appended(F, 6, 0.0)
        assert not ebt.received("p", F, 9, 0.0)
        assert said(ebt, "p") == {F: on(6)}

    def test_are_not_sent_back(self) -> None:
        ebt = serving({F: 5})
        ebt.notes_received("p", {F: on(5)}, 0.0)
        assert ebt.received("p", F, 6, 0.0)
        ebt.appended(F, 6, 0.0)
        assert drain(ebt, "p") == ({}, [])

    def test_what_was_delivered_is_confirmed_when_it_is_quiet(self) -> None:
        ebt = serving({F: 5})
        ebt.notes_received("p", {F: on(7)}, 0.0)
        assert ebt.received_run("p", F, 6, 7, 0.0) == 6
        ebt.tick(2.0)
        assert said(ebt, "p") == {}, "still in ingest"
        ebt.appended(F, 7, 2.0)
        busy_before = ebt.busy
        ebt.tick(3.1)
        assert said(ebt, "p") == {F: on(7)}
        assert (busy_before, ebt.busy) == (True, False)
        ebt.tick(9.0)
        assert said(ebt, "p") == {}


class TestForwarding:
    def test_to_everyone_who_lacks_it(self) -> None:
        ebt = serving({F: 5}, "p", "q", "r", "s", "t")
        ebt.notes_received("p", {F: on(5)}, 0.0)
        ebt.notes_received("q", {F: on(3)}, 0.0)
        ebt.notes_received("r", {F: off(5)}, 0.0)
        ebt.notes_received("s", {F: off(8)}, 0.0)
        ebt.notes_received("t", {F: -1}, 0.0)
        for peer in "pqrst":
            drain(ebt, peer)
        ebt.appended(F, 6, 0.0)
        assert drain(ebt, "p") == ({}, [(F, 5, 6)])
        assert drain(ebt, "q") == ({}, [(F, 5, 6)])
        assert drain(ebt, "r") == ({F: off(6)}, [])
        assert drain(ebt, "s") == ({}, [])
        assert drain(ebt, "t") == ({}, [])

    def test_a_feed_of_which_nothing_was_said_yet_is_announced(self) -> None:
        ebt = machine({F: 5}, wants=(F,))
        ebt.connect("p", {F: 5}, client=False, now=0.0)
        ebt.connect("q", {F: 5}, client=False, now=0.0)
        drain(ebt, "p"), drain(ebt, "q")
        ebt.appended(F, 6, 0.0)
        assert said(ebt, "p") == {F: on(6)}
        assert said(ebt, "q") == {F: off(6)}

    def test_a_peer_with_more_is_not_told(self) -> None:
        ebt = machine({F: 5}, wants=(F,))
        ebt.connect("p", {F: -1}, client=False, now=0.0)
        ebt.connect("q", {F: 8}, client=False, now=0.0)
        drain(ebt, "p"), drain(ebt, "q")
        ebt.appended(F, 6, 0.0)
        assert said(ebt, "p") == {}
        assert said(ebt, "q") == {}

    def test_many_appends_make_one_range(self) -> None:
        ebt = serving({F: 5})
        ebt.notes_received("p", {F: on(5)}, 0.0)
        drain(ebt, "p")
        ebt.effects()
        for sequence in range(6, 40):
            ebt.appended(F, sequence, 0.0)
        assert ebt.effects() == [Ready("p")]
        assert ebt.outgoing("p") == [SendRange("p", F, 5, 39)]

    def test_many_announcements_make_one_note(self) -> None:
        ebt = serving({F: 5}, "p", "q")
        ebt.notes_received("q", {F: off(5)}, 0.0)
        for sequence in range(6, 40):
            ebt.appended(F, sequence, 0.0)
        assert ebt.outgoing("q") == [SendNotes("q", {F: off(39)})]

    def test_feeds_take_turns(self) -> None:
        ebt = serving({F: 900, G: 900}, messages_per_range=100)
        ebt.notes_received("p", {F: on(0), G: on(0)}, 0.0)
        ranges = [item for item in ebt.outgoing("p", 400) if isinstance(item, SendRange)]
        assert [(item.feed, item.after, item.upto) for item in ranges] == [
            (F, 0, 100),
            (G, 0, 100),
            (F, 100, 200),
            (G, 100, 200),
        ]

    @pytest.mark.parametrize("budget", [1, 7, 100, 100_000])
    def test_the_budget_is_kept_and_nothing_lost(self, budget: int) -> None:
        ebt = serving({F: 300, G: 55})
        ebt.notes_received("p", {F: on(0), G: on(5)}, 0.0)
        reached = {F: 0, G: 5}
        while batch := ebt.outgoing("p", budget):
            total = 0
            for item in batch:
                assert isinstance(item, SendRange)
                assert item.after == reached[item.feed]
                reached[item.feed] = item.upto
                total += item.upto - item.after
            assert total <= budget
        assert reached == {F: 300, G: 55}

    def test_ready_is_said_once_until_everything_was_taken(self) -> None:
        ebt = serving({F: 5})
        ebt.notes_received("p", {F: on(5)}, 0.0)
        ebt.effects()
        ebt.appended(F, 6, 0.0)
        assert ebt.effects() == [Ready("p")]
        ebt.appended(F, 7, 0.0)
        assert ebt.effects() == []
        assert ebt.outgoing("p") == [SendRange("p", F, 5, 7)]
        ebt.appended(F, 8, 0.0)
        assert ebt.effects() == [], "the writer has not yet seen an empty list"
        assert ebt.outgoing("p") == [SendRange("p", F, 7, 8)]
        assert ebt.outgoing("p") == []
        ebt.appended(F, 9, 0.0)
        assert ebt.effects() == [Ready("p")]


class TestSource:
    def behind(self) -> EbtState:
        """Peers p and q claim 9 of F, we have 0, p is asked."""
        ebt = serving({F: 0}, "p", "q")
        ebt.notes_received("p", {F: on(9)}, 0.0)
        ebt.notes_received("q", {F: on(9)}, 0.0)
        assert ebt.feed_status(F).source == "p"
        drain(ebt, "p"), drain(ebt, "q")
        return ebt

    def test_there_is_one(self) -> None:
        ebt = serving({F: 0}, "p", "q", "r")
        for peer in "qrp":
            ebt.notes_received(peer, {F: on(9)}, 0.0)
        receiving = [peer for peer, pair in ebt.feed_status(F).peers.items() if pair.receiving]
        assert receiving == ["p"]

    def test_one_that_says_it_has_nothing_is_left_at_once(self) -> None:
        ebt = serving({F: 0}, "p", "q")
        ebt.notes_received("p", {F: on(0)}, 0.0)
        ebt.notes_received("q", {F: on(9)}, 0.0)
        assert said(ebt, "p") == {F: off(0)}
        assert said(ebt, "q") == {F: on(0)}

    def test_one_that_has_not_spoken_yet_gets_a_moment(self) -> None:
        ebt = serving({F: 0}, "p", "q")
        ebt.notes_received("q", {F: on(9)}, 0.0)
        assert said(ebt, "q") == {}
        ebt.tick(1.0)
        assert ebt.feed_status(F).source == "p"
        ebt.tick(1.6)
        assert said(ebt, "p") == {F: off(0)}
        assert said(ebt, "q") == {F: on(0)}

    def test_one_that_delivers_gets_half_a_second_to_bring_what_others_announce(self) -> None:
        ebt = self.behind()
        ebt.received_run("p", F, 1, 9, 0.1)
        ebt.appended(F, 9, 0.1)
        ebt.tick(0.9)
        ebt.notes_received("q", {F: off(10)}, 1.0)
        ebt.tick(1.4)
        assert said(ebt, "q") == {}
        ebt.tick(1.6)
        assert said(ebt, "q") == {F: on(9)}
        assert said(ebt, "p") == {F: off(9)}

    def test_one_that_brings_it_in_time_stays(self) -> None:
        ebt = self.behind()
        ebt.received_run("p", F, 1, 9, 0.1)
        ebt.appended(F, 9, 0.1)
        ebt.notes_received("q", {F: off(10)}, 1.0)
        assert ebt.received("p", F, 10, 1.2)
        ebt.appended(F, 10, 1.2)
        for now in (1.6, 5.0, 50.0):
            ebt.tick(now)
        assert said(ebt, "q") == {}
        assert ebt.feed_status(F).source == "p"

    def test_a_stalled_one_loses_the_role_after_three_seconds(self) -> None:
        ebt = self.behind()
        ebt.tick(2.9)
        assert said(ebt, "q") == {}
        ebt.tick(3.1)
        assert said(ebt, "p") == {F: off(0)}
        assert said(ebt, "q") == {F: on(0)}

    def test_one_that_delivers_other_feeds_keeps_it_for_thirty(self) -> None:
        ebt = self.behind()
        ebt.notes_received("p", {G: on(NEVER)}, 0.0)
        for second in range(1, 30):
            assert ebt.received("p", G, second, float(second))
            ebt.appended(G, second, float(second))
            ebt.tick(second + 0.5)
        assert ebt.feed_status(F).source == "p"
        ebt.received("p", G, 30, 30.0)
        ebt.tick(30.5)
        assert ebt.feed_status(F).source == "q"

    def test_one_whose_messages_are_still_in_ingest_is_not_taken_for_stalled(self) -> None:
        ebt = self.behind()
        ebt.notes_received("p", {G: on(9)}, 0.0)
        ebt.received_run("p", G, 1, 9, 0.1)
        for step in range(1, 20):
            ebt.tick(step * 0.5)
        assert ebt.feed_status(F).source == "p"
        ebt.appended(G, 9, 9.5)
        ebt.tick(12.4)
        assert ebt.feed_status(F).source == "p"
        ebt.tick(12.6)
        assert ebt.feed_status(F).source == "q"

    def test_the_role_goes_round(self) -> None:
        ebt = serving({F: 0}, "p", "q", "r")
        for peer in "pqr":
            ebt.notes_received(peer, {F: on(9)}, 0.0)
        seen: list[str | None] = []
        for step in range(1, 120):
            ebt.tick(step * 0.5)
            source = ebt.feed_status(F).source
            if not seen or seen[-1] != source:
                seen.append(source)
        assert seen[:7] == ["p", "q", "r", "p", "q", "r", "p"]

    def test_a_liar_does_not_get_the_role_back_while_an_honest_peer_delivers(self) -> None:
        ebt = serving({F: 0}, "liar", "honest")
        ebt.notes_received("liar", {F: on(NEVER)}, 0.0)
        ebt.notes_received("honest", {F: on(1)}, 0.0)
        ebt.tick(3.5)
        assert ebt.feed_status(F).source == "honest"
        for second in range(4, 24):
            sequence = second - 3
            ebt.notes_received("honest", {F: off(sequence)}, float(second))
            assert ebt.received("honest", F, sequence, float(second))
            ebt.appended(F, sequence, float(second))
            ebt.tick(second + 0.9)
            assert ebt.feed_status(F).source == "honest"

    def test_a_lone_one_is_asked_again_ever_more_rarely(self) -> None:
        ebt = serving({F: 0})
        ebt.notes_received("p", {F: on(9)}, 0.0)
        times: list[float] = []
        for step in range(1, 2000):
            ebt.tick(step * 0.5)
            if said(ebt, "p") == {F: on(0)}:
                times.append(step * 0.5)
        assert len(times) == 5
        assert times[0] == 30.0
        gaps = [two - one for one, two in pairwise(times)]
        assert gaps == [60.0, 120.0, 240.0, 480.0]

    def test_the_next_takes_over_at_once_when_it_leaves(self) -> None:
        ebt = self.behind()
        ebt.received_run("p", F, 1, 4, 0.1)
        ebt.appended(F, 4, 0.1)
        ebt.disconnect("p", 0.2)
        assert said(ebt, "q") == {F: on(4)}

    def test_messages_in_ingest_are_not_asked_for_a_second_time(self) -> None:
        ebt = self.behind()
        ebt.received_run("p", F, 1, 4, 0.1)
        ebt.disconnect("p", 0.2)
        assert said(ebt, "q") == {}
        ebt.appended(F, 4, 0.3)
        assert said(ebt, "q") == {F: on(4)}

    def test_messages_that_died_with_their_session_are(self) -> None:
        ebt = self.behind()
        ebt.received_run("p", F, 1, 4, 0.1)
        ebt.disconnect("p", 0.2)
        ebt.tick(2.0)
        assert said(ebt, "q") == {}
        ebt.tick(3.3)
        assert said(ebt, "q") == {F: on(0)}

    def test_a_verdict_that_never_comes_is_waited_for_thirty_seconds(self) -> None:
        ebt = self.behind()
        ebt.received_run("p", F, 1, 9, 0.0)
        for step in range(1, 60):
            ebt.tick(step * 0.5)
        assert said(ebt, "p") == {}
        ebt.tick(30.5)
        assert said(ebt, "p") == {F: on(0)}

    def test_nobody_is_asked_in_its_place_if_nobody_has_more(self) -> None:
        ebt = serving({F: 3}, "p", "q")
        for peer in "pq":
            ebt.notes_received(peer, {F: on(3)}, 0.0)
        ebt.disconnect("p", 0.0)
        assert said(ebt, "q") == {}
        ebt.notes_received("q", {F: on(4)}, 0.0)
        assert said(ebt, "q") == {F: on(3)}

    def test_one_that_stops_replicating_hands_over(self) -> None:
        ebt = self.behind()
        ebt.notes_received("p", {F: -1}, 0.0)
        assert said(ebt, "p") == {}
        assert said(ebt, "q") == {F: on(0)}

    def test_one_that_lags_is_not_made_to_start_over(self) -> None:
        """A note with the receive bit on means "start over after this", so it is not sent with every append."""
        ebt = serving({F: 5})
        ebt.notes_received("p", {F: off(2)}, 0.0)
        ebt.appended(F, 6, 0.0)
        assert said(ebt, "p") == {F: off(6)}

    def test_time_may_jump_backwards(self) -> None:
        ebt = self.behind()
        ebt.tick(-5000.0)
        ebt.tick(-4998.0)
        ebt.tick(-4996.9)
        assert ebt.feed_status(F).source == "q"

    def test_a_leap_forward_is_not_taken_for_thirty_seconds_of_silence(self) -> None:
        ebt = serving({F: 0})
        ebt.notes_received("p", {F: on(9)}, 0.0)
        ebt.tick(1e9)
        assert said(ebt, "p") == {}


class TestVerdicts:
    def test_an_invalid_message_blames_the_peer(self) -> None:
        ebt = serving({F: 0}, "p", "q")
        ebt.notes_received("p", {F: on(9)}, 0.0)
        ebt.notes_received("q", {F: on(9)}, 0.0)
        drain(ebt, "q")
        assert ebt.received_run("p", F, 1, 9, 0.0) == 1
        ebt.rejected("p", F, "invalid", 0.1)
        assert said(ebt, "p") == {F: off(0)}
        assert said(ebt, "q") == {F: on(0)}
        assert not ebt.received("p", F, 1, 0.2)
        assert ebt.received_run("q", F, 1, 9, 0.2) == 1
        status = ebt.peer_status("p")
        assert status is not None
        assert status.invalid == 1

    def test_it_is_not_asked_again_but_still_served(self) -> None:
        ebt = serving({F: 0})
        ebt.notes_received("p", {F: on(9)}, 0.0)
        ebt.received("p", F, 1, 0.0)
        ebt.rejected("p", F, "invalid", 0.1)
        said(ebt, "p")
        ebt.notes_received("p", {F: on(20)}, 1.0)
        for now in (2.0, 6.0, 40.0, 80.0):
            ebt.tick(now)
        assert said(ebt, "p") == {}
        ebt.notes_received("p", {F: on(0)}, 80.0)
        ebt.appended(F, 2, 80.0)
        assert drain(ebt, "p")[1] == [(F, 0, 2)]

    def test_a_forgery_of_a_bystander_does_not_starve_the_feed(self) -> None:
        """q's forgery made the source's own message look like one we had; the source is asked again."""
        ebt = serving({F: 0}, "p", "q")
        ebt.notes_received("p", {F: on(1)}, 0.0)
        ebt.notes_received("q", {F: on(0)}, 0.0)
        assert ebt.received("q", F, 1, 0.0)
        assert not ebt.received("p", F, 1, 0.0)
        drain(ebt, "p")
        ebt.rejected("q", F, "invalid", 0.1)
        assert said(ebt, "p") == {F: on(0)}
        assert ebt.received("p", F, 1, 0.2)

    @pytest.mark.parametrize("verdict", ["gap", "failed"])
    def test_other_refusals_blame_nobody(self, verdict: Any) -> None:
        ebt = serving({F: 0})
        ebt.notes_received("p", {F: on(9)}, 0.0)
        ebt.received_run("p", F, 1, 9, 0.0)
        ebt.rejected("p", F, verdict, 0.1)
        assert said(ebt, "p") == {F: on(0)}
        assert ebt.received_run("p", F, 1, 9, 0.2) == 1
        ebt.rejected("p", F, verdict, 0.3)
        assert said(ebt, "p") == {}, "not in a tight loop"

    def test_a_forked_feed_is_asked_for_from_nobody_and_served_up_to_the_fork(self) -> None:
        ebt = serving({F: 5}, "p", "q")
        ebt.notes_received("p", {F: on(9)}, 0.0)
        ebt.received("p", F, 6, 0.0)
        ebt.rejected("p", F, "fork", 0.1)
        assert ebt.feed_status(F).forked
        assert said(ebt, "p") == {F: off(5)}
        ebt.notes_received("q", {F: on(9)}, 0.2)
        assert said(ebt, "q") == {}
        assert not ebt.received("q", F, 6, 0.2)
        ebt.tick(10.0)
        assert said(ebt, "q") == {}
        ebt.connect("r", {}, client=False, now=10.0)
        assert said(ebt, "r")[F] == off(5)
        ebt.notes_received("r", {F: on(2)}, 10.0)
        assert drain(ebt, "r") == ({}, [(F, 2, 5)])

    def test_verdicts_on_unknown_things_are_ignored(self) -> None:
        ebt = serving()
        ebt.rejected("p", feed_id("unknown"), "invalid", 0.0)
        ebt.rejected("nobody", F, "invalid", 0.0)
        assert said(ebt, "p") == {}


class TestWishes:
    def test_unfollow_and_follow_again(self) -> None:
        ebt = serving({F: 5})
        ebt.notes_received("p", {F: on(0)}, 0.0)
        ebt.want(F, False, 0.0)
        assert drain(ebt, "p") == ({F: -1}, [])
        assert not ebt.received("p", F, 6, 0.0)
        ebt.appended(F, 6, 0.0)
        assert drain(ebt, "p") == ({}, [])
        ebt.want(F, True, 0.0)
        assert drain(ebt, "p") == ({F: on(6)}, [])

    def test_a_change_of_mind_before_anything_was_sent_costs_nothing(self) -> None:
        ebt = serving({F: 5})
        ebt.want(F, False, 0.0)
        ebt.want(F, True, 0.0)
        assert said(ebt, "p") == {}

    def test_a_new_wish_is_asked_of_one_and_told_to_all(self) -> None:
        new = feed_id("new")
        ebt = serving({}, "p", "q")
        ebt.want(new, True, 0.0)
        assert said(ebt, "p") == {new: on(0)}
        assert said(ebt, "q") == {new: off(0)}

    def test_of_a_peer_that_offered_it_before(self) -> None:
        new = feed_id("new")
        ebt = serving()
        ebt.notes_received("p", {new: on(7)}, 0.0)
        assert said(ebt, "p") == {new: -1}
        ebt.want(new, True, 0.0)
        assert said(ebt, "p") == {new: on(0)}

    def test_a_feed_that_was_retracted_is_not_remembered(self) -> None:
        """The peer remembers our -1 and will not mention the feed, so the next session has to."""
        ebt = serving({F: 5})
        ebt.notes_received("p", {F: on(5), G: on(0)}, 0.0)
        ebt.want(F, False, 0.0)
        said(ebt, "p")
        ebt.want(F, True, 0.0)
        said(ebt, "p")
        remembered = ebt.disconnect("p", 0.0)
        assert remembered == {G: 0}
        ebt.connect("p", remembered, client=False, now=0.0)
        assert F in said(ebt, "p")

    def test_nor_one_that_is_not_wanted(self) -> None:
        ebt = serving({F: 5})
        ebt.notes_received("p", {F: on(5)}, 0.0)
        ebt.want(F, False, 0.0)
        assert ebt.disconnect("p", 0.0) == {}


class TestBlocks:
    def test_nothing_is_exchanged(self) -> None:
        ebt = machine({F: 5})
        ebt.block(F, "p", True, 0.0)
        ebt.connect("p", {}, client=False, now=0.0)
        assert F not in said(ebt, "p")
        ebt.notes_received("p", {F: on(0)}, 0.0)
        assert drain(ebt, "p") == ({F: -1}, [])
        assert not ebt.received("p", F, 6, 0.0)
        ebt.appended(F, 6, 0.0)
        assert drain(ebt, "p") == ({}, [])
        assert F not in ebt.disconnect("p", 0.0)

    def test_from_the_middle_of_a_session_on(self) -> None:
        ebt = serving({F: 5}, "p", "q")
        for peer in "pq":
            ebt.notes_received(peer, {F: on(9)}, 0.0)
            drain(ebt, peer)
        ebt.notes_received("p", {F: on(0)}, 0.0)
        ebt.notes_received("p", {F: on(9)}, 0.0)
        ebt.block(F, "p", True, 0.0)
        assert drain(ebt, "p") == ({F: -1}, [])
        assert said(ebt, "q") == {F: on(5)}, "the next one supplies it"
        ebt.block(F, "p", True, 0.0)
        assert said(ebt, "p") == {}

    def test_what_was_queued_is_not_sent(self) -> None:
        ebt = serving({F: 5})
        ebt.notes_received("p", {F: on(0)}, 0.0)
        ebt.block(F, "p", True, 0.0)
        assert drain(ebt, "p") == ({F: -1}, [])

    def test_until_it_is_lifted(self) -> None:
        ebt = machine({F: 5}, wants=(F,))
        ebt.block(F, "p", True, 0.0)
        ebt.connect("p", {}, client=False, now=0.0)
        assert said(ebt, "p") == {}
        ebt.block(F, "p", False, 0.0)
        assert said(ebt, "p") == {F: on(5)}

    def test_for_feeds_that_become_known_later(self) -> None:
        new = feed_id("new")
        ebt = serving()
        ebt.block(new, "p", True, 0.0)
        ebt.want(new, True, 0.0)
        assert said(ebt, "p") == {}
        ebt.notes_received("p", {new: on(3)}, 0.0)
        assert said(ebt, "p") == {new: -1}

    def test_others_are_not_concerned(self) -> None:
        ebt = machine({F: 5})
        ebt.block(F, "p", True, 0.0)
        ebt.connect("q", {}, client=False, now=0.0)
        drain(ebt, "q")
        ebt.notes_received("q", {F: on(0)}, 0.0)
        assert drain(ebt, "q")[1] == [(F, 0, 5)]


class TestSessions:
    def test_a_second_one_replaces_the_first(self) -> None:
        ebt = machine({F: 5})
        first = ebt.connect("p", {}, client=False, now=0.0)
        drain(ebt, "p")
        ebt.notes_received("p", {F: on(5), G: on(3)}, 0.0)
        second = ebt.connect("p", {}, client=False, now=1.0)
        assert second != first
        assert said(ebt, "p") == {G: on(0), H: on(0)}, "it remembers what the first one learnt"
        assert ebt.disconnect("p", 2.0, first) == {}, "the late end of the first one"
        assert ebt.peers() == ["p"]
        assert ebt.disconnect("p", 2.0, second) == {F: 5, G: 3}
        assert ebt.peers() == []

    def test_events_after_the_end_are_ignored(self) -> None:
        ebt = serving({F: 5})
        ebt.disconnect("p", 0.0)
        ebt.notes_received("p", {F: on(0)}, 0.0)
        assert not ebt.received("p", F, 6, 0.0)
        assert ebt.outgoing("p") == []
        assert ebt.disconnect("p", 0.0) == {}
        assert ebt.clock_of("p") == {}
        assert ebt.peer_status("p") is None

    def test_slots_are_used_again(self) -> None:
        ebt = machine({F: 0})
        for number in range(50):
            ebt.connect(f"p{number}", {}, client=False, now=0.0)
            ebt.notes_received(f"p{number}", {F: on(9)}, 0.0)
            assert ebt.feed_status(F).source == f"p{number}"
            ebt.disconnect(f"p{number}", 0.0)
            assert ebt.feed_status(F).source is None

    def test_equal_nodes_reconnect_with_two_empty_frames(self) -> None:
        one, two = Side("one"), Side("two")
        for number in range(50):
            one.ebt.want(feed_id(number), True, 0.0)
            two.ebt.want(feed_id(number), True, 0.0)
            one.hold(feed_id(number), number)
        link = Link(one, two)
        link.open()
        link.settle()
        one.ebt.tick(5.0)
        two.ebt.tick(5.0)
        link.settle(5.0)
        assert two.log == {feed_id(number): number for number in range(50) if number}
        two.messages.clear()
        one.notes.clear()
        two.notes.clear()

        link.open(10.0, link.close(6.0))
        assert link.settle(10.0) == 2
        assert one.notes == two.notes == [{}]

        one.append(feed_id(7), 11.0)
        assert link.settle(11.0) == 3, "announced, asked for, sent"
        assert two.messages == [(feed_id(7), 8)]

    @pytest.mark.parametrize("loser", ["one", "two"])
    def test_a_node_that_lost_its_disk_gets_everything_again(self, loser: str) -> None:
        one, two = Side("one"), Side("two")
        for side in (one, two):
            side.ebt.want(F, True, 0.0)
            side.hold(F, 9)
        link = Link(one, two)
        link.open()
        link.settle()
        clocks = link.close()
        fresh = Side(loser)
        fresh.ebt.want(F, True, 0.0)
        link = Link(fresh, two) if loser == "one" else Link(one, fresh)
        link.open(0.0, ({}, clocks[1]) if loser == "one" else (clocks[0], {}))
        link.settle()
        assert fresh.log[F] == 9
        assert len(fresh.messages) == 9

    def test_a_log_that_was_cut_back_is_fetched_again(self) -> None:
        one, two = Side("one"), Side("two")
        for side in (one, two):
            side.ebt.want(F, True, 0.0)
            side.hold(F, 9)
        link = Link(one, two)
        link.open()
        link.settle()
        two.hold(F, 4)
        link.settle()
        assert two.log[F] == 9


class TestStatus:
    def test_of_a_feed(self) -> None:
        ebt = serving({F: 5}, "p", "q")
        ebt.notes_received("p", {F: on(3)}, 0.0)
        drain(ebt, "p")
        status = ebt.feed_status(F)
        assert (status.feed, status.sequence, status.wanted, status.forked, status.source) == (F, 5, True, False, "p")
        assert status.peers["p"] == (3, 5, True, True, 5)
        assert status.peers["q"] == (None, 5, False, False, 0)

    def test_of_a_feed_nobody_knows(self) -> None:
        status = serving().feed_status(feed_id("unknown"))
        assert not status.wanted
        assert status.peers == {}

    def test_of_a_peer(self) -> None:
        ebt = serving({F: 5, G: 5})
        ebt.notes_received("p", {F: on(3), G: off(9), H: -1}, 0.0)
        ebt.received_run("p", G, 4, 7, 0.0)
        status = ebt.peer_status("p")
        assert status is not None
        assert (status.missing, status.owed) == (4, 2)
        assert (status.received, status.duplicates, status.sent) == (2, 2, 0)
        assert (status.client, status.open) == (False, True)

    def test_of_everything(self) -> None:
        ebt = serving({F: 5, G: 5, feed_id("held"): 1}, "p", "q")
        assert ebt.lag() == (0, 0)
        ebt.notes_received("p", {F: on(7), G: on(3), feed_id("held"): on(9)}, 0.0)
        ebt.notes_received("q", {F: on(6), G: on(9), H: on(1)}, 0.0)
        assert ebt.lag() == (3, 7)
        ebt.fork(G, 0.0)
        ebt.disconnect("p", 0.0)
        assert ebt.lag() == (2, 2)
        ebt.disconnect("q", 0.0)
        assert ebt.lag() == (0, 0)


class TestSize:
    def test_a_peer_costs_fourteen_bytes_a_feed(self) -> None:
        ebt = machine(wants=tuple(feed_id(number) for number in range(5_000)))
        tracemalloc.start()
        for number in range(5):
            ebt.connect(f"p{number}", {}, client=False, now=0.0)
            drain(ebt, f"p{number}")
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert used / (5 * 5_000) < 16

    def test_an_idle_peer_of_a_small_node_costs_little(self) -> None:
        ebt = machine()
        tracemalloc.start()
        for number in range(200):
            ebt.connect(f"p{number}", {}, client=False, now=0.0)
            drain(ebt, f"p{number}")
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert used / 200 < 4096


def _events() -> st.SearchStrategy[tuple[Any, ...]]:
    feeds = st.sampled_from([F, G, H, feed_id("x"), feed_id("y")])
    peers = st.sampled_from(["p", "q", "r"])
    numbers = st.integers(-3, 40) | st.sampled_from([MAX_NOTE, MAX_NOTE + 1, -(2**31)])
    return st.one_of(
        st.tuples(st.just("notes"), peers, st.dictionaries(feeds, numbers)),
        st.tuples(st.just("notes"), peers, st.none() | st.integers() | st.lists(st.integers())),
        st.tuples(st.just("run"), peers, feeds, st.integers(0, 20), st.integers(0, 6)),
        st.tuples(st.just("added"), st.none()),
        st.tuples(st.just("rejected"), peers, feeds, st.sampled_from(["invalid", "gap", "failed", "fork"])),
        st.tuples(st.just("connect"), peers, st.dictionaries(feeds, st.integers(-2, 20)), st.booleans()),
        st.tuples(st.just("disconnect"), peers),
        st.tuples(st.just("want"), feeds, st.booleans()),
        st.tuples(st.just("block"), feeds, peers, st.booleans()),
        st.tuples(st.just("tick"), st.sampled_from([0.1, 1.0, 4.0, 40.0, -9.0])),
        st.tuples(st.just("drain"), peers, st.integers(1, 9)),
    )


@settings(max_examples=150)
@given(st.lists(_events(), max_size=60))
def test_any_order_of_events_keeps_the_promises(events: list[tuple[Any, ...]]) -> None:
    """Whatever happens: nothing raises, nothing unwanted or blocked is sent, ingest gets gap-free runs."""
    ebt = machine({F: 5, G: 0, feed_id("x"): 3})
    log = {F: 5, G: 0, H: 0, feed_id("x"): 3}
    heard = dict(log)
    wants, blocks, now = {F, G, H}, set[tuple[str, str]](), 0.0
    for event in events:
        match event:
            case ("notes", peer, notes):
                ebt.notes_received(peer, notes, now)
            case ("run", peer, feed, first, more):
                start = ebt.received_run(peer, feed, first, first + more, now)
                if start:
                    assert feed in wants
                    assert (feed, peer) not in blocks
                    assert log.get(feed, 0) < start <= heard.get(feed, 0) + 1
                    heard[feed] = first + more
            case ("added", _):
                for feed, sequence in heard.items():
                    log[feed] = max(log.get(feed, 0), sequence)
                    ebt.appended(feed, log[feed], now)
            case ("rejected", peer, feed, verdict):
                ebt.rejected(peer, feed, verdict, now)
            case ("connect", peer, remembered, client):
                ebt.connect(peer, remembered, client=client, now=now)
            case ("disconnect", peer):
                assert ebt.disconnect(peer, now).keys() <= wants
            case ("want", feed, wanted):
                (wants.add if wanted else wants.discard)(feed)
                ebt.want(feed, wanted, now)
            case ("block", feed, peer, blocked):
                (blocks.add if blocked else blocks.discard)((feed, peer))
                ebt.block(feed, peer, blocked, now)
            case ("tick", passed):
                now += passed
                ebt.tick(now)
            case ("drain", peer, budget):
                for item in ebt.outgoing(peer, budget):
                    if isinstance(item, SendRange):
                        assert item.feed in wants
                        assert (item.feed, peer) not in blocks
                        assert 0 <= item.after < item.upto <= log[item.feed]
                    else:
                        assert all(-1 <= note <= MAX_NOTE for note in item.notes.values())
                        assert all(note == -1 for feed, note in item.notes.items() if feed not in wants)
    assert ebt.known_feeds() <= 5
    assert sys.getsizeof(ebt.effects()) < 10_000
