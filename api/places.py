"""Marks of lists that are ordered by two whole numbers, such as a time and a position."""

import re
from typing import Final

from api.errors import Problem
from api.paging import Mark

__all__ = ["mark_of", "pair_in"]

_split: Final = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})").fullmatch


def mark_of(pair: tuple[int, int] | None) -> str | None:
    """The mark of a place; None for the end."""
    return None if pair is None else f"{pair[0]}.{pair[1]}"


def pair_in(mark: Mark | None) -> tuple[int, int] | None:
    """The place that a mark names; None for the start of the list."""
    if mark is None:
        return None
    found = _split(str(mark))
    if found is None:
        raise Problem("invalid-cursor", "Use the `next` of a page of this list, with the same order.")
    return int(found[1]), int(found[2])
