"""Words, queries and excerpts of full-text search."""

import sqlite3
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feeds.search_words import EXCERPT, Query, Term, excerpt_of, parse_query, searchable, words_of


def query(text: str) -> Query:
    found = parse_query(text)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World_wide 42!", ["hello", "world", "wide", "42"]),
        ("Crème BRÛLÉE", ["creme", "brulee"]),
        ("cre\u0300me", ["creme"]),
        ("Straße ﬁne ＡＢＣ", ["strasse", "fine", "abc"]),
        ("日本語 text がぎ", ["日", "本", "語", "text", "か", "き"]),
        ("한국어", ["한국어"]),
        ("привет, мир — ёж", ["привет", "мир", "еж"]),
        ("a\ud800b \0", ["a", "b"]),
        ("", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    if "が" in text:  # the marks of kana are no accents
        words = [*words[:-2], "が", "ぎ"]
    assert words_of(text) == words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One two", Query((Term(("one",)), Term(("two",))))),
        ('"one  TWO" three', Query((Term(("one", "two")), Term(("three",))))),
        ("one -two -three*", Query((Term(("one",)),), (Term(("two",)), Term(("three",), True)))),
        ('one -"two three', Query((Term(("one",)),), (Term(("two", "three")),))),
        ("fo* f*", Query((Term(("fo",), True), Term(("f",))))),
        ("#hash-tag*", Query((Term(("hash", "tag"), True),))),
        ("one AND NOT OR NEAR(x)", None),
        ("-one", None),
        ('"" * - ^ () :', None),
        ("a " * 65, None),
    ],
)
def test_queries(text: str, expected: Query | None) -> None:
    if text.startswith("one AND"):  # words like any others
        expected = Query((*(Term((word,)) for word in ("one", "and", "not", "or")), Term(("near", "x"))))
    assert parse_query(text) == expected


def test_words_in_order_are_told_apart_field_by_field() -> None:
    content: Any = {"type": "post", "text": "one two. Threefold", "title": "four"}
    for text, fits in [
        ('"one two"', True),
        ('"two one"', False),
        ('"threefold four"', False),
        ("two-three*", True),
        ("two-three", False),
        ('one -"two threefold"', False),
        ('one -"one threefold"', True),
    ]:
        assert query(text).fits(content) is fits, text
    assert not query('"one two"').fits("one two")


def test_excerpts() -> None:
    text = "<b>start</b> " + "word " * 60 + "the Crème & brûlée " + "tail " * 80
    content: Any = {"type": "post", "title": "x", "text": text}
    found = excerpt_of(content, query("creme brul*"))
    assert found is not None
    assert found.field == "text"
    assert "the <mark>Crème</mark> &amp; <mark>brûlée</mark> tail" in found.html
    assert found.text.startswith("…word")
    assert found.text.endswith("tail…")
    assert len(found.text) <= EXCERPT + 100
    start = excerpt_of(content, query("start"))
    assert start is not None
    assert start.html.startswith("&lt;b&gt;<mark>start</mark>&lt;/b&gt; word")
    title = excerpt_of(content, query("x"))
    assert title is not None
    assert (title.field, title.parts) == ("title", [("x", True)])
    assert excerpt_of({"type": "vote"}, query("x")) is None


def test_what_is_not_searched() -> None:
    assert searchable("abc.box") is None
    assert searchable({"text": "no type"}) is None
    assert searchable({"type": "post", "text": 5, "other": "x"}) is None
    assert searchable({"type": "post", "text": "Él", "title": "A-b"}) == "el\nA-b"


SCHEMA = "CREATE VIRTUAL TABLE search USING fts5(words, content='', columnsize=0, detail=none, tokenize='ascii')"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.text(max_size=30))
@example('a AND "b', '"*-^():{}NEAR')
@example("𞤀 ꟿ a", "𞤀*")
def test_no_query_is_refused_by_the_index_and_every_word_is_found(text: str, asked: str) -> None:
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute(SCHEMA)
        words = searchable({"type": "post", "text": text})
        if words is not None:
            connection.execute("INSERT INTO search(rowid, words) VALUES(1, ?)", (words,))
        for spelled in (asked, text, f'"{text}"', *(f"{word}*" for word in words_of(text))):
            found = parse_query(spelled)
            if found is not None:
                rows = connection.execute(
                    "SELECT rowid FROM search WHERE search MATCH ?", (found.expression,)
                ).fetchall()
                if spelled is not asked and not found.unwanted:
                    assert rows == [(1,)]
                    assert found.fits({"type": "post", "text": text})
                excerpt_of({"type": "post", "text": text}, found)
    finally:
        connection.close()
