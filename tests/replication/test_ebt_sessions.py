"""Recorded sessions of two reference peers, repeated with our machine on both sides, and on either."""

from typing import Any

import pytest

from replication.ebt.state import EbtState, SendNotes
from tests.support import vectors
from tests.support.ebt_link import Link, Side, feed_id
from tests.support.reference_peer import ReferencePeer

ENTRIES = vectors.entries("ebt-sessions.json")

# In these the reference client's messages reached the server before the client's first notes, on which the reference
# server loses count of the feed (see tests/support/reference_peer.py) and keeps its live message to itself. We send
# notes first and deliver the message: (feed, sequence) that A gets in addition.
LOST_BY_REFERENCE = {2: ("f6", 6), 10: ("f5", 7), 25: ("f4", 5)}


def _final(entry: dict[str, Any], number: int) -> dict[str, dict[str, int]]:
    final = {name: dict(lengths) for name, lengths in entry["final"].items()}
    if number in LOST_BY_REFERENCE:
        feed, sequence = LOST_BY_REFERENCE[number]
        assert final["B"][feed] == sequence
        assert final["A"][feed] == sequence - 1
        final["A"][feed] = sequence
    return final


def _side(entry: dict[str, Any], name: str) -> Side:
    side = Side(name)
    for feed, sequence in entry["initial"][name].items():
        side.hold(feed_id(feed), sequence)
    for feed in entry["wants"][name]:
        side.ebt.want(feed_id(feed), True, 0.0)
    for block in entry["blocks"]:
        if block["at"] == name:
            side.ebt.block(feed_id(block["feed"]), block["does_not_want_to_reach"], True, 0.0)
    return side


@pytest.mark.parametrize("number", range(len(ENTRIES)))
def test_two_machines_end_like_two_reference_peers(number: int) -> None:
    entry = ENTRIES[number]
    sides = {name: _side(entry, name) for name in "AB"}
    link = Link(sides["A"], sides["B"])
    link.open()
    link.settle()
    for live in entry["live_appends_after_sync"]:
        side = sides[live["at"]]
        assert side.log.get(feed_id(live["feed"]), 0) == live["sequence"] - 1
        side.append(feed_id(live["feed"]))
        link.settle()

    for name, lengths in _final(entry, number).items():
        assert {feed: sides[name].log.get(feed_id(feed), 0) for feed in lengths} == lengths
    extra = 1 if number in LOST_BY_REFERENCE else 0
    assert len(sides["A"].messages) == entry["message_count"]["to_A"] + extra
    assert len(sides["B"].messages) == entry["message_count"]["to_B"]
    assert len(set(sides["A"].messages)) == len(sides["A"].messages)
    for name in "AB":
        first = {feed_id(feed): note for feed, note in entry["first_notes"][f"to_{name}"].items()}
        assert sides[name].notes[0] == first


def _reference(entry: dict[str, Any], name: str) -> ReferencePeer:
    peer = ReferencePeer(name)
    peer.log.update({feed_id(feed): sequence for feed, sequence in entry["initial"][name].items()})
    for feed in entry["wants"][name]:
        peer.follow(feed_id(feed), True)
    for block in entry["blocks"]:
        if block["at"] == name:
            peer.block(feed_id(block["feed"]), block["does_not_want_to_reach"])
    return peer


@pytest.mark.parametrize("number", range(len(ENTRIES)))
def test_the_model_of_the_reference_repeats_the_recording(number: int) -> None:
    entry = ENTRIES[number]
    peers = {name: _reference(entry, name) for name in "AB"}
    transcript: list[dict[str, Any]] = []

    def settle() -> None:
        moved = True
        while moved:
            moved = False
            for source, target in (("B", "A"), ("A", "B")):
                for frame in peers[source].outgoing(target):
                    moved = True
                    transcript.append({"to": target, "frame": frame})
                    _give(peers[target], source, frame)

    peers["A"].connect("B", client=True)
    peers["B"].connect("A", client=False)
    settle()
    for live in entry["live_appends_after_sync"]:
        peers[live["at"]].appended(feed_id(live["feed"]), live["sequence"])
        settle()

    for name, lengths in entry["final"].items():
        assert {feed: peers[name].log.get(feed_id(feed), 0) for feed in lengths} == lengths
        frames = [item["frame"] for item in transcript if item["to"] == name]
        notes = [frame for frame in frames if isinstance(frame, dict)]
        assert len(frames) - len(notes) == entry["message_count"][f"to_{name}"]
        assert notes[0] == {feed_id(feed): note for feed, note in entry["first_notes"][f"to_{name}"].items()}
        recorded = [
            item["data"]["notes"] for item in entry["transcript"] if item["to"] == name and "notes" in item["data"]
        ]
        assert notes == [{feed_id(feed): note for feed, note in one.items()} for one in recorded]


