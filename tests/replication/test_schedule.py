"""The scheduler's decisions, one rule at a time."""

import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replication.backoff import Backoff
from replication.schedule import (
    Decision,
    Dial,
    Forget,
    Group,
    HangUp,
    Held,
    Known,
    Network,
    Outlook,
    Quotas,
    Rules,
    Wait,
    after_failure,
    after_loss,
    decide,
    group_of,
    next_look,
)

DAY = 86_400.0
NOW = 1_000_000.0
RULES = Rules()


def known(name: str, group: Group = Group.PUB, **more: Any) -> Known:
    return Known(address=f"address of {name}", peer=more.pop("peer", name), group=group, **more)


def held(name: str, group: Group = Group.PUB, since: float = NOW, outgoing: bool = True, closing: bool = False) -> Held:
    return Held(name, group, since, outgoing, 0.5, closing)


def plan(
    known: list[Known],
    held: list[Held] | None = None,
    dialling: dict[str, Group] | None = None,
    rules: Rules = RULES,
    network: Network = Network.UP,
    now: float = NOW,
) -> list[Decision]:
    return decide(now, known, held or [], dialling or {}, rules, network=network, random=random.Random(1).random)


def dialled(decisions: list[Decision]) -> list[str]:
    return [each.peer for each in decisions if isinstance(each, Dial)]


def hung_up(decisions: list[Decision]) -> list[str]:
    return [each.peer for each in decisions if isinstance(each, HangUp)]


def reason(decisions: list[Decision], peer: str) -> str:
    (found,) = [each.reason for each in decisions if each.peer == peer]
    return found


@pytest.mark.parametrize(
    ("kind", "by_hand", "hops", "group"),
    [
        ("pub", True, 1, Group.HAND),
        ("lan", False, None, Group.LAN),
        ("room", False, 2, Group.ROOM),
        ("pub", False, 0, Group.PUB),
        ("peer", False, 2, Group.FOLLOWED),
        ("room-attendant", False, 1, Group.FOLLOWED),
        ("room-attendant", False, -1, Group.STRANGER),
        ("", False, None, Group.STRANGER),
        ("stranger", False, 1, Group.FOLLOWED),  # a kind that is no group of its own
    ],
)
def test_what_a_connection_counts_as(kind: str, by_hand: bool, hops: int | None, group: Group) -> None:
    assert group_of(kind, by_hand=by_hand, hops=hops) is group


def test_the_order_by_hand_then_lan_then_by_turns() -> None:
    groups = [Group.STRANGER, Group.FOLLOWED, Group.PUB, Group.ROOM, Group.LAN, Group.HAND]
    everybody = [known(f"{group.name}{n}", group) for group in groups for n in range(9)]
    names = dialled(plan(everybody, rules=Rules(quotas=Quotas(total=14))))
    assert [name[:-1] for name in names] == ["HAND"] * 9 + ["LAN"] * 2 + ["ROOM", "PUB", "FOLLOWED"]
    names = dialled(plan([each for each in everybody if each.group is not Group.HAND]))
    assert sorted(name[:-1] for name in names) == ["FOLLOWED"] * 3 + ["LAN"] * 2 + ["PUB"] * 2 + ["ROOM"] * 2 + [
        "STRANGER"
    ]


def test_one_not_tried_for_longest_goes_first_and_the_nearest_of_the_new() -> None:
    new = [known(f"at {hops}", Group.FOLLOWED, hops=hops) for hops in (3, 1, 2)]
    old = known("tried", Group.FOLLOWED, hops=1, last_try=NOW - 9)
    assert dialled(plan([old, *new])) == ["at 1", "at 2", "at 3"]


def test_never_two_dials_to_one_key() -> None:
    two = [known("bad", peer="x", failures=3), known("good", peer="x"), known("lan", Group.LAN, peer="x", failures=9)]
    decisions = plan(two)
    assert [each.address for each in decisions if isinstance(each, Dial)] == ["address of lan"]
    assert [each.address for each in plan(two[:2]) if isinstance(each, Dial)] == ["address of good"]
    assert dialled(plan(two, dialling={"x": Group.PUB})) == []
    assert dialled(plan(two, [held("x", outgoing=False)])) == []


def test_back_off_is_waited_for_but_not_beyond_a_clock_set_back() -> None:
    decisions = plan([known("a", failures=4, next_try=NOW + 40), known("b", next_try=NOW + 60)])
    assert reason(decisions, "a") == "back-off after 4 failures in a row"
    assert reason(decisions, "b") == "a rest, it was connected"
    assert next_look(decisions) == NOW + 40
    assert dialled(plan([known("a", failures=4, next_try=NOW + 400 * DAY)])) == ["a"]
    assert next_look([]) == math.inf


