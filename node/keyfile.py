"""The key file `secret`: who this node is (protocol.md section 3).

Read if it is there, made if it is not, and never overwritten: a damaged or contradicting file is refused, because a new
identity written over an old one cannot be undone. The format itself is `feeds.keys.parse_key_file`.
"""

import logging
import os
import stat
from pathlib import Path

from feeds.errors import InvalidKey
from feeds.keys import Keypair, format_key_file, parse_key_file
from node.errors import KeyFileError
from node.private_files import write_once

log = logging.getLogger("node.keyfile")

LARGEST_KEY_FILE = 64 * 1024
"""Bytes; a real one has about 700."""


def load(path: Path) -> Keypair | None:
    """The identity in `path`, or None if there is no such file. Raises KeyFileError for anything unusable."""
    try:
        with path.open("rb") as file:
            _tighten(path, os.fstat(file.fileno()))
            data = file.read(LARGEST_KEY_FILE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from None
    if len(data) > LARGEST_KEY_FILE:
        raise _unusable(path, "it is too large for a key file")
    try:
        return parse_key_file(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise _unusable(path, "it is not text") from None
    except InvalidKey as error:
        raise _unusable(path, str(error)) from None


def load_or_create(path: Path) -> Keypair:
    """The identity in `path`; a new one is made and written if there is no file. Raises KeyFileError."""
    keypair = load(path)
    if keypair is not None:
        return keypair
    from feeds.publishing import begin_install  # with the store behind it, which few commands need

    keypair = Keypair.generate()
    try:
        begin_install(path.parent, keypair.id)  # first: a key without it counts as imported and starts locked
    except OSError as error:
        raise _unusable(path, f"the files beside it cannot be written ({error.strerror})") from None
    if not write_once(path, format_key_file(keypair).encode()):
        keypair = load(path)  # somebody else made it between our two looks
        if keypair is None:
            raise _unusable(path, "it came and went while it was read")
    return keypair


def _tighten(path: Path, status: os.stat_result) -> None:
    """A key others can read is closed to them, and said so: it may have been copied already."""
    if stat.S_IMODE(status.st_mode) & 0o077 and status.st_uid == os.getuid():
        log.warning("%s could be read by other users; its mode is now 0600", path)
        path.chmod(0o600)


def _unusable(path: Path, reason: str) -> KeyFileError:
    return KeyFileError(
        f"The key file {path} cannot be used: {reason.rstrip('.')}. It was left as it is; "
        "put back a good copy, or move it away to begin with a new identity."
    )
