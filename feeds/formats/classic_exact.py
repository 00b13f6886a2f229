"""Reading a classic message the exact way: any spelling that V8 reads, and the reason where there is one to refuse.

This is where the rules of protocol.md section 7 stand in words; `classic_fast` takes the usual spelling of messages
that keep all of them.
"""

import codecs
import hashlib
import re
from binascii import a2b_base64, b2a_base64
from typing import Any, Final

from feeds import canonical_json
from feeds.canonical_json import JsonObject, JsonValue, utf16_units
from feeds.errors import InvalidJson, InvalidMessage, TooLarge
from feeds.message import Message

__all__ = [
    "MAX_SEQUENCE",
    "MAX_TEXT",
    "MAX_UNITS",
    "NAME",
    "is_author",
    "is_box",
    "low_bytes",
    "read_exact",
    "read_place",
]

NAME: Final = "classic"
MAX_UNITS: Final = 8192
"""UTF-16 units of the formatted text with its signature."""
MAX_TEXT: Final = 65_536
"""Bytes of a received text: more than any spelling of a message that a node would send."""
MAX_DEPTH: Final = 100
"""Arrays and objects inside one another: beyond 63, indentation alone makes a message longer than MAX_UNITS."""
MAX_SEQUENCE: Final = 2**31 - 1

_ORDERS: Final = (
    ("previous", "author", "sequence", "timestamp", "hash", "content", "signature"),
    ("previous", "sequence", "author", "timestamp", "hash", "content", "signature"),
)

# The last character before the padding has spare bits, which must be zero.
DATA32: Final = "[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]="
DATA64: Final = "[A-Za-z0-9+/]{85}[AQgw]=="

_match_author = re.compile(rf"@{DATA32}\.ed25519").fullmatch
_match_message_id = re.compile(rf"%{DATA32}\.sha256").fullmatch
_match_signature = re.compile(rf"{DATA64}\.sig\.ed25519").fullmatch
# Canonical base64, given that its length is a multiple of four. What follows ".box" is open, so that later kinds of box
# pass; JavaScript's dot stops at line ends.
_match_box = re.compile(r"([A-Za-z0-9+/]*(?:[AQgw]==|[AEIMQUYcgkosw048]=)?)\.box[^\n\r\u2028\u2029]*").fullmatch
_utf_16_le_encode = codecs.utf_16_le_encode


def is_author(text: str) -> bool:
    """Whether text is a classic feed id."""
    return _match_author(text) is not None


def is_box(content: str) -> bool:
    """Whether a content string is one that private messages have."""
    match = _match_box(content)
    return match is not None and match.end(1) % 4 == 0


def low_bytes(text: bytes) -> bytes:
    """The low byte of each UTF-16 unit of a UTF-8 text: what ids are hashed over, as long as the size limit counts."""
    return _utf_16_le_encode(text.decode())[0][::2]


def read_place(text: bytes) -> tuple[str, int]:
    """Author and sequence as a text claims them. Raises InvalidMessage."""
    members = _members(text)
    return _author(members), _sequence(members)


def read_exact(text: bytes) -> Message:
    """The message in a text, checked in all but chain and signature. Raises InvalidMessage."""
    members = _members(text)
    _check_order(members)
    previous = _previous(members)
    author = _author(members)
    sequence = _sequence(members)
    timestamp = _timestamp(members)
    if members.value["hash"] != "sha256":
        raise members.refuse("hash", '"sha256"')
    _check_content(members)
    signature = _signature(members)
    formatted = canonical_json.indented(members.value)
    hashed = low_bytes(formatted)
    units = len(hashed)
    if units > MAX_UNITS:
        raise TooLarge(units, MAX_UNITS, "UTF-16 units")
    key = hashlib.sha256(hashed).digest()
    unsigned = {name: value for name, value in members.value.items() if name != "signature"}
    compact = canonical_json.compact(members.value)
    # Read again from the stored text: there members stand in V8's order and no number is infinite.
    content: Any = canonical_json.parse(canonical_json.compact(members.value["content"]))
    return Message(
        id="%" + b2a_base64(key, newline=False).decode() + ".sha256",
        key=key,
        author=author,
        sequence=sequence,
        previous=previous,
        timestamp=timestamp,
        content=content,
        text=compact,
        size=units,
        signed=canonical_json.indented(unsigned),
        signature=signature,
        format=NAME,
    )


