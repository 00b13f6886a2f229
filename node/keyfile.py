"""The key file `secret`: who this node is (protocol.md section 3).

Read if it is there, made if it is not, and never overwritten: a damaged or contradicting file is refused, because a new
identity written over an old one cannot be undone. The format itself is `feeds.keys.parse_key_file`, or that of
`feeds.key_box` where a passphrase opens it.
"""

import logging
import os
import stat
from pathlib import Path

from feeds import key_box
from feeds.errors import InvalidKey
from feeds.key_box import KeyBox
from feeds.keys import Keypair, format_key_file, parse_key_file
from node import passphrase
from node.errors import KeyFileError
from node.private_files import write_once

log = logging.getLogger("node.keyfile")

DATABASE = "sbot.db"
LARGEST_KEY_FILE = 64 * 1024
"""Bytes; a real one has about 700."""


def load(path: Path) -> Keypair | None:
    """The identity in `path`, or None if there is no such file. An encrypted one asks for its passphrase, at the
    terminal if need be. Raises KeyFileError for anything unusable, NodeError without a passphrase."""
    found = read(path)
    if not isinstance(found, KeyBox):
        return found
    typed = passphrase.ask(f"the key in {path}")
    try:
        return found.open(typed)
    except InvalidKey as error:
        raise KeyFileError(f"The key in {path} was not opened: {error}.") from None


def load_quietly(path: Path) -> Keypair | None:
    """The same without asking anybody: None also where a passphrase is needed that the environment does not have."""
    if isinstance(read(path), KeyBox) and passphrase.given() is None:
        return None
    return load(path)


def identity(path: Path) -> str | None:
    """The id that the key file says, or None if there is no such file. No passphrase is needed. Raises KeyFileError."""
    found = read(path)
    return None if found is None else found.id


def read(path: Path, *, tighten: bool = True) -> Keypair | KeyBox | None:
    """What is in `path`: a key, a key that a passphrase opens, or no such file. Raises KeyFileError.

    tighten -- close the file to other users, as is right for our own.
    """
    try:
        with path.open("rb") as file:
            if tighten:
                _tighten(path, os.fstat(file.fileno()))
            data = file.read(LARGEST_KEY_FILE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from None
    if len(data) > LARGEST_KEY_FILE:
        raise _unusable(path, "it is too large for a key file")
    try:
        text = data.decode("utf-8")
        return key_box.parse(text) or parse_key_file(text)
    except UnicodeDecodeError:
        raise _unusable(path, "it is not text") from None
    except InvalidKey as error:
        raise _unusable(path, str(error)) from None


def load_or_create(path: Path) -> Keypair:
    """The identity in `path`; a new one is made and written if there is no file. Raises KeyFileError."""
    keypair = load(path)
    if keypair is not None:
        return keypair
    if path.with_name(DATABASE).exists():
        raise KeyFileError(
            f"There is a database in {path.parent} without the key {path.name} that it belongs to: bring the key with "
            "sbot key import or sbot init --words, or move the database away to begin with a new identity."
        )
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


def sealed(keypair: Keypair, typed: str) -> bytes:
    """The key as a file that only the passphrase opens. Raises InvalidKey for one that will not do."""
    salt, nonce = os.urandom(key_box.SALT_SIZE), os.urandom(key_box.NONCE_SIZE)
    return key_box.seal(keypair, typed, salt=salt, nonce=nonce).encode()


def portable(path: Path) -> bytes | None:
    """The key file as it may leave this machine: encrypted as it is, or where $SBOT_PASSPHRASE is set; else plain.

    None if there is no such file. Raises KeyFileError.
    """
    found = read(path)
    typed = passphrase.given()
    try:
        if isinstance(found, Keypair):
            return format_key_file(found).encode() if typed is None else sealed(found, typed)
        return None if found is None else path.read_bytes()
    except InvalidKey as error:
        raise KeyFileError(f"The key cannot be encrypted: {error}.") from None
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from None


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
