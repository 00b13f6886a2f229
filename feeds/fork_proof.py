"""Proof that a feed has two branches: the two messages, to be checked by anybody, without a network. Pure.

    {"type": "ssb-fork-proof", "version": 1, "feed": "@…", "sequence": 7, "messages": ["{…}", "{…}"]}

`messages` holds the compact text of each (`JSON.stringify` of the signed object) as a string, so that no program on the
way changes the spelling of a number. They prove a fork when both are signed by the feed's key and either have the same
sequence and are not the same message, or follow each other in number but the later one names another predecessor.
"""

import json
from typing import Any, Final, NamedTuple

from feeds.canonical_json import parse
from feeds.errors import FeedsError, InvalidJson, InvalidMessage
from feeds.formats.registry import format_of_feed
from feeds.validation import check_alone

__all__ = ["LARGEST", "TYPE", "Proof", "export", "verify"]

TYPE: Final = "ssb-fork-proof"
VERSION: Final = 1
LARGEST: Final = 256 * 1024
"""Bytes; a real one has less than 40 000."""


class Proof(NamedTuple):
    """A proof that holds: the feed, the sequence of the later message, and the ids of both."""

    feed: str
    sequence: int
    messages: tuple[str, str]


def export(feed: str, sequence: int, first: bytes, second: bytes) -> dict[str, Any]:
    """The proof as a JSON value; first, second -- texts as the log stores them."""
    messages = [first.decode(), second.decode()]
    return {"type": TYPE, "version": VERSION, "feed": feed, "sequence": sequence, "messages": messages}


def verify(data: bytes, hmac_key: bytes | None = None) -> Proof:
    """Check a proof from anybody. Raises InvalidMessage, saying what is wrong with it, and nothing else."""
    feed, texts = _read(data)
    try:
        form = format_of_feed(feed)
        one, two = (check_alone(form, text.encode("utf-8", "surrogatepass"), hmac_key) for text in texts)
    except InvalidMessage as error:
        raise InvalidMessage(f"one of the two messages is not valid: {error}", "messages") from error
    except FeedsError as error:
        raise InvalidMessage(str(error), "feed") from error
    if one.author != feed or two.author != feed:
        raise InvalidMessage("one of the two messages is of another feed", "messages")
    first, second = sorted((one, two), key=lambda message: message.sequence)
    if first.id == second.id:
        raise InvalidMessage("it is the same message twice", "messages")
    if first.sequence == second.sequence:
        return Proof(feed, second.sequence, (one.id, two.id))
    if second.sequence != first.sequence + 1:
        raise InvalidMessage("the two messages are too far apart to contradict each other", "messages")
    if _previous(second.text) == first.id:
        raise InvalidMessage("the second message follows the first: that is no fork", "messages")
    return Proof(feed, second.sequence, (first.id, second.id))


def _read(data: bytes) -> tuple[str, list[str]]:
    if len(data) > LARGEST:
        raise InvalidMessage(f"it has more than {LARGEST} bytes, so it is no proof of a fork")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidMessage("it is not JSON") from None
    match value:
        case {"type": str(kind), "version": 1, "feed": str(feed), "messages": [str(one), str(two)]} if kind == TYPE:
            return feed, [one, two]
    raise InvalidMessage(f"it is no {TYPE} of version {VERSION}")


def _previous(text: bytes) -> object:
    try:
        value = parse(text)
    except InvalidJson:  # it was just read
        return None
    return value.get("previous") if isinstance(value, dict) else None
