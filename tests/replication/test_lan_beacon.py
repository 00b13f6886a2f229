"""The packets of local discovery: the vectors, and packets that say something else."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_secretbox

from feeds import keys
from feeds.keys import Keypair
from replication.lan_beacon import (
    MAX_SIZE,
    Beacon,
    InvalidBeacon,
    boxed_beacon,
    open_box,
    plain_beacon,
    read_boxed,
    read_plain,
)
from replication.secret_handshake import MAIN_NETWORK
from tests.support import builders, vectors

ME = builders.keypair("me")
KEY = base64.b64encode(ME.public).decode()
ADDRESS = f"net:192.168.1.7:8008~shs:{KEY}"


def boxed(content: object, *, key: bytes = MAIN_NETWORK, signature: bytes = bytes(64)) -> bytes:
    return crypto_secretbox(json.dumps(content).encode(), key[:24], key) + signature


@pytest.mark.parametrize("entry", vectors.entries("lan-packets.json"), ids=lambda each: str(each["kind"]))
def test_vectors(entry: dict[str, Any]) -> None:
    packet, network_key = bytes.fromhex(entry["packet_hex"]), base64.b64decode(entry["caps_b64"])
    if entry["kind"] == "bad-box":
        with pytest.raises(InvalidBeacon, match="does not open"):
            open_box(packet, network_key)
        return
    assert open_box(packet, network_key) == entry["opens_to"]
    if entry["verified"]:
        beacon = read_boxed(packet, network_key)
        assert (beacon.peer, str(beacon.addresses[0])) == (entry["author"]["id"], entry["opens_to"].split(";")[0])
        author = Keypair.generate(base64.b64decode(entry["author"]["private"].removesuffix(".ed25519"))[:32])
        assert boxed_beacon(entry["address"], author, network_key) == packet
    else:
        with pytest.raises(InvalidBeacon, match="not signed by"):
            read_boxed(packet, network_key)


def test_both_kinds_are_read_as_they_were_written() -> None:
    for beacon in (
        read_plain(plain_beacon(ADDRESS)),
        read_boxed(boxed_beacon(ADDRESS, ME, MAIN_NETWORK), MAIN_NETWORK),
    ):
        assert (beacon.peer, [str(each) for each in beacon.addresses]) == (ME.id, [ADDRESS])


def test_the_old_form_and_lists_are_read() -> None:
    assert read_plain(f"192.168.1.7:8008:{ME.id}".encode()).peer == ME.id
    several = f"ws://192.168.1.7:8989~shs:{KEY};{ADDRESS};net:10.0.0.1:1~shs:{KEY}"
    assert [each.host for each in read_plain(several.encode()).addresses] == ["192.168.1.7", "10.0.0.1"]


def test_addresses_of_somebody_else_do_not_count() -> None:
    other = base64.b64encode(builders.keypair("other").public).decode()
    beacon = read_plain(f"{ADDRESS};net:10.0.0.1:1~shs:{other}".encode())
    assert [str(each) for each in beacon.addresses] == [ADDRESS]


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\xff\xfe",
        b"hello",
        b"net:192.168.1.7:8008~noauth",
        b"net:192.168.1.7:8008",
        f"ws://192.168.1.7:8989~shs:{KEY}".encode(),
        f"unix:/tmp/socket~shs:{KEY}".encode(),
        f"net:192.168.1.7:0~shs:{KEY}".encode(),
        f"net:192.168.1.7:99999~shs:{KEY}".encode(),
        f"{ADDRESS}:{KEY}".encode(),  # an invite
        ";".join([ADDRESS] * 30).encode(),  # too large
    ],
)
def test_plain_packets_that_say_nothing(packet: bytes) -> None:
    with pytest.raises(InvalidBeacon):
        read_plain(packet)


@pytest.mark.parametrize(
    ("packet", "match"),
    [
        (b"", "does not open"),
        (bytes(64), "does not open"),
        (bytes(80), "does not open"),
        (boxed_beacon(ADDRESS, ME, bytes(32)), "does not open"),
        (boxed({"address": ADDRESS}), "not signed by"),
        (boxed({"address": 7}), "no address"),
        (boxed([ADDRESS]), "no address"),
        (boxed({}), "no address"),
        (boxed({"address": "\ud800"}), "not an address"),
        (boxed([[[[[[[]]]]]]]), "not JSON"),
        (crypto_secretbox(b"\xff{", MAIN_NETWORK[:24], MAIN_NETWORK) + bytes(64), "not JSON"),
        (boxed({"address": ADDRESS, "pad": "x" * MAX_SIZE}), "at most"),
    ],
)
def test_boxed_packets_that_say_nothing(packet: bytes, match: str) -> None:
    with pytest.raises(InvalidBeacon, match=match):
        read_boxed(packet, MAIN_NETWORK)


def test_a_signature_of_the_network_with_hmac_does_not_count() -> None:
    signature = keys.sign(ME, b'{\n  "address": "x"\n}', bytes(32))
    with pytest.raises(InvalidBeacon):
        read_boxed(boxed({"address": ADDRESS}, signature=signature), MAIN_NETWORK)


def _only_documented(packet: bytes) -> None:
    for read in (read_plain, lambda data: read_boxed(data, MAIN_NETWORK)):
        try:
            found: Beacon = read(packet)
        except InvalidBeacon:
            continue
        assert found.addresses


@given(st.binary(max_size=300))
def test_any_bytes(packet: bytes) -> None:
    _only_documented(packet)


@given(st.binary(max_size=300))
def test_any_content_of_a_box(content: bytes) -> None:
    _only_documented(crypto_secretbox(content, MAIN_NETWORK[:24], MAIN_NETWORK) + bytes(64))


@given(st.text(alphabet="net:ws~shs;!@0189.[]% \ud800é" + KEY[:6], max_size=80))
def test_any_address_in_a_box(text: str) -> None:
    _only_documented(boxed({"address": text}))
    _only_documented(boxed({"address": f"net:{text}:1~shs:{KEY}"}))
    _only_documented(f"net:{text}:1~shs:{KEY}".encode(errors="replace"))
