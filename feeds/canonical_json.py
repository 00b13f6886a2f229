"""JSON exactly as V8 reads and prints it: what classic messages are signed, hashed and measured over.

protocol.md section 7: the text an author signs is `JSON.stringify(value, null, 2)` of a V8 parse, and the text that
this node stores and sends is `JSON.stringify(value)` of the same value. Two ways lead there:

* **fast** -- msgspec decodes into types that hold no float, no integer beyond 2^53 and a bounded depth, and orjson
  prints. For such values the two agree with V8 except in the order of integer-like keys, so a printed text that
  contains `"digits":` is thrown away (tested on the output: in the input an escape could hide a digit).
* **exact** -- `parse` keeps lone surrogates and the double nearest to every number, `compact` and `indented` print as
  ECMAScript's JSON.stringify prescribes.

Whatever the fast way does not take goes the exact way; fuzzing both against node finds no difference.

Bytes that are no UTF-8 are refused. Node would put U+FFFD in their place, and a message whose author had signed U+FFFD
would then verify although nobody signed the bytes received. Refusing loses nothing: no correct node sends such bytes.
"""

import json
import re
from typing import Annotated, Any, Final, NoReturn, TypeAlias

import msgspec
import orjson

from feeds.errors import InvalidJson

__all__ = [
    "MAX_DEPTH",
    "MAX_SIZE",
    "JsonObject",
    "JsonValue",
    "canonical",
    "canonical_compact",
    "compact",
    "format_number",
    "indented",
    "member_offset",
    "orders_integer_keys",
    "parse",
    "plain_decoder",
    "utf16_units",
]

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, "JsonValue"]

MAX_SIZE: Final = 16 * 1024 * 1024
"""Bytes of text read at most; callers with a smaller limit of their own check that first."""
MAX_DEPTH: Final = 512
"""Arrays and objects inside one another. A classic message, 8192 units long at most, holds fewer than 70."""

_SAFE_INTEGER: Final = 2**53
_FAST_DEPTH: Final = 6

# --- the fast way -----------------------------------------------------------------------------------------------------

_Integer = Annotated[int, msgspec.Meta(ge=-_SAFE_INTEGER, le=_SAFE_INTEGER)]
_Scalar = str | _Integer | bool | None


def _plain_type(depth: int) -> Any:
    """The msgspec type of JSON values without floats, with at most `depth` arrays or objects inside one another."""
    plain: Any = _Scalar
    for _ in range(depth):
        plain = _Scalar | list[plain] | dict[str, plain]
    return plain


def plain_decoder(kind: Any = None) -> "msgspec.json.Decoder[Any]":
    """A decoder that either reads a text as V8 would or raises msgspec.MsgspecError (then: the exact way).

    kind -- None for any value; a msgspec type made by the caller otherwise.
    """
    return msgspec.json.Decoder(_plain_type(_FAST_DEPTH) if kind is None else kind)


def plain_object_type(depth: int = _FAST_DEPTH) -> Any:
    """The msgspec type of such an object, for callers that know the top of their text."""
    return dict[str, _plain_type(depth - 1)]  # type: ignore[misc]


orders_integer_keys: Final = re.compile(rb'"[0-9]+":').search
"""Tells whether a text printed by orjson has keys that V8 would put in another place (or strings that look so)."""

_decode_plain = plain_decoder().decode


def canonical(text: bytes | str) -> bytes:
    """`JSON.stringify(JSON.parse(text), null, 2)` in UTF-8. Raises InvalidJson."""
    try:
        printed = orjson.dumps(_decode_plain(text), option=orjson.OPT_INDENT_2)
        if len(printed) <= MAX_SIZE and orders_integer_keys(printed) is None:
            return printed
    except (msgspec.MsgspecError, orjson.JSONEncodeError, UnicodeError, RecursionError):
        pass
    return indented(parse(text))


def canonical_compact(text: bytes | str) -> bytes:
    """`JSON.stringify(JSON.parse(text))` in UTF-8. Raises InvalidJson."""
    try:
        printed = orjson.dumps(_decode_plain(text))
        if len(printed) <= MAX_SIZE and orders_integer_keys(printed) is None:
            return printed
    except (msgspec.MsgspecError, orjson.JSONEncodeError, UnicodeError, RecursionError):
        pass
    return compact(parse(text))


# --- the exact reader -------------------------------------------------------------------------------------------------


