"""`sbot demo`: three nodes in one process meet, and nothing is left of them."""

from pathlib import Path

from tests.support import processes


def test_three_nodes_talk_and_leave_nothing(tmp_path: Path) -> None:
    done = processes.run("demo", seconds=100, TMPDIR=str(tmp_path), SBOT_PATH=str(tmp_path / "mine"))
    assert (done.code, done.err) == (0, "")
    assert [value["event"] for value in done.values] == [
        *("node", "node", "node", "follow", "connect", "post", "reply", "like", "private", "thread", "read", "read"),
        "done",
    ]
    by_event = {value["event"]: value for value in done.values}
    assert by_event["thread"]["texts"] == ["Hello from alice! Who is **there**?", "I am, and so is carol."]
    read = {value["name"]: value["read"] for value in done.values if value["event"] == "read"}
    assert read == {"bob": "nothing but an encrypted text", "carol": "Only for carol."}
    assert list(tmp_path.iterdir()) == []
    assert processes.run("demo", "word").code == 2
