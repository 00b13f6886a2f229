"""`sbot rebuild` in real processes: with a running node and without one."""

import sqlite3
from pathlib import Path

from tests.support.builders import generate
from tests.support.filling import fill
from tests.support.processes import NodeProcess, run
from tests.support.stores import VIEWS

ALL = [view.name for view in VIEWS]
TABLES = [table for view in VIEWS for table in view.tables if table not in ("search", "link", "link_recent")]


def tables(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """What tables of views hold that look the same whenever they were filled."""
    with sqlite3.connect(path / "sbot.db") as connection:
        return {
            table: sorted(connection.execute(f"SELECT * FROM {table}"))
            for table in TABLES
            if table.removesuffix("_recent") + "_recent" not in TABLES
        }


def damage(path: Path) -> None:
    with sqlite3.connect(path / "sbot.db") as connection:
        connection.execute("DELETE FROM timeline")
        connection.execute("UPDATE contact SET edge=-edge")


def test_rebuild_with_and_without_a_node(tmp_path: Path) -> None:
    path = tmp_path / "node"
    fill(path, generate(300, 5))
    with NodeProcess(path) as node:
        assert node.ok("rebuild") == {"views": ALL, "messages": 305}
        whole = tables(path)
        assert all(rows for table, rows in whole.items() if table != "channel_subscription")
        assert node.ok("rebuild", "votes", "timeline")["views"] == ["votes", "timeline"]
        done = node.sbot("rebuild", "nonsense")
        assert done.code == 1
        assert "expected a list of views" in done.err
        assert node.get("/v1/status")[1]["index"]["ready"]
        assert node.terminate() == 0
    damage(path)
    assert tables(path) != whole
    done = run("rebuild", "timeline", "social_graph", "--path", str(path))
    assert done.code == 0, done.err
    assert done.value == {"views": ["timeline", "social_graph"], "messages": 305}
    assert tables(path) == whole
    done = run("rebuild", "--path", str(path))
    assert done.value["views"] == ALL
    assert tables(path) == whole


def test_what_cannot_be_rebuilt(tmp_path: Path) -> None:
    done = run("rebuild", "--path", str(tmp_path / "none"))
    assert done.code == 1
    assert "no log in" in done.err
    assert not (tmp_path / "none").exists()
    fill(tmp_path / "node", generate(10, 1))
    done = run("rebuild", "nonsense", "--path", str(tmp_path / "node"))
    assert done.code == 2
    assert "social_graph" in done.err
    assert run("rebuild", "--force", "--path", str(tmp_path / "node")).code == 2
