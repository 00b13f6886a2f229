"""The verdict about one message, as the next of its feed or alone, over any feed format.

Runs of many messages are judged by `feeds.admission`, which prepares and verifies them as wholes; this is for one at a
time: what we are about to publish, and what was fetched out of order. Both ask the format the same questions.
"""

from dataclasses import dataclass
from typing import Literal

from feeds.errors import InvalidMessage
from feeds.formats.base import FeedFormat
from feeds.message import EMPTY, Message, Tip

__all__ = ["EMPTY", "Rejection", "Tip", "check_alone", "check_next"]


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why one text of a batch was not taken."""

    index: int
    """Which text of the batch."""
    id: str | None
    """What could be read of it; None where nothing could."""
    author: str | None
    sequence: int | None
    kind: Literal["invalid", "fork", "gap"]
    reason: str
    """For people: which member, what was found, and the byte where it makes sense."""


def check_alone(form: FeedFormat, text: bytes, hmac_key: bytes | None = None) -> Message:
    """A single message fetched out of order: all checks but its place in the chain. Raises InvalidMessage."""
    message = form.prepare(text, hmac_key)
    if form.first_bad_signature([message], hmac_key) >= 0:
        raise InvalidMessage("signature is not the author's over this message", "signature")
    return message


def check_next(form: FeedFormat, text: bytes, tip: Tip, hmac_key: bytes | None = None) -> Message:
    """A message as the one that follows `tip` in its feed. Raises InvalidMessage."""
    message = check_alone(form, text, hmac_key)
    fault = form.check_chain(message, tip)
    if fault is not None:
        raise InvalidMessage(fault.reason, fault.field)
    return message