def _give(peer: ReferencePeer, source: str, frame: dict[str, int] | tuple[str, int]) -> None:
    peer.receive(source, frame, 0.0)
    for _, feed, sequence in peer.accepted:
        if peer.log.get(feed, 0) == sequence - 1:
            peer.appended(feed, sequence)
    peer.accepted.clear()


@pytest.mark.parametrize("ours", ["A", "B"])
@pytest.mark.parametrize("number", range(len(ENTRIES)))
def test_a_machine_and_a_reference_peer_end_like_two_reference_peers(number: int, ours: str) -> None:
    """Each entry with one side replaced. What the reference loses by its own slip, a pair with us does not lose."""
    entry = ENTRIES[number]
    other = "B" if ours == "A" else "A"
    side, peer = _side(entry, ours), _reference(entry, other)
    received: list[tuple[str, int]] = []

    def settle() -> None:
        moved = True
        while moved:
            moved = False
            for frame in peer.outgoing(ours):
                moved = True
                _take(side, other, frame)
            while batch := side.ebt.outgoing(other):
                moved = True
                for item in batch:
                    if isinstance(item, SendNotes):
                        _give(peer, ours, item.notes)
                        continue
                    for sequence in range(item.after + 1, item.upto + 1):
                        received.append((item.feed, sequence))
                        _give(peer, ours, (item.feed, sequence))

    peer.connect(ours, client=other == "A")
    side.ebt.connect(other, {}, client=ours == "A", now=0.0)
    settle()
    for live in entry["live_appends_after_sync"]:
        if live["at"] == ours:
            side.append(feed_id(live["feed"]))
        else:
            peer.appended(feed_id(live["feed"]), live["sequence"])
        settle()

    final = _final(entry, number)
    assert {feed: side.log.get(feed_id(feed), 0) for feed in final[ours]} == final[ours]
    assert {feed: peer.log.get(feed_id(feed), 0) for feed in final[other]} == final[other]
    assert len(set(received)) == len(received)
    assert len(set(side.messages)) == len(side.messages)


def _take(side: Side, source: str, frame: dict[str, int] | tuple[str, int]) -> None:
    if isinstance(frame, dict):
        side.notes.append(frame)
        side.ebt.notes_received(source, frame, 0.0)
        return
    side.messages.append(frame)
    feed, sequence = frame
    if side.ebt.received(source, feed, sequence, 0.0):
        side.log[feed] = sequence
        side.ebt.appended(feed, sequence, 0.0)


def test_a_session_with_many_feeds_sends_notes_before_messages() -> None:
    """A reference server that gets messages before our first note on their feed would lose count of it."""
    side = Side("A", EbtState(notes_per_frame=10))
    feeds = [feed_id(number) for number in range(35)]
    for feed in feeds:
        side.hold(feed, 3)
        side.ebt.want(feed, True, 0.0)
    side.ebt.connect("B", {}, client=True, now=0.0)
    assert side.ebt.outgoing("B") == []
    side.ebt.notes_received("B", dict.fromkeys(feeds, 0), 0.0)
    mentioned: set[str] = set()
    sent = 0
    while batch := side.ebt.outgoing("B"):
        for item in batch:
            if isinstance(item, SendNotes):
                assert len(item.notes) <= 10
                mentioned.update(item.notes)
            else:
                assert item.feed in mentioned
                sent += item.upto - item.after
    assert mentioned == set(feeds)
    assert sent == 3 * len(feeds)
