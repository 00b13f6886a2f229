"""Bodies of muxrpc frames: bytes, text or JSON, and the careful decoding of JSON from outside.

A JSON body is decoded once its size is known to be allowed, to a bounded depth and without
recursion. V8 reads some texts that a strict reader refuses (lone surrogates); those take a slower way.
"""

import json
import re
from enum import IntEnum
from itertools import accumulate
from typing import NamedTuple, TypeAlias

import orjson

from feeds.errors import InvalidJson
from feeds.message import JsonValue

DEPTH_MAX = 64

_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in _STEPS)


class BodyType(IntEnum):
    """The low two bits of a frame's flags; 3 is not allowed."""

    BINARY = 0
    TEXT = 1
    JSON = 2


class RawJson(bytes):
    """JSON text that is sent as it is, without a trip through Python values."""

    __slots__ = ()


Payload: TypeAlias = "JsonValue | bytes"
"""What a handler may answer with and a stream may carry: a JSON value, ``RawJson`` or bytes."""


class Body(NamedTuple):
    """One item of a stream, or one answer, as it was on the wire."""

    kind: BodyType
    data: bytes

    def value(self) -> Payload:
        """The decoded body: bytes, text or a JSON value. Raises ``InvalidJson``."""
        if self.kind is BodyType.JSON:
            return decode_json(self.data)
        if self.kind is BodyType.BINARY:
            return self.data
        try:
            return self.data.decode()
        except UnicodeDecodeError as error:
            raise InvalidJson("the text is not UTF-8", error.start) from None


def decode_json(data: bytes, depth: int = DEPTH_MAX) -> JsonValue:
    """The value of a JSON text; raises ``InvalidJson``, also when it is nested deeper than ``depth``."""
    if not _shallow(data, depth):
        raise InvalidJson(f"nested deeper than {depth}")
    try:
        value: JsonValue = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = _decode_leniently(data)
    return value


def encode_json(value: Payload) -> bytes:
    """Compact JSON text of ``value``, in the key order given. Raises ``InvalidJson`` for what JSON cannot say."""
    if isinstance(value, RawJson):
        return bytes(value)
    try:
        return orjson.dumps(value)
    except (TypeError, RecursionError):
        pass
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidJson(f"not a JSON value: {error}") from None


def encode_body(value: "Payload | Body") -> Body:
    """The frame body for a value: bytes as binary, everything else as JSON (an empty frame cannot be sent)."""
    if isinstance(value, Body):
        return value
    if isinstance(value, RawJson):
        return Body(BodyType.JSON, bytes(value))
    if isinstance(value, bytes) and value:
        return Body(BodyType.BINARY, value)
    return Body(BodyType.JSON, b'""' if value == b"" else encode_json(value))


def _decode_leniently(data: bytes) -> JsonValue:
    try:
        value: JsonValue = json.loads(data.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise InvalidJson("not UTF-8", error.start) from None
    except json.JSONDecodeError as error:
        raise InvalidJson(error.msg, error.pos) from None
    except (ValueError, RecursionError):  # NaN, or an integer of thousands of digits
        raise InvalidJson("not a JSON value") from None
    return value


def _refuse_constant(name: str) -> JsonValue:
    raise ValueError(name)


def _shallow(data: bytes, depth: int) -> bool:
    """Whether brackets nest at most ``depth`` deep; exact only where their number alone does not tell."""
    if data.count(b"[") + data.count(b"{") <= depth:
        return True
    brackets = _STRINGS.sub(b"", data).translate(None, _NOT_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) <= depth