def _integer(digits: str) -> int | float:
    # Fifteen digits and a sign are always exact; longer ones may be and are settled by the double.
    return int(digits) if len(digits) < 16 else _double(digits)


def _double(digits: str) -> int | float:
    """The double nearest to a number's text; an int where JavaScript prints it as one and Python holds it exactly."""
    number = float(digits)
    if -_SAFE_INTEGER <= number <= _SAFE_INTEGER and number == (whole := int(number)):
        return whole
    return number


def _no_constant(name: str) -> NoReturn:
    raise InvalidJson(f"{name} is no JSON value")


# CPython's own scanner: the same grammar as V8's but for NaN and Infinity, and it keeps lone surrogates.
_scanner = json.JSONDecoder(parse_float=_double, parse_int=_integer, parse_constant=_no_constant)

# A string (closed or not) or a bracket; each character is looked at once, also in hostile text.
_TOKENS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.DOTALL)


def parse(text: bytes | str, max_depth: int = MAX_DEPTH) -> JsonValue:
    """The value V8's JSON.parse gives for a text.

    Numbers are ints where they are whole and within 2^53, else floats (infinite where a double would be, as in V8).
    Members keep the order of the text, integer-like keys too; the printers put those where V8 has them. The last of
    several equal keys counts, at the place of the first. Raises InvalidJson, and nothing else, with the byte offset.

    max_depth -- arrays and objects inside one another; every level may indent each line of a printed text further.
    """
    document = _decoded(text)
    _check_depth(document, max_depth)
    try:
        return _scanner.decode(document)  # type: ignore[no-any-return]
    except json.JSONDecodeError as error:
        raise InvalidJson(_reason(error), _byte_offset(document, error.pos)) from None
    except RecursionError:
        raise InvalidJson("arrays and objects are nested too deeply") from None


def _decoded(text: bytes | str) -> str:
    if len(text) > MAX_SIZE:
        raise InvalidJson(f"the text is {len(text)} bytes long, the limit is {MAX_SIZE}")
    if isinstance(text, str):
        # A surrogate pair spelled as two characters is one character to JavaScript.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    try:
        document = text.decode()
    except UnicodeDecodeError as error:
        raise InvalidJson("the text is not UTF-8", error.start) from None
    if document.startswith("\ufeff"):
        raise InvalidJson("the text starts with a byte order mark", 0)
    return document


def _check_depth(document: str, limit: int) -> None:
    if document.count("[") + document.count("{") <= limit:
        return
    depth = 0
    for token in _TOKENS.finditer(document):
        first = document[token.start()]
        if first in "[{":
            depth += 1
            if depth > limit:
                offset = _byte_offset(document, token.start())
                raise InvalidJson(f"more than {limit} arrays and objects inside one another", offset)
        elif first != '"':
            depth -= 1


def _byte_offset(document: str, position: int) -> int:
    return len(document[:position].encode("utf-8", "surrogatepass"))


def _reason(error: json.JSONDecodeError) -> str:
    if error.pos >= len(error.doc):
        return "the JSON text ends too early"
    return f"this is not JSON: {error.msg[:1].lower()}{error.msg[1:]}"


def member_offset(text: bytes, name: str) -> int | None:
    """Byte where the value of a top-level member starts (the one that counts, of several), for messages to people.

    None when the text is no object, has no such member, or cannot be read.
    """
    found = None
    try:
        document = text.decode()
        _check_depth(document, MAX_DEPTH)
        position = _skip_space(document, 0)
        if document[position : position + 1] != "{":
            return None
        while document[position] in "{,":
            key, colon = _scanner.raw_decode(document, _skip_space(document, position + 1))
            start = _skip_space(document, _skip_space(document, colon) + 1)
            _, position = _scanner.raw_decode(document, start)
            position = _skip_space(document, position)
            if key == name:
                found = start
    except (UnicodeDecodeError, InvalidJson, ValueError, IndexError, RecursionError):
        pass
    return None if found is None else _byte_offset(document, found)


def _skip_space(document: str, position: int) -> int:
    while document[position : position + 1] in (" ", "\t", "\n", "\r"):
        position += 1
    return position


# --- the exact printers -----------------------------------------------------------------------------------------------

_ESCAPED = re.compile('[\x00-\x1f"\\\\\ud800-\udfff]')
_SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_ARRAY_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")
_LAST_INDEX: Final = 2**32 - 2


