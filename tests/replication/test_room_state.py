"""Room state and aliases: the generated signatures, and anything from outside."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.keys import parse_key_file
from replication.address import parse_address
from replication.errors import InvalidAddress, InvalidAlias, InvalidInvite
from replication.room_aliases import (
    Alias,
    alias_uri,
    checked_alias,
    is_signed,
    read_alias,
    read_alias_uri,
    sign_alias,
    signed_text,
)
from replication.room_links import json_url, read_claim, read_claim_uri, read_room_address
from replication.room_state import MAX_ATTENDANTS, Attendance, Moves, read_metadata, read_tunnel, tunnel_address
from tests.support import vectors
from tests.support.builders import keypair

ENTRIES = [entry for entry in vectors.entries("rooms-signatures.json") if entry["kind"] == "alias"]
ME, ROOM, ANN, BEN = (keypair(name).id for name in ("me", "room", "ann", "ben"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from([ANN, BEN, "state", "joined", "left"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["type", "id", "ids", "name", "features"]), inner),
    max_leaves=8,
)


def alias_of(entry: dict[str, Any]) -> Alias:
    room = entry["room_id"]
    address = f"net:room.example:8008~shs:{room[1:].removesuffix('.ed25519')}"
    return Alias(entry["alias"], entry["user"]["id"], room, address, entry["signature"])


def test_the_generated_alias_signatures() -> None:
    assert len(ENTRIES) >= 20
    for entry in ENTRIES:
        user = parse_key_file(json.dumps({"curve": "ed25519", "private": entry["user"]["private"]}))
        room, alias = entry["room_id"], entry["alias"]
        assert signed_text(room, user.id, alias).decode() == entry["signed_string"]
        assert sign_alias(user, room, alias) == entry["signature"]
        assert is_signed(entry["signature"], room, user.id, alias)
        assert read_alias_uri(alias_uri(alias_of(entry))) == alias_of(entry)


def test_an_alias_is_good_for_its_room_owner_and_name_only() -> None:
    good, other = alias_of(ENTRIES[0]), alias_of(ENTRIES[1])
    for changed in (
        good._replace(alias="x" + good.alias),
        good._replace(user=other.user if other.user != good.user else ANN),
        good._replace(room=ROOM),
        good._replace(signature=other.signature),
        good._replace(signature=""),
        good._replace(address="net:evil.example:8008~shs:" + ANN[1:-8]),
        good._replace(address="nonsense"),
    ):
        with pytest.raises(InvalidAlias):
            read_alias_uri(alias_uri(changed))


@pytest.mark.parametrize("text", ["", "-a", "a-", "a_b", "ä", "a" * 64, "a.b", "a b", "..", "\u2028"])
def test_no_aliases(text: str) -> None:
    with pytest.raises(InvalidAlias):
        read_alias(text)


def test_aliases_are_lower_case() -> None:
    assert [read_alias(text) for text in (" Alice ", "a-1", "a" * 63)] == ["alice", "a-1", "a" * 63]


@given(st.text() | st.builds("ssb:experimental?action=consume-alias&{}".format, st.text()))
def test_links_from_anywhere_are_refused_in_words(text: str) -> None:
    with pytest.raises(InvalidAlias):
        read_alias_uri(text)
    for read in (read_claim_uri, json_url):
        with contextlib.suppress(InvalidInvite):
            read(text)
    with contextlib.suppress(InvalidAddress):
        read_room_address(text)


@given(st.dictionaries(st.sampled_from(["alias", "userId", "roomId", "multiserverAddress", "signature"]), JSON))
def test_answers_from_anywhere(given_: dict[str, Any]) -> None:
    with pytest.raises(InvalidAlias):
        checked_alias(given_)
    with pytest.raises(InvalidInvite):
        read_claim(given_)


@given(st.lists(JSON, max_size=20))
def test_events_from_anywhere_keep_the_attendance_sound(events: list[Any]) -> None:
    attendance = Attendance(ME, ROOM)
    here: set[str] = set()
    for number, event in enumerate(events):
        read_metadata(event, version=1 + number % 2)
        moves = attendance.take_list(event) if number % 3 == 0 else attendance.take_event(event)
        assert not set(moves.joined) & here
        assert set(moves.left) <= here
        here = (here | set(moves.joined)) - set(moves.left)
        assert here == set(attendance.here) <= {ANN, BEN}
    assert set(attendance.clear().left) == here


def test_attendants_come_and_go() -> None:
    attendance = Attendance(ME, ROOM)
    assert attendance.take_event({"type": "state", "ids": [ANN, ME, ROOM, "x"]}) == Moves(joined=(ANN,))
    assert attendance.take_event({"type": "joined", "id": ANN}) == Moves()
    assert attendance.take_event({"type": "joined", "id": BEN}) == Moves(joined=(BEN,))
    assert attendance.take_event({"type": "left", "id": ANN}) == Moves(left=(ANN,))
    assert attendance.take_list([ANN]) == Moves(joined=(ANN,), left=(BEN,))
    many = [keypair(f"one {number}").id for number in range(MAX_ATTENDANTS + 5)]
    attendance.take_list(many)
    assert len(attendance.here) == MAX_ATTENDANTS
    assert attendance.take_event({"type": "joined", "id": BEN}) == Moves()


def test_what_rooms_say_of_themselves() -> None:
    assert read_metadata(True, version=1) is not None
    assert read_metadata(False, version=1) is read_metadata(True, version=2) is None
    told = read_metadata({"name": "R", "membership": False, "features": ["tunnel", 3, "alias"]}, version=1)
    assert told is not None
    assert (told.version, told.name, told.membership, told.features) == (2, "R", False, ("tunnel", "alias"))
    old = read_metadata({"name": "R", "description": "old"}, version=1)
    assert old is not None
    assert (old.version, old.membership) == (1, None)


def test_tunnel_addresses() -> None:
    address = tunnel_address(ROOM, ANN)
    assert address == f"tunnel:{ROOM}:{ANN}~shs:{ANN[1:-8]}"
    assert read_tunnel(parse_address(address)) == (ROOM, ANN)
    for text in (
        f"tunnel:{ROOM}:{BEN}~shs:{ANN[1:-8]}",
        f"tunnel:{ANN}:{ANN}~shs:{ANN[1:-8]}",
        f"tunnel:{ROOM}~shs:{ANN[1:-8]}",
        f"tunnel:x:{ANN}~shs:{ANN[1:-8]}",
        f"net:h:1~shs:{ANN[1:-8]}",
    ):
        with pytest.raises(InvalidAddress):
            read_tunnel(parse_address(text))


def test_addresses_and_invites_of_rooms() -> None:
    plain = f"net:room.example:8008~shs:{ROOM[1:-8]}"
    assert read_room_address(plain) == plain
    assert read_room_address(plain + ":SSB+Room+PSK3TLYC2T86EHQCUHBUHASCASE18JBV24=") == plain
    with pytest.raises(InvalidAddress, match="invite of a pub"):
        read_room_address(plain + ":" + ANN[1:-8])
    assert (
        json_url("https://room.example/join?invite=a%2Bb#x") == "https://room.example/join?invite=a%2Bb&encoding=json"
    )
    claim = read_claim_uri("ssb:experimental?action=claim-http-invite&invite=abc&postTo=https%3A%2F%2Froom.example%2Fc")
    assert claim == ("abc", "https://room.example/c")
