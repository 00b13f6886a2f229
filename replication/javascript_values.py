"""Values of JSON as JavaScript compares and reads them, for queries that were written for it (ECMA-262, section 7)."""

import math
import re
from typing import Any, Final

__all__ = ["MISSING", "compare_ordered", "less", "member", "same", "to_number", "truthy", "type_of"]


class _Missing:
    """What is not there: `undefined`."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()

_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z")
_SPACE: Final = " \t\n\r\v\f\u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(map(chr, range(0x2000, 0x200B)))
_MAX_DIGITS: Final = 400


def member(value: Any, name: str | int) -> Any:
    """`value[name]`, without what every object inherits."""
    match value:
        case dict():
            return value.get(str(name), MISSING)
        case list() | str():
            if name == "length":
                return len(value) if isinstance(value, list) else len(value.encode("utf-16-le", "surrogatepass")) // 2
            index = name if isinstance(name, int) else _index(name)
            return value[index] if 0 <= index < len(value) else MISSING
    return MISSING


def _index(name: str) -> int:
    return int(name) if name.isascii() and name.isdigit() and len(name) < 10 and str(int(name)) == name else -1


def same(one: Any, other: Any) -> bool:
    """`one === other` where both come from different texts: lists and objects never are."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict | list):
        return False
    return bool(one == other)


def truthy(value: Any) -> bool:
    """Whether `if (value)` holds."""
    if isinstance(value, dict | list):
        return True
    return value is not MISSING and bool(value) and value == value


def type_of(value: Any) -> str:
    """`typeof value`."""
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
    return "undefined" if value is MISSING else "object"


def to_number(value: Any) -> float:
    """`+value`; NaN for what is no number."""
    match value:
        case bool() | float():
            return float(value)
        case int():
            return float(value) if value.bit_length() < 1024 else math.copysign(math.inf, value)
        case None:
            return 0.0
        case str():
            return _parsed(value.strip(_SPACE))
        case list() | dict():
            return to_number(_text(value))
    return math.nan


def _parsed(text: str) -> float:
    if not text:
        return 0.0
    if len(text) < _MAX_DIGITS and text[:2].lower() in ("0x", "0o", "0b"):
        try:
            return to_number(int(text, 0)) if "_" not in text else math.nan
        except ValueError:
            return math.nan
    if text.lstrip("+-") == "Infinity" and len(text) < 10:
        return -math.inf if text[0] == "-" else math.inf
    return float(text) if _NUMBER.match(text) else math.nan


def _text(value: Any) -> str:
    """`String(value)`, for lists and objects as deep as JSON may be here."""
    match value:
        case str():
            return value
        case list():
            return ",".join("" if each is None else _text(each) for each in value)
        case dict():
            return "[object Object]"
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer() and abs(value) < 1e21:
            return str(int(value))
        case None:
            return "null"
    return str(value)


def less(one: Any, other: Any, *, or_equal: bool = False) -> bool:
    """`one < other`, or `one <= other`: two texts by their UTF-16 units, all else as numbers."""
    one = _text(one) if isinstance(one, dict | list) else one
    other = _text(other) if isinstance(other, dict | list) else other
    if isinstance(one, str) and isinstance(other, str):
        return _units(one) < _units(other) or (or_equal and one == other)
    left, right = to_number(one), to_number(other)
    return left < right or (or_equal and left == right)


def _units(text: str) -> bytes:
    return text.encode("utf-16-be", "surrogatepass")


def compare_ordered(one: Any, other: Any) -> int:
    """-1, 0 or 1 by one order for all values: null, booleans, numbers, texts, objects, lists, what is missing."""
    kinds = _kind(one), _kind(other)
    if kinds[0] != kinds[1]:
        return -1 if kinds[0] < kinds[1] else 1
    if isinstance(one, list):
        for left, right in zip(one, other, strict=False):
            if order := compare_ordered(left, right):
                return order
        return _sign(len(one), len(other))
    if isinstance(one, dict):
        return compare_ordered([list(pair) for pair in one.items()], [list(pair) for pair in other.items()])
    if isinstance(one, str):
        return _sign(_units(one), _units(other))
    return 0 if one is None or one is MISSING else _sign(one, other)


def _sign(one: Any, other: Any) -> int:
    return 0 if one == other else -1 if one < other else 1


def _kind(value: Any) -> int:
    match value:
        case None:
            return 0
        case bool():
            return 1
        case int() | float():
            return 2
        case str():
            return 4
        case dict():
            return 5
        case list():
            return 6
    return 7
