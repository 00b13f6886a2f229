"""Edges and distances against layered-graph's vectors, and against a slow reading of the rules."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.contact_graph import ContactGraph, Edge
from feeds.content import read_contact
from tests.support import builders, vectors

VECTORS = vectors.entries("follow-graph.json")


def real(name: str) -> str:
    """A feed id for one of the short names of the vectors, which no validator would take."""
    return builders.keypair(name).id


def graph_of(contacts: list[dict[str, Any]]) -> ContactGraph:
    graph = ContactGraph()
    for contact in contacts:
        content = dict(contact["content"], contact=real(contact["content"]["contact"]))
        found = read_contact(content)
        assert found is not None
        assert found.relation == contact["edge"]
        graph.set(real(contact["author"]), found.feed, Edge(found.relation))
    return graph


def edges(graph: ContactGraph) -> dict[str, dict[str, int]]:
    listed: dict[str, dict[str, int]] = {}
    for source, destination, edge in graph.items():
        listed.setdefault(source, {})[destination] = int(edge)
    return listed


@pytest.mark.parametrize("vector", VECTORS, ids=range(len(VECTORS)))
def test_vectors(vector: dict[str, Any]) -> None:
    graph = graph_of(vector["contacts"])
    assert edges(graph) == {
        real(source): {real(destination): edge for destination, edge in row.items()}
        for source, row in vector["graph"].items()
    }
    assert graph.hops(real(vector["me"]), vector["max_hops"]) == {
        real(name): distance for name, distance in vector["hops"].items()
    }


@pytest.mark.parametrize("vector", VECTORS, ids=range(len(VECTORS)))
def test_vectors_in_another_order_of_sources(vector: dict[str, Any]) -> None:
    """Only the order of one source's contacts matters, never that between sources."""
    by_source = sorted(vector["contacts"], key=lambda contact: contact["author"])
    assert edges(graph_of(by_source)) == edges(graph_of(vector["contacts"]))


def test_reads() -> None:
    graph = ContactGraph()
    assert graph.set("a", "b", Edge.FOLLOW)
    assert not graph.set("a", "b", Edge.FOLLOW)
    assert graph.set("a", "c", Edge.BLOCK)
    assert graph.set("b", "c", Edge.FOLLOW)
    assert graph.edge("a", "b") is Edge.FOLLOW
    assert graph.edge("b", "a") is None
    assert graph.edge("x", "a") is None
    assert graph.destinations("a", Edge.FOLLOW) == ["b"]
    assert graph.destinations("x", Edge.FOLLOW) == []
    assert graph.sources("c", Edge.FOLLOW) == ["b"]
    assert graph.sources("c", Edge.BLOCK) == ["a"]
    assert graph.sources("x", Edge.BLOCK) == []
    assert graph.set("a", "b", Edge.NONE)
    assert graph.destinations("a", Edge.FOLLOW) == []
    graph.clear()
    assert edges(graph) == {}


def test_hops_of_somebody_unknown_and_of_none() -> None:
    graph = ContactGraph()
    assert graph.hops("me", 3) == {"me": 0}
    graph.set("me", "a", Edge.FOLLOW)
    assert graph.hops("me", 0) == {"me": 0}


def slow_hops(graph: dict[str, dict[str, int]], me: str, maximum: int) -> dict[str, int]:
    """Relax until nothing changes: follow adds a step, block one and turns negative, "neither" two and negative."""
    best = {me: 0}
    while True:
        before = dict(best)
        for source, row in graph.items():
            at = before.get(source)
            if at is None or not 0 <= at < maximum:
                continue
            for destination, edge in row.items():
                found = at + 1 if edge == 1 else -(at + abs(edge))
                known = best.get(destination)
                if known is None or (abs(found), -found) < (abs(known), -known):
                    best[destination] = found
        if best == before:
            return best


NAMES = st.sampled_from("abcdefgh")


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(NAMES, st.dictionaries(NAMES, st.sampled_from([1, -1, -2]), max_size=5), max_size=8),
    st.integers(0, 4),
)
def test_hops_agree_with_a_slow_reading(rows: dict[str, dict[str, int]], maximum: int) -> None:
    graph = ContactGraph()
    for source, row in rows.items():
        for destination, edge in row.items():
            graph.set(source, destination, Edge(edge))
    assert graph.hops("a", maximum) == slow_hops(rows, "a", maximum)
