"""What a message is inside the node, whatever its feed format.

A message keeps the exact text that is stored and put on the wire, beside what was read from it; nothing makes that text
again from Python values (design.md, rule 6).
"""

from typing import Final, NamedTuple

from feeds.canonical_json import JsonObject, JsonValue

__all__ = ["EMPTY", "Draft", "JsonObject", "JsonValue", "Message", "Tip"]


class Message(NamedTuple):
    """One signed message that has passed its format's own checks (`FeedFormat.prepare`).

    Holding one does not mean that its signature or its place in the chain was checked; `validation` does that.
    A named tuple and not a dataclass because a hundred thousand of them are built in one batch.
    """

    id: str
    """Canonical message id."""
    key: bytes
    """The 32 bytes inside the id."""
    author: str
    """Canonical feed id."""
    sequence: int
    previous: str | None
    """Id of the message before it, None for the first."""
    timestamp: int | float
    """Milliseconds since 1970 as the author claims; never decides validity or order."""
    content: JsonObject | str
    """Parsed content, or the box string of a private message."""
    text: bytes
    """UTF-8 of the signed object in the one compact spelling that every node makes of it; stored and sent."""
    size: int
    """Length that counts against the format's limit (classic: UTF-16 units of the formatted signed text)."""
    signed: bytes
    """What the signature covers (before the HMAC, where the network has a signing key)."""
    signature: bytes
    """64 bytes."""
    format: str
    """Name of the feed format, as in `registry`."""


class Draft(NamedTuple):
    """A message about to be signed; `size` already counts the signature to come."""

    author: str
    sequence: int
    previous: str | None
    timestamp: int | float
    content: JsonObject | str
    signed: bytes
    """What the signature will cover."""
    size: int


class Tip(NamedTuple):
    """The end of a feed as we hold it: its last sequence and message id; (0, None) when we hold nothing."""

    sequence: int
    id: str | None


EMPTY: Final = Tip(0, None)
