"""Real processes: kill -9 while publishing locks nothing, a copied directory is locked and opens when peers agree."""

import json
import random
import shutil
import threading
import time
from pathlib import Path

import pytest

from tests.support.builders import keypair
from tests.support.processes import NodeProcess, run, wait_until

KILLS = 5


def publish_until_cut_off(node: NodeProcess, acknowledged: list[int]) -> None:
    try:
        while True:
            content = {"content": {"type": "post", "text": "x"}}
            status, message = node.get("/v1/messages", json.dumps(content).encode())
            assert status == 201, message
            acknowledged.append(message["value"]["sequence"])
    except OSError:
        pass


def state(node: NodeProcess) -> dict[str, object]:
    status, found = node.get("/v1/whoami")
    assert status == 200
    assert isinstance(found, dict)
    return found


@pytest.mark.timeout(120)
def test_kill_nine_while_publishing_locks_nothing(tmp_path: Path) -> None:
    rng = random.Random(5)
    acknowledged: list[int] = []
    with NodeProcess(tmp_path / "a") as node:
        for _ in range(KILLS):
            publishing = threading.Thread(target=publish_until_cut_off, args=(node, acknowledged))
            publishing.start()
            time.sleep(rng.uniform(0.05, 0.3))
            node.kill()
            publishing.join(10)
            node.start()
            found = state(node)
            assert found["state"] == "open", found
            assert found["sequence"] in (acknowledged[-1], acknowledged[-1] + 1)
            acknowledged.append(int(str(found["sequence"])))
        assert node.post("still here")
        assert node.terminate() == 0
    assert len(acknowledged) > KILLS * 2


@pytest.mark.timeout(120)
def test_a_copied_directory_is_locked_and_opened_by_hand(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "a") as node:
        for _ in range(3):
            node.post("first")
        assert node.terminate() == 0
        shutil.copytree(node.directory, tmp_path / "b", copy_function=shutil.copy2)
        node.start()  # the original notices nothing
        assert state(node)["state"] == "open"
        assert node.terminate() == 0
    with NodeProcess(tmp_path / "b") as twin:
        found = state(twin)
        assert found["state"] == "locked"
        assert found["reason"]["code"] == "copied"  # type: ignore[index]
        status, problem = twin.get("/v1/messages", b'{"content":{"type":"post","text":"x"}}')
        assert (status, problem["code"], problem["state"]) == (423, "feed-locked", "locked")
        assert "sbot unlock" in problem["way_out"]
        refused = twin.sbot("publish", "--type", "post", "--text", "x")
        assert refused.code == 1
        assert "locked" in refused.err
        wrong = twin.sbot("unlock", "--sequence", "2")
        assert wrong.code == 1
        assert "it is at 3" in wrong.err
        status, problem = twin.get("/v1/admin/unlock", b'{"sequence":4}')
        assert (status, problem["code"], problem["sequence"]) == (412, "sequence-mismatch", 3)
        assert twin.ok("unlock")["unlock"]["missing"]
        assert twin.ok("unlock", "--sequence", "3")["state"] == "open"
        assert twin.post("on")
        history = twin.ok("unlock")["history"]
        assert [event["kind"] for event in history] == ["forced", "locked"]
        assert twin.terminate() == 0
        twin.start()
        assert state(twin)["state"] == "open"
        assert twin.terminate() == 0


@pytest.mark.timeout(120)
def test_an_older_database_put_back_is_filled_up_by_a_peer_and_waits_for_another(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "a") as node, NodeProcess(tmp_path / "friend") as friend:
        friend.ok("follow", node.id)
        node.post("one")
        assert node.terminate() == 0
        shutil.copy2(node.directory / "sbot.db", tmp_path / "old.db")
        node.start()
        friend.ok("connect", node.address)
        node.post("two")
        wait_until(lambda: friend.clock().get(node.id) == 2, 20, "the friend has both messages")
        wait_until(lambda: state(node)["reported_by"] == 1, 20, "the friend says that it has the last message")
        assert node.terminate() == 0
        shutil.copy2(tmp_path / "old.db", node.directory / "sbot.db")
        node.start()
        found = state(node)
        assert (found["state"], found["sequence"]) == ("locked", 1)
        assert found["reason"]["code"] == "store-is-older"  # type: ignore[index]
        wait_until(lambda: state(node)["sequence"] == 2, 20, "the friend gives back what is missing")
        wait_until(lambda: state(node)["unlock"]["complete"] == [friend.id], 20, "the friend agrees")  # type: ignore[index]
        found = state(node)
        assert found["state"] == "locked"
        assert found["unlock"]["missing"] == ["1 more peer that say what they have of this feed"]  # type: ignore[index]
        assert node.terminate() == 0
        assert friend.terminate() == 0


@pytest.mark.timeout(60)
def test_an_imported_key_starts_locked_and_a_lost_mark_locks(tmp_path: Path) -> None:
    from feeds.keys import format_key_file

    (tmp_path / "a").mkdir(mode=0o700)
    (tmp_path / "a" / "secret").write_text(format_key_file(keypair("imported")))
    with NodeProcess(tmp_path / "a") as node:
        found = state(node)
        assert (found["state"], found["reason"]["code"]) == ("locked", "no-mark")  # type: ignore[index]
        assert node.ok("unlock", "--sequence", "0")["state"] == "open"
        node.post("one")
        assert node.terminate() == 0
        (tmp_path / "a" / "publishing").unlink()
        node.start()
        assert state(node)["reason"]["code"] == "no-mark"  # type: ignore[index]
        assert node.terminate() == 0
    assert run("init", "--path", str(tmp_path / "b")).code == 0
    with NodeProcess(tmp_path / "b") as fresh:
        assert state(fresh)["state"] == "open"
        assert fresh.terminate() == 0
