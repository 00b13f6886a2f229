"""Addresses out of conn.json and gossip.json."""

import json

import pytest

from feeds.foreign.known_peers import KnownPeer, known_peers

KEY = "@" + "A" * 43 + "=.ed25519"


def test_both_files_are_read() -> None:
    conn = {"net:a:1~shs:x": {"type": "room", "autoconnect": True}, "net:b:2~shs:y": {"type": "odd"}, "c": 3}
    assert known_peers(json.dumps(conn).encode()) == [
        KnownPeer("net:a:1~shs:x", "room", True),
        KnownPeer("net:b:2~shs:y", "", False),
    ]
    gossip = [{"host": "a.example", "port": 8008, "key": KEY, "source": "pub"}, {"address": "net:x"}, {"host": 1}, 5]
    assert known_peers(json.dumps(gossip).encode()) == [
        KnownPeer(f"a.example:8008:{KEY}", "", False),
        KnownPeer("net:x", "", False),
    ]


@pytest.mark.parametrize(
    "data", [b"", b"{", b"3", b"null", b"\xff", b"[" * 5000], ids=["empty", "cut", "number", "null", "bytes", "deep"]
)
def test_anything_else_holds_nobody(data: bytes) -> None:
    assert known_peers(data) == []


def test_a_list_without_end_is_cut() -> None:
    assert len(known_peers(json.dumps([{"address": f"a{n}"} for n in range(5000)]).encode())) == 2000
