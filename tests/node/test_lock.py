"""The lock of a data directory: one holder, named to whoever comes second, never stale."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from node.errors import DirectoryLocked
from node.lock import DirectoryLock

HOLD = (
    "import sys; from pathlib import Path; from node.lock import DirectoryLock\n"
    "lock = DirectoryLock.acquire(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
)


def no_sleep(_seconds: float) -> None:
    pass


def test_the_second_is_told_the_pid_of_the_first(tmp_path: Path) -> None:
    held = DirectoryLock.acquire(tmp_path / "lock")
    with pytest.raises(DirectoryLocked, match=str(os.getpid())) as caught:
        DirectoryLock.acquire(tmp_path / "lock")
    assert caught.value.pid == os.getpid()
    held.release()
    DirectoryLock.acquire(tmp_path / "lock").release()


def test_releasing_twice_does_no_harm(tmp_path: Path) -> None:
    held = DirectoryLock.acquire(tmp_path / "lock")
    held.release()
    other = DirectoryLock.acquire(tmp_path / "lock")
    held.release()
    with pytest.raises(DirectoryLocked):
        DirectoryLock.acquire(tmp_path / "lock")
    other.release()


@pytest.mark.parametrize("content", ["", "999999999\n", "OURS\n", "not a pid\n", "\xff\n"])
def test_a_file_left_behind_never_blocks_whatever_it_says(tmp_path: Path, content: str) -> None:
    (tmp_path / "lock").write_text(content.replace("OURS", str(os.getpid())), encoding="latin-1")
    held = DirectoryLock.acquire(tmp_path / "lock")
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    held.release()


def test_a_holder_without_a_pid_in_the_file_is_still_refused(tmp_path: Path) -> None:
    held = DirectoryLock.acquire(tmp_path / "lock")
    (tmp_path / "lock").write_text("")
    with pytest.raises(DirectoryLocked, match="another process") as caught:
        DirectoryLock.acquire(tmp_path / "lock", sleep=no_sleep)
    assert caught.value.pid is None
    held.release()


def test_a_killed_process_gives_the_lock_back(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(DirectoryLocked, match=str(process.pid)):
            DirectoryLock.acquire(tmp_path / "lock")
        process.send_signal(signal.SIGKILL)
        process.wait(5)
        assert (tmp_path / "lock").read_text() == f"{process.pid}\n"  # nobody tidied up
        DirectoryLock.acquire(tmp_path / "lock").release()
    finally:
        process.kill()
        process.wait(5)
        process.stdin.close()
        process.stdout.close()
