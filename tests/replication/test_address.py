"""Multiserver addresses and invite codes: the ssb-ref vectors, our own reading, and nothing else raised."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication import ssb_ref
from replication.address import (
    Address,
    Protocol,
    decode_layers,
    format_layers,
    parse_address,
    parse_addresses,
    parse_invite,
)
from replication.errors import InvalidAddress, InvalidInvite
from tests.support import vectors

KEY = "/IrNg2Z7Hk7BMZp0R+h8mjKKjfOdjBWBIeKO1Mep07k="
SEED = "41ipfYeOuQlsgoWsgVVIkJQjPt5FbZgriOOic2Zwn4s="
ENTRIES = vectors.entries("ssb-ref.json")
PREDICATES = {
    "isAddress": ssb_ref.is_address,
    "isInvite": ssb_ref.is_invite,
    "isLegacyInvite": ssb_ref.is_legacy_invite,
    "isMultiServerInvite": ssb_ref.is_multiserver_invite,
}


def decoded(text: str) -> list[list[dict[str, Any]]] | None:
    found = decode_layers(text)
    if found is None:
        return None
    return [[{"name": layer.name, "data": list(layer.data)} for layer in layers] for layers in found]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["input"][:40])
def test_ssb_ref_vector(entry: dict[str, Any]) -> None:
    text = entry["input"]
    address, invite = ssb_ref.parse_address(text), ssb_ref.parse_invite(text)
    assert {name for name, holds in PREDICATES.items() if holds(text)} == set(PREDICATES) & set(
        entry["true_predicates"]
    )
    assert (False if address is None else address._asdict()) == entry["parseAddress"]
    assert (None if invite is None else invite._asdict()) == entry["parseInvite"]
    assert ssb_ref.key_from_address(text) == entry["getKeyFromAddress"]
    assert decoded(text) == entry["multiserver_decode"]
    assert (decoded(text) is not None) == entry["multiserver_check"]


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (f"net:localhost:8008~shs:{KEY}", "localhost", 8008),
        (f"net:2001!:db8!:!:1:8008~shs:{KEY}", "2001:db8::1", 8008),
        (f"net:2001:db8::1:8008~shs:{KEY}", "2001:db8::1", 8008),
        (f"localhost:8009:@{KEY}.ed25519", "localhost", 8009),
        (f"localhost::@{KEY}.ed25519", "localhost", 8008),
        (f"::1:8009:@{KEY}.ed25519", "::1", 8009),
        (f"[::1]:8009:@{KEY}.ed25519", "::1", 8009),
        (f"  net:a.b:1~shs:{KEY}\n", "a.b", 1),
        (f"ws://a.b:8989~shs:{KEY}", "a.b", 8989),
        (f"onion:abc.onion:8008~shs:{KEY}", "abc.onion", 8008),
    ],
)
def test_reads_host_and_port(text: str, host: str, port: int) -> None:
    address = parse_address(text)
    assert (address.host, address.port) == (host, port)
    assert address.key == f"@{KEY}.ed25519"
    assert parse_address(str(address)) == address


def test_writes_an_ipv6_host_with_escapes() -> None:
    address = Address.net("2001:db8::1", 8008, parse_address(f"net:x.y:1~shs:{KEY}").public)
    assert str(address) == f"net:2001!:db8!:!:1:8008~shs:{KEY}"


def test_a_seed_comes_behind_the_key() -> None:
    address = parse_address(f"net:a.b:1~shs:{KEY}:{SEED}")
    assert address.seed is not None
    assert len(address.seed) == 32
    assert str(address).endswith(f"{KEY}:{SEED}")


def test_a_unix_socket_needs_no_key() -> None:
    address = parse_address("unix:/tmp/sock~noauth")
    assert (address.transport, address.host, address.port, address.key) == ("unix", "/tmp/sock", 0, None)


def test_alternatives_keep_their_order_and_unknown_ones_are_left_out() -> None:
    found = parse_addresses(f"net:a.b:1~shs:{KEY};net:c.d:2;wss://e.f~shs:{KEY};net:g.h:3~shs:{KEY}")
    assert [(address.transport, address.host) for address in found] == [("net", "a.b"), ("wss", "e.f"), ("net", "g.h")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not an address"),
        ("hello", "without|expected"),
        ("net:localhost:8008", "an identity"),
        (f"net:localhost:99999~shs:{KEY}", "not a port"),
        (f"net:localhost:x~shs:{KEY}", "not a port"),
        (f"net:localhost:8008~shs:{KEY[:-2]}", "32 bytes"),
        (f"net:localhost:8008~shs:{KEY[:-2]}9=", "canonical"),
        ("net:localhost:8008~shs", "key is missing"),
        ("net:localhost:8008~noauth", "without a key"),
        (f"net:8008~shs:{KEY}", "host is missing"),
        (f"localhost:99999:@{KEY}.ed25519", "not a port"),
        ("x" * 5000, "5000 characters"),
    ],
)
def test_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(InvalidAddress, match=says):
        parse_address(text)


def test_an_error_does_not_repeat_the_secret_of_an_invite() -> None:
    with pytest.raises(InvalidAddress) as caught:
        parse_address(f"net:localhost:99999~shs:{KEY}:{SEED}")
    assert SEED not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f"net:a.com:8008~shs:{KEY}:{SEED}",
        f'"net:a.com:8008~shs:{KEY}:{SEED}"',
        f"net:a.com:8008~shs:{KEY}:{SEED}#https://a.com/welcome",
        f"a.com:8008:@{KEY}.ed25519~{SEED}",
        f"'a.com:8008:@{KEY}.ed25519~{SEED}'",
    ],
)
def test_reads_both_forms_of_an_invite(text: str) -> None:
    address = parse_invite(text)
    assert str(address) == f"net:a.com:8008~shs:{KEY}:{SEED}"


@pytest.mark.parametrize("text", ["", "hello", f"net:a.com:8008~shs:{KEY}", f"a.com:8008:@{KEY}.ed25519"])
def test_refuses_what_is_no_invite(text: str) -> None:
    with pytest.raises(InvalidInvite):
        parse_invite(text)


address_like = st.text(alphabet="net:wshonix~!;/.@=#8\u00e9 \n" + KEY[:8], max_size=80) | st.text(max_size=80)


@given(address_like)
def test_any_text_gives_an_address_or_the_documented_error(text: str) -> None:
    with contextlib.suppress(InvalidAddress):
        assert all(isinstance(address, Address) for address in parse_addresses(text))
    with contextlib.suppress(InvalidInvite):
        assert parse_invite(text).seed


@given(address_like)
def test_any_text_passes_the_rules_of_ssb_ref_without_an_exception(text: str) -> None:
    ssb_ref.parse_address(text)
    ssb_ref.key_from_address(text)
    assert ssb_ref.is_invite(text) == (ssb_ref.is_legacy_invite(text) or ssb_ref.is_multiserver_invite(text))
    if ssb_ref.is_legacy_invite(text):
        assert not ssb_ref.is_address(text)


layers = st.builds(
    Protocol,
    st.from_regex(r"[a-z][a-z0-9-]{1,8}", fullmatch=True),
    st.lists(st.text(alphabet="abc!:;~/.", max_size=8), max_size=3).map(tuple),
)


@given(st.lists(layers, min_size=1, max_size=3))
def test_layers_come_back_as_they_were_written(written: list[Protocol]) -> None:
    assert decode_layers(format_layers(written)) == [written]


@pytest.mark.parametrize(
    "text", ["ws://[2001:db8::1]:8989", "ws://[2001!:db8!:!:1]:8989", "ws://[2001!:db8!:!:1]!:8989"]
)
def test_an_ipv6_address_in_a_url_has_one_spelling(text: str) -> None:
    found = parse_address(f"{text}~shs:{KEY}")
    assert (found.host, found.port, found.path) == ("2001:db8::1", 8989, "/")
    assert str(found) == f"ws://[2001:db8::1]:8989~shs:{KEY}"


@pytest.mark.parametrize(
    "url",
    ["ws", "ws:", "ws://", "ws://:1", "ws://a:0", "ws://a:70000", "ws://a@b:1", "ws://[::1", "wss:a.b", "ws://a:1/?q"],
)
def test_what_is_no_url_of_a_websocket_is_refused(url: str) -> None:
    with pytest.raises(InvalidAddress):
        parse_address(f"{url}~shs:{KEY}")
