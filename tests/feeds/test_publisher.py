"""Signing for our own feed: rules of one message, without the store."""

from typing import Any

import pytest

from feeds.errors import ForkedFeed, InvalidMessage, SequenceMismatch, TooLarge
from feeds.formats.registry import CLASSIC
from feeds.message import EMPTY, Tip
from feeds.publisher import Publisher, State
from feeds.validation import check_next
from tests.support.builders import keypair

HMAC_KEY = bytes(range(32))
POST: dict[str, Any] = {"type": "post", "text": "hello"}


@pytest.fixture(params=[None, HMAC_KEY], ids=["plain", "hmac"])
def hmac_key(request: pytest.FixtureRequest) -> bytes | None:
    key: bytes | None = request.param
    return key


def test_what_is_signed_passes_the_validator(hmac_key: bytes | None) -> None:
    publisher = Publisher(keypair("own"), CLASSIC, hmac_key=hmac_key)
    first = publisher.sign(POST, EMPTY, None, now=1000.7)
    second = publisher.sign(POST, Tip(1, first.id), first.timestamp, now=2000.0)
    assert [first.timestamp, second.timestamp] == [1000, 2000]
    assert check_next(CLASSIC, first.text, EMPTY, hmac_key) == first
    assert check_next(CLASSIC, second.text, Tip(1, first.id), hmac_key) == second
    other = HMAC_KEY if hmac_key is None else None
    with pytest.raises(InvalidMessage, match="signature"):
        check_next(CLASSIC, first.text, EMPTY, other)


@pytest.mark.parametrize(
    ("last", "now", "claimed"),
    [
        (None, 1000.9, 1000),
        (999, 1000.0, 1000),
        (1000, 1000.9, 1001),
        (1000.5, 1000.9, 1001),
        (5_000_000, 1000.0, 5_000_001),
        (1e300, 1000.0, 1000),
        (-(10**20), 1000.0, 1000),
    ],
)
def test_claimed_times_move_forward(last: float | None, now: float, claimed: int) -> None:
    tip = EMPTY if last is None else Tip(4, "%" + "A" * 43 + "=.sha256")
    assert Publisher(keypair("own"), CLASSIC).sign(POST, tip, last, now=now).timestamp == claimed


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"text": "no type"},
        {"type": "ab"},
        {"type": "x" * 53},
        {"type": 7},
        "not a box",
        {"type": "post", "f": {1, 2}},
    ],
)
def test_content_that_breaks_a_rule(content: Any) -> None:
    with pytest.raises(InvalidMessage):
        Publisher(keypair("own"), CLASSIC).sign(content, EMPTY, None, now=1.0)


def test_too_large_says_how_large_and_what_is_allowed() -> None:
    publisher = Publisher(keypair("own"), CLASSIC)
    with pytest.raises(TooLarge) as caught:
        publisher.sign({"type": "post", "text": "é" * 8192}, EMPTY, None, now=1.0)
    assert caught.value.limit == 8192
    assert 8192 < caught.value.size < 9000
    fits = publisher.draft({"type": "post", "text": ""}, EMPTY, now=1.0)
    text = "é" * (8192 - fits.size)
    assert publisher.draft({"type": "post", "text": text}, EMPTY, now=1.0).size == 8192
    assert publisher.sign({"type": "post", "text": text}, EMPTY, None, now=1.0).size == 8192
    with pytest.raises(TooLarge):
        publisher.sign({"type": "post", "text": text + "x"}, EMPTY, None, now=1.0)


def test_an_expected_sequence_must_be_the_one_there_is() -> None:
    publisher = Publisher(keypair("own"), CLASSIC)
    assert publisher.sign(POST, EMPTY, None, now=1.0, if_sequence=0).sequence == 1
    with pytest.raises(SequenceMismatch) as caught:
        publisher.sign(POST, EMPTY, None, now=1.0, if_sequence=3)
    assert (caught.value.expected, caught.value.actual) == (3, 0)


def test_states() -> None:
    publisher = Publisher(keypair("own"), CLASSIC)
    assert publisher.state(forked=False) is State.OPEN
    publisher.check(forked=False)
    assert publisher.state(forked=True) is State.FORKED
    with pytest.raises(ForkedFeed, match="two branches"):
        publisher.check(forked=True)
    assert [state.value for state in State] == ["open", "locked", "forked"]
