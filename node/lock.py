"""One process a data directory: an advisory lock on the file `lock`, which also holds the pid for people.

The kernel's lock is the truth and ends with its process, however it ended; the pid inside is only read to name the
holder. So a file left by a dead process, or by one whose pid was given to another program, never blocks.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from node.errors import DirectoryLocked, NodeError


class DirectoryLock:
    """Held from `acquire` to `release`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, path: Path, *, sleep: Callable[[float], None] = time.sleep) -> DirectoryLock:
        """Take the lock file at `path`, at once or not at all. Raises DirectoryLocked with the holder's pid."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise NodeError(f"The lock file {path} cannot be opened: {error.strerror}.") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise DirectoryLocked(str(path.parent), _holder(path, sleep)) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        return cls(descriptor)

    def release(self) -> None:
        """Give the directory back. The file stays (removing it would race with the next holder), emptied."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def _holder(path: Path, sleep: Callable[[float], None]) -> int | None:
    """The pid in the lock file. The holder writes it just after locking, so an empty file is looked at again."""
    for _ in range(10):
        try:
            text = path.read_text(encoding="ascii", errors="replace").strip()
        except OSError:
            return None
        if text.isdigit():
            return int(text)
        sleep(0.05)
    return None
