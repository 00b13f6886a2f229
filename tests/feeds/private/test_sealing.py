"""Whom a private message is for, and what stands in it."""

import json
import random
from typing import Any

import pytest

from feeds.errors import InvalidMessage
from feeds.private.key_ring import KeyRing
from feeds.private.sealing import read_recipients, seal, wants_sealing
from feeds.refs import FeedRef
from tests.support import builders

ME, YOU, THEM = (builders.keypair(name) for name in ("me", "you", "them"))
CROWD = [builders.keypair(f"one of a crowd {number}").id for number in range(8)]
WEAK = "@" + "A" * 43 + "=.ed25519"


def sealed(content: Any, recps: Any = None) -> str:
    return seal(content, recps, me=ME.id, random=random.Random(1).randbytes)


def opened(boxed: str, keypair: Any = ME) -> dict[str, Any]:
    found = KeyRing([keypair]).open(boxed)
    assert found is not None
    content: dict[str, Any] = json.loads(found.text)
    return content


def post(**members: Any) -> dict[str, Any]:
    return {"type": "post", "text": "psst", **members}


def test_recipients_and_we_ourselves_can_read_it() -> None:
    boxed = sealed(post(), [YOU.id, THEM.id])
    for keypair in (ME, YOU, THEM):
        assert opened(boxed, keypair) == post(recps=[YOU.id, THEM.id, ME.id])
    assert KeyRing([builders.keypair("nobody")]).open(boxed) is None


def test_recipients_within_the_content() -> None:
    content = post(recps=[ME.id, {"link": YOU.id, "name": "you"}])
    assert opened(sealed(content), YOU) == content
    assert opened(sealed(post(recps=YOU.id)), YOU) == post(recps=[YOU.id, ME.id])
    assert content == post(recps=[ME.id, {"link": YOU.id, "name": "you"}])  # the caller's stays as it was


def test_the_same_feed_twice_counts_once() -> None:
    uri = FeedRef.parse(YOU.id).uri
    boxed = sealed(post(), [YOU.id, uri, {"link": YOU.id}, ME.id, ME.id])
    assert opened(boxed, YOU)["recps"] == [YOU.id, ME.id]


def test_both_places_must_agree() -> None:
    content = post(recps=[{"link": YOU.id}])
    assert opened(sealed(content, [YOU.id]), YOU)["recps"] == [YOU.id, ME.id]
    with pytest.raises(InvalidMessage, match="different feeds"):
        sealed(content, [THEM.id])
    with pytest.raises(InvalidMessage, match="different feeds"):
        sealed(content, [YOU.id, THEM.id])


def test_seven_with_ourselves() -> None:
    assert len(opened(sealed(post(), CROWD[:6]))["recps"]) == 7
    assert len(opened(sealed(post(), [*CROWD[:6], ME.id]))["recps"]) == 7
    for recps in (CROWD[:7], CROWD):
        with pytest.raises(InvalidMessage, match="at most 7"):
            sealed(post(), recps)


@pytest.mark.parametrize(
    "recps",
    [
        [],
        ["@x"],
        [None],
        [5],
        [{}],
        [{"link": 5}],
        [["@x"]],
        5,
        True,
        {},
        "",
        "@x",
        ["%" + "A" * 43 + "=.sha256"],
        [WEAK],
    ],
)
def test_what_is_no_recipient_is_refused(recps: Any) -> None:
    assert wants_sealing(post(recps=recps))
    with pytest.raises(InvalidMessage) as refused:
        sealed(post(recps=recps))
    assert refused.value.field == "recps"
    assert "psst" not in str(refused.value)


@pytest.mark.parametrize("kind", [None, 5, "", "ab", "x" * 53, "🎉" * 27])
def test_a_private_content_needs_a_type_as_well(kind: Any) -> None:
    with pytest.raises(InvalidMessage):
        sealed({"type": kind}, [YOU.id])


def test_an_encrypted_content_takes_no_recipients() -> None:
    with pytest.raises(InvalidMessage, match="encrypted already"):
        sealed("AAAA.box", [YOU.id])


def test_nobody_is_named() -> None:
    for content in (post(), post(recps=None), "AAAA.box"):
        assert not wants_sealing(content)
    assert wants_sealing(post(), [])
    with pytest.raises(InvalidMessage, match="names nobody"):
        read_recipients([])


def test_two_are_never_alike() -> None:
    rng = random.Random(2)
    boxes = {seal(post(), [YOU.id], me=ME.id, random=rng.randbytes) for _ in range(5)}
    assert len(boxes) == 5
