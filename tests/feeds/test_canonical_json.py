"""Canonical JSON against V8's answers: stored ones, and V8 itself where node is installed."""

import base64
import contextlib
import hashlib
import random
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.canonical_json import (
    MAX_DEPTH,
    MAX_SIZE,
    JsonValue,
    canonical,
    canonical_compact,
    compact,
    format_number,
    indented,
    member_offset,
    parse,
    utf16_units,
)
from feeds.errors import InvalidJson
from tests.support import v8, vectors


def exact(text: bytes | str) -> bytes:
    return indented(parse(text))


@pytest.mark.parametrize("way", [canonical, exact])
def test_vectors(way: Any) -> None:
    checked = 0
    for entry in vectors.entries("canonical-json.json"):
        if entry.get("error"):
            with pytest.raises(InvalidJson):
                way(entry["input"])
            continue
        printed = way(entry["input"])
        assert printed.decode() == entry["output"]
        assert hashlib.sha256(printed).hexdigest() == entry["utf8_sha256"]
        assert utf16_units(printed.decode()) == entry["utf16_length"]
        low_bytes = printed.decode().encode("utf-16-le")[::2]
        assert base64.b64encode(hashlib.sha256(low_bytes).digest()).decode() + ".sha256" == entry["latin1_sha256_id"]
        checked += 1
    assert checked == 330


@pytest.mark.parametrize(
    ("spelled", "printed"),
    [
        ("0", "0"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("1.0", "1"),
        ("1e0", "1"),
        ("100", "100"),
        ("1e20", "100000000000000000000"),
        ("999999999999999999999", "1e+21"),
        ("1e21", "1e+21"),
        ("123456789012345678", "123456789012345680"),
        ("9007199254740993", "9007199254740992"),
        ("-9007199254740993", "-9007199254740992"),
        ("12345678901234567890", "12345678901234567000"),
        ("0.000001", "0.000001"),
        ("0.0000001", "1e-7"),
        ("0.00000123", "0.00000123"),
        ("1.5e-7", "1.5e-7"),
        ("123e-20", "1.23e-18"),
        ("5e-324", "5e-324"),
        ("2e-324", "0"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
        ("1e400", "null"),
        ("-1e400", "null"),
        ("0.1e1", "1"),
        ("4.350", "4.35"),
        ("1E3", "1000"),
        ("1e-400", "0"),
    ],
)
def test_numbers(spelled: str, printed: str) -> None:
    assert exact(spelled) == canonical(spelled) == printed.encode()


def test_numbers_that_no_text_holds() -> None:
    assert format_number(float("nan")) == "null"
    assert format_number(10**400) == "null"
    assert format_number(2**60) == "1152921504606847000"
    assert compact([1.0, -0.0, 1e16, True]) == b"[1,0,10000000000000000,true]"


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ('{"b":1,"2":2,"a":3,"1":4}', '{"1":4,"2":2,"b":1,"a":3}'),
        ('{"4294967295":1,"4294967294":2,"01":3,"-1":4,"0":5}', '{"0":5,"4294967294":2,"4294967295":1,"01":3,"-1":4}'),
        ('{"a":1,"b":2,"a":3}', '{"a":3,"b":2}'),
        ('{"\\u0031":1,"\\u0030":2}', '{"0":2,"1":1}'),
        ('{"__proto__":{"constructor":1},"toString":2}', '{"__proto__":{"constructor":1},"toString":2}'),
        ('["\\ud83d\\ude00","\\uD800","\\udc00\\ud800"]', '["😀","\\ud800","\\udc00\\ud800"]'),
        ('["\\u2028\\u007f\\u001F\\/"]', '["\u2028\x7f\\u001f/"]'),
        ('["\\b\\f\\n\\r\\t\\u0008"]', '["\\b\\f\\n\\r\\t\\b"]'),
        (" [ ] ", "[]"),
    ],
)
def test_spelling(text: str, printed: str) -> None:
    assert canonical_compact(text) == compact(parse(text)) == printed.encode()


def test_a_surrogate_pair_in_two_characters_is_one_character() -> None:
    assert canonical('"\ud83d\ude00"') == canonical('"\ud83d\\ude00"') == '"😀"'.encode()
    assert compact("\ud83d\ude00") == '"😀"'.encode()


