"""`sbot backup` and `sbot restore`: a copy of the data directory, made while the node runs or not, and back from it.

Neither asks the node: SQLite lets another process read one moment of the database while the node goes on writing.
"""

import os
import time
from pathlib import Path

from feeds import backup as backups
from feeds.errors import StoreError
from node import keyfile
from node.commands import settings
from node.commands.catalogue import Invocation
from node.directory import DataDirectory
from node.errors import NodeError, UsageError
from node.output import Output

LOCKED = (
    "The restored feed starts locked: what was published after the backup is fetched from peers first. "
    "Never run the old node again."
)


def backup(invocation: Invocation) -> int:
    """Write a backup, or bring one up to date; with --with-key it has the identity too."""
    found = settings.reading(invocation, switches=("with-key",))
    target = _folder(invocation, found.words)
    directory = DataDirectory(settings.loaded(invocation, found).path)
    feed = keyfile.identity(directory.secret)
    if feed is None:
        raise NodeError(f"There is no identity in {directory.root}; name the node's directory with --path.")
    key = keyfile.portable(directory.secret) if found.on("with-key") else None
    os.umask(0o077)
    try:
        made = backups.back_up(directory.root, target, feed, key=key, now=int(time.time() * 1000))
    except StoreError as error:
        raise NodeError(f"No backup was made: {error}.") from None
    output = Output.standard(as_json=found.on("json"))
    if not output.pretty:
        output.json_value({"directory": str(target), **made._asdict()})
        return 0
    output.line(f"Backed up {made.feed} at its message {made.sequence} to {target}.")
    output.line(f"{made.database_bytes} bytes of database, {made.blobs} blobs, {made.new_blobs} of them new.")
    if not made.key:
        output.line("The key is not in it (--with-key); keep it with sbot key words or sbot key export.")
    return 0


def restore(invocation: Invocation) -> int:
    """Make a data directory from a backup. Its feed starts locked."""
    found = settings.reading(invocation)
    source = _folder(invocation, found.words)
    directory = DataDirectory(settings.loaded(invocation, found).path)
    os.umask(0o077)
    try:
        restored = backups.restore(source, directory.root)
    except StoreError as error:
        raise NodeError(f"Nothing was restored: {error}.") from None
    has_key = directory.secret.exists()
    output = Output.standard(as_json=found.on("json"))
    if not output.pretty:
        counts = {"blobs": restored.blobs, "blobs_damaged": restored.blobs_damaged, "key": has_key}
        shown = {"id": restored.backup.feed, "sequence": restored.backup.sequence, "created": restored.backup.created}
        output.json_value({**shown, **counts})
        return 0
    output.line(f"Restored {restored.backup.feed} up to its message {restored.backup.sequence} to {directory.root}.")
    if restored.blobs_damaged:
        output.line(f"{restored.blobs_damaged} blobs are missing or damaged in the backup; peers may have them.")
    if not has_key:
        output.line("The backup has no key: bring it with sbot key import FILE before you start the node.")
    output.line(LOCKED)
    return 0


def _folder(invocation: Invocation, words: tuple[str, ...]) -> Path:
    if len(words) != 1 or not words[0]:
        raise UsageError(f"usage: sbot {invocation.spelled} {invocation.command.usage}")
    return Path(words[0]).expanduser().absolute()
