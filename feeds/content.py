"""Tolerant typed readings of content (protocol.md section 11): what a view needs to know, and never an exception.

Content is whatever its author signed. A reading gives None for what is not of its shape; types that nobody reads here
pass through the node untouched.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from feeds.message import JsonObject, JsonValue
from feeds.refs import deployed_kind, is_feed

__all__ = ["MAX_LINKS", "Contact", "FoundLink", "Relation", "content_type", "links", "read_contact"]

MAX_LINKS: Final = 1000
"""Links read from one message; 8192 units hold some 140 ids."""


class Relation(IntEnum):
    """What a contact message says about a feed; it replaces the whole of what was said before."""

    FOLLOW = 1
    BLOCK = -1
    NONE = -2


class Contact(NamedTuple):
    """A contact message: this author now stands so to that feed."""

    feed: str
    relation: Relation


class FoundLink(NamedTuple):
    """An id somewhere in a content."""

    target: str
    """The id, without the query that may follow it."""
    path: str
    """Where it stood: names and indexes joined by dots."""


def content_type(content: JsonObject | str) -> str | None:
    """The type of plain content, None for a box string."""
    kind = content.get("type") if isinstance(content, dict) else None
    return kind if isinstance(kind, str) else None


def read_contact(content: JsonObject | str) -> Contact | None:
    """The relation that a contact message declares; None for what is none.

    As ssb-friends has it: a truthy `blocking` or `flagged` blocks, else `following` follows when it is exactly true, and
    everything else is an explicit "neither".
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


def links(content: JsonObject | str, limit: int = MAX_LINKS) -> list[FoundLink]:
    """Every string in a content that is a feed, message or blob id (a query may follow), with its place; at most limit."""
    found: list[FoundLink] = []
    if not isinstance(content, dict):
        return found
    # A stack of iterators in place of recursion: content may be nested as deep as its author liked.
    stack: list[tuple[str, Iterator[tuple[str | int, JsonValue]]]] = [("", iter(content.items()))]
    while stack and len(found) < limit:
        prefix, members = stack[-1]
        entry = next(members, None)
        if entry is None:
            stack.pop()
            continue
        name, value = entry
        path = f"{prefix}{name}"
        if isinstance(value, dict):
            stack.append((path + ".", iter(value.items())))
        elif isinstance(value, list):
            stack.append((path + ".", iter(enumerate(value))))
        elif isinstance(value, str) and (target := _linked(value)) is not None:
            found.append(FoundLink(target, path))
    return found


def _linked(text: str) -> str | None:
    if text[:1] not in ("@", "%", "&") or len(text) < 52:
        return text if text.startswith("ssb:") and is_feed(text) else None
    target = text.partition("?")[0]
    return target if deployed_kind(target) is not None else None