def test_what_is_dead_is_forgotten_unless_a_person_picked_it() -> None:
    dead: dict[str, Any] = {"failures": 12, "last_heard": NOW - 20 * DAY, "next_try": NOW + DAY}
    decisions = plan([known("pub", **dead), known("mine", Group.HAND, **dead), known("staged", lasting=False, **dead)])
    assert [each.peer for each in decisions if isinstance(each, Forget)] == ["pub"]
    assert "14 days and 12 dials" in reason(decisions, "pub")
    fresh = dead | {"last_heard": NOW - DAY}
    assert not [each for each in plan([known("pub", **fresh)]) if isinstance(each, Forget)]


def test_the_barred_are_left_alone_with_their_reason() -> None:
    decisions = plan([known("a", barred="we block this peer")])
    assert decisions == [Wait("address of a", "a", "we block this peer")]


def test_nothing_is_dialled_unasked_where_that_is_off() -> None:
    rules = Rules(autoconnect=False)
    decisions = plan([known("a"), known("lan", Group.LAN), known("mine", Group.HAND)], rules=rules)
    assert dialled(decisions) == ["mine"]
    strangers = Rules(strangers=False)
    assert dialled(plan([known("a", Group.STRANGER), known("b", Group.PUB)], rules=strangers)) == ["b"]


def test_without_a_network_only_neighbours_are_dialled() -> None:
    some = [known("far"), known("far too"), known("near", Group.LAN, near=True)]
    for network in (Network.NONE, Network.SILENT):
        decisions = plan(some, network=network)
        assert dialled(decisions) == ["near"]
        assert reason(decisions, "far") == network.value
    probing = dialled(plan(some, network=Network.PROBE))
    assert (len(probing), probing[0]) == (2, "near")
    assert dialled(plan(some, network=Network.PROBE, dialling={"x": Group.PUB})) == ["near"]


def test_incoming_connections_take_no_place() -> None:
    assert dialled(plan([known("a")], [held(f"in{n}", outgoing=False) for n in range(50)])) == ["a"]


def test_whoever_is_held_longest_makes_room_the_sooner_the_more_wait() -> None:
    full = [held("old", since=NOW - 4000), held("new", since=NOW - 10)]
    one = plan([known("w")], full)
    assert hung_up(one) == []
    assert next_look(one) == NOW - 4000 + 7200
    assert "2 connections" in reason(one, "w")
    many = plan([known(f"w{n}") for n in range(4)], full)
    assert hung_up(many) == ["old"]
    assert dialled(many) == []
    leaving = [full[0]._replace(closing=True), full[1]._replace(since=0)]
    assert hung_up(plan([known("w")], leaving)) == []  # its place is coming free already


def test_the_total_is_kept_and_shared_by_turns() -> None:
    ours = [held(f"h{n}", Group.HAND) for n in range(7)] + [held(f"f{n}", Group.FOLLOWED, 0) for n in range(3)]
    decisions = plan([known("w", Group.STRANGER)], ours)
    assert dialled(decisions) == []
    assert hung_up(decisions) == ["f0"]
    assert reason(decisions, "w") == "all 10 connections are in use"
    assert hung_up(plan([known("w", Group.STRANGER)], [held(f"h{n}", Group.HAND, 0) for n in range(10)])) == []


def test_a_peer_picked_by_hand_pushes_out_the_least_wanted() -> None:
    ours = [held(f"f{n}", Group.FOLLOWED) for n in range(9)] + [held("s", Group.STRANGER)]
    decisions = plan([known("mine", Group.HAND), known("mine too", Group.HAND)], ours)
    assert hung_up(decisions) == ["s", "f0"]
    ours[-1] = ours[-1]._replace(closing=True)
    assert hung_up(plan([known("mine", Group.HAND)], ours)) == []
    decisions = plan([known("mine", Group.HAND)], [held(f"h{n}", Group.HAND) for n in range(10)])
    assert hung_up(decisions) == []
    assert "picked by hand" in reason(decisions, "mine")


