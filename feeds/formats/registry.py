"""The feed formats this node knows: a new one is a file beside this and a line here."""

from typing import Final

from feeds.errors import UnknownFormat
from feeds.formats.base import FeedFormat
from feeds.formats.classic import ClassicFormat

__all__ = ["CLASSIC", "FORMATS", "format_named", "format_of_feed"]

CLASSIC: Final[FeedFormat] = ClassicFormat()
FORMATS: Final[tuple[FeedFormat, ...]] = (CLASSIC,)


def format_named(name: str) -> FeedFormat:
    """The format of this name. Raises UnknownFormat."""
    for form in FORMATS:
        if form.name == name:
            return form
    raise UnknownFormat(f"no feed format is called {name[:80]!r}")


def format_of_feed(feed: str) -> FeedFormat:
    """The format of a feed, told from its id. Raises UnknownFormat."""
    for form in FORMATS:
        if form.owns(feed):
            return form
    raise UnknownFormat(f"{feed[:120]!r} is no feed id of a known format")
