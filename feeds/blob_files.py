"""Blobs as files: `sha256/ab/cdef…` below one folder, the layout of the old sbot, and drafts in `tmp` beside it.

A draft is hashed while it is written; only when it is whole, on the disk and known by its hash is it renamed to the
name that its hash gives. So whatever stands under a name is what the name says, also after a crash. Names are made of
32 bytes and of nothing that came from outside. Everything here blocks and runs in worker threads.
"""

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from feeds.errors import StoreError

__all__ = ["BlobFiles", "Draft", "MissingFile"]

_NAMES: Final = "sha256"
_DRAFTS: Final = "tmp"
_HASHED_AT_ONCE: Final = 1024 * 1024
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_OLD_FILE: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW


class MissingFile(Exception):
    """There is no file for a blob, or it is not as long as it was."""


class Draft:
    """A blob that is being written. Everybody who makes one calls `discard` in the end; after `BlobFiles.place` that
    does nothing."""

    def __init__(self, path: Path) -> None:
        with _failures():
            self._descriptor = os.open(path, _NEW_FILE, 0o600)
        self.path: Final = path
        self.size = 0
        self._hash: Final = hashlib.sha256()

    def write(self, data: bytes) -> None:
        """Add bytes. Raises StoreError."""
        self._hash.update(data)
        self.size += len(data)
        view = memoryview(data)
        with _failures():
            while view:
                view = view[os.write(self._descriptor, view) :]

    def key(self) -> bytes:
        """The hash of what was written."""
        return self._hash.digest()

    def sync(self) -> None:
        """Put all of it on the disk; nothing can be written any more. Raises StoreError."""
        with _failures():
            os.fsync(self._descriptor)
        self._close()

    def discard(self) -> None:
        """Remove the file, unless it was placed. May be repeated."""
        self._close()
        with contextlib.suppress(OSError):
            self.path.unlink()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def drafts_in(folder: Path) -> list[Path]:
    """Drafts below the folder of blobs; while nobody uses it a crash left them."""
    return list((folder / _DRAFTS).glob("*"))


class BlobFiles:
    """The files below one folder, which nobody else may write to while this is in use."""

    def __init__(self, folder: Path) -> None:
        self._names: Final = folder / _NAMES
        self._drafts: Final = folder / _DRAFTS

    def prepare(self) -> None:
        """Make the folders, and remove the drafts that a crash left. Raises StoreError."""
        with _failures():
            for folder in (self._names.parent, self._names, self._drafts):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in drafts_in(self._names.parent):
                left.unlink()

    def draft(self) -> Draft:
        """A new empty draft. Raises StoreError."""
        return Draft(self._drafts / secrets.token_hex(16))

    def place(self, draft: Draft, key: bytes) -> None:
        """Give a draft the name of its hash, durably. Raises StoreError."""
        assert draft.key() == key
        draft.sync()
        path = self._path(key)
        with _failures():
            try:
                path.parent.mkdir(mode=0o700)
            except FileExistsError:
                pass
            else:
                _sync_folder(self._names)
            draft.path.replace(path)
            _sync_folder(path.parent)

    def open(self, key: bytes, size: int) -> int:
        """A descriptor to read a blob from. Raises MissingFile, StoreError."""
        try:
            descriptor = os.open(self._path(key), _OLD_FILE)
        except FileNotFoundError:
            raise MissingFile("the file is gone") from None
        except OSError as error:
            raise _store_error(error) from error
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            os.close(descriptor)
            raise MissingFile(f"the file has {found.st_size} bytes, not {size}")
        return descriptor

    def holds(self, key: bytes, size: int) -> bool:
        """Whether there is a file of this length for a blob."""
        try:
            os.close(self.open(key, size))
        except MissingFile:
            return False
        return True

    def remove(self, key: bytes) -> None:
        """Remove a blob's file, if there is one. Raises StoreError."""
        with _failures(), contextlib.suppress(FileNotFoundError):
            self._path(key).unlink()

    def keys(self) -> list[bytes]:
        """The blobs that have a file, by name; what is not named like one is passed over. Raises StoreError."""
        with _failures():
            return list(self._found())

    def _found(self) -> Iterator[bytes]:
        for folder in os.scandir(self._names):
            if len(folder.name) == 2 and folder.is_dir(follow_symlinks=False):
                for file in os.scandir(folder):
                    name = folder.name + file.name
                    if len(name) == 64 and name == name.lower() and file.is_file(follow_symlinks=False):
                        with contextlib.suppress(ValueError):
                            yield bytes.fromhex(name)

    def measure(self, key: bytes) -> tuple[bytes, int]:
        """Hash and size of what stands in a blob's file. Raises StoreError."""
        digest, size = hashlib.sha256(), 0
        with _failures(), self._path(key).open("rb") as file:
            while data := file.read(_HASHED_AT_ONCE):
                digest.update(data)
                size += len(data)
        return digest.digest(), size

    def _path(self, key: bytes) -> Path:
        name = key.hex()
        assert len(name) == 64
        return self._names / name[:2] / name[2:]


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power loss. Some file systems cannot, and then there is nothing to be done."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _store_error(error) from error


def _store_error(error: OSError) -> StoreError:
    return StoreError(
        f"the blobs cannot be read or written: {error.strerror or error}; check the disk and its free space"
    )
