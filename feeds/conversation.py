"""Tolerant typed readings of posts, votes and channels (protocol.md sections 2 and 11).

A reading gives None for what is of another shape; like in `feeds.content` nothing raises, whatever an author signed.
"""

import re
from typing import Final, NamedTuple

from feeds.content import target_of
from feeds.message import JsonObject, JsonValue

__all__ = [
    "MAX_BRANCHES",
    "MAX_CHANNELS",
    "POST_TYPES",
    "Place",
    "Post",
    "Subscription",
    "Vote",
    "clamped_time",
    "link_target",
    "normalise_channel",
    "read_channels",
    "read_place",
    "read_post",
    "read_subscription",
    "read_vote",
]

POST_TYPES: Final = ("post", "blog")
"""Types that people write to be read by people: what timelines hold, and what a reply is."""
MAX_BRANCHES: Final = 32
MAX_CHANNELS: Final = 20
"""Channels read from one message."""
MAX_EXPRESSION: Final = 64
_CHANNEL_BYTES: Final = 2 * 30
_LATEST: Final = 2**53

_DROPPED: Final = re.compile('[\\s.,?!<>()\\[\\]"#\ufeff]')
_KEPT_SPACE: Final = "\x1c\x1d\x1e\x1f\x85"
"""White space to Python and not to JavaScript."""
_find_hashtags: Final = re.compile(
    "(?:^|(?<=[\\s(\\[{>*_\"']))#([^\\s#.,?!<>()\\[\\]{}\"'`:;&/\\\\|*+=~^%$@]{1,64})"
).findall


class Post(NamedTuple):
    """Where a post stands. Ids are canonical message ids."""

    root: str | None
    """First message of the thread; None for a post that begins one."""
    fork: str | None
    """The other thread that this reply belongs to: it carries a sub-thread off from one of them."""
    branches: tuple[str, ...]
    """Ends of the thread as its author saw it."""


class Vote(NamedTuple):
    """What an author thinks of a message; replaces what the same author thought before."""

    link: str
    value: int
    """1, -1, or 0 for no opinion any more."""
    expression: str


class Subscription(NamedTuple):
    """Whether an author wants to read a channel."""

    channel: str
    subscribed: bool


class Place(NamedTuple):
    """The threads of a post: `root` and `fork` as a `Post` has them."""

    root: str | None
    fork: str | None


def read_place(content: JsonObject | str) -> Place | None:
    """The threads that a post names; None for other types."""
    if type(content) is not dict or content.get("type") not in POST_TYPES:
        return None
    root, fork = content.get("root"), content.get("fork")
    if root is None and fork is None:
        return _NOWHERE
    return Place(link_target(root), link_target(fork))


_NOWHERE: Final = Place(None, None)


def read_post(content: JsonObject | str) -> Post | None:
    """The place of a post in its thread; None for other types."""
    place = read_place(content)
    if place is None or not isinstance(content, dict):
        return None
    branch = content.get("branch")
    if branch is None:
        return Post(*place, ())
    named = branch[:MAX_BRANCHES] if isinstance(branch, list) else [branch]
    branches = dict.fromkeys(target for one in named if (target := link_target(one)) is not None)
    return Post(*place, tuple(branches))


def read_vote(content: JsonObject | str) -> Vote | None:
    """The vote that a message casts; None for what casts none."""
    if not isinstance(content, dict) or content.get("type") != "vote":
        return None
    vote = content.get("vote")
    if not isinstance(vote, dict):
        return None
    link, value, expression = link_target(vote.get("link")), vote.get("value"), vote.get("expression")
    if link is None or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    sign = (value > 0) - (value < 0)
    return Vote(link, sign, expression[:MAX_EXPRESSION] if isinstance(expression, str) else "")


def link_target(value: JsonValue) -> str | None:
    """Canonical id of the message that a link (an id, or an object with `link`) points to."""
    if isinstance(value, dict):
        value = value.get("link")
    target = target_of(value) if isinstance(value, str) else None
    return target if target is not None and target.startswith(("%", "ssb:message")) else None


def normalise_channel(name: str) -> str | None:
    """The one spelling of a channel's name, None when nothing of it is left.

    As ssb-ref has it: lower case, without white space and `, . ? ! < > ( ) [ ] " #`, at most 30 UTF-16 units. A cut
    through a surrogate pair leaves its first half.
    """
    kept = _DROPPED.sub(lambda found: found[0] if found[0] in _KEPT_SPACE else "", name.lower())
    if len(kept) > _CHANNEL_BYTES // 4:
        units = kept.encode("utf-16-le", "surrogatepass")[:_CHANNEL_BYTES]
        kept = units.decode("utf-16-le", "surrogatepass")
    return kept or None


def read_channels(content: JsonObject | str) -> list[str]:
    """Normalised channels of a message: its `channel`, and the hashtags among its mentions and in its text."""
    if not isinstance(content, dict) or content.get("type") == "channel":
        return []
    names: list[str] = []
    channel, text, mentions = content.get("channel"), content.get("text"), content.get("mentions")
    if isinstance(channel, str):
        names.append(channel)
    if isinstance(mentions, list):
        names += [link for mention in mentions if (link := _hashtag(mention)) is not None]
    if isinstance(text, str) and "#" in text:
        names += _find_hashtags(text)
    channels = dict.fromkeys(name for spelled in names if (name := normalise_channel(spelled)) is not None)
    return list(channels)[:MAX_CHANNELS]


def _hashtag(mention: JsonValue) -> str | None:
    link = mention.get("link") if isinstance(mention, dict) else mention
    return link if isinstance(link, str) and link.startswith("#") else None


def read_subscription(content: JsonObject | str) -> Subscription | None:
    """What a channel message says; None for what is none."""
    if not isinstance(content, dict) or content.get("type") != "channel":
        return None
    channel = content.get("channel")
    name = normalise_channel(channel) if isinstance(channel, str) else None
    return None if name is None else Subscription(name, content.get("subscribed") is True)


def clamped_time(claimed: int | float) -> int:
    """A claimed time as whole milliseconds from 0 to 2^53; whoever orders by it bounds it by the time received too."""
    if type(claimed) is int and 0 <= claimed <= _LATEST:
        return claimed
    return int(max(0, min(claimed, _LATEST)))