def test_indentation() -> None:
    text = '{"a":[],"b":{},"c":[[1,{"d":[{"e":1.5}]}],2]}'
    lines = [
        "{",
        '  "a": [],',
        '  "b": {},',
        '  "c": [',
        "    [",
        "      1,",
        "      {",
        '        "d": [',
        "          {",
    ]
    lines += ['            "e": 1.5', "          }", "        ]", "      }", "    ],", "    2", "  ]", "}"]
    assert canonical(text).decode() == "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        (b"", 0),
        (b'{"a":1,}', 7),
        (b"[1 2]", 3),
        (b'["\xc3\xa9" 1]', 6),
        (b'{"a" 1}', 5),
        (b'"a', 0),
        (b'["\x01"]', 2),
        (b"nul", 0),
        (b"01", 1),
        (b"1.", 1),
        (b"-", 0),
        (b"NaN", None),
        (b"[-Infinity]", None),
        (b"\xef\xbb\xbf{}", 0),
        (b'["\xff"]', 2),
        (b'["\xed\xa0\x80"]', 2),
        (b"\xc2\xa0{}", 0),
        (b"{'a':1}", 1),
    ],
)
def test_refusals_say_where(text: bytes, offset: int | None) -> None:
    for way in (canonical, canonical_compact, parse):
        with pytest.raises(InvalidJson) as refused:
            way(text)
        assert refused.value.offset == offset
        assert refused.value.reason


def test_depth_is_bounded_and_never_exhausts_the_stack() -> None:
    for opening, closing in (("[", "]"), ('{"":', "}")):
        inner = "[]" if opening == "[" else "{}"
        deep = opening * (MAX_DEPTH - 1) + inner + closing * (MAX_DEPTH - 1)
        assert canonical_compact(deep) == deep.encode()
        assert compact(parse(canonical(deep))) == deep.encode()
        with pytest.raises(InvalidJson, match="inside one another"):
            parse(opening + deep + closing)
        with pytest.raises(InvalidJson, match="inside one another"):
            parse(opening * 1_000_000)
    with pytest.raises(InvalidJson) as refused:
        parse('["[[[[", ["é[[",[[]]]]', max_depth=3)
    assert refused.value.offset == 18
    assert parse('["[[[[", ["é[[",[]]]', max_depth=3) == ["[[[[", ["é[[", []]]


def test_size_is_bounded() -> None:
    with pytest.raises(InvalidJson, match="limit"):
        parse(b" " * (MAX_SIZE + 1))


def test_hostile_texts_take_no_more_than_their_length() -> None:
    # Each would take minutes if some step of reading were quadratic.
    for text in (b"1" * 10**6, b"0." + b"0" * 10**6 + b"1", b"1e" + b"9" * 10**6, b"[" * 600 + b'"\\"' * 10**6):
        with contextlib.suppress(InvalidJson):
            canonical(text)


def test_member_offset() -> None:
    text = ' {"é":[{"b":1}] , "b" : 2,"b":{}}'.encode()
    assert text[member_offset(text, "b") or 0 :] == b"{}}"
    assert member_offset(text, "missing") is None
    for damaged in (b"", b"[]", b"[1]", b'{"b"', b'{"b":', b"{", b"\xff", b"[" * 1000, b'{"a":1,'):
        assert member_offset(damaged, "b") is None


def refusal(way: Any, text: bytes) -> int | None:
    """Where a text is refused, None when it is not or nowhere in particular."""
    try:
        way(text)
    except InvalidJson as refused:
        return refused.offset
    return None


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=[]))
    | st.sampled_from(["\ud83d", "__proto__", "\u2028"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 2**33).map(str), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values)
@settings(max_examples=200)
def test_printing_is_stable(value: JsonValue) -> None:
    """What is printed reads back as what prints the same, in both spellings and on both ways."""
    short, long = compact(value), indented(value)
    assert canonical_compact(short) == canonical_compact(long) == compact(parse(long)) == short
    assert canonical(short) == canonical(long) == indented(parse(short)) == long


@given(st.binary(max_size=60) | st.text('[]{}",:\\u0123eE.-+ ntf\n', max_size=40).map(str.encode))
@settings(max_examples=300)
def test_nothing_but_invalid_json_escapes(text: bytes) -> None:
    for way in (canonical, canonical_compact, parse):
        offset = refusal(way, text)
        assert offset is None or 0 <= offset <= len(text)
    offset = member_offset(text, "a")
    assert offset is None or 0 < offset < len(text)


