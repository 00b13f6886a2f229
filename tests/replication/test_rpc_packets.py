"""muxrpc frames and bodies: vectors, any chunking, sizes refused before they are buffered, hostile JSON."""

import json
import struct
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.errors import InvalidJson
from replication.errors import RpcProtocolError
from replication.rpc.bodies import Body, BodyType, RawJson, decode_json, encode_body, encode_json
from replication.rpc.packets import END, GOODBYE, HEADER_SIZE, STREAM, FrameDecoder, Run, frame, frames
from tests.support import vectors
from tests.support.wires import cuts, pieces, raw_frame

ENTRIES = vectors.entries("muxrpc-frames.json")
LIMIT = 1000


def decoder(limit: int = LIMIT) -> FrameDecoder:
    return FrameDecoder(lambda _flags, _number: limit, limit)


def vector_body(entry: dict[str, Any]) -> Body:
    match entry["body_type"]:
        case "json":
            return Body(BodyType.JSON, json.dumps(entry["body"], separators=(",", ":"), ensure_ascii=False).encode())
        case "utf8":
            return Body(BodyType.TEXT, entry["body"].encode())
        case _:
            return Body(BodyType.BINARY, bytes.fromhex(entry["body"]))


def test_an_empty_piece_of_bytes_is_passed_over_and_no_goodbye() -> None:
    empty = struct.pack(">BIi", STREAM, 0, -3)
    whole = frame(Body(BodyType.BINARY, b"ab"), -3, STREAM)
    end = frame(Body(BodyType.JSON, b"true"), -3, STREAM | END)
    reader = decoder()
    assert reader.decode(whole + empty + whole + empty + end) == [
        Run(STREAM, -3, [b"ab", b"ab"]),
        Run(STREAM | END | 2, -3, [b"true"]),
    ]
    assert not reader.goodbye
    assert not reader.partial
    assert reader.decode(empty + GOODBYE) == []
    assert reader.goodbye


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["label"])
def test_vector(entry: dict[str, Any]) -> None:
    data, reader = bytes.fromhex(entry["frame_hex"]), decoder()
    runs = reader.decode(data)
    if entry.get("malformed"):
        assert len(runs) == 1
        return
    if entry["body_type"] == "goodbye" or entry["body"] == "":
        assert reader.goodbye
        assert not runs
        return
    body = vector_body(entry)
    flags = STREAM * entry["flags"]["stream"] | END * entry["flags"]["end"]
    assert frame(body, entry["req"], flags) == data
    assert runs == [Run(flags | body.kind, entry["req"], [body.data])]


def test_the_goodbye_is_nine_zero_bytes() -> None:
    assert bytes(9) == GOODBYE


@pytest.mark.parametrize("kind", list(BodyType))
def test_an_empty_body_cannot_be_sent(kind: BodyType) -> None:
    with pytest.raises(ValueError, match="empty"):
        frame(Body(kind, b""), 1, 0)
    with pytest.raises(ValueError, match="empty"):
        frames([b"x", b""], 1, STREAM | kind)


written = st.lists(
    st.tuples(st.integers(0, 15), st.integers(-(2**31), 2**31 - 1), st.binary(min_size=1, max_size=60)), max_size=20
)


def flat(runs: list[Run]) -> list[tuple[int, int, bytes]]:
    return [(run.flags, run.number, body) for run in runs for body in run.bodies]


@given(written, st.data())
def test_any_chunking_gives_the_same_frames(expected: list[tuple[int, int, bytes]], data: st.DataObject) -> None:
    whole = b"".join(raw_frame(*each) for each in expected)
    assert flat(decoder().decode(whole)) == expected
    reader = decoder()
    found: list[tuple[int, int, bytes]] = []
    for piece in pieces(whole + GOODBYE + b"junk", data.draw(cuts(len(whole) + 13))):
        found += flat(reader.decode(piece))
    assert found == expected
    assert reader.goodbye
    assert not reader.partial


def test_a_byte_at_a_time() -> None:
    whole = raw_frame(0x0A, 1, b"[1]") + raw_frame(0x0A, 1, b"[2]") + raw_frame(0x02, -7, b"3")
    reader = decoder()
    found = [each for byte in whole for each in flat(reader.decode(bytes([byte])))]
    assert found == [(0x0A, 1, b"[1]"), (0x0A, 1, b"[2]"), (0x02, -7, b"3")]


def test_frames_of_one_stream_that_follow_each_other_come_as_one_run() -> None:
    bodies = [b"%d" % index for index in range(500)]
    whole = frames(bodies, 4, STREAM | BodyType.JSON)
    assert decoder().decode(whole + raw_frame(0x0A, 5, b"x")) == [Run(0x0A, 4, bodies), Run(0x0A, 5, [b"x"])]


@given(st.binary(max_size=300), st.data())
def test_any_bytes_give_frames_or_the_documented_error(data: bytes, draw: st.DataObject) -> None:
    outcomes = []
    for each in ([data], list(pieces(data, draw.draw(cuts(len(data)))))):
        reader, found, error = decoder(100), [], ""
        try:
            for piece in each:
                found += flat(reader.decode(piece))
        except RpcProtocolError as refused:
            error = str(refused)
        outcomes.append((error, reader.goodbye, [] if error else found))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("length", [LIMIT + 1, 2**31, 2**32 - 1])
