"""The box stream: vectors, every byte damaged once, any chunking, the counter's carry, floods of nothing."""

import base64
from typing import Any

import nacl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_secretbox

from replication.box_stream import BODY_MAX, HEADER_SIZE, Opener, Sealer
from replication.errors import BoxStreamError
from replication.limits import Limits
from replication.secretbox import NATIVE, PORTABLE, SecretBox
from tests.support import vectors
from tests.support.wires import box_pair, cuts, pieces, session

ENTRIES = vectors.entries("box-stream.json")
BOXES = {"native": NATIVE or PORTABLE, "portable": PORTABLE}
KEY, NONCE = b"k" * 32, b"n" * 24


def received(opener: Opener, data: bytes) -> tuple[bytes, str]:
    """What a reader gets in all, and how the stream ended in the words of the vectors."""
    plain = opener.open(data)
    if opener.ended:
        return plain, "clean"
    failure = opener.end_of_input()
    return plain, str(failure)


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["kind"])
def test_vector(entry: dict[str, Any], box: SecretBox) -> None:
    key, nonce = bytes.fromhex(entry["key"]), bytes.fromhex(entry["nonce"])
    sealer = Sealer(key, nonce, box=box)
    sealed = b"".join(bytes(sealer.seal(base64.b64decode(chunk["b64"]))) for chunk in entry["chunks"])
    assert sealed + sealer.goodbye() == base64.b64decode(entry["ciphertext_b64"])
    arrived = base64.b64decode(entry.get("received_b64") or entry["ciphertext_b64"])
    plain, end = received(Opener(key, nonce, box=box), arrived)
    assert plain == base64.b64decode(entry["decrypted_b64"])
    assert (end == "clean") == (entry["end"] == "clean")


def test_the_vectors_hold_damage_and_the_counter_carrying() -> None:
    assert {"ok", "reordered", "no-goodbye"} <= {entry["kind"] for entry in ENTRIES}
    assert any(entry["nonce"] == "ff" * 24 for entry in ENTRIES)


@pytest.mark.skipif(nacl.__version__ < "1.6", reason="older versions of PyNaCl do not have the functions")
def test_the_native_functions_are_in_use() -> None:
    assert NATIVE is not None, "this PyNaCl has other functions inside; the box stream runs at a third of its speed"


@given(st.binary(max_size=3 * BODY_MAX), st.integers(0, 2**192 - 1))
def test_both_implementations_agree(data: bytes, nonce: int) -> None:
    start = nonce.to_bytes(24, "big")
    sealed = {bytes(Sealer(KEY, start, box=box).seal(data)) for box in BOXES.values()}
    assert len(sealed) == 1
    (ciphertext,) = sealed
    assert {Opener(KEY, start, box=box).open(ciphertext) for box in BOXES.values()} == {data}


@given(st.data(), st.lists(st.binary(max_size=2 * BODY_MAX), max_size=5))
def test_any_chunking_gives_the_same_plaintext(data: st.DataObject, writes: list[bytes]) -> None:
    sealer, opener = box_pair()
    sealed = b"".join(bytes(sealer.seal(write)) for write in writes) + sealer.goodbye()
    plain = b"".join(opener.open(piece) for piece in pieces(sealed, data.draw(cuts(len(sealed)))))
    assert plain == b"".join(writes)
    assert opener.ended
    assert opener.end_of_input() is None


def test_long_writes_are_split_into_full_packets() -> None:
    sealer, _ = box_pair()
    assert len(sealer.seal(bytes(2 * BODY_MAX + 1))) == 2 * BODY_MAX + 1 + 3 * HEADER_SIZE
    assert sealer.seal(b"") == b""


def test_every_damaged_byte_ends_the_stream_and_delivers_nothing_of_its_packet() -> None:
    sealer, _ = box_pair()
    first, second = bytes(sealer.seal(b"first packet")), bytes(sealer.seal(b"second packet"))
    goodbye = sealer.goodbye()
    whole = first + second + goodbye
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x40
        _, opener = box_pair()
        plain = opener.open(damaged)
        assert plain == (b"" if at < len(first) else b"first packet" + b"second packet" * (at >= len(first + second)))
        assert opener.failure is not None
        with pytest.raises(BoxStreamError):
            opener.open(whole)


