"""What about messages say, and whose word counts."""

from typing import Any

import pytest

from feeds.names import Chosen, Said, Teller, choose, folded_name, own_word, read_about, short_id
from tests.support.builders import keypair

ME, ANN, BOB, CID, DAN = (keypair(name).id for name in ("me", "ann", "bob", "cid", "dan"))
BLOB = "&" + "A" * 43 + "=.sha256"


def said(*pairs: tuple[str, str]) -> list[Said]:
    return [Said(*pair) for pair in pairs]


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        ([(BOB, "b"), (ANN, "ann"), (ME, "mine")], Chosen("mine", Teller.ME, [ME])),
        ([(BOB, "ann"), (ANN, "ann"), (CID, "c")], Chosen("ann", Teller.SELF, [BOB, ANN])),
        ([(BOB, "x"), (CID, "y"), (DAN, "y")], Chosen("y", Teller.OTHERS, [CID, DAN])),
        ([(BOB, "y"), (CID, "x")], Chosen("x", Teller.OTHERS, [CID])),
        ([], Chosen(None, Teller.NOBODY, [])),
    ],
)
def test_whose_word_counts(words: list[tuple[str, str]], chosen: Chosen) -> None:
    assert choose(said(*words), me=ME, subject=ANN) == chosen


def test_my_own_name_is_my_word_of_myself() -> None:
    assert choose(said((BOB, "b"), (ME, "me")), me=ME, subject=ME).teller is Teller.SELF
    assert own_word(said((BOB, "b"), (ANN, "a")), ANN) == "a"
    assert own_word(said((BOB, "b")), ANN) is None


@pytest.mark.parametrize(
    ("members", "fields"),
    [
        ({"name": "ann"}, {"name": "ann"}),
        ({"name": " an\n n "}, {"name": "an n"}),
        ({"name": "x" * 5000}, {"name": "x" * 256}),
        ({"name": ""}, {"name": None}),
        ({"name": None}, {"name": None}),
        ({"name": 5, "description": ["x"], "image": "http://x", "publicWebHosting": "yes"}, None),
        ({"image": BLOB}, {"image": BLOB}),
        ({"image": {"link": BLOB + "?unbox=x", "size": 5}}, {"image": BLOB}),
        ({"image": {"link": BLOB, "remove": True}}, {"image": None}),
        ({"image": ANN}, None),
        ({"publicWebHosting": False}, {"publicWebHosting": False}),
        ({"location": "x", "attendee": {"link": ANN}}, {"location": "x", "attendee": {"link": ANN}}),
        ({"x" * 65: 1}, None),
        ({}, None),
    ],
)
def test_what_an_about_message_says(members: Any, fields: Any) -> None:
    about = read_about({"type": "about", "about": ANN, **members})
    assert (None if about is None else about.fields) == fields
    if about is not None:
        assert about.subject == ANN


@pytest.mark.parametrize("subject", [None, 5, "ann", {"link": 5}, {}, [], "\ud800"])
def test_what_is_about_nothing(subject: Any) -> None:
    assert read_about({"type": "about", "about": subject, "name": "x"}) is None


def test_what_is_no_about_message() -> None:
    assert read_about("abc.box") is None
    assert read_about({"type": "post", "about": ANN, "name": "x"}) is None


def test_deep_and_many_fields_are_left_out() -> None:
    deep: Any = []
    for _ in range(3000):
        deep = [deep]
    about = read_about({"type": "about", "about": ANN, "deep": deep, **{f"f{at}": at for at in range(100)}})
    assert about is not None
    assert len(about.fields) == 32
    assert "deep" not in about.fields


def test_names_are_found_without_case_accents_and_width() -> None:
    assert folded_name("@Éva") == folded_name("eva") == folded_name("EVA") == "eva"
    assert folded_name("Straße") == "strasse"
    assert folded_name("\ud800") == "\ud800"


def test_short_ids() -> None:
    assert short_id(ANN) == ANN[:9]
    assert short_id("ssb:feed/bendybutt-v1/" + "A" * 43 + "=") == "@AAAAAAAA"
    assert short_id(BLOB) == "&AAAAAAAA"
