"""What another number of hops would fetch, as far as it can be told before: pure.

How many messages a feed has is known where a peer has spoken of it or we hold some; for the others stands the mean of
the feeds that we hold. Bytes and blobs are reckoned by what a message of those that we hold takes in the mean.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

__all__ = ["Means", "preview"]

USUAL_BYTES: Final = 700
"""Of a message, while nothing is held."""


class Means(NamedTuple):
    """What is held: feeds that are not empty, their messages and bytes; blobs held or wanted, bytes of those held."""

    feeds: int
    messages: int
    bytes: int
    blobs: int
    blobs_held: int
    blob_bytes: int


class More(NamedTuple):
    """A feed that would come: its distance, what peers say it has (None: unknown), what we hold already."""

    hops: int
    claim: int | None
    held: int


def preview(hops: int, now: int, more: Mapping[str, More], fewer: int, means: Means) -> dict[str, Any]:
    """Plain JSON values. now -- the number of hops in force; fewer -- feeds that would no longer be wanted."""
    by_hop: dict[int, list[More]] = {}
    for feed in more.values():
        by_hop.setdefault(feed.hops, []).append(feed)
    mean = means.messages / means.feeds if means.feeds else 0.0
    lines = [_line(distance, feeds, mean) for distance, feeds in sorted(by_hop.items())]
    messages = sum(line["messages"] for line in lines)
    size = means.bytes / means.messages if means.messages else USUAL_BYTES
    blobs = round(messages * means.blobs / means.messages) if means.messages else 0
    blob_size = means.blob_bytes / means.blobs_held if means.blobs_held else 0.0
    return {
        "hops": hops,
        "hops_now": now,
        "feeds": len(more),
        "fewer_feeds": fewer,
        "unknown_feeds": sum(line["unknown_feeds"] for line in lines),
        "messages": messages,
        "bytes": round(messages * size),
        "blobs": blobs,
        "blob_bytes": round(blobs * blob_size),
        "by_hop": lines,
    }


def _line(distance: int, feeds: list[More], mean: float) -> dict[str, int]:
    known = [max(0, feed.claim - feed.held) for feed in feeds if feed.claim is not None]
    unknown = len(feeds) - len(known)
    return {
        "hops": distance,
        "feeds": len(feeds),
        "unknown_feeds": unknown,
        "messages": sum(known) + round(unknown * mean),
    }
