"""The machine of wants: who is told what, what is got from where, and that nobody can make it grow or go in circles."""

import random
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.blob_ranks import ASKED, AVATAR, NAMED
from replication.blob_notes import parse_notes
from replication.blob_wants import Blame, BlobWants, Fault, Fetch, Get, Notes, Pushed, Stop
from replication.limits import DEFAULT_LIMITS, Limits
from tests.support import vectors
from tests.support.blob_nodes import BlobNetwork, blob, blobs

B = blob(1)
MIB = 1024 * 1024


def machine(*peers: str, limits: Limits = DEFAULT_LIMITS, fetch: Fetch = Fetch.ALL) -> BlobWants:
    made = BlobWants(limits, fetch=fetch)
    for peer in peers:
        made.connect(peer, 0.0)
        made.opened(peer)
        made.take_notes(peer)
    made.effects()
    return made


def gets(found: BlobWants) -> list[Get]:
    return [effect for effect in found.effects() if isinstance(effect, Get)]


# ---- vectors


def _play(found: BlobWants, held: dict[str, int], event: dict[str, Any]) -> None:
    at = event["at"]
    match event["event"]:
        case "connect":
            found.connect(event["peer"], at)
            found.opened(event["peer"])
        case "disconnect":
            found.disconnect(event["peer"], at)
        case "notes":
            notes = parse_notes(event["notes"]).notes
            found.notes_received(event["peer"], notes, {key: held[key] for key in notes if key in held}, at)
        case "want":
            found.want(event["blob"], event["rank"], at)
        case "unwant":
            found.unwant(event["blob"], at)
        case "held":
            held[event["blob"]] = event["size"]
            found.held(event["blob"], event["size"], at)
        case "push":
            found.push(event["blob"])
        case "got":
            found.got(event["get"], at)
        case "failed":
            found.failed(event["get"], Fault(event["fault"]), event["reason"], at)
        case "tick":
            found.tick(at)


def _effects(found: BlobWants) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = []
    for effect in found.effects():
        match effect:
            case Notes(peer):
                if notes := found.take_notes(peer):
                    shown.append({"tell": peer, "notes": notes})
            case Get(number, key, peer, size):
                shown.append({"get": number, "blob": key, "peer": peer, "size": size})
            case Stop(number):
                shown.append({"stop": number})
            case Pushed(key):
                shown.append({"pushed": key})
            case Blame(peer):
                shown.append({"blame": peer})
    return shown


@pytest.mark.parametrize("entry", vectors.entries("blobs.json"), ids=lambda entry: entry["label"])
def test_vectors(entry: dict[str, Any]) -> None:
    found, held = BlobWants(fetch=Fetch(entry.get("fetch", "all"))), dict[str, int]()
    for event in entry["events"]:
        _play(found, held, event)
        assert _effects(found) == event["effects"], event


# ---- networks


def test_a_blob_three_hops_away_arrives_and_one_further_away_does_not() -> None:
    network = BlobNetwork()
    network.add(*"abcde")
    network.chain("abcde")
    near, far = blob(1), blob(2)
    network.give("d", near)
    network.give("e", far)
    network.want("a", near)
    network.want("a", far)
    network.run()
    assert network.holders(near) == "abcd"
    assert network.holders(far) == "e"


def test_a_blob_that_appears_later_arrives() -> None:
    network = BlobNetwork()
    network.add(*"abcd")
    network.chain("abcd")
    network.want("a", B)
    network.run()
    assert network.holders(B) == ""
    network.give("d", B)
    network.run()
    assert network.holders(B) == "abcd"


def test_a_pushed_blob_goes_to_three_peers() -> None:
    network = BlobNetwork()
    network.add(*"abcdef")
    network.give("a", B)
    for other in "bcde":
        network.link("a", other)
    network.run()
    network.push("a", B)
    network.run()
    assert network.nodes["a"].pushed == [B]
    assert len(network.holders(B)) >= 4
    network.link("a", "f")
    network.run()
    assert "f" not in network.holders(B)


def test_what_only_answers_our_want_is_not_kept_alive_by_it() -> None:
    """Two nodes that want a blob for each other only would want it for ever."""
    network = BlobNetwork()
    network.add(*"abc")
    for pair in ("ab", "bc", "ac"):
        network.link(*pair)
    network.want("a", B)
    network.run()
    network.cut("a", "b")
    network.cut("a", "c")
    network.unwant("a", B)
    network.cut("b", "c")
    network.run()
    assert all(node.machine.status()["wanted_for_peers"] == 0 for node in network.nodes.values())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(3, 10), st.integers(1, 30))
