"""docs/muxrpc.md, held against the methods that there are, both ways."""

import re
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from replication.errors import RemoteVisible
from replication.map_filter_reduce import InvalidQuery, compile_query
from replication.methods.table import all_methods
from replication.rpc.methods import Caller, MethodTable, Who
from tests.replication.test_methods_access import kinds
from tests.support.peers import open_node, program

PAGE = (Path(__file__).parents[2] / "docs" / "muxrpc.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([A-Za-z.]+)` \| ([a-z]+) \| ([a-z]+) \| (.+) \|$", PAGE, re.MULTILINE)


def test_every_method_is_documented_with_its_type_and_who_may_call_it() -> None:
    documented = {name: (kind, who) for name, kind, who, _ in ROWS}
    assert len(documented) == len(ROWS)
    methods = all_methods(MagicMock(), lambda _caller: {})
    assert documented == {".".join(each.name): (each.kind.value, each.who.value) for each in methods}


def test_a_caller_finds_what_it_may_call_and_nothing_else() -> None:
    table = MethodTable(all_methods(MagicMock(), lambda _caller: {}))
    callers = {who: Caller("@x", False, MagicMock(), frozenset({who})) for who in Who}
    for name, _, who, _ in ROWS:
        for right, caller in callers.items():
            if right is Who.LOCAL:
                continue
            words = re.escape(f"method:{name.replace('.', ',')} is not in list of allowed methods")
            if who == right.value:
                assert table.find(tuple(name.split(".")), caller).who is right
                continue
            with pytest.raises(RemoteVisible, match=words):
                table.find(tuple(name.split(".")), caller)


async def test_the_manifest_of_a_running_node_lists_them(tmp_path: Path) -> None:
    """All but those of a room, which this node is not."""
    async with open_node(tmp_path, "a") as a, program(a) as own:
        found = kinds(a.table, own, local=True)
        documented = {name: kind for name, kind, _, _ in ROWS}
        assert found == {name: kind for name, kind in documented.items() if name in found}
        assert {name.partition(".")[0] for name in set(documented) - set(found)} <= {"room", "tunnel"}


def test_every_stage_and_operator_that_is_documented_is_there() -> None:
    section = PAGE.partition("## Queries")[2].partition("## Methods")[0]
    assert set(re.findall(r"\{(\$[a-z]+): …", section)) == {"$filter", "$map", "$reduce", "$sort"} - {"$sort"}
    for name in re.findall(r"\$[a-z]+", section.partition("by `")[2].partition("`")[0]):
        argument = {"$in": [1], "$prefix": "a"}.get(name, 1)
        compile_query([{"$filter": {"a": {name: argument}}}])
    for name in re.findall(r"\$[a-z]+", section.partition("of all: `")[2].partition("`")[0]):
        compile_query([{"$reduce": {name: "a"}}])
    with pytest.raises(InvalidQuery, match="operators and names"):
        compile_query([{"$filter": {"a": {"$gt": 1, "b": 1}}}])