def compact(value: JsonValue) -> bytes:
    """`JSON.stringify(value)` in UTF-8, of what `parse` gives and any value made of the same types.

    Raises InvalidJson for a value deeper than MAX_DEPTH (or inside itself), TypeError for other types.
    """
    return _print(value, "", "").encode()


def indented(value: JsonValue) -> bytes:
    """`JSON.stringify(value, null, 2)` in UTF-8; like `compact`.

    Each line is indented by twice its depth, so bound the text that a value was read from before printing it this way.
    """
    return _print(value, "\n", "  ").encode()


def format_number(number: int | float) -> str:
    """A number as JavaScript's Number.prototype.toString gives it, "null" when it is not finite.

    Both languages print the fewest digits that read back as the same double; only the layout differs.
    """
    if isinstance(number, int):
        if -_SAFE_INTEGER <= number <= _SAFE_INTEGER:
            return str(number)
        try:
            number = float(number)
        except OverflowError:
            return "null"
    if number != number or number in (float("inf"), float("-inf")):
        return "null"
    if number == 0:
        return "0"
    sign = "-" if number < 0 else ""
    mantissa, _, exponent = repr(abs(number)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    if fraction == "0":
        fraction = ""
    digits = (whole + fraction).lstrip("0")
    # The value is 0.DIGITS * 10^point.
    point = len(whole) + int(exponent or 0)
    if whole == "0":
        point -= len(fraction) - len(fraction.lstrip("0")) + 1
    return sign + _lay_out(digits.rstrip("0"), point)


def _lay_out(digits: str, point: int) -> str:
    """ECMAScript Number::toString, steps 6 to 10, for the value 0.DIGITS * 10^point."""
    count = len(digits)
    if count <= point <= 21:
        return digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    rest = f".{digits[1:]}" if count > 1 else ""
    return f"{digits[0]}{rest}e{point - 1:+d}"


def _quote(text: str) -> str:
    if not _ESCAPED.search(text):
        return f'"{text}"'
    # Surrogates that were put together from two characters are one to JavaScript and need no escape.
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return '"' + _ESCAPED.sub(_escape, joined) + '"'


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    return _SHORT.get(char) or f"\\u{ord(char):04x}"


def _members(value: dict[str, JsonValue]) -> list[tuple[str, JsonValue]]:
    """Members in V8's order: array-index keys ascending, then the rest as they came."""
    indexes = [key for key in value if _ARRAY_INDEX.fullmatch(key) and int(key) <= _LAST_INDEX]
    if not indexes:
        return list(value.items())
    first = dict.fromkeys(sorted(indexes, key=int))
    return [(key, value[key]) for key in first] + [item for item in value.items() if item[0] not in first]


def _scalar(value: JsonValue) -> str:
    match value:
        case str():
            return _quote(value)
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return format_number(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _print(value: JsonValue, newline: str, step: str) -> str:
    """Prints without recursion, so that no depth that `parse` lets through can exhaust the stack.

    Frames of the loop stand for the arrays and objects being printed; the outermost one holds the value itself.
    """
    out: list[str] = []
    colon = ": " if newline else ":"
    # Each entry: what is left to print of one array or object, the text that goes between, and its closing bracket.
    stack: list[tuple[Any, str]] = []
    pending: Any = iter((("", value),))
    closing = ""
    comma = ""
    while True:
        entry = next(pending, None)
        if entry is None:
            if not stack:
                return "".join(out)
            out.append(closing)
            pending, closing = stack.pop()
            comma = "," + newline + step * len(stack)
            continue
        if stack:
            out.append(comma)
        prefix, item = entry
        out.append(prefix)
        if isinstance(item, dict):
            members: Any = iter([(_quote(key) + colon, member) for key, member in _members(item)])
            opening, end = "{", "}"
        elif isinstance(item, list):
            members, opening, end = iter([("", member) for member in item]), "[", "]"
        else:
            out.append(_scalar(item))
            comma = "," + newline + step * len(stack)
            continue
        if not item:
            out.append(opening + end)
            comma = "," + newline + step * len(stack)
            continue
        out.append(opening)
        stack.append((pending, closing))
        if len(stack) > MAX_DEPTH:
            raise InvalidJson(f"more than {MAX_DEPTH} arrays and objects inside one another")
        pending, closing = members, newline + step * (len(stack) - 1) + end
        comma = newline + step * len(stack)


def utf16_units(text: str) -> int:
    """Length of a text as JavaScript counts it."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2
