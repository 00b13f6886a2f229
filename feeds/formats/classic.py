"""Classic feed messages (protocol.md section 7): JSON as V8 prints it, Ed25519 over it, SHA-256 of it as the id.

Verdicts are ssb-validate's for number, order, size and content, plus what section 7 recommends: a number as timestamp
in every message, a signature of exactly 64 bytes. A verdict depends on the value alone and never on how it was spelled
on the way: what is stored and sent on is the compact spelling, and that passes every check the received one passed.

Two ways lead from a text to a Message. The fast one takes texts whose head is spelled as every node spells it: one
pattern checks order, names and forms of six members at once, and only the content is decoded. Whatever it does not take
goes the exact way, which also finds the reason when there is something to refuse. Both give the same Message.
"""

import codecs
import hashlib
import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import orjson

from feeds import canonical_json, keys
from feeds.canonical_json import orders_integer_keys, plain_object_type, utf16_units
from feeds.errors import InvalidJson, InvalidMessage, TooLarge
from feeds.formats.base import ChainFault
from feeds.keys import Keypair
from feeds.message import Draft, JsonObject, JsonValue, Message, Tip

__all__ = ["MAX_TEXT", "MAX_UNITS", "ClassicFormat"]

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

# --- forms of members -------------------------------------------------------------------------------------------------

_DATA32 = "[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]="
_DATA64 = "[A-Za-z0-9+/]{85}[AQgw]=="

_is_author = re.compile(rf"@{_DATA32}\.ed25519").fullmatch
_is_message_id = re.compile(rf"%{_DATA32}\.sha256").fullmatch
_is_signature = re.compile(rf"{_DATA64}\.sig\.ed25519").fullmatch
# Canonical base64, given that its length is a multiple of four. What follows ".box" is open, so that later kinds of box
# pass; JavaScript's dot stops at line ends.
_match_box = re.compile(r"([A-Za-z0-9+/]*(?:[AQgw]==|[AEIMQUYcgkosw048]=)?)\.box[^\n\r\u2028\u2029]*").fullmatch

_SIGNATURE_HEAD: Final = b',"signature":"'
_SIGNATURE_TAIL: Final = b'.sig.ed25519"}'
_LAST_OF_64: Final = (b"A==", b"Q==", b"g==", b"w==")
_TAIL_SIZE: Final = len(_SIGNATURE_HEAD) + 88 + len(_SIGNATURE_TAIL)

_match_head = re.compile(
    (
        rf'\{{"previous":(?:null|"(%{_DATA32}\.sha256)"),'
        rf'(?:"author":"(@{_DATA32}\.ed25519)","sequence":([1-9][0-9]{{0,9}})'
        rf'|"sequence":([1-9][0-9]{{0,9}}),"author":"(@{_DATA32}\.ed25519)"),'
        r'"timestamp":([1-9][0-9]{0,14}|0)(\.[0-9]{1,20})?,"hash":"sha256","content":'
    ).encode()
).match
_match_peek = re.compile(
    (
        rf'\{{"previous":(?:null|"%{_DATA32}\.sha256"),'
        rf'(?:"author":"(@{_DATA32}\.ed25519)","sequence":([1-9][0-9]{{0,9}})'
        rf'|"sequence":([1-9][0-9]{{0,9}}),"author":"(@{_DATA32}\.ed25519)"),"timestamp":'
    ).encode()
).match

_LINES_AUTHOR_FIRST: Final = (
    b'{\n  "previous": %b,\n  "author": "%b",\n  "sequence": %b,\n  "timestamp": %b,\n  "hash": "sha256",\n'
)
_LINES_SEQUENCE_FIRST: Final = (
    b'{\n  "previous": %b,\n  "sequence": %b,\n  "author": "%b",\n  "timestamp": %b,\n  "hash": "sha256",\n'
)

_SIGNATURE_LINE: Final = b',\n  "signature": "%b.sig.ed25519"\n}'

_Content: Any = str | plain_object_type(6)
_decode_content = msgspec.json.Decoder(_Content).decode
_dumps = orjson.dumps
_INDENT: Final = orjson.OPT_INDENT_2
_sha256 = hashlib.sha256
_utf_16_le_encode = codecs.utf_16_le_encode
_new_tuple = tuple.__new__


def _is_box(content: str) -> bool:
    match = _match_box(content)
    return match is not None and match.end(1) % 4 == 0


