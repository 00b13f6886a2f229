"""The passphrase of a key typed at a terminal: nothing of it is shown, and wrong or differing ones change nothing."""

import fcntl
import os
import pty
import signal
import subprocess
import termios
import time
from pathlib import Path

import pytest

from tests.support.processes import SBOT, clean_environ, run

SECONDS = 60.0


class Typing:
    """A command on a terminal of its own, and somebody who types."""

    def __init__(self, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        self.shown = ""

        def own_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [*SBOT, *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=clean_environ() | {"TERM": "dumb"},
            start_new_session=True,
            preexec_fn=own_terminal,
        )
        os.close(theirs)

    def until(self, words: str) -> None:
        """Read what is shown until these words come."""
        ends = time.monotonic() + SECONDS
        while words not in self.shown:
            assert time.monotonic() < ends, self.shown
            try:
                self.shown += os.read(self._ours, 65536).decode()
            except OSError:  # the other side is closed
                raise AssertionError(self.shown) from None

    def answer(self, question: str, typed: str) -> None:
        self.until(question)
        self.shown = self.shown.partition(question)[2]
        time.sleep(0.2)  # the echo is turned off just before the question
        os.write(self._ours, typed.encode() + b"\n")

    def end(self) -> int:
        try:
            while piece := os.read(self._ours, 65536):
                self.shown += piece.decode()
        except OSError:
            pass
        finally:
            os.close(self._ours)
        return self.process.wait(SECONDS)


@pytest.mark.timeout(240)
def test_a_passphrase_is_typed(tmp_path: Path) -> None:
    path = ("--path", str(tmp_path / "node"))
    assert run("init", *path).code == 0
    plain = (tmp_path / "node" / "secret").read_bytes()

    typing = Typing("key", "encrypt", *path)
    typing.answer("New passphrase", "one")
    typing.answer("Once more", "two")
    assert typing.end() == 1
    assert "differ" in typing.shown
    assert (tmp_path / "node" / "secret").read_bytes() == plain

    typing = Typing("key", "encrypt", *path)
    typing.answer("New passphrase", "correct horse")
    typing.answer("Once more", "correct horse")
    assert typing.end() == 0
    assert "correct horse" not in typing.shown
    assert (tmp_path / "node" / "secret").read_bytes() != plain

    typing = Typing("clock", *path)
    typing.answer("Passphrase", "battery staple")
    assert typing.end() == 1
    assert "wrong" in typing.shown

    typing = Typing("start", "--host", "127.0.0.1", "--port", "0", "--http-port", "0", "--no-lan", *path)
    typing.answer("Passphrase", "correct horse")
    typing.until('"event":"ready"')
    typing.process.send_signal(signal.SIGTERM)
    assert typing.end() == 0
    assert "correct horse" not in typing.shown

    assert run("clock", *path, SBOT_PASSPHRASE="correct horse").code == 0
    asked = run("clock", *path)
    assert asked.code == 1
    assert "SBOT_PASSPHRASE" in asked.err
