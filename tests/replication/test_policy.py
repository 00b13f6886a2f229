"""Which feeds are wanted, who is kept apart, and what people are told about it."""

import random
import time
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.policy import Change, Policy, Reason, compare, evaluate, nothing
from tests.support import vectors

ME = "@me"


def policy(
    hops: dict[str, int] | None = None,
    blocks: dict[str, set[str]] | None = None,
    requests: dict[str, bool] | None = None,
    max_hops: int = 3,
) -> Policy:
    return evaluate(ME, hops={ME: 0, **(hops or {})}, blocks=blocks or {}, requests=requests or {}, max_hops=max_hops)


class TestWanted:
    def test_own_feed_always(self) -> None:
        for one in (evaluate(ME, hops={}, blocks={}, requests={}), policy(requests={ME: False}, max_hops=0)):
            assert one.wanted == {ME}
            assert one.reason(ME) is Reason.OWN
        assert policy(blocks={ME: {ME}}).wanted == {ME}

    @pytest.mark.parametrize(
        ("distance", "reason"),
        [
            (1, Reason.WITHIN_HOPS),
            (3, Reason.WITHIN_HOPS),
            (4, Reason.TOO_FAR),
            (-1, Reason.BLOCKED),
            (-2, Reason.UNFOLLOWED),
            (-3, Reason.UNFOLLOWED),
            (None, Reason.UNKNOWN),
        ],
    )
    def test_by_distance(self, distance: int | None, reason: Reason) -> None:
        one = policy({} if distance is None else {"@x": distance})
        assert one.reason("@x") is reason
        assert ("@x" in one.wanted) is (reason is Reason.WITHIN_HOPS)

    def test_blocked_by_those_we_follow(self) -> None:
        one = policy({"@friend": 1, "@x": -2}, {"@friend": {"@x"}})
        assert one.reason("@x") is Reason.BLOCKED_BY_FOLLOWS
        assert "@x" not in one.wanted

    @pytest.mark.parametrize("max_hops", [0, 1, 2])
    def test_number_of_hops(self, max_hops: int) -> None:
        one = policy({"@a": 1, "@b": 2, "@c": 3}, max_hops=max_hops)
        assert one.wanted == {ME, *["@a", "@b"][:max_hops]}

    @pytest.mark.parametrize("distance", [None, 1, 9, -2])
    def test_a_request_wins_over_distance(self, distance: int | None) -> None:
        hops = {} if distance is None else {"@x": distance}
        asked, refused = policy(hops, requests={"@x": True}), policy(hops, requests={"@x": False})
        assert "@x" in asked.wanted
        assert asked.reason("@x") is Reason.REQUESTED
        assert "@x" not in refused.wanted
        assert refused.reason("@x") is Reason.REFUSED

    @pytest.mark.parametrize(("hops", "blocks"), [({"@x": 1}, {ME: {"@x"}}), ({"@x": -1}, {}), ({}, {ME: {"@x"}})])
    def test_but_not_over_our_own_block(self, hops: dict[str, int], blocks: dict[str, set[str]]) -> None:
        one = policy(hops, blocks, {"@x": True})
        assert "@x" not in one.wanted
        assert one.reason("@x") is Reason.BLOCKED

    def test_what_was_given_may_change_afterwards(self) -> None:
        hops, blocks, requests = {ME: 0, "@x": 1}, {"@x": {"@y"}}, {"@z": True}
        one = evaluate(ME, hops=hops, blocks=blocks, requests=requests)
        hops.clear()
        blocks["@x"].clear()
        requests.clear()
        assert one.wanted == {ME, "@x", "@z"}
        assert one.reason("@z") is Reason.REQUESTED
        assert not one.may_serve("@x", "@y")


