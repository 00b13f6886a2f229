"""EBT notes: the reference's vectors, and any JSON at all."""

import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.ebt.notes import (
    MAX_NOTE,
    MAX_SEQUENCE,
    Note,
    decode,
    encode,
    is_classic_feed,
    is_message,
    unwrap,
)
from tests.support import vectors
from tests.support.ebt_link import feed_id

ENTRIES = vectors.entries("ebt-notes.json")


def _json(depth: int = 3) -> st.SearchStrategy[object]:
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    return st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=depth * 4)


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e["kind"] == "encode"], ids=str)
def test_encodes_like_the_reference(entry: dict[str, int]) -> None:
    if entry["sequence"] <= MAX_SEQUENCE:
        assert encode(entry["sequence"], bool(entry["receive"])) == entry["note"]
    else:  # the reference wraps to 32 bits and says something else than it means
        with pytest.raises(ValueError, match="no note can carry"):
            encode(entry["sequence"], bool(entry["receive"]))


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e["kind"] == "decode"], ids=str)
def test_decodes_like_the_reference(entry: dict[str, object]) -> None:
    value = entry["note"]
    note = decode(value)
    if isinstance(value, int) and -1 <= value <= MAX_NOTE:
        assert note == Note(bool(entry["replicate"]), bool(entry["receive"]), int(str(entry["sequence"])))
    else:  # values that no peer sends on purpose; the reference makes something of them, we skip them
        assert note is None


def test_the_vectors_hold_both_usable_and_unusable_notes() -> None:
    decoded = [decode(e["note"]) for e in ENTRIES if e["kind"] == "decode"]
    assert decoded.count(None) >= 5
    assert len(decoded) - decoded.count(None) >= 9


@given(st.integers(-1, MAX_SEQUENCE), st.booleans())
def test_what_is_encoded_decodes_to_the_same(sequence: int, receive: bool) -> None:
    note = decode(encode(sequence, receive))
    assert note is not None
    assert note.sequence == sequence
    assert note.replicate == (sequence >= 0)
    assert note.receive == (receive and sequence >= 0)


@pytest.mark.parametrize("sequence", [-2, MAX_SEQUENCE + 1, 2**40])
def test_refuses_to_encode_what_no_note_can_carry(sequence: int) -> None:
    with pytest.raises(ValueError, match="no note can carry"):
        encode(sequence, True)


@pytest.mark.parametrize("value", [True, False, -2, 2**31, 1.0, 1.5, math.nan, "4", None, [], {}])
def test_only_whole_numbers_in_range_are_notes(value: object) -> None:
    assert decode(value) is None


class TestFeedIds:
    @pytest.mark.parametrize("number", range(5))
    def test_canonical(self, number: int) -> None:
        assert is_classic_feed(feed_id(number))

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "@x.ed25519",
            feed_id(1)[1:],
            feed_id(1) + "\n",
            feed_id(1).replace("=", ""),
            feed_id(1).replace(".ed25519", ".sha256"),
            "%" + feed_id(1)[1:],
            "@" + "A" * 42 + "B=.ed25519",
            "ssb:feed/ed25519/" + "A" * 43 + "=",
        ],
    )
    def test_others(self, text: str) -> None:
        assert not is_classic_feed(text)


class TestFrames:
    def test_the_entries_of_a_frame(self) -> None:
        assert unwrap({feed_id(1): 4}) == {feed_id(1): 4}

    def test_takes_the_clock_out_of_its_wrapping(self) -> None:
        assert unwrap({"clock": {feed_id(1): 3}, "more": 1}) == {feed_id(1): 3}
        assert unwrap({"clock": 7}) == {"clock": 7}

    @pytest.mark.parametrize("value", [None, 7, True, "notes", [], [{}]])
    def test_something_else(self, value: object) -> None:
        assert unwrap(value) is None

    @given(_json())
    def test_any_json(self, value: object) -> None:
        entries = unwrap(value)
        assert (entries is not None) is isinstance(value, dict)
        for number in (entries or {}).values():
            note = decode(number)
            assert note is None or encode(note.sequence, note.receive) == number


class TestMessageOrNotes:
    def test_messages_of_real_shape(self) -> None:
        for entry in vectors.entries("classic-feeds.jsonl.gz")[:50]:
            assert is_message(entry["value_json"].encode())

    @pytest.mark.parametrize(
        "body",
        [b"{}", b'{"@x=.ed25519":4}', b'{"clock":{}}', b"null", b"[]", b"7", b"", b"{", b'{"previou', b"\xff\xfe"],
    )
    def test_everything_else_is_notes(self, body: bytes) -> None:
        assert not is_message(body)

    @pytest.mark.parametrize("body", [b' {"previous":null', b'\n{\t"author" :', b'{"sequence":1'])
    def test_white_space_and_other_orders(self, body: bytes) -> None:
        assert is_message(body)

    @given(st.dictionaries(st.integers(0, 50).map(feed_id), st.integers(-1, MAX_NOTE)))
    def test_our_own_frames(self, notes: dict[str, int]) -> None:
        assert not is_message(orjson.dumps(notes))

    @given(st.binary())
    def test_any_bytes(self, body: bytes) -> None:
        assert is_message(b'{"previous"' + body)
        assert not is_message(b'{"@' + body)