@given(st.data(), st.integers(0, 10_000))
def test_damage_is_found_with_any_chunking(data: st.DataObject, at: int) -> None:
    sealer, opener = box_pair()
    sealed = bytearray(bytes(sealer.seal(b"a" * 5000)) + bytes(sealer.seal(b"b" * 10)) + sealer.goodbye())
    sealed[at % len(sealed)] ^= 1
    plain = b""
    for piece in pieces(bytes(sealed), data.draw(cuts(len(sealed)))):
        if opener.failure is None:
            plain += opener.open(piece)
    assert opener.failure is not None
    assert (b"a" * 5000 + b"b" * 10).startswith(plain)
    assert len(plain) in (0, BODY_MAX, 5000, 5010)


def test_replayed_reordered_and_left_out_packets_are_refused() -> None:
    sealer, _ = box_pair()
    one, two, three = (bytes(sealer.seal(text)) for text in (b"one", b"two", b"three"))
    for wrong, intact in ((one + one, b"one"), (two + one, b""), (one + three, b"one")):
        _, opener = box_pair()
        assert opener.open(wrong) == intact
        assert opener.failure is not None


def test_the_two_directions_do_not_take_each_others_packets() -> None:
    alice, bob = session()
    sealed = Sealer(alice.send_key, alice.send_nonce).seal(b"mine")
    back = Opener(alice.receive_key, alice.receive_nonce)
    assert back.open(sealed) == b""
    assert back.failure is not None
    assert Opener(bob.receive_key, bob.receive_nonce).open(sealed) == b"mine"


def test_an_end_without_goodbye_is_an_error_wherever_it_comes() -> None:
    sealer, _ = box_pair()
    sealed = bytes(sealer.seal(b"text")) + sealer.goodbye()
    for length in range(len(sealed)):
        _, opener = box_pair()
        opener.open(sealed[:length])
        assert opener.partial == (length not in (0, HEADER_SIZE + 4))
        assert isinstance(opener.end_of_input(), BoxStreamError)


def test_nothing_follows_a_goodbye() -> None:
    sealer, opener = box_pair()
    sealed = bytes(sealer.seal(b"last")) + sealer.goodbye()
    assert opener.open(sealed + b"more") == b"last"
    assert opener.open(b"and more") == b""
    assert opener.end_of_input() is None
    assert sealer.goodbye() == b""
    with pytest.raises(ValueError, match="after the goodbye"):
        sealer.seal(b"more")


def sealed_header(length: int, nonce: int, mac: bytes = b"m" * 16) -> bytes:
    """A header that opens, whatever it announces."""
    return crypto_secretbox(length.to_bytes(2, "big") + mac, nonce.to_bytes(24, "big"), KEY)


@pytest.mark.parametrize("length", [4097, 65535])
def test_longer_packets_than_allowed_are_refused_at_the_header(length: int) -> None:
    opener = Opener(KEY, NONCE)
    assert opener.open(sealed_header(length, int.from_bytes(NONCE, "big"))) == b""
    assert str(length) in str(opener.failure)
    assert opener.failure is not None
    assert opener.failure.limit == "box_body"


def empty_packet(nonce: int) -> bytes:
    return sealed_header(0, nonce, crypto_secretbox(b"", (nonce + 1).to_bytes(24, "big"), KEY))


def test_some_empty_packets_are_tolerated_and_a_flood_is_not() -> None:
    start = int.from_bytes(NONCE, "big")
    flood = b"".join(empty_packet(start + 2 * index) for index in range(10_000))
    opener = Opener(KEY, NONCE, limits=Limits(empty_packets=16))
    assert opener.open(flood[: 16 * HEADER_SIZE]) == b""
    assert not opener.over
    assert opener.open(flood[16 * HEADER_SIZE :]) == b""
    assert "empty" in str(opener.failure)
    assert opener.failure is not None
    assert opener.failure.limit == "empty_packets"


def test_a_packet_with_text_starts_the_count_again() -> None:
    start = int.from_bytes(NONCE, "big")
    opener = Opener(KEY, NONCE)
    for turn in range(3):
        begin = start + 2 * 17 * turn
        empty = b"".join(empty_packet(begin + 2 * index) for index in range(16))
        text = Sealer(KEY, (begin + 32).to_bytes(24, "big")).seal(b"text")
        assert opener.open(empty + text) == b"text"
    assert opener.failure is None


def test_an_idle_opener_holds_little() -> None:
    sealer, opener = box_pair()
    opener.open(sealer.seal(bytes(1 << 20)))
    opener.open(sealer.seal(b"small"))
    assert len(opener._scratch) <= BODY_MAX
    assert not opener._rest