def test_in_any_network_notes_come_to_an_end_and_what_is_near_arrives(seed: int, count: int, wanted: int) -> None:
    chance = random.Random(seed)
    names = "abcdefghij"[:count]
    network = BlobNetwork(seed)
    network.add(*names)
    network.chain(names)
    for _ in range(count):
        left, right = chance.sample(names, 2)
        network.link(left, right)
    ids = blobs(range(1, wanted + 1))
    wants = [(chance.choice(names), key, chance.choice(names)) for key in ids]
    for name, key, source in wants:
        if chance.random() < 0.5:
            network.give(source, key)
            network.want(name, key)
        else:
            network.want(name, key)
            network.give(source, key)
    network.run(600.0)
    links = len(network.links)
    assert network.notes_sent <= wanted * links * 2 * 5
    assert network.most_gets <= DEFAULT_LIMITS.blob_gets
    sent = network.notes_sent
    network.run(3600.0)
    assert network.notes_sent == sent  # all is quiet
    distances = _distances(names, network.links)
    for name, key, source in wants:
        if distances[name, source] <= 3:
            assert key in network.nodes[name].held, (name, key, source)


def _distances(names: str, links: set[frozenset[str]]) -> dict[tuple[str, str], int]:
    found = {(name, other): 0 if name == other else 99 for name in names for other in names}
    for link in links:
        left, right = link
        found[left, right] = found[right, left] = 1
    for middle in names:
        for left in names:
            for right in names:
                found[left, right] = min(found[left, right], found[left, middle] + found[middle, right])
    return found


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_cuts_liars_and_silent_peers_do_not_keep_a_blob_away(seed: int) -> None:
    chance = random.Random(seed)
    network = BlobNetwork(seed)
    network.add("a", "good")
    network.add("liar", lies=True)
    network.add("silent", hangs=True)
    for name in ("liar", "silent", "good"):
        for key in blobs(range(1, 21)):
            network.give(name, key)
        network.link("a", name)
    for key in blobs(range(1, 21)):
        network.want("a", key)
        if chance.random() < 0.2:
            network.cut("a", "good")
            network.run(chance.random())
            network.link("a", "good")
    network.run(4 * 3600.0)
    assert len(network.nodes["a"].held) == 20
    per_pair: dict[tuple[str, str], int] = {}
    for get in network.nodes["a"].gets:
        per_pair[get.peer, get.blob] = per_pair.get((get.peer, get.blob), 0) + 1
    assert all(count <= 2 for (peer, _), count in per_pair.items() if peer == "liar")


# ---- gets


def test_the_best_ranked_come_first_and_one_peer_never_has_all_gets() -> None:
    found = machine("p", "q")
    ranks = [NAMED + 3, AVATAR + 1, ASKED, NAMED + 1, AVATAR]
    ids = blobs(range(1, 6))
    found.notes_received("p", dict.fromkeys(ids, 5), {}, 0.0)
    for key in blobs(range(10, 14)):  # keep all busy first
        found.notes_received("p", {key: 1}, {}, 0.0)
        found.want(key, 0, 0.0)
    first = gets(found)
    assert len(first) == 3
    for key, rank in zip(ids, ranks, strict=True):
        found.want(key, rank, 0.0)
    order = []
    running = first
    while running:
        found.held(running[0].blob, 1, 1.0)
        running = [*running[1:], *(begun := gets(found))]
        order += [get.blob for get in begun]
    assert [key for key in order if key in ids] == [ids[2], ids[4], ids[1], ids[3], ids[0]]


def test_a_failed_get_goes_to_the_next_source_and_the_first_waits() -> None:
    found = machine("p", "q")
    found.want(B, 0, 0.0)
    found.notes_received("p", {B: 10}, {}, 0.0)
    found.notes_received("q", {B: 10}, {}, 0.0)
    (first,) = gets(found)
    assert first.peer == "p"
    found.failed(first.number, Fault.LOST, "cut", 1.0)
    (second,) = gets(found)
    assert second.peer == "q"
    found.failed(second.number, Fault.LOST, "cut", 2.0)
    assert gets(found) == []
    assert found.next_tick() == 11.0
    found.tick(10.9)
    assert gets(found) == []
    found.tick(11.0)
    (third,) = gets(found)
    assert third.peer == "p"
    found.failed(third.number, Fault.LOST, "cut", 11.0)
    assert gets(found) == []
    assert found.blob_status(B, 11.0)["failures"]["p"] == {"reason": "cut", "again_in": 20.0}


