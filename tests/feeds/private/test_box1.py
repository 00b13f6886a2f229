"""box1 against the vectors of npm private-box and ssb-keys, its limits, and any bytes at all."""

import base64
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl import bindings

from feeds.errors import InvalidKey, InvalidMessage
from feeds.keys import Keypair, to_x25519_public, to_x25519_secret
from feeds.private import box1
from feeds.private.key_ring import KeyRing
from feeds.refs import FeedRef
from tests.support import builders, vectors

ENTRIES = vectors.entries("private-box.json")
DAMAGED = ("body-tampered", "truncated")

ME, OTHER = builders.keypair("me"), builders.keypair("other")
SECRET = to_x25519_secret(ME)


def decoded(text: str) -> bytes:
    return base64.b64decode(text)


def reader(entry: dict[str, Any]) -> Keypair:
    return Keypair(decoded(entry["reader"]["private"].removesuffix(".ed25519")))


def made(recipients: list[bytes], plaintext: bytes = b'{"type":"post"}', seed: int = 0) -> bytes:
    rng = random.Random(seed)
    return box1.box(
        plaintext,
        recipients,
        nonce=rng.randbytes(24),
        ephemeral_secret=rng.randbytes(32),
        body_key=rng.randbytes(32),
    )


def public(keypair: Keypair) -> bytes:
    return to_x25519_public(keypair.public)


def crowd(size: int) -> list[bytes]:
    return [public(builders.keypair(f"one of a crowd {number}")) for number in range(size)]


# --- vectors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(ENTRIES)))
def test_vectors_are_opened(number: int) -> None:
    entry = ENTRIES[number]
    ciphertext = box1.from_text(entry["ciphertext"])
    assert ciphertext is not None
    opened = box1.unbox(ciphertext, to_x25519_secret(reader(entry)))
    assert (opened is not None) == entry["opens"]
    if opened is not None:
        assert opened.plaintext.decode() == entry["opened_utf8"]
        count, body_key = len(entry["recipients"]), decoded(entry["body_key_b64"])
        assert opened.released == bytes([count]) + body_key
        for released in (body_key, opened.released):
            assert box1.unbox_released(ciphertext, released) == opened.plaintext
        assert box1.unbox_released(ciphertext, bytes([count - 1]) + body_key) is None
    found = KeyRing([reader(entry)]).open(entry["ciphertext"])
    assert (None if found is None else found.content) == entry["unbox_json"]
    if found is not None:
        assert found.key_id == entry["reader"]["id"]


@pytest.mark.parametrize("number", range(len(ENTRIES)))
def test_vectors_are_made(number: int) -> None:
    entry = ENTRIES[number]
    arguments: dict[str, Any] = {
        "plaintext": decoded(entry["plaintext_b64"]),
        "recipients": [to_x25519_public(FeedRef.parse(feed).data) for feed in entry["recipients"]],
        "nonce": decoded(entry["nonce_b64"]),
        "ephemeral_secret": decoded(entry["ephemeral_secret_b64"]),
        "body_key": decoded(entry["body_key_b64"]),
    }
    if entry["kind"] == "over-7-recipients":
        with pytest.raises(InvalidMessage, match="1 to 7 recipients"):
            box1.box(**arguments)
    elif entry["kind"] not in DAMAGED:
        assert box1.to_text(box1.box(**arguments)) == entry["ciphertext"]
    else:
        assert box1.to_text(box1.box(**arguments)) != entry["ciphertext"]


def test_the_vectors_hold_what_is_tested_with_them() -> None:
    kinds = {entry["kind"] for entry in ENTRIES}
    assert kinds == {"ok", "not-a-recipient", "over-7-recipients", *DAMAGED}
    assert any(entry["opens"] and entry["unbox_json"] is None for entry in ENTRIES)


# --- slots ------------------------------------------------------------------------------------------------------------


def with_slots(recipients: list[bytes], plaintext: bytes = b"{}") -> bytes:
    """A box for more recipients than our writer takes."""
    rng = random.Random(len(recipients))
    nonce, secret, key = rng.randbytes(24), rng.randbytes(32), rng.randbytes(32)
    slots = [
        bindings.crypto_secretbox(bytes([len(recipients)]) + key, nonce, bindings.crypto_scalarmult(secret, recipient))
        for recipient in recipients
    ]
    ephemeral = bindings.crypto_scalarmult_base(secret)
    return nonce + ephemeral + b"".join(slots) + bindings.crypto_secretbox(plaintext, nonce, key)


@pytest.mark.parametrize("place", range(10))
def test_a_reader_tries_eight_slots(place: int) -> None:
    recipients = crowd(10)
    recipients[place] = public(ME)
    opened = box1.unbox(with_slots(recipients), SECRET)
    assert (opened is not None) == (place < 8)


def test_seven_is_the_most() -> None:
    assert box1.unbox(made([*crowd(6), public(ME)]), SECRET) is not None
    for count in (0, 8):
        with pytest.raises(InvalidMessage):
            made(crowd(count))


def test_an_empty_plaintext() -> None:
    opened = box1.unbox(made([public(ME)], b""), SECRET)
    assert opened is not None
    assert opened.plaintext == b""


