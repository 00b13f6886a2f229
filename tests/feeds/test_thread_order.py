"""The order of threads: parents first, ties by time and id, and an end for every shape."""

from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.thread_order import Place, Placed, order


def ids(places: list[Place], root: str | None = None) -> str:
    return "".join(placed.id for placed in order(places, root=root))


def test_parents_come_before_children_whatever_their_clocks_say() -> None:
    places = [Place("c", ("b",), 1), Place("b", ("a",), 2), Place("a", (), 3)]
    assert ids(places) == "abc"


def test_the_earlier_time_goes_first_then_the_smaller_id() -> None:
    places = [Place("r", (), 9), Place("d", ("r",), 2), Place("c", ("r",), 1), Place("b", ("r",), 2)]
    assert ids(places) == "rcbd"


def test_a_reply_waits_for_every_branch_it_names() -> None:
    places = [Place("r", (), 0), Place("z", ("x", "y"), 1), Place("x", ("r",), 2), Place("y", ("r",), 3)]
    assert ids(places) == "rxyz"


def test_the_root_goes_first_even_if_it_names_parents() -> None:
    places = [Place("a", (), 1), Place("r", ("a", "gone"), 5)]
    assert ids(places, "r") == "ra"
    assert order(places, root="r")[0].missing == ("gone",)
    assert ids(places, "elsewhere") == "ar"


def test_missing_parents_are_named_and_hold_nothing_up() -> None:
    places = [Place("b", ("gone", "a", "gone", "b", "lost"), 1), Place("a", (), 2)]
    assert order(places) == [Placed("a", ()), Placed("b", ("gone", "lost"))]


def test_an_id_given_twice_counts_once() -> None:
    assert ids([Place("a", (), 1), Place("a", ("b",), 0), Place("b", (), 2)]) == "ab"


def test_a_cycle_is_cut_at_its_earliest_message() -> None:
    places = [Place("a", ("c",), 3), Place("b", ("a",), 2), Place("c", ("b",), 1), Place("d", ("a",), 0)]
    assert ids(places) == "dcab"
    assert ids([Place("a", ("b",), 2), Place("b", ("a",), 1)]) == "ba"
    assert ids([Place("a", ("a",), 2)]) == "a"


def test_what_hangs_on_a_cycle_waits_until_the_cycle_is_cut() -> None:
    places = [Place("a", ("b",), 5), Place("b", ("a",), 6), Place("z", ("b",), 9), Place("y", (), 10)]
    assert ids(places) == "yabz"


NAMES = st.sampled_from("abcdefgh")
TIMES = st.one_of(st.integers(-3, 3), st.floats(allow_nan=False), st.just(10**400))
GRAPHS = st.lists(st.builds(Place, NAMES, st.lists(NAMES, max_size=4).map(tuple), TIMES), max_size=10)


@given(GRAPHS, st.none() | NAMES, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_any_graph_comes_out_whole_and_the_same_from_any_order(places: list[Place], root: str | None, rng) -> None:  # type: ignore[no-untyped-def]
    unique = list({place.id: place for place in reversed(places)}.values())
    ordered = order(unique, root=root)
    assert sorted(placed.id for placed in ordered) == sorted(place.id for place in unique)
    rng.shuffle(unique)
    assert order(unique, root=root) == ordered


@settings(deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(0, 30), max_size=3), st.integers(0, 5)), max_size=30))
def test_without_cycles_every_parent_is_before_its_children(rows: list[tuple[list[int], int]]) -> None:
    places = [
        Place(f"{at:02}", tuple(f"{parent:02}" for parent in parents if parent < at), time)
        for at, (parents, time) in enumerate(rows)
    ]
    at = {placed.id: place for place, placed in enumerate(order(places[::-1]))}
    for place in places:
        assert all(at[parent] < at[place.id] for parent in place.parents)


def test_long_chains_and_wide_fans_take_a_moment() -> None:
    chain = [Place(f"{at:06}", (f"{at - 1:06}",), -at) for at in range(20_000)]
    assert [placed.id for placed in order(chain)] == [place.id for place in chain]
    ring = [Place(f"{at:06}", (f"{(at + 1) % 20_000:06}",), at) for at in range(20_000)]
    assert len(order(ring)) == 20_000
    fan = [Place("r", (), 0), *(Place(f"{at:06}", ("r",), -at) for at in range(20_000))]
    assert order(fan, root="r")[1].id == "019999"
