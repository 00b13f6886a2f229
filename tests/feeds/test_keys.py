"""Keys, signatures and the key file, against npm ssb-keys and at libsodium's edges."""

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl import bindings

from feeds import keys
from feeds.errors import InvalidKey
from feeds.keys import (
    Keypair,
    format_key_file,
    parse_hmac_key,
    parse_key_file,
    parse_network_key,
    public_from_id,
    sign,
    to_x25519_public,
    to_x25519_secret,
    verify,
    verify_many,
)
from feeds.refs import BlobRef
from tests.support.vectors import entries

ME = Keypair.generate(b"\x01" * 32)
OTHER = Keypair.generate(b"\x02" * 32)
HMAC_KEY = bytes(range(32))

ORDER = 2**252 + 27742317777372353535851937790883648493
SMALL_ORDER_POINTS = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
]


def of_kind(kind: str) -> list[dict[str, Any]]:
    found = [entry for entry in entries("ssb-keys.json") if entry["kind"] == kind]
    assert found
    return found


def test_sign_vectors() -> None:
    for entry in of_kind("sign"):
        keypair = Keypair.generate(bytes.fromhex(entry["seed_hex"]))
        assert keypair.id == entry["id"]
        assert base64.b64encode(keypair.secret).decode() + ".ed25519" == entry["private"]
        hmac_key = None if entry["hmac_key"] is None else parse_hmac_key(entry["hmac_key"])
        text = entry["message_utf8"].encode()
        signature = sign(keypair, text, hmac_key)
        assert base64.b64encode(signature).decode() + ".sig.ed25519" == entry["signature"]
        assert verify(public_from_id(entry["id"]), text, signature, hmac_key)
        assert not verify(keypair.public, text + b"x", signature, hmac_key)


def test_seed_vectors() -> None:
    for entry in of_kind("string-seed"):
        seed = entry["seed_text"][:32].encode()[:32].ljust(32, b"\0")
        assert Keypair.generate(seed).id == entry["id"]


def test_hash_vectors() -> None:
    for entry in of_kind("hash"):
        digest = hashlib.sha256(base64.b64decode(entry["data_b64"])).digest()
        assert str(BlobRef(digest)) == "&" + entry["hash"]


def test_key_file_vectors() -> None:
    """The one file that npm's loader does not read is the oldest form, a private key alone, which we do read."""
    for entry in of_kind("keyfile"):
        keypair = parse_key_file(entry["text"])
        if entry["loads"]:
            assert keypair.id == entry["id"]
        else:
            assert entry["name"] == "legacy-private-only"
            assert base64.b64encode(keypair.secret).decode() in entry["text"]


def test_generated_keys_differ_and_hide_their_secret() -> None:
    one = Keypair.generate()
    assert one != Keypair.generate()
    assert base64.b64encode(one.secret).decode() not in repr(one)
    assert "secret" not in repr(one)
    assert (one.seed, one.public) == (one.secret[:32], one.secret[32:])


@pytest.mark.parametrize("secret", [b"", ME.secret[:63], ME.seed + OTHER.public, ME.secret + b"\0"])
def test_secrets_that_do_not_agree_are_refused(secret: bytes) -> None:
    with pytest.raises(InvalidKey):
        Keypair(secret)


def test_seeds_have_32_bytes() -> None:
    with pytest.raises(InvalidKey, match="32 bytes"):
        Keypair.generate(b"short")


