"""Readings of content: contacts and links, from content of any shape."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.content import MAX_DEPTH, MAX_LINKS, Contact, FoundLink, Relation, content_type, links, read_contact
from tests.support.builders import blob_id, keypair, message_id

FEED = keypair("feed").id
URI = "ssb:feed/bendybutt-v1/" + "A" * 43 + "="


@pytest.mark.parametrize(
    ("said", "relation"),
    [
        ({}, Relation.NONE),
        ({"following": True}, Relation.FOLLOW),
        ({"following": False}, Relation.NONE),
        ({"following": 1}, Relation.NONE),
        ({"following": "true"}, Relation.NONE),
        ({"blocking": True}, Relation.BLOCK),
        ({"blocking": False}, Relation.NONE),
        ({"following": True, "blocking": False}, Relation.FOLLOW),
        ({"following": True, "blocking": True}, Relation.BLOCK),
        ({"following": True, "blocking": 0}, Relation.FOLLOW),
        ({"following": True, "blocking": ""}, Relation.FOLLOW),
        ({"following": True, "blocking": None}, Relation.FOLLOW),
        ({"following": True, "blocking": []}, Relation.BLOCK),
        ({"following": True, "blocking": {}}, Relation.BLOCK),
        ({"following": True, "blocking": "no"}, Relation.BLOCK),
        ({"following": True, "flagged": True}, Relation.BLOCK),
        ({"following": True, "flagged": {"reason": "spam"}}, Relation.BLOCK),
        ({"following": True, "flagged": False}, Relation.FOLLOW),
    ],
)
def test_contact(said: dict[str, Any], relation: Relation) -> None:
    assert read_contact({"type": "contact", "contact": FEED, **said}) == Contact(FEED, relation)


@pytest.mark.parametrize(
    "content",
    [
        "YWJj.box",
        {"type": "post", "contact": FEED},
        {"type": "contact"},
        {"type": "contact", "contact": None},
        {"type": "contact", "contact": [FEED]},
        {"type": "contact", "contact": "somebody", "following": True},
        {"type": "contact", "contact": message_id(1), "following": True},
        {"contact": FEED, "following": True},
    ],
)
def test_no_contact(content: Any) -> None:
    assert read_contact(content) is None


def test_type() -> None:
    assert content_type({"type": "post"}) == "post"
    assert content_type({"type": 5}) is None
    assert content_type({}) is None
    assert content_type("YWJj.box") is None


def test_links_with_their_paths() -> None:
    content: Any = {
        "type": "post",
        "root": message_id(1),
        "branch": [message_id(2), message_id(3)],
        "mentions": [{"link": FEED, "name": "me"}, {"link": blob_id(1), "size": 5}, FEED],
        "image": f"{blob_id(2)}?unbox=AAAA.boxs",
        "tangles": {"group": {"root": message_id(4), "previous": None}},
        "text": f"see {FEED}",
        "wrong": [FEED[:-1], FEED + " ", "@", "%", "", f"@{'A' * 42}B=.ed25519"],
        "subfeed": URI,
        "old": URI.replace("/", ":"),
    }
    assert links(content) == [
        FoundLink(message_id(1), "root"),
        FoundLink(blob_id(2), "image", "unbox=AAAA.boxs"),
        FoundLink(URI, "subfeed"),
        FoundLink(URI, "old"),
        FoundLink(message_id(2), "branch"),
        FoundLink(message_id(3), "branch"),
        FoundLink(FEED, "mentions"),
        FoundLink(FEED, "mentions.link"),
        FoundLink(blob_id(1), "mentions.link"),
        FoundLink(message_id(4), "tangles.group.root"),
    ]
    assert links("YWJj.box") == links(FEED) == []


def test_links_are_bounded() -> None:
    content: Any = {"type": "many", "all": [message_id(number) for number in range(2 * MAX_LINKS)]}
    assert len(links(content)) == MAX_LINKS
    deep: Any = FEED
    for _ in range(10_000):
        deep = [deep]
    assert links({"deep": deep}) == []
    shallow: Any = FEED
    for _ in range(MAX_DEPTH - 1):
        shallow = [shallow]
    assert links({"deep": shallow}) == [FoundLink(FEED, "deep")]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[])),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "contact", "x"]), inner),
    )
)
def test_content_of_any_shape_is_read_without_an_exception(content: Any) -> None:
    for shape in (content, {"type": "contact", "contact": content, "blocking": content}, {"a": content, "b": FEED}):
        content_type(shape)
        read_contact(shape)
        assert all(link.target for link in links(shape))