def test_pauses_after_failures_and_losses() -> None:
    rules = Rules(backoff=Backoff(minimum=1, maximum=60, spread=0, steady=30))
    assert after_failure(NOW, Group.HAND, 3, rules, 0) == NOW + 4
    assert after_failure(NOW, Group.PUB, 3, rules, 0) == NOW + 20
    assert after_failure(NOW, Group.PUB, 99, rules, 0) == NOW + DAY
    assert after_loss(NOW, Group.HAND, 3, 31, rules, 0) == (0, NOW)
    assert after_loss(NOW, Group.HAND, 3, 1, rules, 0) == (4, NOW + 8)
    assert after_loss(NOW, Group.PUB, 3, 31, rules, 0) == (0, NOW + 60)
    assert after_loss(NOW, Group.PUB, 3, 31, rules, 1) == (0, NOW + 30)


def test_a_network_where_everything_fails_is_probed_with_growing_pauses() -> None:
    outlook = Outlook()

    def seen(now: float, connected: bool = False) -> Network:
        return outlook.network(now, has_network=True, connected=connected)

    for number in range(4):
        outlook.failed(10 + number, f"p{number}")
        outlook.failed(10 + number, f"p{number}")  # the same one again says nothing new
        assert seen(14) is Network.UP
    outlook.failed(14, "p4")
    assert seen(15) is Network.SILENT
    assert seen(15, connected=True) is Network.UP  # not everybody is gone
    assert outlook.next_look(15) == 24
    assert seen(24) is Network.PROBE
    outlook.failed(24, "p0")
    assert outlook.next_look(24) == 44
    for _ in range(20):
        outlook.failed(100, "p0")
    assert outlook.next_look(100) == 400
    assert seen(0) is Network.PROBE  # the clock was set back
    assert outlook.network(500, has_network=False, connected=True) is Network.NONE
    assert outlook.worked() == 10
    assert seen(500) is Network.UP
    assert outlook.worked() is None
    assert outlook.next_look(500) == math.inf


def test_a_connection_is_no_proof_of_a_network_for_ever() -> None:
    outlook = Outlook()
    for number in range(40):
        outlook.failed(100 + number, f"p{number}")
        seen = outlook.network(100 + number, has_network=True, connected=True)
        assert seen is (Network.UP if number < 14 else Network.SILENT)
    assert outlook.next_look(140) == 149
    assert outlook.worked() is None  # others may have been dead one by one: their back-off stays


GROUPS = st.sampled_from(list(Group))
KNOWN = st.builds(
    Known,
    address=st.integers(0, 40).map(str),
    peer=st.integers(0, 12).map(str),
    group=GROUPS,
    hops=st.none() | st.integers(-2, 4),
    failures=st.integers(0, 20),
    next_try=st.floats(0, 3000),
    last_try=st.floats(0, 1000),
    last_heard=st.floats(0, 1000),
    near=st.booleans(),
    barred=st.sampled_from(["", "", "blocked"]),
)
HELD = st.builds(Held, st.integers(0, 12).map(str), GROUPS, st.floats(0, 1000), st.booleans(), st.floats(0, 0.99))


@settings(max_examples=150)
@given(
    st.lists(KNOWN, max_size=30, unique_by=lambda each: each.address),
    st.lists(HELD, max_size=12),
    st.dictionaries(st.integers(0, 12).map(str), GROUPS, max_size=4),
    st.builds(
        Quotas, lan=st.integers(0, 3), pub=st.integers(0, 3), stranger=st.integers(0, 2), total=st.integers(0, 9)
    ),
    st.sampled_from(list(Network)),
)
def test_whatever_is_known(
    known: list[Known], held: list[Held], dialling: dict[str, Group], quotas: Quotas, network: Network
) -> None:
    decisions = plan(known, held, dialling, Rules(quotas=quotas), network, now=1000.0)
    told = [each.address for each in decisions if not isinstance(each, HangUp)]
    assert sorted(told) == sorted(each.address for each in known)  # one decision each
    dials = [each for each in decisions if isinstance(each, Dial)]
    taken = {each.peer for each in held} | set(dialling)
    assert len({each.peer for each in dials}) == len(dials)
    assert not taken & {each.peer for each in dials}
    ours = sum(each.outgoing for each in held) + len(dialling)
    assert not dials or ours + len(dials) <= quotas.total
    of = {each.address: each for each in known}
    for group in Group:
        used = sum(each.group is group for each in held if each.outgoing)
        used += sum(each is group for each in dialling.values())
        new = sum(of[each.address].group is group for each in dials)
        assert not new or used + new <= quotas.of(group)
    for each in decisions:
        if isinstance(each, HangUp):
            assert any(one.peer == each.peer and one.outgoing for one in held)
        if isinstance(each, Wait) and each.until is not None:
            assert each.until > 1000.0
    assert all(each.reason for each in decisions)
