"""What full-text search goes by: words of public contents, queries in words, and the excerpts shown of what was found.

Words are cut and folded here alone, for the index, for queries and for excerpts, so that the three agree whatever the
version of Unicode that SQLite knows: without case, accents and width; each Chinese and Japanese character is a word.
"""

import re
import unicodedata
from collections.abc import Iterator
from html import escape
from typing import Final, NamedTuple

from feeds.message import JsonObject, JsonValue

__all__ = ["FIELDS", "Excerpt", "Query", "Term", "excerpt_of", "parse_query", "searchable", "words_of"]

FIELDS: Final = ("text", "name", "title", "description", "summary")
"""Members of a content that are searched."""
MAX_WORDS: Final = 64
"""Words in a query."""
MIN_PREFIX: Final = 2
LEAD: Final = 60
EXCERPT: Final = 240
"""Characters of an excerpt, and those before the first word found."""

_SINGLE: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_MARKS: Final = (
    "\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u064b-\u065f\u0670\u1ab0-\u1aff\u1dc0-\u1dff"
)
_words: Final = re.compile(f"[{_SINGLE}]|[^\\W_{_SINGLE}]+").findall
_without_marks: Final = re.compile(f"[{_MARKS}]+").sub
_spelled_words: Final = re.compile(f"[{_SINGLE}]|(?:[^\\W_{_SINGLE}][{_MARKS}]*)+").finditer
_ascii_words: Final = re.compile("[a-z0-9]+").findall
_query_parts: Final = re.compile(r'(-?)(?:"([^"]*)"?|(\S+))').finditer


def words_of(text: str) -> list[str]:
    """The words of a text, folded."""
    if text.isascii():
        return _ascii_words(text.lower())
    folded = unicodedata.normalize("NFKD", text.casefold()).casefold()
    return _words(unicodedata.normalize("NFC", _without_marks("", folded)))


def searchable(content: JsonObject | str) -> str | None:
    """What the index gets of a content: its words with anything in between that is ASCII and no word; None for nothing.

    A text of ASCII alone is left as it is: the index's own tokenizer cuts and folds those in the same way.
    """
    if not isinstance(content, dict):
        return None
    texts = [text if text.isascii() else " ".join(words_of(text)) for _, text in _texts(content)]
    return "\n".join(texts) or None


def _texts(content: JsonObject) -> Iterator[tuple[str, str]]:
    if isinstance(content.get("type"), str):
        for field in FIELDS:
            text = content.get(field)
            if isinstance(text, str) and text:
                yield field, text


class Term(NamedTuple):
    """Words that stand one after the other; the last may be the beginning of one."""

    words: tuple[str, ...]
    is_prefix: bool = False

    def stands_in(self, spaced: str) -> bool:
        """Whether it occurs in a text of words with a blank before, between and after them."""
        return f" {' '.join(self.words)}{'' if self.is_prefix else ' '}" in spaced


class Query(NamedTuple):
    """All of the wanted terms, none of the others."""

    wanted: tuple[Term, ...]
    unwanted: tuple[Term, ...] = ()

    @property
    def expression(self) -> str:
        """The FTS5 expression that finds all that fits, and more where words must stand in order.

        Only words made by `words_of` come into it, each a string of its own, so it is never malformed.
        """
        wanted = [_quoted(word, term, at) for term in self.wanted for at, word in enumerate(term.words, 1)]
        unwanted = [_quoted(term.words[0], term, 1) for term in self.unwanted if len(term.words) == 1]
        found = " AND ".join(dict.fromkeys(wanted))
        return f"({found}) NOT ({' OR '.join(dict.fromkeys(unwanted))})" if unwanted else found

    def fits(self, content: JsonValue) -> bool:
        """Whether a content is what is searched for: the last word on what the expression found."""
        if all(len(term.words) == 1 for term in (*self.wanted, *self.unwanted)):
            return True
        return self.stands_in(content)

    def stands_in(self, content: JsonValue) -> bool:
        """Whether a content that no index found is what is searched for."""
        texts = [f" {' '.join(words_of(text))} " for _, text in _texts(content)] if isinstance(content, dict) else []
        return all(any(term.stands_in(text) for text in texts) for term in self.wanted) and not any(
            term.stands_in(text) for term in self.unwanted for text in texts
        )


def _quoted(word: str, term: Term, number: int) -> str:
    return f'"{word}"*' if term.is_prefix and number == len(term.words) else f'"{word}"'


def parse_query(text: str) -> Query | None:
    """Reads words, "words in this order", -words not wanted and beginnings*; None without a wanted word, or too many.

    There is no text that is malformed: what is no word separates words.
    """
    wanted: list[Term] = []
    unwanted: list[Term] = []
    for part in _query_parts(text):
        minus, phrase, word = part.groups()
        words = tuple(words_of(word if phrase is None else phrase))
        if words:
            is_prefix = phrase is None and word.endswith("*") and len(words[-1]) >= MIN_PREFIX
            (unwanted if minus else wanted).append(Term(words, is_prefix))
    number = sum(len(term.words) for term in (*wanted, *unwanted))
    return Query(tuple(wanted), tuple(unwanted)) if wanted and number <= MAX_WORDS else None


class Excerpt(NamedTuple):
    """A piece of a field around the first word found, in parts; the second of each says whether it was searched for."""

    field: str
    parts: list[tuple[str, bool]]

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.parts)

    @property
    def html(self) -> str:
        """The same with `<mark>` around what was searched for, and everything else escaped."""
        return "".join(f"<mark>{escape(text)}</mark>" if found else escape(text) for text, found in self.parts)


def excerpt_of(content: JsonObject, query: Query) -> Excerpt | None:
    """A piece of the first field in which a word of the query stands; the beginning of some field if none does."""
    exact = {word for term in query.wanted for word in term.words}
    beginnings = tuple(term.words[-1] for term in query.wanted if term.is_prefix)
    first: Excerpt | None = None
    for field, text in _texts(content):
        spans: list[tuple[int, int]] = []
        for match in _spelled_words(text):
            if spans and match.start() > spans[0][0] + EXCERPT:
                break
            if any(word in exact or word.startswith(beginnings) for word in words_of(match[0])):
                spans.append(match.span())
        if spans:
            return Excerpt(field, _cut(text, spans))
        first = first or Excerpt(field, _cut(text, []))
    return first


def _cut(text: str, spans: list[tuple[int, int]]) -> list[tuple[str, bool]]:
    start, end = _window(text, spans[0][0] if spans else 0)
    parts = [("…", False)] if start > 0 else []
    at = start
    for first, last in spans:
        if last > end:
            break
        parts += [(text[at:first], False), (text[first:last], True)]
        at = last
    parts.append((text[at:end] + ("…" if end < len(text) else ""), False))
    return [(piece, found) for piece, found in parts if piece]


def _window(text: str, around: int) -> tuple[int, int]:
    """Where a piece begins and ends: between words, if there is a blank near."""
    start = max(0, around - LEAD)
    if start > 0:
        start = next((at + 1 for at in range(start, around) if text[at].isspace()), start)
    end = min(len(text), max(start + EXCERPT, around + EXCERPT // 2))
    if end < len(text):
        end = next((at for at in range(end, end - LEAD, -1) if text[at].isspace()), end)
    return start, end
