"""Sign-in with SSB: the generated signatures, and links from anywhere."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.errors import InvalidRef
from feeds.keys import Keypair, parse_key_file
from feeds.refs import FeedRef
from feeds.sign_in import is_nonce, is_solution, login_query, parse_start, signed_text, solve, start_uri
from tests.support import vectors

ENTRIES = [entry for entry in vectors.entries("rooms-signatures.json") if entry["kind"] == "http-auth"]
SERVER = Keypair.generate(b"s" * 32).id
SC = "yEkQKaQjoxipL1NQpMCI6zEVfx4sHVx8gCFiH7qOQXg="
ADDRESS = "net:room.example:8008~shs:" + SERVER[1:].removesuffix(".ed25519")


def client_of(entry: dict[str, Any]) -> Keypair:
    return parse_key_file(json.dumps({"curve": "ed25519", "private": entry["client"]["private"]}))


def test_the_generated_signatures() -> None:
    assert len(ENTRIES) >= 20
    for entry in ENTRIES:
        server, client, sc, cc = entry["server_id"], client_of(entry), entry["sc"], entry["cc"]
        assert client.id == entry["client"]["id"]
        assert signed_text(server, client.id, sc, cc).decode() == entry["signed_string"]
        assert solve(client, server, sc, cc) == entry["signature"]
        assert is_solution(entry["signature"], server, client.id, sc, cc)


def test_a_solution_is_good_for_one_visit_of_one_client_to_one_site() -> None:
    entry, other = ENTRIES[0], ENTRIES[1]
    good = (entry["server_id"], entry["client"]["id"], entry["sc"], entry["cc"])
    bad = (other["server_id"], other["client"]["id"], other["sc"], other["cc"])
    for at in range(4):
        mixed = list(good)
        mixed[at] = bad[at]
        assert not is_solution(entry["signature"], *mixed)
    assert not is_solution(entry["signature"], good[0], good[1], good[3], good[2])
    for wrong in (None, 1, "", entry["signature"][:-12], entry["signature"].replace("==", "="), "é" * 88):
        assert not is_solution(wrong, *good)


@given(st.none() | st.integers() | st.text())
def test_nonces_are_32_bytes(value: object) -> None:
    assert not is_nonce(value)
    assert is_nonce(SC)
    assert not is_nonce(SC + "\n")


@pytest.mark.parametrize("address", [None, ADDRESS])
def test_links_there_and_back(address: str | None) -> None:
    assert parse_start(start_uri(SERVER, SC, address)) == (SERVER, SC, address)


def test_links_as_others_write_them() -> None:
    bare = f"ssb://experimental?sc={SC}&action=start-http-auth&sid={FeedRef.parse(SERVER).uri}"
    assert parse_start(bare) == (SERVER, SC, None)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "https://room.example",
        f"ssb:experimental?action=claim-http-invite&sid={SERVER}&sc={SC}",
        f"ssb:experimental?action=start-http-auth&sid={SERVER}",
        f"ssb:experimental?action=start-http-auth&sid={SERVER}&sc=AAAA",
        f"ssb:experimental?action=start-http-auth&sc={SC}",
        f"ssb:experimental?action=start-http-auth&sid=%25{SERVER[1:]}&sc={SC}",
    ],
)
def test_other_links_are_refused(uri: str) -> None:
    with pytest.raises(InvalidRef):
        parse_start(uri)


@given(st.text().map("ssb:experimental?action=start-http-auth&sid=".__add__) | st.text())
def test_any_link_gives_a_request_or_invalid_ref(uri: str) -> None:
    with pytest.raises(InvalidRef):
        parse_start(uri)


def test_the_query_of_a_login_page() -> None:
    cc = "a+b/" + SC[4:]
    encoded = SERVER.replace("@", "%40").replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    assert login_query(SERVER, cc) == f"ssb-http-auth=1&cid={encoded}&cc=a%2Bb%2F{SC[4:].replace('=', '%3D')}"