# --- against V8 itself ------------------------------------------------------------------------------------------------

_STRINGS = ["", "a", "\u2028", "\x7f", "é", "日本", "🎉", "\ud83d", "\udc00", '"', "\\", "/", "\b\f\n", "\x00", "\x1f"]
_STRINGS += [
    "__proto__",
    "1",
    "01",
    "-1",
    "4294967294",
    "4294967295",
    "1e3",
    "\ufeff",
    "\uffff",
    "10",
    "9",
    '"5":',
    "٣",
]
_NUMBERS = ["0", "-0", "1.0", "1e3", "1e21", "1e-7", "9007199254740993", "0.1", "1e400", "5e-324", "123e-20", "1e23"]
_BROKEN = [
    "+1",
    "01",
    ".5",
    "1.",
    "-",
    "1e",
    "NaN",
    "nul",
    "0x1",
    '"\\x"',
    '"\x01"',
    "\ufeff",
    "[1,]",
    "1 2",
    '"\\u+123"',
]


class Documents:
    """Random JSON texts in many spellings, some of them broken."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def document(self) -> str:
        text = self.space() + (self.object(0) if self.rng.random() < 0.8 else self.value(0)) + self.space()
        return self.damaged(text) if self.rng.random() < 0.2 else text

    def value(self, depth: int) -> str:
        draw = self.rng.random()
        if depth > 5 or draw < 0.35:
            return self.string()
        if draw < 0.55:
            return self.number()
        if draw < 0.64:
            return self.rng.choice(["true", "false", "null"])
        if draw < 0.65:
            return self.rng.choice(_BROKEN)
        if draw < 0.8:
            return f"[{self.joined(lambda: self.value(depth + 1))}]"
        return self.object(depth)

    def object(self, depth: int) -> str:
        return f"{{{self.joined(lambda: f'{self.string()}{self.space()}:{self.space()}{self.value(depth + 1)}')}}}"

    def joined(self, make: Callable[[], str]) -> str:
        return ",".join(self.space() + make() + self.space() for _ in range(self.rng.randint(0, 4)))

    def string(self) -> str:
        text = "".join(self.rng.choice(_STRINGS) for _ in range(self.rng.randint(0, 3)))
        return f'"{"".join(self.character(char) for char in text)}"'

    def character(self, char: str) -> str:
        must = char in '"\\' or char < " " or "\ud800" <= char <= "\udfff"
        if not must and self.rng.random() > 0.15:
            return char
        units = char.encode("utf-16-be", "surrogatepass")
        form = self.rng.choice(["\\u%04x", "\\u%04X"])
        return "".join(form % int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2))

    def number(self) -> str:
        draw = self.rng.random()
        if draw < 0.3:
            return self.rng.choice(_NUMBERS)
        if draw < 0.6:
            return str(self.rng.randint(-(10 ** self.rng.randint(1, 30)), 10 ** self.rng.randint(1, 30)))
        if draw < 0.8:
            return f"{self.rng.randint(0, 999)}.{self.rng.randint(0, 10**6)}e{self.rng.randint(-330, 330)}"
        double: float = struct.unpack("<d", self.rng.randbytes(8))[0]
        return repr(double) if abs(double) < 1e308 else "1"

    def space(self) -> str:
        return self.rng.choice(["", "", "", " ", "\n", "\t\r"])

    def damaged(self, text: str) -> str:
        at = self.rng.randrange(len(text) + 1)
        put: str = self.rng.choice(["", *'"\\{}[],:019eE.+-ntf \x00\ufeff'])
        return text[:at] + put + text[at + self.rng.randint(0, 1) :]


@pytest.mark.slow
def test_equal_to_v8() -> None:
    seed = random.randrange(2**32)
    documents = Documents(seed)
    texts = [documents.document() for _ in range(4000)]
    refused = 0
    for text, answer in zip(texts, v8.print_all(texts), strict=True):
        if answer is None:
            refused += 1
            for way in (canonical, canonical_compact, parse):
                with pytest.raises(InvalidJson):
                    way(text)
            continue
        assert (canonical(text), canonical_compact(text)) == answer, f"seed {seed}: {text!r}"
        assert (exact(text), compact(parse(text))) == answer, f"seed {seed}: {text!r}"
    assert 100 < refused < 3000
