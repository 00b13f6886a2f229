"""Validation alone, as the benchmarks compare with it: the function that ingest uses, without store or processes."""

from collections.abc import Sequence

from feeds.admission import Task, judge
from feeds.formats.registry import CLASSIC

Feed = tuple[str, list[bytes]]


def by_author(texts: Sequence[bytes]) -> list[Feed]:
    """The texts of each feed, in order."""
    feeds: dict[str, list[bytes]] = {}
    for text in texts:
        feeds.setdefault(CLASSIC.peek(text)[0], []).append(text)
    return list(feeds.items())


def validate(feed: Feed) -> bool:
    """Judge a feed from its first message on; all of it must be good."""
    author, texts = feed
    items = [(0, at, at - 1, text) for at, text in enumerate(texts, 1)]
    (verdict,) = judge([Task("classic", author, 0, None, assumed=False, forked=False, items=items)], None, ())
    if len(verdict.taken) != len(texts):
        raise SystemExit("a good message was refused")
    return True
