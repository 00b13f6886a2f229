"""Proofs of forks: they hold for two branches and for nothing else, and let only their own exception out."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds import fork_proof
from feeds.errors import InvalidMessage
from feeds.formats.registry import CLASSIC
from feeds.message import EMPTY, Tip
from tests.support.builders import keypair

OWN, OTHER = keypair("own"), keypair("other")


def post(text: str, tip: Tip = EMPTY, key: Any = OWN, hmac_key: bytes | None = None) -> Any:
    return CLASSIC.create(key, tip, {"type": "post", "text": text}, 1.0, hmac_key)


FIRST, SECOND = post("one"), post("two")
AFTER = post("three", Tip(1, FIRST.id))
STRAY = post("four", Tip(1, SECOND.id))


def proof(one: Any, two: Any, feed: str = OWN.id) -> bytes:
    return json.dumps(fork_proof.export(feed, 1, one.text, two.text)).encode()


@pytest.mark.parametrize(("one", "two", "sequence"), [(FIRST, SECOND, 1), (SECOND, FIRST, 1), (FIRST, STRAY, 2)])
def test_two_branches_are_proved(one: Any, two: Any, sequence: int) -> None:
    good = fork_proof.verify(proof(one, two))
    assert (good.feed, good.sequence, set(good.messages)) == (OWN.id, sequence, {one.id, two.id})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (proof(FIRST, FIRST), "same message"),
        (proof(FIRST, AFTER), "no fork"),
        (proof(FIRST, post("five", Tip(2, AFTER.id))), "too far apart"),
        (proof(FIRST, post("x", key=OTHER)), "another feed"),
        (proof(FIRST, SECOND, OTHER.id), "another feed"),
        (proof(FIRST, SECOND, "@nobody"), "no feed id"),
        (proof(FIRST, SECOND).replace(b"two", b"2wo"), "not valid"),
        (proof(FIRST, post("x", hmac_key=bytes(32))), "not valid"),
        (b"[]", "ssb-fork-proof"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b" " * 300_000, "bytes"),
        (b'{"type":"ssb-fork-proof","version":1,"feed":"@x","messages":[1,2]}', "ssb-fork-proof"),
    ],
)
def test_anything_else_is_not(data: bytes, words: str) -> None:
    with pytest.raises(InvalidMessage, match=words):
        fork_proof.verify(data)


def test_messages_of_a_test_network_need_its_key() -> None:
    key = bytes(range(32))
    data = proof(post("one", hmac_key=key), post("two", hmac_key=key))
    assert fork_proof.verify(data, key).sequence == 1
    with pytest.raises(InvalidMessage):
        fork_proof.verify(data)


@settings(max_examples=60)
@given(st.integers(0, len(proof(FIRST, SECOND)) - 1), st.integers(0, 255))
def test_damage_proves_nothing_else(at: int, byte: int) -> None:
    data = bytearray(proof(FIRST, SECOND))
    data[at] = byte
    try:
        good = fork_proof.verify(bytes(data))
    except InvalidMessage:
        return
    assert (good.feed, set(good.messages)) == (OWN.id, {FIRST.id, SECOND.id})
