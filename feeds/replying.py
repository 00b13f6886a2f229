"""Where a reply to a message stands, and for whom it is: read from the thread of the message, public or private."""

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from feeds.canonical_json import parse
from feeds.composing import Spot
from feeds.conversation import link_target, read_post
from feeds.errors import InvalidJson
from feeds.log import Entry
from feeds.mailbox import Mailbox, OpenedEntry, PrivateThread
from feeds.message import JsonObject, JsonValue
from feeds.refs import is_feed
from feeds.thread_reading import read_thread

__all__ = ["MAX_HEADS", "Answered", "answered_in_private", "answered_in_public", "private_thread"]

MAX_HEADS: Final = 12
"""Ends of a thread that a reply names, the newest of them: a message is short, and anybody can make a thread fray."""


class Answered(NamedTuple):
    """A message that is to be answered."""

    spot: Spot
    recipients: list[str] | None
    """Feeds that may read the answer; None: everybody."""
    channel: str | None


def answered_in_public(connection: sqlite3.Connection, entry: Entry, *, without: Collection[str] = ()) -> Answered:
    """The place of an answer to a public message. without -- feeds whose messages are not named as ends."""
    content = _content(entry)
    root = link_target(content.get("root")) or entry.id
    thread = read_thread(connection, root)
    entries = [] if thread is None else [turn.entry for turn in thread.turns]
    named = {entry.id: _branches(entry) for entry in entries}
    answered = {branch for id, branches in named.items() for branch in branches if branch != id}
    heads = [one.id for one in entries if one.id not in answered | {root} and one.author not in without]
    return Answered(Spot(root, _ends(heads, entry.id)), None, _channel(content))


def answered_in_private(letter: OpenedEntry, thread: PrivateThread | None) -> Answered:
    """The place of an answer to a private message, for those who could read it, its author included.

    thread -- that of the message, None when there is none besides it.
    """
    opened = letter.opened.content
    content = opened if isinstance(opened, dict) else {}
    root = link_target(content.get("root")) or letter.entry.id
    heads = [tip for tip in thread.tips if tip != root] if thread is not None else []
    people = dict.fromkeys([letter.entry.author, *_recipients(content.get("recps"))])
    return Answered(Spot(root, _ends(heads, letter.entry.id)), list(people), _channel(content))


async def private_thread(mailbox: Mailbox, letter: OpenedEntry) -> PrivateThread | None:
    """The thread that a private message stands in."""
    content = letter.opened.content
    root = link_target(content.get("root")) if isinstance(content, dict) else None
    return await mailbox.thread(root or letter.entry.id)


def _ends(heads: Sequence[str], answered: str) -> list[str]:
    """What to name as answered: the newest ends; the message itself when there are none."""
    return list(heads[-MAX_HEADS:]) or [answered]


def _content(entry: Entry) -> JsonObject:
    try:
        value = parse(entry.text)
    except InvalidJson:
        return {}
    content = value.get("content") if isinstance(value, dict) else None
    return content if isinstance(content, dict) else {}


def _branches(entry: Entry) -> Iterable[str]:
    post = read_post(_content(entry))
    return () if post is None else post.branches


def _channel(content: JsonObject) -> str | None:
    channel = content.get("channel")
    return channel if isinstance(channel, str) and channel else None


def _recipients(recps: JsonValue) -> list[str]:
    given = recps if isinstance(recps, list) else [recps]
    links = [one.get("link") if isinstance(one, dict) else one for one in given]
    return [link for link in links if isinstance(link, str) and is_feed(link)]
