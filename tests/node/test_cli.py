"""The command line without a running node: dispatch, exit codes, errors in a sentence, output to programs."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from node.cli import main
from node.commands.catalogue import COMMANDS, find, runner
from tests.support.builders import Feed, keypair
from tests.support.processes import SBOT, clean_environ, run


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("SBOT_"):
            monkeypatch.delenv(name)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("sbot: ")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_can_be_found_loaded_and_explained(command: object, capsys: pytest.CaptureFixture[str]) -> None:
    for entry in COMMANDS:
        if entry is command:
            for name in (entry.name, *entry.aliases):
                assert find(name.split(".")) == (entry, name, len(name.split(".")))
                assert find([name, "more"]) == (entry, name, 1)
            assert callable(runner(entry))
            assert main([entry.name, "--help"]) == 0
            assert entry.summary in capsys.readouterr().out


def test_no_name_stands_twice() -> None:
    names = [name for command in COMMANDS for name in (command.name, *command.aliases)]
    assert len(names) == len(set(names))


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "createLogStream" in capsys.readouterr().out
    assert main([]) == 2
    assert "usage:" in capsys.readouterr().err
    assert main(["--version"]) == main(["version"]) == 0
    first, second = lines(capsys)
    assert first == second
    assert json.loads(first)[0].isdigit()


def test_init_makes_a_private_directory_and_whoami_reads_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "deep" / "node"
    assert main(["init", "--path", str(path)]) == 0
    identity = json.loads(lines(capsys)[0])["id"]
    assert path.stat().st_mode & 0o777 == 0o700
    for name in ("secret", "http-token", "config.toml"):
        assert (path / name).stat().st_mode & 0o777 == 0o600
    before = {item.name: item.read_bytes() for item in path.iterdir()}
    assert main(["init", "--path", str(path)]) == 0
    assert main(["--path", str(path), "whoami"]) == 0
    assert [json.loads(line) for line in lines(capsys)] == [{"id": identity}] * 2
    assert {item.name: item.read_bytes() for item in path.iterdir()} == before


def test_whoami_without_an_identity_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["whoami", "--path", str(tmp_path / "none")]) == 3
    assert "sbot start" in complaint(capsys)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["publish", "--type", "post"],
        ["get", "%x"],
        ["log"],
        ["friends", "hops"],
        ["peers"],
        ["connect", "net:127.0.0.1:1~shs:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="],
    ],
)
def test_commands_for_a_running_node_say_that_there_is_none(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--path", str(tmp_path)]) == 3
    assert f"sbot start --path {tmp_path}" in complaint(capsys)


@pytest.mark.parametrize(
    "words",
    [
        ["statsu"],
        ["--nope", "status"],
        ["start", "--prot", "1"],
        ["start", "now"],
        ["start", "--port", "x"],
        ["start", "--network-key", "AAAA"],
        ["start", "--hmac-key", "AAAA"],
        ["config", "--hops", "-1"],
        ["get"],
        ["get", "a", "b"],
        ["publish"],
        ["publish", "--text", "no type"],
        ["publish", "hello"],
        ["publish", ".", "--type", "post"],
        ["follow"],
        ["follow", "@x", "--state", "maybe"],
        ["friends.isFollowing"],
        ["replicate.request", "@x", "perhaps"],
        ["verify", "a", "b"],
        ["verify", "--hmac-key", "x"],
        ["pipe"],
        ["pipe", "net:x", "--listen", "127.0.0.1:0"],
        ["pipe", "--listen", "8008"],
        ["pipe", "rubbish"],
        ["log", "--path"],
    ],
)
def test_wrong_usage_is_told_in_a_sentence(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "untouched"
    assert main(["--path", str(path), *words] if words[0] != "log" else words) == 2
    complaint(capsys)
    assert not path.exists()


def test_a_misspelt_command_gets_a_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--path", str(tmp_path), "createLogSteam"]) == 2
    assert "did you mean createLogStream" in complaint(capsys)


def test_config_names_value_and_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text("hops = 1\n")
    monkeypatch.setenv("SBOT_LOG_LEVEL", "debug")
    assert main(["config", "--path", str(tmp_path), "--port", "1"]) == 0
    shown = json.loads(lines(capsys)[0])
    assert shown["port"] == {"value": 1, "source": "flag", "from": "--port"}
    assert shown["log_level"] == {"value": "debug", "source": "environment", "from": "SBOT_LOG_LEVEL"}
    assert shown["hops"] == {"value": 1, "source": "file", "from": str(tmp_path / "config.toml")}
    assert shown["http_host"] == {"value": "127.0.0.1", "source": "default", "from": ""}


def test_an_unforeseen_error_is_a_sentence_and_a_traceback_only_for_debugging(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("node.cli.run", broken)
    assert main(["version"]) == 1
    assert "ZeroDivisionError" in complaint(capsys)
    monkeypatch.setenv("SBOT_LOG_LEVEL", "debug")
    assert main(["version"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_verify_prints_a_line_for_each_message_and_fails_if_one_does(tmp_path: Path) -> None:
    feed = Feed(keypair("verify"))
    for number in range(3):
        feed.append({"type": "post", "text": f"{number} \u2028"})
    file = tmp_path / "messages.jsonl"
    file.write_bytes(b"\n".join(feed.texts) + b"\n")
    good = run("verify", str(file))
    assert good.code == 0
    assert good.values == [{"line": line, "id": feed.ids[line - 1], "ok": True} for line in (1, 2, 3)]
    bad = run("verify", "-", stdin=b"\n".join([feed.texts[0], b"nonsense", feed.texts[1], feed.texts[0]]))
    assert bad.code == 1
    assert [value["ok"] for value in bad.values] == [True, False, True, False]
    assert [value["line"] for value in bad.values] == [1, 2, 3, 4]
    assert all(value["reason"] for value in bad.values if not value["ok"])
    assert run("verify", str(file), "--out-of-order", "--hmac-key", "A" * 43 + "=").code == 1
    assert run("verify", stdin=b"").values == []
    missing = run("verify", str(tmp_path / "none"))
    assert (missing.code, missing.out) == (1, b"")


def test_verify_answers_line_by_line_on_a_pipe_that_stays_open() -> None:
    feed = Feed(keypair("slow"))
    process = subprocess.Popen([*SBOT, "verify"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=clean_environ())
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        for line in (1, 2):
            process.stdin.write(feed.append({"type": "post", "text": "x"}) + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["line"] == line
        process.stdin.close()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


def test_a_reader_that_goes_away_is_no_error() -> None:
    feed = Feed(keypair("pipe"))
    data = b"".join(feed.append({"type": "post", "text": "x"}) + b"\n" for _ in range(3000))
    process = subprocess.Popen(
        [*SBOT, "verify"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environ()
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):  # it may have ended before it took everything
            process.stdin.write(data)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        assert process.wait(20) == 0
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.wait(10)
        process.stderr.close()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_files_are_no_reason_to_fail(closed: str) -> None:
    command = f"{sys.executable} -m node verify {closed}"
    done = subprocess.run(
        ["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_light_commands_do_not_load_the_web_framework() -> None:
    code = (
        "import sys; from node.cli import main; main(['version']);"
        "sys.exit(any(name in sys.modules for name in ('fastapi', 'uvicorn', 'aiosqlite', 'rich')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done
