"""Readings of posts, votes and channels: the shapes that are known, and no shape that raises."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.conversation import (
    MAX_BRANCHES,
    MAX_CHANNELS,
    Post,
    Subscription,
    Vote,
    clamped_time,
    link_target,
    normalise_channel,
    read_channels,
    read_post,
    read_subscription,
    read_vote,
)
from feeds.message import JsonValue
from tests.support.builders import blob_id, keypair, message_id
from tests.support.vectors import entries

ONE, TWO = message_id(1), message_id(2)


@pytest.mark.parametrize("entry", entries("channels.json"), ids=lambda entry: repr(entry["input"]))
def test_channel_vectors(entry: dict[str, str | None]) -> None:
    assert normalise_channel(entry["input"] or "") == entry["output"]


@settings(deadline=None)
@given(st.text(st.characters(), max_size=80))
def test_normalising_twice_changes_nothing_and_keeps_thirty_units(name: str) -> None:
    channel = normalise_channel(name)
    if channel is not None:
        assert len(channel.encode("utf-16-le", "surrogatepass")) <= 60
        assert normalise_channel(channel) == channel or not name.isascii()  # lower case of some letters has marks


def test_white_space_is_what_javascript_takes_for_it() -> None:
    assert normalise_channel("a\u00a0\u1680\u2003\u2028\u3000\ufeff\vb") == "ab"
    assert normalise_channel("a\x1c\x85b") == "a\x1c\x85b"


def test_places_of_posts() -> None:
    assert read_post({"type": "post"}) == Post(None, None, ())
    assert read_post({"type": "blog", "root": ONE, "branch": TWO}) == Post(ONE, None, (TWO,))
    assert read_post({"type": "post", "root": {"link": ONE}, "branch": [TWO, {"link": ONE}, TWO, 5]}) == Post(
        ONE, None, (TWO, ONE)
    )
    assert read_post({"type": "post", "root": ONE + "?unbox=x", "fork": TWO}) == Post(ONE, TWO, ())
    many: JsonValue = [message_id(number) for number in range(100)]
    post = read_post({"type": "post", "branch": many})
    assert post is not None
    assert len(post.branches) == MAX_BRANCHES
    for content in ("box", {"type": "vote", "root": ONE}, {"type": ["post"]}, {}):
        assert read_post(content) is None  # type: ignore[arg-type]


def test_links_to_other_things_are_none() -> None:
    for value in (None, 5, "", "%", keypair("a").id, blob_id(1), {"link": {"link": ONE}}, [ONE]):
        assert link_target(value) is None  # type: ignore[arg-type]
    assert link_target("ssb:message/classic/" + ONE[1:-7].replace("+", "-").replace("/", "_")) == ONE


def test_votes() -> None:
    def vote(**members: Any) -> Vote | None:
        return read_vote({"type": "vote", "vote": {"link": ONE, "value": 1, **members}})

    assert vote(expression="Like") == Vote(ONE, 1, "Like")
    assert [v and v.value for v in (vote(value=-3), vote(value=0), vote(value=0.5), vote(value=-0.0))] == [-1, 0, 1, 0]
    assert vote(expression=5) == Vote(ONE, 1, "")
    for broken in ({"value": True}, {"value": "1"}, {"value": None}, {"link": "x"}, {"link": None}):
        assert vote(**broken) is None


def test_channels_of_a_message() -> None:
    def channels(text: Any = "", **members: Any) -> list[str]:
        return read_channels({"type": "post", "text": text, **members})

    assert channels("#one, two#three (#Four) [#five](#five)\n#six-7 *#eight*") == [
        "one",
        "four",
        "five",
        "six-7",
        "eight",
    ]
    assert channels("# title\n## more\nhttp://x/#anchor C# #! ##") == []
    assert channels("#日本語 #été") == ["日本語", "été"]
    assert channels(channel="Some Thing", mentions=["#a", {"link": "#B"}, {"link": 5}, None, "@c"]) == [
        "something",
        "a",
        "b",
    ]
    assert channels(5, channel=5, mentions=5) == []
    assert len(channels(" ".join(f"#t{number}" for number in range(100)))) == MAX_CHANNELS


def test_subscriptions() -> None:
    def subscription(**members: Any) -> Subscription | None:
        return read_subscription({"type": "channel", **members})

    assert subscription(channel="#Art", subscribed=True) == Subscription("art", True)
    assert subscription(channel="art", subscribed="yes") == Subscription("art", False)
    assert subscription(channel="?") is None
    assert subscription(channel=5) is None
    assert read_channels({"type": "channel", "channel": "art"}) == []


def test_times_are_whole_and_bounded() -> None:
    assert [clamped_time(t) for t in (-1, 1.9, 10**400, float("inf"), float("-inf"))] == [0, 1, 2**53, 2**53, 0]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.sampled_from([ONE, TWO]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["link", "value", "x"]), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(["root", "branch", "fork", "vote", "channel", "subscribed", "text", "mentions"])
KINDS = st.sampled_from(["post", "vote", "channel", "blog"]) | JSON


@settings(max_examples=200, deadline=None)
@given(st.builds(lambda kind, more: {"type": kind, **more}, KINDS, st.dictionaries(NAMES, JSON)) | st.text())
def test_no_content_raises(content: Any) -> None:
    for read in (read_post, read_vote, read_channels, read_subscription):
        read(content)
