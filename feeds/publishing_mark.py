"""The file `publishing` beside the database: the highest message of our own feed that was ever published.

It is written twice for each transaction that publishes, whole and durable each time: with the message as an *intent*
before the commit, and as *done* after it, before anybody is told. So after a crash either the store has the message of
the intent, or nobody has ever seen it. The file also knows which file it is, so that an older one that was put back in
its place is recognised. What follows from it is decided in `publisher_state`.
"""

import json
import logging
import os
import sqlite3
from pathlib import Path
from typing import Final

from feeds.errors import StoreError
from feeds.install import origin, replace_file
from feeds.log_rows import message_id
from feeds.message import EMPTY, Tip
from feeds.publisher_state import Mark, Origin
from feeds.tips import read_tip

__all__ = ["MARK", "MarkKeeper", "read_mark"]

LOG: Final = logging.getLogger(__name__)

MARK: Final = "publishing"
"""Name of the file, in the folder of the database."""
LARGEST: Final = 16 * 1024
ABOUT: Final = "What this node last published. Never copy, change or restore this file: your feed could break for good."


def read_mark(folder: Path) -> tuple[Mark | None, Origin | None]:
    """The mark, and which file it is now; (None, None) when there is none. Raises ValueError for another content."""
    try:
        descriptor = os.open(folder / MARK, os.O_RDONLY)
    except FileNotFoundError:
        return None, None
    except OSError as error:
        raise ValueError(str(error)) from error
    with os.fdopen(descriptor, "rb") as file:
        found = origin(descriptor)
        try:
            value = json.loads(file.read(LARGEST))
            intent = value["intent"]
            feed, epoch = value["feed"], value["epoch"]
            inode, born = value["file"]
            if not isinstance(feed, str) or not isinstance(epoch, str):
                raise ValueError("no feed or epoch")
            written = Origin(int(inode), None if born is None else int(born))
            mark = Mark(feed, epoch, _tip(value["done"]), None if intent is None else _tip(intent), written)
        except (OSError, KeyError, TypeError, RecursionError, OverflowError) as error:
            raise ValueError(f"not a publishing mark: {error!r}") from error
    return mark, found


def _tip(value: object) -> Tip:
    match value:
        case [int(sequence), None] if sequence == 0:
            return EMPTY
        case [int(sequence), str(message)] if sequence > 0:
            return Tip(sequence, message)
    raise ValueError("no sequence and message")


class MarkKeeper:
    """The mark of a running node; a `Guard` of transactions that publish. Used in the writer's thread."""

    def __init__(self, folder: Path, feed: str) -> None:
        self._folder: Final = folder
        self._feed: Final = feed
        self._mark: Mark | None = None
        self._committing = False
        """An intent of the transaction under way is on the disk."""

    def begin(self, epoch: str, tip: Tip) -> None:
        """Write that `tip` is the last message published. Raises OSError."""
        self._write(Mark(self._feed, epoch, tip, None, None))

    def settle(self, mark: Mark, tip: Tip) -> None:
        """Go on from the mark that was found and agrees with the store, which ends at `tip`. Raises OSError."""
        self._mark = mark
        if mark.done != tip or mark.intent is not None:
            self.begin(mark.epoch, tip)

    def before_commit(self, connection: sqlite3.Connection) -> None:
        """Put the last message of our feed on the disk as an intent. Raises StoreError: then nothing is committed."""
        mark = self._mark
        self._committing = False
        if mark is None:
            return
        row = read_tip(connection, self._feed)
        if row is None or not row.sequence:
            return
        tip = Tip(row.sequence, message_id(row.key, self._feed))
        if tip == mark.done:
            return
        try:
            self._write(mark._replace(intent=tip))
        except OSError as error:
            raise StoreError(
                f"nothing was published, because the file {MARK} beside the database cannot be written "
                f"({error.strerror or error}); free some space or check its permissions"
            ) from error
        self._committing = True

    def after_commit(self) -> None:
        """Put on the disk that the intent came true, before anybody is told of the message."""
        mark = self._mark
        if mark is None or mark.intent is None or not self._committing:
            return
        self._committing = False
        done = mark._replace(done=mark.intent, intent=None)
        try:
            self._write(done)
        except (
            OSError
        ) as error:  # the next intent is written with it; until then the old one on the disk fits the store
            self._mark = done
            LOG.error("the file %s could not be written after publishing: %s", MARK, error)

    def _write(self, mark: Mark) -> None:
        def text(descriptor: int) -> bytes:
            return json.dumps(
                {
                    "about": ABOUT,
                    "feed": mark.feed,
                    "epoch": mark.epoch,
                    "done": mark.done,
                    "intent": mark.intent,
                    "file": origin(descriptor),
                }
            ).encode()

        replace_file(self._folder / MARK, text)
        self._mark = mark