class TestServing:
    def test_not_to_peers_whom_the_owner_blocks(self) -> None:
        one = policy({"@x": 1}, {"@x": {"@p"}})
        assert not one.may_serve("@x", "@p")
        assert one.may_serve("@x", "@q")
        assert one.may_serve(ME, "@p")
        assert one.allows_peer("@p")
        assert one.blocked_peers("@x") == {"@p"}

    def test_not_the_other_way_round(self) -> None:
        one = policy({"@x": 1, "@p": 1}, {"@x": {"@p"}})
        assert one.may_serve("@p", "@x")

    def test_nothing_to_peers_whom_we_block(self) -> None:
        one = policy({"@x": 1}, {ME: {"@p"}})
        assert not one.allows_peer("@p")
        assert not one.may_serve("@x", "@p")
        assert not one.may_serve(ME, "@p")
        assert not one.may_serve("@p", "@x"), "nor do we spread what we block"

    def test_an_owner_gets_its_own_feed_back_whatever_it_says(self) -> None:
        one = policy({"@x": 1}, {"@x": {"@x"}, ME: {ME}})
        assert one.may_serve("@x", "@x")
        assert one.allows_peer(ME)

    def test_blocks_of_feeds_that_are_not_wanted_make_no_pairs_but_count(self) -> None:
        one = policy({"@x": 9}, {"@x": {"@p"}})
        assert one.blocked_peers("@x") == set()
        assert not one.may_serve("@x", "@p")


class TestExplain:
    def followers(self, follows: dict[str, list[str]]) -> Any:
        def of(feed: str) -> Iterable[str]:
            return [one for one, targets in follows.items() if feed in targets]

        return of

    def test_the_path(self) -> None:
        follows = {ME: ["@a", "@b"], "@a": ["@c"], "@b": ["@c", "@d"], "@c": ["@x"], "@far": ["@x", "@c"]}
        one = policy({"@a": 1, "@b": 1, "@c": 2, "@d": 2, "@x": 3, "@far": 5})
        found = one.explain("@x", self.followers(follows))
        assert found.path == [ME, "@a", "@c", "@x"]
        assert (found.wanted, found.reason, found.hops, found.limit) == (True, Reason.WITHIN_HOPS, 3, 3)
        assert found.would_change is None

    def test_a_path_beyond_the_limit(self) -> None:
        follows = {ME: ["@a"], "@a": ["@x"]}
        one = policy({"@a": 1, "@x": 2}, max_hops=1)
        found = one.explain("@x", self.followers(follows))
        assert found.path == [ME, "@a", "@x"]
        assert (found.wanted, found.reason) == (False, Reason.TOO_FAR)
        assert found.would_change == "follow it, request it, or raise the number of hops"

    @pytest.mark.parametrize(
        ("hops", "blocks", "requests", "reason"),
        [
            ({"@x": -1}, {ME: {"@x"}}, {}, Reason.BLOCKED),
            ({}, {}, {}, Reason.UNKNOWN),
            ({}, {}, {"@x": True}, Reason.REQUESTED),
            ({"@x": -2}, {}, {}, Reason.UNFOLLOWED),
        ],
    )
    def test_no_path(self, hops: Any, blocks: Any, requests: Any, reason: Reason) -> None:
        found = policy(hops, blocks, requests).explain("@x", self.followers({}))
        assert found.path == []
        assert found.reason is reason
        assert found.would_change

    def test_own_feed(self) -> None:
        found = policy().explain(ME, self.followers({}))
        assert found.path == [ME]
        assert found.hops == 0

    def test_a_graph_that_has_changed_since(self) -> None:
        assert policy({"@a": 1, "@x": 2}).explain("@x", self.followers({})).path == []

    def test_every_reason_has_its_words(self) -> None:
        assert len({reason.value for reason in Reason}) == len(Reason)
        assert {reason for reason in Reason if reason.wanted} == {Reason.OWN, Reason.REQUESTED, Reason.WITHIN_HOPS}


