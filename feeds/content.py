"""Tolerant typed readings of content (protocol.md section 11): what a view needs to know, and never an exception.

Content is whatever its author signed. A reading gives None for what is not of its shape; types that nobody reads here
pass through the node untouched.
"""

from collections.abc import Iterable
from enum import IntEnum
from itertools import repeat
from typing import Final, NamedTuple

from feeds.errors import InvalidRef
from feeds.message import JsonObject, JsonValue
from feeds.refs import BlobRef, FeedRef, MessageRef, deployed_kind, is_feed, is_plain_id

__all__ = [
    "MAX_DEPTH",
    "MAX_LINKS",
    "Contact",
    "FoundLink",
    "Relation",
    "content_type",
    "links",
    "read_contact",
    "target_of",
]

MAX_DEPTH: Final = 16
"""Arrays and objects inside one another that are searched for links."""
MAX_LINKS: Final = 256
"""Links read from one message; 8192 units have room for some 140 ids."""


_new_link: Final = tuple.__new__  # half the cost of calling the class, once for each link of each message


class Relation(IntEnum):
    """What a contact message says about a feed; it replaces the whole of what was said before."""

    FOLLOW = 1
    BLOCK = -1
    NONE = -2
    """An explicit "neither": unfollowed or unblocked."""


class Contact(NamedTuple):
    """The reading of a contact message: its author stands so to that feed."""

    feed: str
    relation: Relation


class FoundLink(NamedTuple):
    """An id somewhere in a content."""

    target: str
    """The id in its canonical form, without the query that may follow it."""
    path: str
    """Names of members down to it, joined with dots; places in arrays are left out."""
    query: str = ""
    """What stands behind its question mark (`unbox=…` holds the key of an encrypted blob)."""


def content_type(content: JsonObject | str) -> str | None:
    """The type of plain content, None for a box string."""
    kind = content.get("type") if isinstance(content, dict) else None
    return kind if isinstance(kind, str) else None


def read_contact(content: JsonObject | str) -> Contact | None:
    """The relation that a contact message declares; None for what is none.

    As ssb-friends has it: a truthy `blocking` or `flagged` blocks, else `following` follows when it is exactly true,
    and everything else is an explicit "neither".
    """
    if not isinstance(content, dict) or content.get("type") != "contact":
        return None
    feed = content.get("contact")
    if not isinstance(feed, str) or not is_feed(feed):
        return None
    if _truthy(content.get("blocking")) or _truthy(content.get("flagged")):
        return Contact(feed, Relation.BLOCK)
    return Contact(feed, Relation.FOLLOW if content.get("following") is True else Relation.NONE)


def _truthy(value: JsonValue) -> bool:
    """JavaScript's truth: empty arrays and objects count as true."""
    return isinstance(value, list | dict) or bool(value)


def links(content: JsonObject | str) -> list[FoundLink]:
    """Every string in a content that is a feed, message or blob id as a whole; at most MAX_LINKS, MAX_DEPTH deep.

    Level by level instead of by recursion: content may be nested as deep as its author liked.
    """
    found: list[FoundLink] = []
    level: list[tuple[str, JsonValue]] = [("", content)]
    for _ in range(MAX_DEPTH):
        below: list[tuple[str, JsonValue]] = []
        for path, value in level:
            members: Iterable[tuple[str, JsonValue]]
            if type(value) is dict:
                prefix, members = f"{path}." if path else "", value.items()
            elif type(value) is list:
                prefix, members = path, zip(repeat(""), value)
            else:
                continue
            for name, member in members:
                if type(member) is str:
                    if len(member) > 50 and member[0] in "@%&s" and (prefix or name):  # nearly all ends here
                        if is_plain_id(member):
                            found.append(_new_link(FoundLink, (member, prefix + name, "")))
                        elif (target := _target(member)) is not None:
                            found.append(FoundLink(target, prefix + name, member.partition("?")[2]))
                elif type(member) is dict or type(member) is list:
                    below.append((prefix + name, member))
        if not below or len(found) >= MAX_LINKS:
            break
        level = below
    return found[:MAX_LINKS]


def target_of(text: str) -> str | None:
    """Canonical id, without its query, that a text is as a whole; None for every other text."""
    if len(text) <= 50:
        return None
    return text if is_plain_id(text) else _target(text)


def _target(text: str) -> str | None:
    if text.startswith("ssb:"):
        for kind in (FeedRef, MessageRef, BlobRef):
            try:
                return str(kind.parse(text))
            except InvalidRef:
                continue
        return None
    target = text.partition("?")[0]
    return target if deployed_kind(target) is not None else None
