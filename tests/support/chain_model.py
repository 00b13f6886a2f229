"""The chain rules told simply, one feed and one text after the other: the model that the fast judge is held against."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from feeds.errors import InvalidMessage
from feeds.formats.base import FeedFormat
from feeds.message import Message, Tip
from feeds.validation import Rejection


@dataclass(frozen=True, slots=True)
class Extension:
    """What a batch does to a feed. Everything after the first rejection was not looked at."""

    accepted: list[Message] = field(default_factory=list)
    """The valid continuation of the tip, in order."""
    duplicates: list[int] = field(default_factory=list)
    """Indexes of texts at or before the tip; their signatures were not checked."""
    rejections: list[Rejection] = field(default_factory=list)
    """At most one: the first text that is neither."""
    fork: Message | None = None
    """A message with a valid signature that belongs to another branch than our tip: evidence against the author."""


def extend(
    form: FeedFormat,
    author: str,
    tip: Tip,
    texts: Sequence[bytes],
    hmac_key: bytes | None = None,
) -> Extension:
    """Checks texts of one author, in order, as the continuation of a feed whose end is tip."""
    accepted: list[Message] = []
    indexes: list[int] = []
    duplicates: list[int] = []
    rejection: Rejection | None = None
    fork: Message | None = None
    sequence, previous = tip
    for index, text in enumerate(texts):
        try:
            message = form.prepare(text, hmac_key)
        except InvalidMessage as error:
            rejection = _unreadable(form, index, text, error)
            break
        if message.author != author:
            rejection = _reject(index, message, "invalid", f"author is {message.author}, expected {author}")
            break
        # What follows directly does so in every format; asking the format costs more than all of this loop.
        if message.previous == previous and message.sequence == sequence + 1:
            accepted.append(message)
            indexes.append(index)
            sequence, previous = message.sequence, message.id
            continue
        fault = form.check_chain(message, Tip(sequence, previous))
        assert fault is not None, f"{form.name} links messages otherwise than by sequence and previous"
        kind, _, reason = fault
        if kind == "known":
            other = _other_branch(message, tip, accepted)
            if other is None:
                duplicates.append(index)
                continue
            kind, reason = "fork", f"{other} is another message with this sequence"
        fork = message if kind == "fork" else None
        rejection = _reject(index, message, kind, reason)
        break
    candidates = [*accepted, fork] if fork is not None else accepted
    bad = form.first_bad_signature(candidates, hmac_key)
    if bad >= 0:
        index = indexes[bad] if bad < len(indexes) else rejection.index if rejection else 0
        rejection = _reject(index, candidates[bad], "invalid", "signature is not the author's over this message")
        accepted, fork = accepted[:bad], None
        duplicates = [duplicate for duplicate in duplicates if duplicate < index]
    return Extension(accepted, duplicates, [] if rejection is None else [rejection], fork)


def _other_branch(message: Message, tip: Tip, accepted: Sequence[Message]) -> str | None:
    """The id of the message that holds this one's place, where that is at hand and another one."""
    held = None
    if message.sequence == tip.sequence:
        held = tip.id
    elif message.sequence > tip.sequence:
        held = accepted[message.sequence - tip.sequence - 1].id
    return held if held is not None and held != message.id else None


def _reject(index: int, message: Message, kind: Literal["invalid", "fork", "gap"], reason: str) -> Rejection:
    return Rejection(index, message.id, message.author, message.sequence, kind, reason)


def _unreadable(form: FeedFormat, index: int, text: bytes, error: InvalidMessage) -> Rejection:
    author = sequence = None
    with contextlib.suppress(InvalidMessage):
        author, sequence = form.peek(text)
    return Rejection(index, None, author, sequence, "invalid", str(error))