class TestChanges:
    def test_from_nothing(self) -> None:
        one = policy({"@b": 1, "@a": 2, "@c": 1}, {"@b": {"@q", "@p"}, "@far": {"@p"}, ME: {"@z"}}, {"@r": True})
        change = compare(nothing(ME), one)
        assert change.wanted == [ME, "@b", "@c", "@r", "@a"]
        assert change.unwanted == []
        assert change.blocked == [("@b", "@p"), ("@b", "@q"), (ME, "@z")]
        assert change.unblocked == []
        assert change.refused_peers == ["@z"]

    def test_no_change(self) -> None:
        one = policy({"@b": 1}, {"@b": {"@q"}})
        change = compare(one, policy({"@b": 1}, {"@b": {"@q"}}))
        assert change == Change([], [], [], [], [])
        assert not change

    def test_a_block_and_its_end(self) -> None:
        before, after = policy({"@b": 1, "@p": 1}), policy({"@b": 1, "@p": -1}, {ME: {"@p"}, "@b": {"@q"}})
        change = compare(before, after)
        assert change == Change([], ["@p"], [("@b", "@q"), (ME, "@p")], [], ["@p"])
        assert change
        assert compare(after, before) == Change(["@p"], [], [], [("@b", "@q"), (ME, "@p")], [])

    def test_pairs_follow_the_wish(self) -> None:
        blocks = {"@b": {"@q"}}
        near, far = policy({"@b": 1}, blocks), policy({"@b": 9}, blocks)
        assert compare(far, near).blocked == [("@b", "@q")]
        assert compare(near, far).unblocked == [("@b", "@q")]

    def test_small_changes_of_a_large_graph_are_quick(self) -> None:
        hops = {f"@{number}": number % 4 for number in range(50_000)}
        blocks = {f"@{number}": {f"@{number + 1}"} for number in range(0, 50_000, 7)}
        one = policy(hops, blocks)
        hops["@new"] = 2
        began = time.perf_counter()
        two = policy(hops, blocks)
        change = compare(one, two)
        assert change == Change(["@new"], [], [], [], [])
        assert time.perf_counter() - began < 2.0, "tens of milliseconds on an idle machine"

    @given(st.randoms(use_true_random=False))
    def test_applying_a_change_leads_to_the_new_state(self, rng: random.Random) -> None:
        names = [ME, *(f"@{number}" for number in range(8))]

        def anything() -> Policy:
            return evaluate(
                ME,
                hops={name: rng.randint(-3, 4) for name in names if rng.random() < 0.7},
                blocks={name: {other for other in names if rng.random() < 0.2} for name in names},
                requests={name: rng.random() < 0.5 for name in names if rng.random() < 0.2},
            )

        old, new = anything(), anything()
        change = compare(old, new)
        assert (old.wanted - set(change.unwanted)) | set(change.wanted) == new.wanted
        pairs = [{(feed, peer) for feed in names for peer in one.blocked_peers(feed)} for one in (old, new)]
        assert (pairs[0] - set(change.unblocked)) | set(change.blocked) == pairs[1]
        assert set(change.blocked).isdisjoint(pairs[0])
        assert not [name for name in change.refused_peers if new.allows_peer(name) or not old.allows_peer(name)]
        for name in names:
            assert (name in new.wanted) is new.reason(name).wanted
            assert not (name in new.wanted and name != ME and not new.allows_peer(name))


@pytest.mark.parametrize("number", range(38))
def test_follow_graph_vectors(number: int) -> None:
    """Distances as the reference computes them, and what follows from them."""
    entry = vectors.entries("follow-graph.json")[number]
    me, hops, limit = entry["me"], entry["hops"], entry["max_hops"]
    blocks = {one: {two for two, edge in edges.items() if edge == -1} for one, edges in entry["graph"].items() if edges}
    decided = evaluate(me, hops=hops, blocks=blocks, requests={}, max_hops=limit)
    assert decided.wanted == {me} | {feed for feed, distance in hops.items() if 0 <= distance <= limit}
    for feed in blocks.get(me, set()) - {me}:
        assert decided.reason(feed) is Reason.BLOCKED
        assert not decided.allows_peer(feed)
