"""BIPF, the binary JSON that ssb-db2 stores messages in (the specification is ssbc/bipf-spec).

A value is a varint tag, `length * 8 + type`, and so many bytes. Numbers are a 32-bit integer or a double; arrays and
objects are their members, one after the other.
"""

import struct
from typing import Final

from feeds.canonical_json import MAX_DEPTH
from feeds.errors import FeedsError
from feeds.message import JsonValue

__all__ = ["InvalidBipf", "decode"]

STRING: Final = 0
INTEGER: Final = 2
DOUBLE: Final = 3
ARRAY: Final = 4
OBJECT: Final = 5
BOOL_OR_NULL: Final = 6

_INTEGER: Final = struct.Struct("<i")
_DOUBLE: Final = struct.Struct("<d")
_BITS_OF_A_TAG: Final = 35


class InvalidBipf(FeedsError):
    """Bytes that are no BIPF, or hold what JSON cannot say. The text says what and where."""


def decode(data: bytes) -> JsonValue:
    """The one JSON value that `data` is. Raises InvalidBipf."""
    try:
        value, end = _value(data, 0, len(data), 0)
    except RecursionError:
        raise InvalidBipf("it is nested too deeply") from None
    if end != len(data):
        raise InvalidBipf(f"something follows the value, at byte {end}")
    return value


def _value(data: bytes, at: int, limit: int, depth: int) -> tuple[JsonValue, int]:
    """The value at `at`, which must end at `limit` or before, and where it ends."""
    kind, at, end = _tag(data, at, limit)
    if kind == STRING:
        return _text(data, at, end), end
    if kind in (OBJECT, ARRAY):
        if depth >= MAX_DEPTH:
            raise InvalidBipf("it is nested too deeply")
        if kind == ARRAY:
            items: list[JsonValue] = []
            while at < end:
                item, at = _value(data, at, end, depth + 1)
                items.append(item)
            return items, end
        members: dict[str, JsonValue] = {}
        while at < end:
            name_kind, at, name_end = _tag(data, at, end)
            if name_kind != STRING:
                raise InvalidBipf(f"the name of a member is no text, at byte {at}")
            name = _text(data, at, name_end)
            members[name], at = _value(data, name_end, end, depth + 1)
        return members, end
    return _scalar(kind, data[at:end], at), end


def _scalar(kind: int, data: bytes, at: int) -> JsonValue:
    match kind, len(data):
        case (2, 4):
            return int(_INTEGER.unpack(data)[0])
        case (3, 8):
            return float(_DOUBLE.unpack(data)[0])
        case (6, 0):
            return None
        case (6, 1) if data[0] < 2:
            return data[0] == 1
    raise InvalidBipf(f"there is no value of type {kind} and {len(data)} bytes in JSON, at byte {at}")


def _text(data: bytes, at: int, end: int) -> str:
    try:
        return data[at:end].decode()
    except UnicodeDecodeError:
        raise InvalidBipf(f"a text is not UTF-8, at byte {at}") from None


def _tag(data: bytes, at: int, limit: int) -> tuple[int, int, int]:
    """The type, and where the bytes of the value begin and end."""
    start, tag, shift = at, 0, 0
    while True:
        if at >= limit or shift >= _BITS_OF_A_TAG:
            raise InvalidBipf(f"a tag does not end, at byte {start}")
        byte = data[at]
        at += 1
        tag |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    end = at + (tag >> 3)
    if end > limit:
        raise InvalidBipf(f"a value is longer than what holds it, at byte {start}")
    return tag & 7, at, end
