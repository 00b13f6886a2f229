"""`sbot key …` and `sbot init --words`: there and back, never over another key, from outside locked."""

import asyncio
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from feeds import key_box
from feeds.key_box import Cost
from feeds.keys import parse_key_file
from feeds.publisher_state import Reason
from node import keyfile
from node.cli import main
from node.directory import DataDirectory
from node.file_checks import check_key
from node.findings import State
from tests.node.test_sbot import opened


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_box.seal, "__kwdefaults__", {"cost": Cost(1, 8192)})


@pytest.fixture
def made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["init", "--path", str(tmp_path / "a")]) == 0
    return str(json.loads(capsys.readouterr().out)["id"])


def sbot(path: Path, *words: str) -> int:
    return main(["--path", str(path), *words])


def start(path: Path) -> tuple[int, str]:
    """Exit code of a start that must fail, and which of the two reasons it gave."""
    command = [sys.executable, "-m", "node", "start", "--path", str(path), "--port", "0", "--http-port", "0"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False)
    assert "Traceback" not in done.stderr
    reasons = [text for text in ("a passphrase is needed", "the passphrase is wrong") if text in done.stderr.lower()]
    return done.returncode, " ".join(reasons)


async def state(path: Path) -> tuple[str, str | None]:
    async with opened(path) as node:
        reason = node.store.publishing.status()["reason"]
        return node.id, None if reason is None else reason["code"]


async def test_words_make_the_same_identity_elsewhere_and_locked(
    tmp_path: Path, made: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sbot(tmp_path / "a", "key", "words") == 0
    words = json.loads(capsys.readouterr().out)["words"]
    assert sbot(tmp_path / "b", "init", "--words", words) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO(words + "\n"))
    assert sbot(tmp_path / "c", "init", "--words", "-") == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == [made, made]
    assert await state(tmp_path / "a") == (made, None)
    assert await state(tmp_path / "b") == (made, Reason.NO_MARK)
    assert sbot(tmp_path / "b", "init", "--words", words) == 1
    assert sbot(tmp_path / "d", "init", "--words", "zoo " * 24) == 2
    assert sbot(tmp_path / "d", "init", *words.split()) == 2
    assert "zoo" not in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


async def test_an_exported_key_is_imported_locked_and_only_with_its_passphrase(
    tmp_path: Path, made: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key.json"
    assert sbot(tmp_path / "a", "key", "export", str(file)) == 1  # no terminal, no passphrase
    assert "SBOT_PASSPHRASE" in capsys.readouterr().err
    assert not file.exists()
    monkeypatch.setenv("SBOT_PASSPHRASE", "one")
    assert sbot(tmp_path / "a", "key", "export", str(file)) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    before = file.read_bytes()
    assert sbot(tmp_path / "a", "key", "export", str(file)) == 1
    assert file.read_bytes() == before
    monkeypatch.setenv("SBOT_PASSPHRASE", "two")
    assert sbot(tmp_path / "b", "key", "import", str(file)) == 1
    assert "passphrase is wrong" in capsys.readouterr().err
    assert not (tmp_path / "b" / "secret").exists()
    monkeypatch.setenv("SBOT_PASSPHRASE", "one")
    assert sbot(tmp_path / "b", "key", "import", str(file)) == 0
    assert await state(tmp_path / "b") == (made, Reason.NO_MARK)
    assert sbot(tmp_path / "b", "key", "import", str(file)) == 1
    assert sbot(tmp_path / "c", "key", "import", str(tmp_path / "a" / "secret")) == 0  # a plain one does as well
    assert await state(tmp_path / "c") == (made, Reason.NO_MARK)


async def test_a_key_that_comes_back_does_not_trust_the_mark_that_stayed(tmp_path: Path, made: str) -> None:
    async with opened(tmp_path / "a") as node:
        await node.store.ingest.publish({"type": "post", "text": "x"})
    (tmp_path / "a" / "secret").rename(tmp_path / "moved")
    assert sbot(tmp_path / "a", "key", "import", str(tmp_path / "moved")) == 0
    assert await state(tmp_path / "a") == (made, Reason.COPIED_MARK)


@pytest.mark.parametrize("text", ["", "{}", "nonsense", '{"type":"ssb-key-box"}', "[" * 9000, "x" * 70_000])
def test_files_that_hold_no_key_are_refused(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "key").write_text(text)
    assert sbot(tmp_path / "b", "key", "import", str(tmp_path / "key")) == 1
    assert sbot(tmp_path / "b", "key", "import", str(tmp_path / "none")) == 1
    assert sbot(tmp_path / "b", "key", "import", str(tmp_path)) == 1
    assert not (tmp_path / "b" / "secret").exists()
    assert "Traceback" not in capsys.readouterr().err


async def test_a_key_encrypted_at_rest_opens_with_its_passphrase_and_stays_open_for_publishing(
    tmp_path: Path, made: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    monkeypatch.setenv("SBOT_PASSPHRASE", "one")
    assert sbot(path, "key", "encrypt") == 0
    assert sbot(path, "key", "encrypt") == 1
    assert await state(path) == (made, None)
    monkeypatch.delenv("SBOT_PASSPHRASE")
    capsys.readouterr()
    assert sbot(path, "whoami") == sbot(path, "init") == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == [made, made]
    assert await asyncio.to_thread(sbot, path, "latest") == 3  # and not a question for the passphrase
    assert "passphrase" not in capsys.readouterr().err
    assert check_key(DataDirectory(path), made).state is State.OK  # nor does the doctor ask
    assert start(path) == (1, "a passphrase is needed")
    monkeypatch.setenv("SBOT_PASSPHRASE", "two")
    assert start(path) == (1, "the passphrase is wrong")
    assert sbot(path, "key", "decrypt") == 1
    monkeypatch.setenv("SBOT_PASSPHRASE", "one")
    assert sbot(path, "key", "decrypt") == 0
    assert sbot(path, "key", "decrypt") == 1
    assert parse_key_file((path / "secret").read_text()).id == made
    assert await state(path) == (made, None)


def test_what_leaves_this_machine_is_encrypted_where_there_is_a_passphrase(
    tmp_path: Path, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "a" / "secret"
    plain = keyfile.portable(secret)
    assert plain is not None
    assert parse_key_file(plain.decode()).id == made
    monkeypatch.setenv("SBOT_PASSPHRASE", "one")
    boxed = keyfile.portable(secret)
    assert boxed is not None
    box = key_box.parse(boxed.decode())
    assert box is not None
    assert box.open("one").id == made
    assert sbot(tmp_path / "a", "key", "encrypt") == 0
    assert keyfile.portable(secret) == secret.read_bytes()
    assert keyfile.portable(tmp_path / "none") is None