# --- signatures -------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=80), st.integers(0, 511), st.sampled_from([None, HMAC_KEY]))
@settings(max_examples=50)
def test_any_flipped_bit_is_a_wrong_signature(data: bytes, bit: int, hmac_key: bytes | None) -> None:
    signature = sign(ME, data, hmac_key)
    assert verify(ME.public, data, signature, hmac_key)
    flipped = bytearray(signature)
    flipped[bit // 8] ^= 1 << bit % 8
    assert not verify(ME.public, data, bytes(flipped), hmac_key)
    assert not verify(OTHER.public, data, signature, hmac_key)
    assert not verify(ME.public, data, signature, None if hmac_key else HMAC_KEY)


def test_wrong_lengths_are_wrong_signatures() -> None:
    signature = sign(ME, b"data")
    for length in (0, 1, 63, 65, 66, 128):
        assert not verify(ME.public, b"data", signature.ljust(length, b"\0")[:length])
        assert verify_many([((signature + bytes(64))[:length], b"data", ME.public)]) == 0
        if length != 32:
            assert not verify(ME.public.ljust(length, b"\0")[:length], b"data", signature)
    assert verify_many([(signature, b"data", ME.public[:31])]) == 0


def test_a_second_spelling_of_a_signature_is_wrong() -> None:
    """S and S+L verify alike by the bare equation; libsodium takes only the smaller."""
    signature = sign(ME, b"data")
    larger = int.from_bytes(signature[32:], "little") + ORDER
    assert not verify(ME.public, b"data", signature[:32] + larger.to_bytes(32, "little"))


@pytest.mark.parametrize("point", SMALL_ORDER_POINTS)
def test_points_of_small_order_sign_nothing(point: bytes) -> None:
    for first in SMALL_ORDER_POINTS:
        assert not verify(point, b"data", first + bytes(32))
        assert not verify(ME.public, b"data", first + bytes(32))
    with pytest.raises(InvalidKey):
        to_x25519_public(point)


def test_verify_many_finds_the_first_bad_one() -> None:
    good = [(sign(ME, b"%d" % number), b"%d" % number, ME.public) for number in range(5)]
    assert verify_many([]) == -1
    assert verify_many(good) == -1
    for bad in range(5):
        items = list(good)
        items[bad] = (good[bad][0], b"other", ME.public)
        items[4] = (bytes(64), b"4", ME.public)
        assert verify_many(items) == bad


@given(st.binary(min_size=64, max_size=64), st.binary(max_size=40), st.binary(min_size=32, max_size=32))
@settings(max_examples=50)
def test_both_ways_into_libsodium_agree(signature: bytes, data: bytes, public: bytes) -> None:
    good = sign(ME, data)
    for given_signature, key in ((signature, public), (good, ME.public), (good, public), (signature, ME.public)):
        direct = keys._verify_detached(given_signature, data, len(data), key) == 0
        assert direct == (keys._verify_by_open(given_signature, data, len(data), key) == 0)


def test_x25519() -> None:
    shared = [
        bindings.crypto_scalarmult(to_x25519_secret(ME), to_x25519_public(OTHER.public)),
        bindings.crypto_scalarmult(to_x25519_secret(OTHER), to_x25519_public(ME.public)),
    ]
    assert shared[0] == shared[1]
    for bad in (b"", bytes(31), b"\x02" + bytes(31)):
        with pytest.raises(InvalidKey):
            to_x25519_public(bad)


# --- keys in text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parse", [parse_hmac_key, parse_network_key])
def test_keys_of_networks(parse: Any) -> None:
    text = base64.b64encode(HMAC_KEY).decode()
    assert parse(text) == HMAC_KEY
    for bad in (
        "",
        text[:-1],
        text + "=",
        " " + text,
        text + "\n",
        text[:-2] + "9=",
        base64.b64encode(bytes(31)).decode(),
    ):
        with pytest.raises(InvalidKey):
            parse(bad)
    for other in (None, True, 5, b"x"):
        with pytest.raises(InvalidKey):
            parse(other)


# --- key file ---------------------------------------------------------------------------------------------------------

FIELDS = {
    "curve": "ed25519",
    "public": ME.id[1:],
    "private": base64.b64encode(ME.secret).decode() + ".ed25519",
    "id": ME.id,
}
PRIVATE = FIELDS["private"]


def test_key_file_reads_what_it_writes() -> None:
    text = format_key_file(ME)
    assert parse_key_file(text) == ME
    assert [line for line in text.splitlines() if line.startswith("#")]
    body = "".join(line for line in text.splitlines() if not line.startswith("#"))
    assert json.loads(body) == FIELDS


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(FIELDS),
        json.dumps(FIELDS).replace(",", ', # a comment with "quotes" and }\n'),
        "# first\r\n" + json.dumps(FIELDS, indent=4).replace("\n", "   # trailing\r\n") + "\r\n# last",
        json.dumps({**FIELDS, "id": ME.id[1:]}),
        json.dumps({"private": PRIVATE}),
        json.dumps({"curve": "ed25519", "private": PRIVATE.removesuffix(".ed25519"), "public": ME.id[1:-8]}),
        PRIVATE,
        f"# this is your SECRET name.\n#\n\n{PRIVATE}\n\n# WARNING! It's vital",
        PRIVATE.removesuffix(".ed25519") + "  # old\n",
        "{" + json.dumps(FIELDS)[1:].replace('": "', '":\n"'),
    ],
)
def test_key_file_spellings(text: str) -> None:
    assert parse_key_file(text) == ME


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no key"),
        ("# only\n# comments\n", "no key"),
        ("{", "not JSON"),
        (json.dumps(FIELDS)[:-20], "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no object"),
        ('"text"', "no object"),
        ("{}", "no private key"),
        (json.dumps({**FIELDS, "private": 5}), "no private key"),
        (json.dumps({**FIELDS, "private": "é"}), "not base64"),
        (json.dumps({**FIELDS, "private": "AAAA"}), "3 bytes"),
        (json.dumps({**FIELDS, "public": OTHER.id[1:]}), "public key does not belong"),
        (json.dumps({**FIELDS, "public": 7}), "public key does not belong"),
        (json.dumps({**FIELDS, "id": OTHER.id}), "id does not belong"),
        (json.dumps({**FIELDS, "curve": "k256"}), "curve"),
        (json.dumps({**FIELDS, "private": base64.b64encode(ME.seed + OTHER.public).decode()}), "halves"),
        (base64.b64encode(ME.seed + OTHER.public).decode() + ".ed25519", "halves"),
        ("hello world", "not base64"),
        ("\x00\x00\x00\x00", "not base64"),
    ],
)
def test_damaged_key_files_are_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidKey, match=reason) as refused:
        parse_key_file(text)
    assert PRIVATE[:40] not in str(refused.value)


@given(st.integers(0, 400), st.integers(0, 20), st.text(max_size=5))
def test_damage_never_gives_another_identity(at: int, cut: int, put: str) -> None:
    text = format_key_file(ME)
    at = at % len(text)
    try:
        found = parse_key_file(text[:at] + put + text[at + cut :])
    except InvalidKey as refused:
        found = ME
        put = str(refused)
    assert found == ME
    assert PRIVATE[:40] not in put