def test_a_get_that_takes_too_long_is_stopped() -> None:
    found = machine("p")
    found.want(B, 0, 0.0)
    found.notes_received("p", {B: 10}, {}, 5.0)
    (get,) = gets(found)
    assert found.next_tick() == 185.0
    found.tick(185.0)
    assert next(effect for effect in found.effects() if isinstance(effect, Stop)).number == get.number


def test_what_is_too_large_is_not_asked_for_and_says_so() -> None:
    found = machine("p")
    found.want(B, 0, 0.0)
    found.notes_received("p", {B: 5 * MIB + 1}, {}, 0.0)
    assert gets(found) == []
    assert "5242881 bytes, more than the 5242880" in found.blob_status(B, 0.0)["last_error"]
    found.notes_received("p", {B: 5 * MIB}, {}, 0.0)
    assert len(gets(found)) == 1


def test_a_full_disk_is_nobodys_fault() -> None:
    found = machine("p")
    found.want(B, 0, 0.0)
    found.notes_received("p", {B: 10}, {}, 0.0)
    (get,) = gets(found)
    found.failed(get.number, Fault.LOCAL, "disk full", 1.0)
    assert gets(found) == []
    assert found.next_tick() == 31.0
    found.tick(31.0)
    assert [again.peer for again in gets(found)] == ["p"]
    assert found.next_tick() == 31.0 + 180.0


def test_who_lies_too_often_is_blamed() -> None:
    found = machine("p")
    for number in range(1, 40):
        found.want(blob(number), 0, 0.0)
        found.notes_received("p", {blob(number): 10}, {}, 0.0)
    blamed = []
    for _ in range(60):
        for effect in found.effects():
            if isinstance(effect, Get):
                found.failed(effect.number, Fault.LIED, "other bytes", 0.0)
            elif isinstance(effect, Blame):
                blamed.append(effect.peer)
    assert blamed == ["p"]


def test_nothing_is_fetched_or_announced_when_it_is_off() -> None:
    found = machine("p", "q", fetch=Fetch.OFF)
    found.want(B, 0, 0.0)
    found.notes_received("p", {B: 10, blob(2): -1}, {}, 0.0)
    assert found.effects() == []
    found.notes_received("p", {blob(3): -1}, {blob(3): 7}, 0.0)
    assert found.take_notes("p") == {blob(3): 7}


def test_only_what_is_wanted_here_is_fetched_when_so_set() -> None:
    found = machine("p", "q", fetch=Fetch.WANTED)
    found.notes_received("p", {blob(2): -1}, {}, 0.0)
    found.notes_received("q", {blob(2): 10}, {}, 0.0)
    assert found.effects() == []
    found.held(blob(2), 10, 0.0)
    assert found.take_notes("p") == {blob(2): 10}


# ---- bounds


def test_twenty_thousand_hostile_wants_are_bounded() -> None:
    found = machine(*(f"peer {number}" for number in range(20)), "friend")
    found.notes_received("friend", {blob(10**6): -1}, {}, 0.0)
    floods = [
        dict.fromkeys(blobs(range(number * 20_000, number * 20_000 + (20_000 if number == 0 else 1500))), -1)
        for number in range(20)
    ]
    tracemalloc.start()
    try:
        for number, flood in enumerate(floods):
            found.notes_received(f"peer {number}", flood, {}, 0.0)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    status = found.status()
    assert all(line["wants"] <= 1000 for line in status["peers"].values())
    assert sum(line["wants"] for line in status["peers"].values()) <= 10_000
    assert status["peers"]["friend"]["wants"] == 1
    assert status["wanted_for_peers"] <= 10_000
    assert len(found.take_notes("friend", 10**6)) <= 5000
    assert size < 40 * MIB
    assert found.breaches["blob_wants_per_second"] == 19_000 + 19 * 500  # each had as many as it may have at once
    assert found.breaches["blob_wants_total"] > 5000