class ClassicFormat:
    """The feed format of nearly every message on the network."""

    name: Final = NAME

    def owns(self, feed: str) -> bool:
        return _is_author(feed) is not None

    def peek(self, text: bytes) -> tuple[str, int]:
        match = _match_peek(text)
        if match is not None:
            author, sequence, other_sequence, other_author = match.groups()
            return (author or other_author).decode(), int(sequence or other_sequence)
        members = _members(text)
        return _author(members), _sequence(members)

    def prepare(self, text: bytes, hmac_key: bytes | None = None) -> Message:  # noqa: ARG002  (other formats need it)
        message = _fast(text)
        return _exact(text) if message is None else message

    def check_chain(self, message: Message, tip: Tip) -> ChainFault | None:
        expected = tip.sequence + 1
        if message.sequence == expected:
            if message.previous == tip.id:
                return None
            if tip.id is None:
                return ChainFault("invalid", "previous", "the first message of a feed must have null as previous")
            found = message.previous or "null"
            return ChainFault("fork", "previous", f"previous is {found}, but the message before it here is {tip.id}")
        if message.sequence < expected:
            return ChainFault("known", "sequence", f"sequence {message.sequence} is here already, up to {tip.sequence}")
        return ChainFault("gap", "sequence", f"sequence is {message.sequence}, the next one here is {expected}")

    def first_bad_signature(self, messages: Sequence[Message], hmac_key: bytes | None = None) -> int:
        publics = {author: keys.public_from_id(author) for author in {message.author for message in messages}}
        if hmac_key is None:
            return keys.verify_many([(m.signature, m.signed, publics[m.author]) for m in messages])
        return keys.verify_many([(m.signature, keys.hmac(hmac_key, m.signed), publics[m.author]) for m in messages])

    def draft(self, author: str, tip: Tip, content: JsonObject | str, timestamp: float) -> Draft:
        value: JsonObject = {
            "previous": tip.id,
            "author": author,
            "sequence": tip.sequence + 1,
            "timestamp": timestamp,
            "hash": "sha256",
            "content": content,
        }
        try:
            signed = canonical_json.indented(value)
        except (TypeError, AttributeError) as error:
            raise InvalidMessage(f"content cannot be written as JSON: {error}", "content") from None
        signature = "A" * 86 + "==.sig.ed25519"
        message = _exact(canonical_json.compact({**value, "signature": signature}))
        return Draft(
            author, message.sequence, message.previous, message.timestamp, message.content, signed, message.size
        )

    def create(
        self,
        keypair: Keypair,
        tip: Tip,
        content: JsonObject | str,
        timestamp: float,
        hmac_key: bytes | None = None,
    ) -> Message:
        draft = self.draft(keypair.id, tip, content, timestamp)
        signature = b2a_base64(keys.sign(keypair, draft.signed, hmac_key), newline=False)
        formatted = draft.signed[:-2] + b',\n  "signature": "' + signature + b'.sig.ed25519"\n}'
        return self.prepare(canonical_json.canonical_compact(formatted))

    def signed_text(self, text: bytes) -> bytes:
        try:
            return canonical_json.canonical(text)
        except InvalidJson as error:
            raise InvalidMessage(error.reason, None, error.offset) from None


# --- the fast way -----------------------------------------------------------------------------------------------------


def _fast(text: bytes) -> Message | None:
    """The message in a text spelled in the usual way; None when the exact way must decide."""
    head = _match_head(text)
    if head is None or len(text) > MAX_TEXT:
        return None
    start = head.end()
    end = len(text) - _TAIL_SIZE
    # Canonical base64 of 64 bytes: 85 characters, one whose four spare bits are zero, and two of padding.
    if text[end:-102] != _SIGNATURE_HEAD or text[-17:-14] not in _LAST_OF_64 or text[-14:] != _SIGNATURE_TAIL:
        return None
    encoded = text[-102:-14]
    try:
        signature = a2b_base64(encoded, strict_mode=True)
        spelled = text[start:end]
        content = _decode_content(spelled)
    except (ValueError, msgspec.MsgspecError):
        return None
    compact = _dumps(content)
    if type(content) is dict:
        kind = content.get("type")
        if type(kind) is not str or not 3 <= len(kind) <= 52 or not kind.isascii() or orders_integer_keys(compact):
            return None
    elif not _is_box(content):
        return None
    previous, author, sequence, sequence_first, author_last, timestamp, fraction = head.groups()
    if fraction is None:
        milliseconds: int | float = int(timestamp)
    else:
        timestamp += fraction
        milliseconds = float(timestamp)
        if repr(milliseconds).encode() != timestamp or milliseconds == int(milliseconds):
            return None
    quoted = b"null" if previous is None else b'"' + previous + b'"'
    if author is not None:
        lines = _LINES_AUTHOR_FIRST % (quoted, author, sequence, timestamp)
    else:
        author, sequence = author_last, sequence_first
        lines = _LINES_SEQUENCE_FIRST % (quoted, sequence, author, timestamp)
    number = int(sequence)
    if number > MAX_SEQUENCE:
        return None
    body = _dumps({"content": content}, option=_INDENT)[2:-2]
    ending = _SIGNATURE_LINE % encoded
    low = body if body.isascii() else _low_bytes(body)
    hashed = lines + low + ending
    units = len(hashed)
    key = _sha256(hashed).digest()
    if units > MAX_UNITS:
        return None
    # tuple's own constructor: the generated one costs twice as much for the same value.
    return _new_tuple(
        Message,
        (
            f"%{b2a_base64(key, newline=False).decode()}.sha256",
            key,
            author.decode(),
            number,
            None if previous is None else previous.decode(),
            milliseconds,
            content,
            text if compact == spelled else text[:start] + compact + text[end:],
            units,
            lines + body + b"\n}",
            signature,
            NAME,
        ),
    )


def _low_bytes(text: bytes) -> bytes:
    """The low byte of each UTF-16 unit of a UTF-8 text: what ids are hashed over, as long as the size limit counts."""
    return _utf_16_le_encode(text.decode())[0][::2]


# --- the exact way ----------------------------------------------------------------------------------------------------


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
    if not isinstance(author, str) or not _is_author(author):
        raise members.refuse("author", "a feed id: @, the canonical base64 of 32 bytes, .ed25519")
    return author


def _sequence(members: _Members) -> int:
    sequence = members.value.get("sequence")
    if type(sequence) is not int or not 1 <= sequence <= MAX_SEQUENCE:
        raise members.refuse("sequence", f"a whole number from 1 to {MAX_SEQUENCE}")
    return sequence


def _previous(members: _Members) -> str | None:
    previous = members.value["previous"]
    if previous is not None and not (isinstance(previous, str) and _is_message_id(previous)):
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
    if not isinstance(signature, str) or not _is_signature(signature):
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
        if not _is_box(content):
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


def _exact(text: bytes) -> Message:
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
    hashed = _low_bytes(formatted)
    units = len(hashed)
    if units > MAX_UNITS:
        raise TooLarge(units, MAX_UNITS, "UTF-16 units")
    key = _sha256(hashed).digest()
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
