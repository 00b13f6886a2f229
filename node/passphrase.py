"""Where the passphrase of an encrypted key comes from: $SBOT_PASSPHRASE, or the terminal."""

import getpass
import os
import sys

from node.errors import NodeError

VARIABLE = "SBOT_PASSPHRASE"


def given() -> str | None:
    """What the environment says, if anything."""
    return os.environ.get(VARIABLE) or None


def ask(purpose: str, *, new: bool = False) -> str:
    """The passphrase for `purpose` ("the key in FILE"); a new one is typed twice. Raises NodeError."""
    found = given()
    if found is not None:
        return found
    if not sys.stdin.isatty():
        raise NodeError(f"A passphrase is needed for {purpose}: put it into ${VARIABLE}, or use a terminal.")
    try:
        typed = getpass.getpass(f"{'New passphrase' if new else 'Passphrase'} for {purpose}: ")
        if new and getpass.getpass("Once more: ") != typed:
            raise NodeError("The two passphrases differ; nothing was changed.")
    except EOFError:
        raise NodeError("No passphrase was given.") from None
    if not typed:
        raise NodeError("The passphrase is empty; nothing was changed.")
    return typed