def test_haves_are_bounded() -> None:
    found = machine(*(f"peer {number}" for number in range(8)))
    for number in range(8):
        found.notes_received(f"peer {number}", dict.fromkeys(blobs(range(1, 12_000)), 9), {}, 0.0)
    has = [line["has"] for line in found.status()["peers"].values()]
    assert max(has) <= 10_000
    assert sum(has) <= 50_000
    assert found.breaches["blob_haves"] > 0
    assert found.breaches["blob_haves_total"] > 0
    for number in range(8):
        found.disconnect(f"peer {number}", 1.0)
    assert found._had == 0
    assert found._wanted_by_others == 0


def test_sizes_that_change_all_the_time_do_not_pile_up() -> None:
    found = machine("p")
    found.want(B, 0, 0.0)
    found.notes_received("p", {B: 1}, {}, 0.0)
    found.want(blob(2), 0, 0.0)
    for number in range(2, 5000):
        found.notes_received("p", {B: number, blob(2): number}, {}, 0.0)
    assert len(found._peers["p"].offers) < 200


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_sequence_of_events_keeps_the_counts_true(data: st.DataObject) -> None:
    """And no event raises, whatever came before it."""
    limits = Limits(blob_wants=4, blob_wants_total=6, blob_haves=4, blob_haves_total=6, blob_notes_pending=8)
    found = BlobWants(limits)
    peers, ids = ["p", "q", "r"], blobs(range(1, 8))
    connected: set[str] = set()
    running: list[Get] = []
    now = 0.0
    for _ in range(data.draw(st.integers(1, 60))):
        now += data.draw(st.sampled_from([0.0, 1.0, 50.0, 4000.0]))
        key, peer = data.draw(st.sampled_from(ids)), data.draw(st.sampled_from(peers))
        match data.draw(st.integers(0, 10)):
            case 0 | 1 if peer not in connected:
                connected.add(peer)
                found.connect(peer, now)
                if data.draw(st.booleans()):
                    found.opened(peer)
            case 2 if peer in connected:
                connected.discard(peer)
                found.disconnect(peer, now)
            case 3 | 4 | 5 if peer in connected:
                notes = data.draw(st.dictionaries(st.sampled_from(ids), st.integers(-5, 6 * MIB)))
                held = {key: 5 for key in notes if data.draw(st.booleans())}
                found.notes_received(peer, notes, held, now)
            case 6:
                found.want(key, data.draw(st.integers(0, 99)), now)
            case 7:
                found.unwant(key, now)
            case 8:
                found.held(key, 5, now)
            case 9:
                found.push(key)
            case 10 if running:
                get = running.pop(data.draw(st.integers(0, len(running) - 1)))
                found.failed(get.number, data.draw(st.sampled_from(list(Fault))), "no", now)
            case _:
                found.tick(now)
        for effect in found.effects():
            if isinstance(effect, Get):
                assert effect.peer in connected
                running.append(effect)
            elif isinstance(effect, Stop):
                running = [get for get in running if get.number != effect.number]
        _check(found, limits, running)


def _check(found: BlobWants, limits: Limits, running: list[Get]) -> None:
    states = found._peers.values()
    assert sum(len(state.wants) for state in states) == found._wanted_by_others <= limits.blob_wants_total
    assert sum(len(state.haves) for state in states) == found._had <= limits.blob_haves_total
    assert all(len(state.wants) <= limits.blob_wants and len(state.haves) <= limits.blob_haves for state in states)
    assert all(len(state.pending) <= limits.blob_notes_pending for state in states)
    assert sorted(get.number for get in running) == sorted(run.get.number for run in found._running.values())
    assert len(running) <= limits.blob_gets
    assert all(wanters for wanters in found._relayed.values())
    for key in found._announced:
        assert key in found._own or key in found._relayed or key in found._pushes
    for run in found._running.values():
        assert run.get.blob in found._own or run.get.blob in found._relayed


# ---- notes from outside


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_anything_may_stand_in_notes(value: Any) -> None:
    notes, wrong = parse_notes(value)
    assert notes == {}
    assert wrong == 1
    notes, wrong = parse_notes({B: value, "&short.sha256": -1, "": -1})
    assert wrong == 3 - len(notes)
    assert all(key == B and type(note) is int and note for key, note in notes.items())


def test_notes_are_read_as_javascript_writes_them() -> None:
    far = 2**53
    told = {B: -1, blob(2): 10.0, blob(3): 0, blob(4): far, blob(5): True, "@" + B[1:]: -1, B[:-1]: -1, blob(6): "1"}
    assert parse_notes(told) == ({B: -1, blob(2): 10}, 6)
