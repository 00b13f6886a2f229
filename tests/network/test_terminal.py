"""Commands on a terminal: readable lines and tables; and what strangers wrote cannot steer the terminal."""

import json
import os
import pty
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import SBOT, NodeProcess, clean_environ, read_line


@pytest.fixture(name="node", scope="module")
def _node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("terminal") / "node", "--http-names", "sbot.example") as node:
        node.post("hello \x1b[2J\u202e world\nsecond line")
        node.ok("follow", "@AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.ed25519")
        yield node


def on_terminal(node: NodeProcess, *words: str) -> tuple[int, str]:
    """Run a command whose standard output is a terminal; exit code and what it shows."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [*SBOT, *words, "--path", str(node.directory)],
            stdout=theirs,
            stdin=subprocess.DEVNULL,
            env=clean_environ() | {"TERM": "dumb", "COLUMNS": "200"},
        )
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:
            pass  # the terminal's other side is closed: Linux says so with an error
        return process.wait(30), shown.decode().replace("\r\n", "\n")
    finally:
        os.close(ours)


def test_messages_are_lines_without_control_characters(node: NodeProcess) -> None:
    code, shown = on_terminal(node, "log")
    assert code == 0
    assert "hello �[2J� world" in shown
    assert "    second line" in shown
    assert "\x1b" not in shown
    assert "contact" in shown


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["whoami"], "@"),
        (["version"], "pysbot "),
        (["status"], "sync.state"),
        (["peers"], "address"),
        (["getVectorClock"], "sequence"),
        (["friends.hops"], "hops"),
        (["config"], "default"),
        (["links"], '"rel": "contact"'),
        (["getLatest", "OWN"], '"sequence": 2'),
        (["manifest"], '"whoami": "sync"'),
        (["publish", "--type", "post", "--text", "shown"], "shown"),
    ],
    ids=lambda value: " ".join(value)[:20] if isinstance(value, list) else "",
)
def test_answers_are_laid_out_for_people(node: NodeProcess, words: list[str], expected: str) -> None:
    code, shown = on_terminal(node, *(node.id if word == "OWN" else word for word in words))
    assert code == 0
    assert expected in shown
    with pytest.raises(ValueError, match=r".*"):
        json.loads(shown.splitlines()[0])


def test_json_can_be_asked_for_on_a_terminal(node: NodeProcess) -> None:
    code, shown = on_terminal(node, "whoami", "--json")
    assert (code, json.loads(shown)) == (0, {"id": node.id})


def test_a_stream_whose_reader_leaves_ends_without_a_word(node: NodeProcess) -> None:
    process = subprocess.Popen(
        [*SBOT, "log", "--live", "--path", str(node.directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environ(),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert read_line(process.stdout.fileno(), 20).endswith(b"\n")
        process.stdout.close()
        for number in range(3):
            node.post(f"later {number}")
        assert process.wait(20) == 0
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.wait(20)
        process.stderr.close()


@pytest.mark.parametrize(("host", "status"), [("sbot.example", 200), ("evil.example", 403)])
def test_the_http_api_answers_under_its_configured_names_only(node: NodeProcess, host: str, status: int) -> None:
    headers = {"Authorization": f"Bearer {node.token}", "Host": host}
    request = urllib.request.Request(node.http + "/v1/whoami", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            found = answer.status
    except urllib.error.HTTPError as error:
        with error:
            found = error.code
    assert found == status


def test_the_directory_may_be_named_by_the_environment(node: NodeProcess) -> None:
    done = subprocess.run(
        [*SBOT, "status"],
        capture_output=True,
        timeout=30,
        env=clean_environ() | {"SBOT_PATH": str(Path(node.directory))},
        check=False,
    )
    assert json.loads(done.stdout)["id"] == node.id
