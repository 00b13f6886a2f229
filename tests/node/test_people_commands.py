"""The commands for people against a running node: by name, on terminals and on pipes, with exit codes and sentences."""

import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from api.client import Client
from node.cli import main
from tests.support.builders import keypair
from tests.support.processes import SBOT, NodeProcess, clean_environ, read_line, run

ANN, BOB, BOB_TOO = (keypair(name).id for name in ("ann", "bob", "bob-too"))
NOWHERE = "%" + "A" * 43 + "=.sha256"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with (
        NodeProcess(tmp_path_factory.mktemp("people") / "node") as node,
        Client.for_directory(node.directory) as client,
    ):
        client.about(name="Myself")
        client.about(ANN, name="Ann")
        client.about(BOB, name="Bob")
        client.about(BOB_TOO, name="bob")
        yield node


class Shown(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def values(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def value(self) -> Any:
        (value,) = self.values
        return value


Sbot = Callable[..., Shown]


@pytest.fixture
def sbot(node: NodeProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sbot:
    """Run a command in this process: piped, or with `terminal=True` as if somebody looked at it."""
    for name in list(os.environ):
        if name.startswith("SBOT_") or name in ("EDITOR", "VISUAL"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TERM", "dumb")

    def call(*words: str, terminal: bool = False, stdin: bytes | None = b"", path: Path = node.directory) -> Shown:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
        given = io.TextIOWrapper(io.BytesIO(stdin or b""))
        monkeypatch.setattr(given, "isatty", lambda: stdin is None)
        monkeypatch.setattr(sys, "stdin", given)
        code = main(["--path", str(path), *words])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        assert captured.err.count("\n") == (1 if code else 0), captured.err
        return Shown(code, captured.out, captured.err)

    return call


def test_a_conversation(sbot: Sbot) -> None:
    first = sbot("post", "What is", "*this*?", "--channel", "Riddles", "--warning", "hard").value
    assert first["value"]["content"] == {
        "type": "post",
        "text": "What is *this*?",
        "channel": "riddles",
        "contentWarning": "hard",
    }
    answer = sbot("reply", first["key"], stdin=b"from a pipe\n").value
    assert answer["value"]["content"]["text"] == "from a pipe"
    side = sbot("reply", first["key"], "--", "--dashes").value
    again = sbot("reply", answer["key"], "-", stdin="späte Antwort".encode()).value
    assert again["value"]["content"]["root"] == first["key"]
    assert [item["key"] for item in sbot("thread", side["key"]).values] == [
        first["key"],
        answer["key"],
        side["key"],
        again["key"],
    ]
    shown = sbot("thread", answer["key"], terminal=True).out.splitlines()
    assert shown[0].startswith("1. Myself · just now · #riddles")
    assert shown[1:3] == ["  [hard]", "  What is this?"]
    assert [line.strip()[:2] for line in shown if "Myself" in line] == ["1.", "2.", "3.", "4."]
    assert [item["key"] for item in sbot("read", "#riddles").values] == [
        first["key"],
        answer["key"],
        side["key"],
        again["key"],
    ]
    assert [item["key"] for item in sbot("read", "channel", "riddles", "--limit", "1").values] == [again["key"]]


def test_a_thread_that_lacks_its_beginning(sbot: Sbot, node: NodeProcess) -> None:
    with Client.for_directory(node.directory) as client:
        reply: Any = {"type": "post", "text": "an answer", "root": NOWHERE, "branch": [NOWHERE]}
        key = client.publish(reply)["key"]
    for asked in (key, NOWHERE):
        assert sbot("thread", asked).value["missing"] == [NOWHERE]
        shown = sbot("thread", asked, terminal=True).out
        assert f"The first message, {NOWHERE}, is not here." in shown
        assert f"(answers {NOWHERE}, which is not here)" in shown
    assert sbot("thread", "%" + "B" * 42 + "A=.sha256").code == 4


def test_likes(sbot: Sbot) -> None:
    key = sbot("post", "like me").value["key"]
    assert sbot("like", key).value["value"]["content"]["vote"] == {"link": key, "value": 1, "expression": "Like"}
    shown = sbot("like", key, "--undo", terminal=True)
    assert shown.out.startswith(f"Myself takes back the vote on {key}")
    assert sbot("like", NOWHERE).code == 4


def test_private_posts(sbot: Sbot) -> None:
    sent = sbot("dm", "ann", "me", "psst").value
    assert sent["value"]["content"].endswith(".box")
    shown = sbot("dm", "Ann", "-", stdin=b"a *secret*", terminal=True)
    assert "private" in shown.out
    assert "  a secret" in shown.out
    answer = sbot("reply", sent["key"], "answered").value
    assert answer["value"]["content"].endswith(".box")
    private = [item["value"]["content"] for item in sbot("read", "private").values]
    assert [content["text"] for content in private] == ["psst", "a *secret*", "answered"]
    assert all(ANN in content["recps"] for content in private)
    thread = sbot("thread", answer["key"]).values
    assert [item["value"]["content"]["text"] for item in thread] == ["psst", "answered"]
    assert "secret" not in sbot("read", "public", "--limit", "1000").out
    assert sbot("search", "psst").out == ""


def test_names(sbot: Sbot) -> None:
    assert sbot("name", "Me Myself").value["value"]["content"] == {
        "type": "about",
        "about": sbot("who").value["id"],
        "name": "Me Myself",
    }
    assert "calls itself “Myself”" in sbot("name", "me", "Myself", terminal=True).out
    found = sbot("who", "ANN").value
    assert (found["id"], found["name"], found["from"]["name"]["who"]) == (ANN, "Ann", "me")
    assert (found["follows"], found["followers"], found["connected"], found["sequence"]) == (0, 0, False, 0)
    shown = sbot("who", ANN, terminal=True).out
    assert "called     Ann (by Myself)" in shown
    assert "relation   none" in shown
    assert "this is us" in sbot("who", "me", terminal=True).out
    sbot("name", ANN, "Änne")
    assert sbot("who", "anne").value["id"] == ANN
    sbot("name", "anne", "Ann")


def test_following_and_blocking_by_name(sbot: Sbot) -> None:
    followed = sbot("follow", "ann").value["value"]["content"]
    assert (followed["contact"], followed["following"]) == (ANN, True)
    assert sbot("who", "ann").value["following"] is True
    assert sbot("unfollow", "ann").value["value"]["content"]["following"] is False
    assert sbot("unfollow", "ann").value is None
    assert sbot("unfollow", "ann", terminal=True).out == "Ann is not followed anyway.\n"
    assert sbot("block", "Ann", terminal=True).out.startswith("Myself blocks Ann")
    assert sbot("unblock", "ann").value["value"]["content"]["blocking"] is False
    old = sbot("friends", "follow", ANN, "--state", "false").value["value"]["content"]
    assert (old["contact"], old["following"]) == (ANN, False)


@pytest.mark.parametrize(
    "words", [["who", "bob"], ["follow", "bob"], ["block", "BOB"], ["dm", "bob", "x"], ["mute", "b"]]
)
def test_nothing_is_done_when_several_may_be_meant(words: list[str], sbot: Sbot) -> None:
    before = sbot("who", "me").value["sequence"]
    done = sbot(*words)
    assert (done.code, done.out) == (1, "")
    assert BOB in done.err
    assert BOB_TOO in done.err
    assert sbot("who", "me").value["sequence"] == before


@pytest.mark.parametrize("words", [["who", "zoe"], ["follow", "zoe"], ["dm", "ann", "zoe", "x"], ["read", "zoe"]])
def test_unknown_names_are_not_found(words: list[str], sbot: Sbot) -> None:
    done = sbot(*words)
    assert (done.code, done.out) == (4, "")
    assert "zoe" in done.err


@pytest.mark.parametrize(
    "words",
    [
        ["post"],
        ["post", " "],
        ["post", "x", "--chanel", "y"],
        ["reply"],
        ["reply", "x", "y"],
        ["reply", ANN, "y"],
        ["like"],
        ["like", "x", "y"],
        ["dm", "ann"],
        ["dm", "ann", ""],
        ["read", "home", "more"],
        ["read", "--limit", "0"],
        ["read", "--limit", "-1"],
        ["read", "--since", "yesterday"],
        ["thread"],
        ["thread", "x"],
        ["search"],
        ["tail", "x"],
        ["tail", "--since", "x"],
        ["who", "a", "b"],
        ["name"],
        ["unfollow"],
    ],
    ids=" ".join,
)
def test_wrong_usage(words: list[str], sbot: Sbot) -> None:
    done = sbot(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("sbot: ")


@pytest.mark.parametrize(
    "words", [["post", "x"], ["read"], ["who", "x"], ["tail"], ["follow", "bob"], ["dm", "x", "y"]]
)
def test_without_a_node(words: list[str], sbot: Sbot, tmp_path: Path) -> None:
    done = sbot(*words, path=tmp_path)
    assert done.code == 3
    assert f"sbot start --path {tmp_path}" in done.err


def test_what_the_node_refuses_is_a_sentence(sbot: Sbot) -> None:
    done = sbot("post", "x" * 9000)
    assert done.code == 1
    assert "8192" in done.err


def test_timelines_and_spans_of_time(sbot: Sbot, node: NodeProcess) -> None:
    with Client.for_directory(node.directory) as client:
        last = client.post("the last one")["key"]
    for words in (["read"], ["read", "home"], ["read", "public"], ["read", "me"], ["read", "@myself"]):
        assert sbot(*words, "--limit", "1").value["key"] == last
    assert [item["key"] for item in sbot("read", "--since", "1h").values][-1] == last
    assert sbot("read", "--since", "2099-01-01").out == ""
    assert sbot("read", "--since", "2099-01-01T12:00+02:00", terminal=True).out == "Nothing there.\n"
    assert last in [item["key"] for item in sbot("read", "--since", "1600000000000").values]
    assert sbot("read", "mentions").out == ""
    assert all("root" not in item["value"]["content"] for item in sbot("read", "--no-replies").values)


def test_search(sbot: Sbot) -> None:
    key = sbot("post", "A *quixotic* search <b>&\x1b[2J").value["key"]
    assert [item["key"] for item in sbot("search", "Quixotic", "--type", "post", "--by", "me").values] == [key]
    shown = sbot("search", "quixotic", terminal=True).out
    assert "  A *quixotic* search <b>&\ufffd[2J" in shown
    assert sbot("search", "quixotic", "--by", "ann", terminal=True).out == "Nothing found.\n"


def test_messages_are_printed_as_they_are_stored(sbot: Sbot) -> None:
    content = '{"type":"test-spelling","text":"\\ud800\\u001b","big":1e21,"one":1.0,"2":0,"1":-0}'
    key = sbot("publish", ".", stdin=content.encode()).value["key"]
    assert (
        sbot("tail", "--since", "0", "--type", "test-spelling", "--limit", "1").out
        == sbot("log", "--limit", "1", "--reverse").out
    )
    assert sbot("get", key).code == 0


def test_what_others_wrote_cannot_steer(sbot: Sbot, node: NodeProcess) -> None:
    with Client.for_directory(node.directory) as client:
        client.about(ANN, name="\x1b[31mAnn\u202e", description="&#x202e;\x1b]0;owned\x07")
        key = client.post(f"\x1b[2J\x9b [x]({ANN})\n\n`\x1b]8;;`\n\n&#x1b;", channel="steer")["key"]
        client.publish({"type": "odd\x1b", "\x1b": "\u202e"})
    for words in (["read"], ["thread", key], ["who", ANN], ["search", "x"], ["read", "#steer"], ["follow", ANN]):
        shown = sbot(*words, terminal=True)
        assert shown.code == 0
        assert not [char for char in "\x1b\x9b\x07\u202e" if char in shown.out], words
    assert "Ann" in sbot("who", ANN, terminal=True).out
    with Client.for_directory(node.directory) as client:
        client.about(ANN, name="Ann")


def editor(folder: Path, script: str) -> str:
    """A command that writes into the file it is given."""
    program = folder / "editor"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    return str(program)


def test_a_text_from_the_editor(sbot: Sbot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert sbot("post", stdin=None).code == 2
    monkeypatch.setenv("EDITOR", editor(tmp_path, 'echo "written $0" > "$1"'))
    assert sbot("post", stdin=None).value["value"]["content"]["text"].startswith("written ")
    monkeypatch.setenv("VISUAL", editor(tmp_path, "true"))
    assert sbot("post", stdin=None).code == 2  # nothing was written
    assert list(tmp_path.glob("sbot-*")) == []
    monkeypatch.setenv("VISUAL", editor(tmp_path, 'head -c 9000 /dev/zero | tr "\\0" x > "$1"'))
    done = sbot("post", stdin=None)
    (kept,) = tmp_path.glob("sbot-*")
    assert done.code == 1
    assert str(kept) in done.err
    assert len(kept.read_text()) == 9000
    kept.unlink()
    monkeypatch.setenv("VISUAL", editor(tmp_path, "exit 3"))
    assert "ended with 3" in sbot("post", stdin=None).err
    monkeypatch.setenv("VISUAL", str(tmp_path / "no such editor"))
    assert "cannot be started" in sbot("post", stdin=None).err
    monkeypatch.setenv("VISUAL", "vi 'unclosed")
    assert sbot("post", stdin=None).code == 2


def test_input_that_is_no_text(sbot: Sbot) -> None:
    assert "UTF-8" in sbot("post", stdin=b"\xff\xfe").err
    assert "longer" in sbot("post", stdin=b"x" * 300_000).err


# --- whole processes --------------------------------------------------------------------------------------------------


def test_a_pipe_and_a_stranger_in_the_directory(node: NodeProcess, tmp_path: Path) -> None:
    posted = node.ok("post", "from a process")
    assert [item["key"] for item in node.sbot("read", "--limit", "1").values] == [posted["key"]]
    gone = run("post", "x", "--path", str(tmp_path))
    assert (gone.code, gone.out) == (3, b"")


def test_the_client_example_of_the_readme_runs_as_it_stands(node: NodeProcess) -> None:
    page = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    (example,) = [one for one in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "api.client" in one]
    here = example.replace("~/.pysbot", str(node.directory))
    done = subprocess.run([sys.executable, "-c", here], capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().splitlines()[:2] == ["and an answer", "hello from Python"]


def test_tail_prints_messages_as_they_come(node: NodeProcess) -> None:
    with subprocess.Popen(
        [*SBOT, "tail", "--type", "test-tail", "--limit", "2", "--since", "0", "--path", str(node.directory)],
        stdout=subprocess.PIPE,
        env=clean_environ(),
    ) as process:
        assert process.stdout is not None
        with Client.for_directory(node.directory) as client:
            for number in range(2):
                key = client.publish({"type": "test-tail", "n": number})["key"]
                assert json.loads(read_line(process.stdout.fileno(), 15))["key"] == key
        assert process.wait(15) == 0


def test_a_real_terminal_sees_styles_and_no_escapes_of_others(node: NodeProcess) -> None:
    with Client.for_directory(node.directory) as client:
        client.post("very **bold** \x1b[2J\x1b]0;owned\x07")
    ours, theirs = pty.openpty()
    words = [*SBOT, "read", "--limit", "1", "--path", str(node.directory)]
    environment = clean_environ() | {"TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:
        pass  # the terminal's other side is closed: Linux says so with an error
    finally:
        os.close(ours)
    assert process.wait(15) == 0
    assert b"\x1b[1mbold\x1b[0m" in shown
    assert b"\x1b[2J" not in shown
    assert b"\x1b]" not in shown
    assert "\ufffd[2J\ufffd]0;owned\ufffd".encode() in shown


def test_why_by_name_and_id_for_people_and_programs(sbot: Sbot) -> None:
    assert sbot("follow", "Ann").code == 0
    found = sbot("why", "Ann").value
    assert (found["id"], found["kind"], found["wanted"], found["hops"]) == (ANN, "feed", True, 1)
    assert found["would_change"] == ["Connect to a peer: there is no connection at present."]
    shown = sbot("why", "Ann", terminal=True).out
    assert "Myself → Ann" in shown
    assert "Connect to a peer" in shown
    assert sbot("why", NOWHERE).value["held"] is False
    assert sbot("why", "Zoe").code == 4
    assert sbot("why", "%x").code == 2


def test_preview_and_status_for_people(sbot: Sbot) -> None:
    assert sbot("preview", "--hops", "5").value["hops"] == 5
    assert "fewer feeds" in sbot("preview", "--hops", "5", terminal=True).out
    for words in (["preview"], ["preview", "--hops", "x"], ["preview", "--hops", "33"]):
        assert sbot(*words).code == 2
    assert sbot("status", terminal=True).out.startswith("sync  ")
