"""Keys behind a passphrase: they come back, nothing else opens them, and no file makes it expensive to find out."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds import key_box
from feeds.errors import InvalidKey
from feeds.key_box import Cost, parse, seal
from feeds.keys import Keypair, format_key_file

KEYPAIR = Keypair.generate(bytes(range(32)))
CHEAP = Cost(1, 8192)
TEXT = seal(KEYPAIR, "open sesame", salt=bytes(16), nonce=bytes(24), cost=CHEAP)


def changed(**fields: Any) -> str:
    return json.dumps(json.loads(TEXT) | fields)


def kdf(**fields: Any) -> dict[str, Any]:
    return dict(json.loads(TEXT)["kdf"]) | fields


def test_it_comes_back_and_shows_only_the_id() -> None:
    box = parse("# a comment\n" + TEXT)
    assert box is not None
    assert box.id == KEYPAIR.id
    assert box.open("open sesame") == KEYPAIR
    for wrong in ("", "open sesamE", "\ud800", "x" * 2000):
        with pytest.raises(InvalidKey):
            box.open(wrong)
    assert KEYPAIR.secret not in TEXT.encode()


def test_the_same_text_typed_on_two_keyboards_is_one_passphrase() -> None:
    text = seal(KEYPAIR, "caf\u00e9", salt=bytes(16), nonce=bytes(24), cost=CHEAP)
    box = parse(text)
    assert box is not None
    assert box.open("cafe\u0301") == KEYPAIR


def test_other_texts_are_none_of_it() -> None:
    for text in ("", "{}", "[]", format_key_file(KEYPAIR), "[" * 9000, "x" * 100_000, '{"type":"x"}'):
        assert parse(text) is None


def test_an_empty_passphrase_seals_nothing() -> None:
    with pytest.raises(InvalidKey, match="empty"):
        seal(KEYPAIR, "", salt=bytes(16), nonce=bytes(24), cost=CHEAP)


@pytest.mark.parametrize(
    "text",
    [
        TEXT[:-20],
        changed(version=2),
        changed(version=None),
        changed(id="@x"),
        changed(id=7),
        changed(kdf=None),
        changed(kdf=kdf(name="scrypt")),
        changed(kdf=kdf(salt="AAAA")),
        changed(kdf=kdf(operations=10**9)),
        changed(kdf=kdf(operations=0)),
        changed(kdf=kdf(operations=True)),
        changed(kdf=kdf(memory=2**42)),
        changed(kdf=kdf(memory=-1)),
        changed(kdf=kdf(memory=1e300)),
        changed(cipher="none"),
        changed(nonce="é" * 32),
        changed(box=""),
        changed(box="A" * 10_000),
        changed(box=["A"]),
    ],
)
def test_damaged_and_costly_files_are_refused_before_anything_is_computed(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_box, "_key", None)
    with pytest.raises(InvalidKey):
        parse(text)


def test_a_box_under_another_id_is_not_opened() -> None:
    box = parse(changed(id=Keypair.generate(bytes(32)).id))
    assert box is not None
    with pytest.raises(InvalidKey, match="not that of its id"):
        box.open("open sesame")


@given(position=st.integers(0, len(TEXT) - 1), to=st.characters())
@settings(max_examples=150, deadline=None)
def test_one_changed_character_gives_the_same_key_or_a_refusal(position: int, to: str) -> None:
    try:
        box = parse(TEXT[:position] + to + TEXT[position + 1 :])
        if box is not None and box.cost.memory <= 10**6:
            assert box.open("open sesame") == KEYPAIR
    except InvalidKey:
        pass


def test_the_default_cost_works() -> None:
    box = parse(seal(KEYPAIR, "x", salt=bytes(16), nonce=bytes(24)))
    assert box is not None
    assert box.cost == key_box.DEFAULT_COST
    assert box.open("x") == KEYPAIR
