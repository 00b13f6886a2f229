"""Every exception the feeds package lets out.

    FeedsError
    ├── InvalidRef          text that is no feed, message or blob id           (also a ValueError)
    ├── InvalidKey          a key, key file or signing key that cannot be used (also a ValueError)
    ├── InvalidJson         text V8's JSON.parse refuses                       (also a ValueError)
    ├── InvalidMessage      a message that breaks a rule of its format         (also a ValueError)
    │   └── TooLarge        ... because it is longer than the format allows
    ├── UnknownFormat       no feed format of that name, or for that feed
    ├── Busy                not at present: something else must be ready first
    ├── InvalidRule         text that is no rule of what to keep               (also a ValueError)
    ├── NotFound            no such message, feed or blob here
    ├── WrongBlob           bytes that are not those of the blob they were to be
    ├── FeedLocked          our own feed may not be written to at present
    │   └── ForkedFeed      ... nor ever again: two branches of it are known
    ├── SequenceMismatch    our own feed has moved on since the caller looked
    └── StoreError          the store failed: disk full, read-only, damaged, too new

An exception about outside bytes blames whoever delivered them, never the feed they claim to belong to.
"""

from typing import Final

__all__ = [
    "Busy",
    "FeedLocked",
    "FeedsError",
    "ForkedFeed",
    "InvalidJson",
    "InvalidKey",
    "InvalidMessage",
    "InvalidRef",
    "InvalidRule",
    "NotFound",
    "SequenceMismatch",
    "StoreError",
    "TooLarge",
    "UnknownFormat",
    "WrongBlob",
]


class FeedsError(Exception):
    """Base of everything this package raises on purpose."""


class InvalidRef(FeedsError, ValueError):
    """Text that is not an id of the wanted kind in any spelling we read."""


class InvalidKey(FeedsError, ValueError):
    """Key material that cannot be used. The message never contains the key itself."""


class InvalidJson(FeedsError, ValueError):
    """Text that V8's JSON.parse refuses, or that is beyond our limits.

    reason -- what is wrong, for people; offset -- byte of the UTF-8 text where, None when it has no place.
    """

    def __init__(self, reason: str, offset: int | None = None) -> None:
        super().__init__(reason if offset is None else f"{reason} (at byte {offset})")
        self.reason: Final = reason
        self.offset: Final = offset


class InvalidMessage(FeedsError, ValueError):
    """A message that breaks a rule of its feed format.

    reason -- what was found and what was expected, for people; field -- the top-level field at fault, None when it is
    the whole text; offset -- byte of the given text where that field's value starts, None when it has no place.
    """

    def __init__(self, reason: str, field: str | None = None, offset: int | None = None) -> None:
        super().__init__(reason if offset is None else f"{reason} (at byte {offset})")
        self.reason: Final = reason
        self.field: Final = field
        self.offset: Final = offset


class TooLarge(InvalidMessage):
    """Something is longer than it may be: size and limit, counted in what ("UTF-16 units", "bytes")."""

    def __init__(self, size: int, limit: int, what: str, subject: str = "the message") -> None:
        super().__init__(f"{subject} is {size} {what} long, the limit is {limit}")
        self.size: Final = size
        self.limit: Final = limit
        self.what: Final = what


class UnknownFormat(FeedsError):
    """No feed format goes by this name, or none is known for this feed id."""


class Busy(FeedsError):
    """It cannot be done at present, because something else must be ready first; the text says what."""


class InvalidRule(FeedsError, ValueError):
    """Text that is no rule of what to keep (`feeds.retention`)."""


class NotFound(FeedsError):
    """No such message, feed or blob in this node."""


class WrongBlob(FeedsError):
    """Bytes whose hash is not the one expected: ids of the blob that was to come and of the one that came."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"expected the blob {expected}, these bytes are {found}")
        self.expected: Final = expected
        self.found: Final = found


class FeedLocked(FeedsError):
    """Our own feed may not be written to. state is "locked" or "forked"; reason and way_out are for people."""

    def __init__(self, state: str, reason: str, way_out: str = "") -> None:
        super().__init__(f"{reason}. {way_out}" if way_out else reason)
        self.state: Final = state
        self.reason: Final = reason
        self.way_out: Final = way_out


class ForkedFeed(FeedLocked):
    """Two branches of our own feed are known, so it is read-only for good."""

    def __init__(self, reason: str) -> None:
        super().__init__("forked", reason)


class SequenceMismatch(FeedsError):
    """The caller expected our own feed to stand at another sequence (HTTP If-Match)."""

    def __init__(self, expected: int, actual: int) -> None:
        super().__init__(f"expected our feed at sequence {expected}, it is at {actual}")
        self.expected: Final = expected
        self.actual: Final = actual


class StoreError(FeedsError):
    """The store failed: disk full, read-only, damaged, or written by a newer version. The text is for people."""
