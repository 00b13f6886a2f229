"""Addresses that hold only for now: they expire, come back, are taken back, and stay bounded."""

from dataclasses import replace

import pytest

from replication import staging
from replication.address_book import Remembered
from replication.staging import Staging


def heard(name: str, source: str = "lan", origin: str = "") -> Remembered:
    return Remembered(f"net:{name}:1~shs:x", f"@{name}", source, False, 1, kind="lan", origin=origin)


def names(staged: Staging, now: float) -> list[str]:
    return [known.peer[1:] for known in staged.here(now)]


def test_what_is_not_heard_again_vanishes() -> None:
    staged = Staging()
    assert staged.put(heard("a"), now=0, ttl=10)
    assert staged.put(heard("b"), now=0, ttl=None)
    assert not staged.put(heard("a"), now=5, ttl=10)
    assert staged.next_end(5) == 15
    assert names(staged, 14.9) == ["b", "a"]
    assert names(staged, 15) == ["b"]
    assert staged.next_end(15) is None
    assert staged.take_back("net:b:1~shs:x", now=20)
    assert not staged.take_back("net:b:1~shs:x", now=20)
    assert not staged.take_back("net:c:1~shs:x", now=20)
    assert names(staged, 20) == []


def test_a_beacon_that_comes_and_goes_does_not_undo_a_back_off() -> None:
    staged = Staging()
    staged.put(heard("a"), now=0, ttl=10)
    assert staged.update(replace(heard("a"), failures=7, next_try=600_000))
    assert names(staged, 100) == []
    assert staged.put(heard("a"), now=200, ttl=10)  # new again, as far as others see
    (known,) = staged.here(200)
    assert (known.failures, known.next_try) == (7, 600_000)
    assert staged.here(200 + 10 + 3600) == []  # and after an hour it is forgotten
    staged.put(heard("a"), now=5000, ttl=10)
    assert staged.here(5000)[0].failures == 0
    assert staged.get("net:a:1~shs:x") is not None
    assert not staged.update(heard("never"))


def test_one_that_stages_much_pushes_out_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "MAX_STAGED", 5)
    staged = Staging()
    staged.put(heard("friend", "room", "portal"), now=0, ttl=None)
    for number in range(20):
        staged.put(heard(f"h{number}"), now=number, ttl=1000)
    assert names(staged, 20) == ["friend", "h16", "h17", "h18", "h19"]
    staged.take_back("net:friend:1~shs:x", now=20)
    staged.put(heard("new"), now=21, ttl=10)  # what is gone goes first
    assert names(staged, 21) == ["h16", "h17", "h18", "h19", "new"]