def test_nobody_else_opens_it() -> None:
    assert box1.unbox(made([public(ME), *crowd(3)]), to_x25519_secret(OTHER)) is None


def test_every_flipped_byte_is_noticed_where_it_matters() -> None:
    ciphertext = made([public(ME), public(OTHER)])
    elsewhere = range(24 + 32 + 49, 24 + 32 + 2 * 49)  # the other's slot
    for at in range(len(ciphertext)):
        damaged = ciphertext[:at] + bytes([ciphertext[at] ^ 4]) + ciphertext[at + 1 :]
        assert (box1.unbox(damaged, SECRET) is not None) == (at in elsewhere), at


def test_every_cut_is_noticed() -> None:
    ciphertext = made([public(ME), public(OTHER)])
    for end in range(len(ciphertext)):
        assert box1.unbox(ciphertext[:end], SECRET) is None


SMALL_ORDER = [
    bytes(32),
    bytes([1]) + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_points_that_libsodium_refuses(point: bytes) -> None:
    assert box1.unbox(bytes(24) + point + bytes(200), SECRET) is None
    with pytest.raises(InvalidKey):
        made([public(ME), point])


@given(st.binary(max_size=700), st.binary(max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_bytes(ciphertext: bytes, released: bytes) -> None:
    assert box1.unbox(ciphertext, SECRET) is None
    assert box1.unbox_released(ciphertext, released) is None


@given(st.binary(max_size=300), st.integers(0, 6), st.integers(0, 6), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_there_and_back(plaintext: bytes, before: int, after: int, seed: int) -> None:
    recipients = ([*crowd(before), public(ME), *crowd(after)])[:7]
    opened = box1.unbox(made(recipients, plaintext, seed), SECRET)
    assert opened == (plaintext, bytes([len(recipients)]) + random_body_key(seed))


def random_body_key(seed: int) -> bytes:
    rng = random.Random(seed)
    rng.randbytes(24)
    rng.randbytes(32)
    return rng.randbytes(32)


# --- text forms and the ring ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", ".box", "AAAA", "AAAA.box2", "AAA.box", "AAAA .box", "AAAA.boxes", "ÄAAA.box", "\ud800.box", "AA==AA==.box"],
)
def test_texts_that_hold_no_box(text: str) -> None:
    assert box1.from_text(text) in (None, b"")
    assert KeyRing([ME]).open(text) is None
    assert KeyRing.open_released(text, base64.b64encode(bytes(32)).decode()) is None


@given(st.text(max_size=80), st.sampled_from(["", ".box", ".box2", ".boxs"]), st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text(text: str, suffix: str, released: str) -> None:
    assert KeyRing([ME]).open(text + suffix) is None
    assert KeyRing.open_released(text + suffix, released) is None
    box1.released_key(released)


@given(st.binary(max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_plaintext(plaintext: bytes) -> None:
    """What comes out is JSON with a text that says the same, or nothing."""
    found = KeyRing([ME]).open(box1.to_text(made([public(ME)], plaintext)))
    if found is not None:
        assert json.loads(found.text) == found.content
        assert found.content is not None


@pytest.mark.parametrize("plaintext", [b"", b"null", b"{", b"hello", b'{"a":1', b"\xef\xbb\xbf{}", b"[" * 5000])
def test_what_is_no_json_is_unreadable(plaintext: bytes) -> None:
    assert KeyRing([ME]).open(box1.to_text(made([public(ME)], plaintext))) is None


def test_bytes_that_are_no_utf8_are_read_as_javascript_does() -> None:
    found = KeyRing([ME]).open(box1.to_text(made([public(ME)], b'{"type":"post","text":"\xff\xc3"}')))
    assert found is not None
    assert found.content == {"type": "post", "text": "\ufffd\ufffd"}


def test_released_keys() -> None:
    boxed = box1.to_text(made([public(OTHER)], b'{"type":"post","text":"for one more"}'))
    opened = KeyRing([OTHER]).open(boxed)
    assert opened is not None
    assert KeyRing([ME]).open(boxed) is None
    for released in (opened.unbox, opened.unbox.replace("+", " "), opened.unbox + ".boxs"):
        again = KeyRing.open_released(boxed, released)
        assert again is not None
        assert again.content == opened.content
        assert again.key_id == ""
        assert again.unbox == opened.unbox
    assert KeyRing.open_released(boxed, base64.b64encode(bytes(32)).decode()) is None


def test_several_keys() -> None:
    boxed = box1.to_text(made([public(OTHER)]))
    ring = KeyRing([ME, OTHER])
    found = ring.open(boxed)
    assert found is not None
    assert found.key_id == OTHER.id
    assert ring.ids == (ME.id, OTHER.id)
    assert ring.without([OTHER.id]).ids == (ME.id,)
    assert ring.without([OTHER.id]).open(boxed) is None


def test_nothing_secret_is_shown() -> None:
    ring = KeyRing([ME])
    opened = ring.open(box1.to_text(made([public(ME)], b'{"type":"post","text":"marker"}')))
    assert opened is not None
    raw = box1.unbox(made([public(ME)], b"marker"), SECRET)
    shown = repr((ring, vars(ring), opened, raw))
    assert "marker" not in shown
    assert opened.unbox not in shown
    assert repr(SECRET) not in shown
