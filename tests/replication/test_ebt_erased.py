"""Feeds of which messages were erased here: what peers are told, what they are sent, and what they are asked for."""

from replication.ebt.notes import encode
from replication.ebt.state import EbtState
from tests.replication.test_ebt_state import F, drain, machine

HELD = 100
HOLE = (21, 40)
NOTHING: tuple[dict[str, int], list[tuple[str, int, int]]] = ({}, [])


def note(sequence: int, *, receive: bool) -> dict[str, int]:
    return {F: encode(sequence, receive)}


def opened(remembered: dict[str, int] | None = None) -> EbtState:
    """A node that holds 100 messages of a feed but not 21 to 40, and a peer that has just connected."""
    ebt = machine({F: HELD}, (F,))
    ebt.set_hole(F, HOLE)
    ebt.connect("p", remembered or {}, client=False, now=0.0)
    return ebt


def test_a_peer_of_which_nothing_is_known_is_told_what_comes_before_the_hole_and_asked_for_nothing() -> None:
    assert drain(opened(), "p") == (note(20, receive=False), [])


def test_a_peer_that_has_nothing_gets_what_comes_before_the_hole() -> None:
    ebt = opened()
    drain(ebt, "p")
    ebt.notes_received("p", note(0, receive=True), 0.0)
    assert drain(ebt, "p") == ({}, [(F, 0, 20)])
    assert not ebt.busy


def test_a_peer_in_the_hole_gets_nothing() -> None:
    ebt = opened()
    drain(ebt, "p")
    ebt.notes_received("p", note(30, receive=True), 0.0)
    assert drain(ebt, "p") == NOTHING
    ebt.appended(F, HELD + 1, 1.0)
    assert drain(ebt, "p") == NOTHING


def test_a_peer_behind_the_hole_gets_the_rest_and_is_asked_for_more() -> None:
    ebt = opened()
    drain(ebt, "p")
    ebt.notes_received("p", note(40, receive=True), 0.0)
    notes, ranges = drain(ebt, "p")
    assert notes == note(HELD, receive=True)
    assert ranges == [(F, 40, HELD)]


def test_a_peer_that_is_ahead_delivers() -> None:
    ebt = opened()
    drain(ebt, "p")
    ebt.notes_received("p", note(HELD + 10, receive=True), 0.0)
    assert drain(ebt, "p") == (note(HELD, receive=True), [])
    assert ebt.received_run("p", F, HELD + 1, HELD + 10, 0.1) == HELD + 1
    ebt.appended(F, HELD + 10, 0.2)
    assert ebt.feed_status(F).sequence == HELD + 10


def test_a_peer_that_comes_out_of_the_hole_with_the_help_of_others_is_served_from_then_on() -> None:
    ebt = opened()
    drain(ebt, "p")
    ebt.notes_received("p", note(0, receive=False), 0.0)
    assert drain(ebt, "p") == NOTHING
    ebt.notes_received("p", note(60, receive=True), 1.0)
    notes, ranges = drain(ebt, "p")
    assert notes == note(HELD, receive=True)
    assert ranges == [(F, 60, HELD)]


def test_a_peer_remembered_to_have_all_is_told_nothing() -> None:
    assert drain(opened({F: HELD}), "p")[0] == {}


def test_erasing_while_a_peer_is_connected_is_told() -> None:
    ebt = machine({F: HELD}, (F,))
    ebt.connect("p", {}, client=False, now=0.0)
    assert drain(ebt, "p")[0] == note(HELD, receive=True)
    ebt.notes_received("p", note(0, receive=False), 0.0)
    drain(ebt, "p")
    ebt.set_hole(F, HOLE)
    assert drain(ebt, "p") == (note(20, receive=False), [])
    ebt.set_hole(F, None)
    assert drain(ebt, "p") == (note(HELD, receive=True), [])


def test_a_feed_erased_from_its_first_message_on_is_offered_as_empty() -> None:
    ebt = machine({F: HELD}, (F,))
    ebt.set_hole(F, (1, HELD))
    ebt.connect("p", {}, client=False, now=0.0)
    assert drain(ebt, "p")[0] == note(0, receive=False)
    ebt.notes_received("p", note(0, receive=True), 0.0)
    assert drain(ebt, "p") == NOTHING


def test_a_feed_that_begins_anew_is_asked_for_from_its_first_message_on() -> None:
    ebt = opened()
    drain(ebt, "p")
    ebt.notes_received("p", note(HELD, receive=True), 0.0)
    drain(ebt, "p")
    ebt.set_hole(F, None)
    ebt.want(F, False, 1.0)
    ebt.set_clock(F, 0)
    ebt.want(F, True, 1.0)
    assert drain(ebt, "p")[0] == note(0, receive=True)
    assert ebt.received_run("p", F, 1, HELD, 1.1) == 1
