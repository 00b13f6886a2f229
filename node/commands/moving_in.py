"""`sbot init --import DIR`: move in from the directory of an old sbot."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from node import keyfile
from node.commands.keys import take_over
from node.config import Config
from node.directory import DataDirectory
from node.moving_in import Moved, check, move_in
from node.old_directory import OldDirectory
from node.output import Output


def take_in(config: Config, source: str, output: Output) -> dict[str, Any]:
    """Take everything over; the report as a JSON value. Raises NodeError, UsageError, StoreError.

    A directory that has the same key already, as after an interrupted import, gets what it lacks.
    """
    old = OldDirectory(Path(source).expanduser().absolute())
    keypair = old.keypair()
    check(config, old)
    directory = DataDirectory(config.path)
    directory.make()
    if keyfile.identity(directory.secret) != keypair.id:
        take_over(directory, keypair)
    moved = move_in(config, old, _show)
    _show("")
    if output.pretty:
        for line in _lines(moved):
            output.line(line)
    return asdict(moved)


def _show(text: str) -> None:
    """Tell somebody at a terminal how far it is."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{text}\x1b[K")
        sys.stderr.flush()


def _lines(moved: Moved) -> list[str]:
    parts = [f"{moved.added} messages added", f"{moved.duplicates} here already"]
    parts += [
        f"{getattr(moved, kind)} {kind}" for kind in ("gaps", "forks", "invalid", "damaged") if getattr(moved, kind)
    ]
    parts += [f"{moved.blobs_added} blobs added", f"{moved.peers} addresses of peers"]
    if moved.blobs_refused:
        parts.append(f"{moved.blobs_refused} blobs refused")
    lines = [f"From {moved.source}: {', '.join(parts)}."]
    lines += [f"  {example['kind']}: {example['reason']}" for example in moved.examples[:5]]
    lines.append(
        f"This feed ends at message {moved.sequence}, and is {moved.state}: what was published elsewhere is "
        "fetched from peers first. Never start the old sbot again; two programs with one key break the feed for good."
    )
    return lines
