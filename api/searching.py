"""The words that a request searches for."""

from typing import Final

from starlette.requests import Request

from api.parameters import Parameter, text
from feeds.search_words import MAX_WORDS, Query, parse_query

__all__ = ["WORDS", "query_of"]

WORDS: Final = Parameter("q", text(1000), 'Words, "words in this order", -words not wanted, beginnings*')


def query_of(request: Request) -> Query | None:
    """What is searched for, None when nothing is; Problem invalid-parameter when there is no word in it."""
    given = WORDS.of(request)
    if given is None:
        return None
    query = parse_query(given)
    if query is None:
        raise WORDS.refusal(f"must have a word that is wanted, and at most {MAX_WORDS} words")
    return query
