"""BIPF: values read as JSON, and nothing but the documented exception for any bytes."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.canonical_json import compact
from feeds.foreign.bipf import InvalidBipf, decode
from feeds.message import JsonValue
from tests.support.foreign_logs import bipf, varint

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_values_come_back_in_the_order_and_spelling_of_v8(value: JsonValue) -> None:
    assert compact(decode(bipf(value))) == compact(value)


def test_an_object_by_hand() -> None:
    assert decode(b"\x35\x18foo\x0e\x01") == {"foo": True}


@given(st.binary(max_size=40))
def test_any_bytes_are_a_value_or_refused(data: bytes) -> None:
    with contextlib.suppress(InvalidBipf):
        decode(data)


@given(JSON, st.data())
def test_damage_is_a_value_or_refused(value: JsonValue, data: st.DataObject) -> None:
    good = bytearray(bipf(value))
    good[data.draw(st.integers(0, len(good) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(InvalidBipf):
        decode(bytes(good))


def nested(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        inner = varint(len(inner) * 8 + 4) + inner
    return inner


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "does not end"),
        (b"\xff" * 20, "does not end"),
        (b"\x80", "does not end"),
        (b"\x50a", "longer than"),
        (varint(4 * 8 + 1) + b"abcd", "no value of type 1"),
        (varint(7), "no value of type 7"),
        (varint(8 + 6) + b"\x02", "no value of type 6"),
        (varint(3 * 8 + 2) + b"abc", "no value of type 2"),
        (varint(8) + b"\xff", "not UTF-8"),
        (b"\x06\x06", "follows"),
        (varint(2 * 8 + 5) + b"\x06\x06", "no text"),
        (nested(100_000), "too deeply"),
    ],
    ids=["empty", "endless", "cut", "long", "buffer", "reserved", "undefined", "short", "latin", "two", "name", "deep"],
)
def test_what_is_wrong_is_said(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidBipf, match=reason):
        decode(data)


def test_numbers_are_doubles() -> None:
    assert compact(decode(varint(8 * 8 + 3) + struct.pack("<d", 1e21))) == b"1e+21"
    assert compact(decode(varint(8 * 8 + 3) + struct.pack("<d", 1500000000000.0))) == b"1500000000000"
