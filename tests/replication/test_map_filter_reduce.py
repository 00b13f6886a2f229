"""Queries as pure functions; the old engine itself is asked in tests/interop/test_queries.py."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replication.javascript_values import compare_ordered, less, to_number, truthy
from replication.map_filter_reduce import InvalidQuery, compile_query, first_filter
from tests.support import queries

PEOPLE: list[dict[str, Any]] = [
    {"name": "ann", "age": 30, "tags": ["a", "b"]},
    {"name": "bob", "age": 20, "tags": ["b"]},
    {"name": "cid", "age": 40, "city": "X", "tags": []},
    {"name": "ann", "age": None, "city": None},
]


def run(query: Any, values: list[Any] = PEOPLE) -> list[Any]:
    pipeline = compile_query(query)
    return [*pipeline.push(values), *pipeline.finish()]


def names(rule: Any) -> list[Any]:
    return [(each["name"], each["age"]) for each in run([{"$filter": rule}])]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"name": "bob"}, [20]),
        ({"name": {"$ne": "ann"}}, [20, 40]),
        ({"name": {"$eq": "cid"}}, [40]),
        ({"name": {"$in": ["bob", "cid", 7]}}, [20, 40]),
        ({"age": {"$is": "number"}}, [30, 20, 40]),
        ({"age": {"$is": "object"}}, [None]),
        ({"city": {"$is": "undefined"}}, [30, 20]),
        ({"city": None}, [None]),
        ({"city": {"$truthy": True}}, [40]),
        ({"city": {"$not": True}}, [30, 20, None]),
        ({"age": {"$gt": 20, "$lte": 40}}, [30, 40]),
        ({"age": {"$gte": 20, "$ne": 30}}, [20, 40]),
        ({"tags": {"$prefix": ["b"]}}, [20]),
        ({"tags": ["a"]}, [30]),
        ({"name": {"$prefix": "a"}}, [30, None]),
        ({"tags": {"length": {"$lt": 2}}}, [20, 40]),
        ({}, [30, 20, 40, None]),
    ],
)
def test_filters(rule: Any, expected: list[Any]) -> None:
    assert [age for _, age in names(rule)] == expected


def test_maps_leave_out_what_is_empty() -> None:
    assert run([{"$map": "age"}]) == [30, 20, 40]
    assert run([{"$map": ["tags", 0]}]) == ["a", "b"]
    assert run([{"$map": ["tags", -1]}]) == ["b", "b"]
    assert run([{"$map": {"name": True, "years": "age", "town": "city"}}])[:2] == [
        {"name": "ann", "years": 30},
        {"name": "bob", "years": 20},
    ]
    assert run([{"$map": {"old": ["age", {"$gt": 25}]}}])[:2] == [{"old": True}, {"old": False}]
    assert run([{"$map": True}]) == PEOPLE


def test_reductions() -> None:
    assert run([{"$reduce": {"$count": True}}]) == [4]
    assert run([{"$reduce": {"$count": "city"}}]) == [2]
    assert run([{"$reduce": {"$sum": "age"}}]) == [90]
    assert run([{"$reduce": {"$max": "age"}}]) == [40]
    assert run([{"$filter": {"age": {"$gt": 0}}}, {"$reduce": {"$min": "age"}}]) == [20]
    assert run([{"$reduce": {"$collect": "name"}}]) == ["ann", "bob", "cid", "ann"]
    assert run([{"$reduce": {"name": "name", "n": {"$count": True}}}]) == [
        {"name": "ann", "n": 2},
        {"name": "bob", "n": 1},
        {"name": "cid", "n": 1},
    ]
    assert run([{"$reduce": {"$group": ["name"], "$reduce": {"$count": True}}}]) == [2, 1, 1]
    assert run([{"$reduce": {"$group": "name", "$reduce": {"n": {"$count": True}}}}])[0] == {"n": 2}
    assert run([{"$reduce": {"$count": True}}], []) == []


def test_what_a_reduction_gives_goes_on_to_the_next_stage() -> None:
    counted = {"$reduce": {"name": "name", "n": {"$count": True}}}
    assert run([counted, {"$filter": {"n": {"$gt": 1}}}, {"$map": "name"}]) == ["ann"]
    assert run([counted, {"$sort": [{"$reverse": "n"}, {"$reverse": "name"}]}, {"$map": "name"}]) == [
        "ann",
        "cid",
        "bob",
    ]


def test_sorting_orders_all_kinds_of_values() -> None:
    values = [{"v": each} for each in ("b", 2, None, True, "a", 1, [1], False)] + [{}]
    assert run([{"$sort": ["v"]}, {"$map": {"v": True}}], values) == [
        *({"v": each} for each in (None, False, True, 1, 2, "a", "b", [1])),
        {},
    ]


def test_values_in_pieces_bring_the_same() -> None:
    chance = random.Random(5)
    values = queries.messages(chance, 40)
    for _ in range(200):
        query = queries.query(chance)
        whole = run(query, values)
        pipeline, found = compile_query(query), []
        for start in range(0, len(values), 7):
            found += pipeline.push(values[start : start + 7])
        assert [*found, *pipeline.finish()] == whole, query


@pytest.mark.parametrize(
    "query",
    [
        7,
        "x",
        None,
        [7],
        [{"$nonsense": 1}],
        [{"$filter": {"a": {"$nonsense": 1}}}],
        [{"$filter": {"a": {"$gt": 1, "b": 2}}}],
        [{"$filter": {"$in": 5}}],
        [{"$filter": {"$prefix": 5}}],
        [{"$map": None}],
        [{"$map": False}],
        [{"$map": [None]}],
        [{"$map": {}}, {"$reduce": {}}, {"$reduce": {"$group": []}}],
        [{"$reduce": {"$group": [], "$reduce": {"$count": True}}}],
        [{"$sort": 1}],
        [{"$sort": [{"a": 1}]}],
        [{"$filter": {}}] * 101,
        [{"$filter": {"a": {"$in": ["x"] * 20_001}}}],
        [{"$filter": json.loads('{"a":' * 70 + "1" + "}" * 70)}],
    ],
)
def test_what_is_no_query_is_refused_in_words(query: Any) -> None:
    with pytest.raises(InvalidQuery) as error:
        compile_query(query)
    assert len(str(error.value)) > 10


def test_only_so_much_is_kept() -> None:
    many = [{"name": f"name {number}"} for number in range(1000)]
    for stage in ({"$sort": ["name"]}, {"$reduce": {"$collect": "name"}}, {"$reduce": {"n": "name"}}):
        with pytest.raises(InvalidQuery, match="too much"):
            compile_query([stage], max_held=10_000).push(many)
    assert compile_query([{"$reduce": {"$count": True}}], max_held=10).push(many) == []


def test_a_bare_filter_is_one() -> None:
    assert run({"name": "bob"}) == [PEOPLE[1]]
    assert run({"$filter": {"name": "bob"}}) == [PEOPLE[1]]
    assert first_filter([{"$map": True}]) == {}
    assert first_filter([None, {"$filter": {"a": 1}}]) == {"a": 1}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=4)
    | st.sampled_from(["$filter", "$gt", "length"]),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["a", "b", "$filter", "$map", "$reduce", "$sort", "$group", "$gt", "$in", "$mod", "$sum", "$max"]
            )
            | st.text(max_size=2),
            below,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=200)
@given(JSON, st.lists(JSON, max_size=5))
def test_nothing_but_a_refusal_comes_out_of_any_query(query: Any, values: list[Any]) -> None:
    for each in (query, [query], [{"$filter": query}, {"$map": query}], [{"$reduce": query}], [{"$sort": [query]}]):
        try:
            run(each, values)
        except InvalidQuery:
            continue


@given(JSON, JSON)
def test_any_two_values_have_an_order(one: Any, other: Any) -> None:
    assert compare_ordered(one, other) == -compare_ordered(other, one)
    assert isinstance(less(one, other), bool)
    assert isinstance(truthy(one), bool)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("", 0),
        (" 12 ", 12),
        ("0x10", 16),
        ("1e3", 1000),
        (".5", 0.5),
        ("5.", 5),
        ([], 0),
        ([7], 7),
        (True, 1),
        (None, 0),
    ],
)
def test_numbers_as_javascript_reads_them(value: Any, number: float) -> None:
    assert to_number(value) == number
    nothing: Any
    for nothing in ("x", "1_0", "0x1_0", "--1", {}, [1, 2], "infinity", "٣"):
        assert to_number(nothing) != to_number(nothing)


def test_answers_of_the_newer_engine() -> None:
    """Operators that only version 3 of the npm package has; its answers were written down."""
    vectors = json.loads((Path(__file__).parents[1] / "vectors" / "queries.json").read_text(encoding="utf-8"))
    assert len(vectors["queries"]) == 150
    for each in vectors["queries"]:
        assert run(each["query"], vectors["values"]) == each["found"], each["query"]


def test_sums_and_products_are_spelled_as_javascript_spells_them() -> None:
    values = [{"n": each} for each in (0.5, 1.5, 2**60, "x", None)]
    assert json.dumps(run([{"$reduce": {"$sum": "n"}}], values[:2])) == "[2]"
    assert run([{"$reduce": {"$product": "n"}}], values) == [0.75 * 2**60]
    huge = [{"n": 10**300}, {"n": 10**300}]
    assert run([{"$reduce": {"$product": "n"}}], huge) == [float("inf")]