class _Members:
    """The top of a message as V8 reads it, with the text for telling where something was found."""

    def __init__(self, text: bytes, value: JsonObject) -> None:
        self.text = text
        self.value = value

    def refuse(self, field: str, expected: str) -> InvalidMessage:
        found = _shown(self.value[field]) if field in self.value else "nothing"
        offset = canonical_json.member_offset(self.text, field)
        return InvalidMessage(f"{field} must be {expected}, found {found}", field, offset)


def _shown(value: JsonValue) -> str:
    """A value for people, cut to a length that fits on a line."""
    printed = canonical_json.compact(value).decode()
    return printed if len(printed) <= 80 else f"{printed[:60]}… ({len(printed)} characters)"


def _members(text: bytes) -> _Members:
    if len(text) > MAX_TEXT:
        raise TooLarge(len(text), MAX_TEXT, "bytes", "the text of the message")
    try:
        value = canonical_json.parse(text, MAX_DEPTH)
    except InvalidJson as error:
        raise InvalidMessage(error.reason, None, error.offset) from None
    if not isinstance(value, dict):
        raise InvalidMessage(f"a message must be an object, found {_shown(value)}", None, 0)
    return _Members(text, value)


def _author(members: _Members) -> str:
    author = members.value.get("author")
    if not isinstance(author, str) or not is_author(author):
        raise members.refuse("author", "a feed id: @, the canonical base64 of 32 bytes, .ed25519")
    return author


def _sequence(members: _Members) -> int:
    sequence = members.value.get("sequence")
    if type(sequence) is not int or not 1 <= sequence <= MAX_SEQUENCE:
        raise members.refuse("sequence", f"a whole number from 1 to {MAX_SEQUENCE}")
    return sequence


def _previous(members: _Members) -> str | None:
    previous = members.value["previous"]
    if previous is not None and not (isinstance(previous, str) and _match_message_id(previous)):
        raise members.refuse("previous", "null or a message id: %, the canonical base64 of 32 bytes, .sha256")
    return previous


def _timestamp(members: _Members) -> int | float:
    timestamp = members.value["timestamp"]
    # Infinity (1e400) is a number in JavaScript but prints as null, and null is no timestamp for whoever gets it next.
    if type(timestamp) is int or (type(timestamp) is float and abs(timestamp) != float("inf")):
        return timestamp
    raise members.refuse("timestamp", "a finite number of milliseconds")


def _signature(members: _Members) -> bytes:
    signature = members.value["signature"]
    if not isinstance(signature, str) or not _match_signature(signature):
        raise members.refuse("signature", "the canonical base64 of 64 bytes followed by .sig.ed25519")
    return a2b_base64(signature[:88])


def _check_order(members: _Members) -> None:
    names = tuple(members.value)
    if names in _ORDERS:
        return
    missing = [name for name in _ORDERS[0] if name not in members.value]
    extra = [name for name in names if name not in _ORDERS[0]]
    if missing:
        raise InvalidMessage(f"{', '.join(missing)} is missing", missing[0])
    if extra:
        offset = canonical_json.member_offset(members.text, extra[0])
        raise InvalidMessage(f"{_shown(extra[0])} does not belong in a message", extra[0], offset)
    expected = _ORDERS[names[1] == "sequence"]
    wrong = next(name for name, right in zip(names, expected, strict=True) if name != right)
    order = ", ".join(expected)
    offset = canonical_json.member_offset(members.text, wrong)
    raise InvalidMessage(f"members are out of order at {wrong}; expected {order}", wrong, offset)


def _check_content(members: _Members) -> None:
    content = members.value["content"]
    if isinstance(content, str):
        if not is_box(content):
            raise members.refuse("content", "an object, or canonical base64 followed by .box")
    elif not isinstance(content, dict):
        raise members.refuse("content", "an object or a box string")
    else:
        kind = content.get("type")
        if not isinstance(kind, str) or not 3 <= utf16_units(kind) <= 52:
            offset = canonical_json.member_offset(members.text, "content")
            found = _shown(kind) if "type" in content else "nothing"
            raise InvalidMessage(
                f"content.type must be a string of 3 to 52 characters, found {found}", "content", offset
            )
