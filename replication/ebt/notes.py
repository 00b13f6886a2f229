"""EBT notes on the wire (protocol section 9): what a peer has of a feed, and whether it wants more.

A note value is ``sequence * 2 + (0 if receive else 1)``, or -1 for "I do not replicate this feed". The low bit is
inverted: 0 asks for messages. A frame of notes is a JSON object from feed id to note value, also accepted inside
``{"clock": {...}}``. The reference shifts 32-bit integers, so a note is at most 2**31 - 1 and a sequence 2**30 - 1.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

NOT_REPLICATING: Final = -1
MAX_NOTE: Final = 2**31 - 1
MAX_SEQUENCE: Final = MAX_NOTE >> 1

is_classic_feed = re.compile(r"@[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=\.ed25519").fullmatch
"""Truthy for the canonical id of a classic feed: 32 bytes of canonical base64 between ``@`` and ``.ed25519``."""

# JSON.stringify keeps the order in which a message was signed, and these are the only keys one may begin with.
_MESSAGE_HEAD = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"(?:previous|author|sequence|timestamp|hash|content|signature)"')


class Note(NamedTuple):
    """A decoded note. ``sequence`` is -1 when ``replicate`` is false."""

    replicate: bool
    receive: bool
    sequence: int


def encode(sequence: int, receive: bool) -> int:
    """The note that says "I have ``sequence``"; -1 for ``sequence`` -1. ValueError outside -1..2**30-1."""
    if sequence == NOT_REPLICATING:
        return NOT_REPLICATING
    if not 0 <= sequence <= MAX_SEQUENCE:
        raise ValueError(f"no note can carry sequence {sequence}")
    return sequence << 1 | (not receive)


def decode(value: object) -> Note | None:
    """The meaning of a note value as it came out of JSON; None for anything that is not a note.

    The reference reads other values too (fractions as -1, larger numbers wrapped to 32 bits); we ignore them, because
    no peer sends them on purpose.
    """
    if type(value) is not int or not NOT_REPLICATING <= value <= MAX_NOTE:
        return None
    if value == NOT_REPLICATING:
        return Note(replicate=False, receive=False, sequence=NOT_REPLICATING)
    return Note(replicate=True, receive=not value & 1, sequence=value >> 1)


def unwrap(value: object) -> Mapping[object, object] | None:
    """The feed -> value object of a notes frame, taken out of ``{"clock": {...}}`` if need be; None if it is none."""
    if not isinstance(value, Mapping):
        return None
    clock = value.get("clock")
    return clock if isinstance(clock, Mapping) else value


def is_message(body: bytes) -> bool:
    """Whether a JSON frame of an EBT stream is to be read as a message, judged by its first key; else it is notes."""
    return _MESSAGE_HEAD.match(body) is not None