def test_a_body_that_is_too_large_is_refused_at_its_header(length: int) -> None:
    reader = decoder()
    with pytest.raises(RpcProtocolError, match=str(length)):
        reader.decode(struct.pack(">BIi", 0x0A, length, 1))


def test_the_limit_is_asked_for_by_flags_and_number() -> None:
    asked: list[tuple[int, int]] = []

    def limit_of(flags: int, number: int) -> int:
        asked.append((flags, number))
        return 5000 if number == 2 else 100

    reader = FrameDecoder(limit_of, 100)
    assert flat(reader.decode(raw_frame(0x0A, 2, b"x" * 4000))) == [(0x0A, 2, b"x" * 4000)]
    assert flat(reader.decode(raw_frame(0x0A, 3, b"x" * 100))) == [(0x0A, 3, b"x" * 100)]
    with pytest.raises(RpcProtocolError):
        reader.decode(raw_frame(0xFA, 3, b"x" * 101))
    assert asked == [(0x0A, 2), (0x0A, 3)]


def test_a_large_frame_that_drips_in_is_not_copied_again_and_again() -> None:
    reader = FrameDecoder(lambda _flags, _number: 1 << 20, 1000)
    data = raw_frame(0x08, 1, bytes(1 << 20))
    for at in range(HEADER_SIZE + 100_000):
        assert reader.decode(data[at : at + 1]) == []
    assert reader.buffered == HEADER_SIZE + 100_000
    assert flat(reader.decode(data[HEADER_SIZE + 100_000 :]))[0][2] == bytes(1 << 20)
    assert not reader.partial


# bodies


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (Body(BodyType.JSON, b'{"a":[1,2.5,null,true,"\xc3\xa9"]}'), {"a": [1, 2.5, None, True, "é"]}),
        (Body(BodyType.TEXT, "héllo".encode()), "héllo"),
        (Body(BodyType.BINARY, b"\x00\xff"), b"\x00\xff"),
        (Body(BodyType.JSON, b'"\\ud800"'), "\ud800"),
        (Body(BodyType.JSON, b" 1e400 "), float("inf")),
    ],
)
def test_bodies_are_decoded(body: Body, value: object) -> None:
    assert body.value() == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"nul",
        b"NaN",
        b"Infinity",
        b"[1,]",
        b"'x'",
        b'"\xff"',
        b"\xef\xbb\xbf1",
        b"1 2",
        b"1" * 5000,
        b"[" * 65 + b"]" * 65,
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b"[" * 100_000,
    ],
    ids=lambda data: data[:12].hex(),
)
def test_bad_json_is_one_kind_of_error(data: bytes) -> None:
    with pytest.raises(InvalidJson):
        decode_json(data)


def test_depth_counts_nesting_and_not_brackets() -> None:
    assert decode_json(b"[" * 64 + b"]" * 64)
    assert decode_json(b"[" + b",".join([b"[]"] * 1000) + b"]") == [[] for _ in range(1000)]
    assert decode_json(orjson.dumps("[" * 1000)) == "[" * 1000
    assert decode_json(orjson.dumps(['"[' * 50, "\\[" * 50])) == ['"[' * 50, "\\[" * 50]


def test_text_that_is_not_utf8_is_an_error() -> None:
    with pytest.raises(InvalidJson):
        Body(BodyType.TEXT, b"\xff").value()


@given(st.binary(max_size=100))
def test_any_bytes_are_a_value_or_the_documented_error(data: bytes) -> None:
    for kind in BodyType:
        try:
            Body(kind, data).value()
        except InvalidJson:
            assert kind is not BodyType.BINARY


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_values_come_back_as_they_were_encoded(value: Any) -> None:
    assert json.loads(encode_json(value)) == value


def test_lone_surrogates_can_be_sent() -> None:
    assert encode_json("\ud800") == b'"\\ud800"'


@pytest.mark.parametrize("value", [object(), {(3,): 4}, {"a": b"bytes"}, {1, 2}])
def test_what_json_cannot_say_is_an_error(value: Any) -> None:
    with pytest.raises(InvalidJson):
        encode_json(value)


def test_not_a_number_is_null_as_in_javascript() -> None:
    assert encode_json(float("nan")) == b"null"


def test_values_become_bodies() -> None:
    assert encode_body({"a": 1}) == Body(BodyType.JSON, b'{"a":1}')
    assert encode_body(RawJson(b'{"b" : 2}')) == Body(BodyType.JSON, b'{"b" : 2}')
    assert encode_body(b"raw") == Body(BodyType.BINARY, b"raw")
    assert encode_body("") == Body(BodyType.JSON, b'""')
    assert encode_body(b"").data
    assert encode_body(None) == Body(BodyType.JSON, b"null")
    assert encode_body(Body(BodyType.TEXT, b"as is")) == Body(BodyType.TEXT, b"as is")
