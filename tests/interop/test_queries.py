"""Queries put to our engine and to the old sbot's, over the same messages."""

import os
import random
from pathlib import Path
from typing import Any

import pytest

from replication.map_filter_reduce import compile_query
from tests.interop.line_process import LineProcess
from tests.interop.packages import PEERS
from tests.support import queries

COUNT = int(os.environ.get("PYSBOT_QUERIES", "600"))
SEED = int(os.environ.get("PYSBOT_SEED", "1"))


def ours(query: Any, values: list[Any]) -> list[Any]:
    pipeline = compile_query(query)
    return [*pipeline.push(values), *pipeline.finish()]


@pytest.mark.usefixtures("javascript")
async def test_generated_queries_bring_what_the_old_engine_brings(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    program = LineProcess(["node", str(PEERS / "queries.js")], tmp_path / "log")
    await program.start()
    try:
        asked, found = 0, 0
        for _ in range(COUNT // 100):
            values = queries.messages(chance, 30)
            chosen = [queries.query(chance) for _ in range(100)]
            for query, theirs in zip(chosen, await program.call("run", queries=chosen, values=values), strict=True):
                assert "error" not in theirs, (query, theirs)
                assert ours(query, values) == theirs["found"], query
                asked, found = asked + 1, found + bool(theirs["found"])
        assert asked == COUNT
        assert found > COUNT // 4
    finally:
        await program.stop()
