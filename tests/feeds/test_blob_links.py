"""Blobs are found wherever a content names them, with their keys."""

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.blob_links import MAX_BLOBS, BlobLink, blob_ids, blob_links
from feeds.content import links
from tests.support.builders import blob_id, message_id

KEY = "K+/" + "a" * 40 + "=.boxs"
ONE, TWO, THREE = blob_id(1), blob_id(2), blob_id(3)


def found(content: Any) -> list[BlobLink]:
    whole = blob_links(content)
    assert sorted(blob_ids(content, links(content))) == sorted(link.id for link in whole)
    return whole


def test_wherever_a_link_stands() -> None:
    content = {
        "type": "about",
        "root": message_id(1),
        "image": {"link": ONE, "size": 5},
        "mentions": [{"link": f"{TWO}?unbox={KEY}"}, {"link": message_id(2)}, THREE],
    }
    assert found(content) == [
        BlobLink(ONE, "image.link", None),
        BlobLink(THREE, "mentions", None),
        BlobLink(TWO, "mentions.link", KEY),
    ]
    assert found({"type": "blog", "blog": ONE}) == [BlobLink(ONE, "blog", None)]
    assert found("AAAA.box") == found({}) == found({"mentions": [None, 5, {"link": 5}, {"query": 5}]}) == []


@pytest.mark.parametrize(
    "text",
    [
        "![cat]({})",
        "[the file]({} 'title')",
        "<{}>",
        "see {}, please",
        "{}",
        '<img src="{}">',
    ],
)
def test_in_the_midst_of_a_text(text: str) -> None:
    url_safe = ONE[1:-7].replace("+", "-").replace("/", "_")
    for spelled in (
        ONE,
        quote(ONE, safe=""),
        ONE.replace("&", "&amp;"),
        f"ssb:blob/classic/{url_safe}",
        f"ssb://blob/classic/{url_safe}",
    ):
        assert found({"type": "post", "text": text.format(spelled)}) == [BlobLink(ONE, "text", None)]
    assert found({"type": "post", "text": text.format(f"{ONE}?unbox={KEY}")}) == [BlobLink(ONE, "text", KEY)]
    assert found({"type": "post", "text": text.format(message_id(1))}) == []


def test_a_blob_named_twice_is_named_once_with_its_key() -> None:
    text = f"![a]({ONE}) ![b]({ONE}?unbox={KEY})."
    assert found({"text": text, "mentions": [{"link": ONE}]}) == [BlobLink(ONE, "text", KEY)]
    beside = {"text": f"![a]({ONE})", "mentions": [{"link": ONE, "query": {"unbox": KEY}}]}
    assert found(beside) == [BlobLink(ONE, "mentions.link", KEY)]
    assert found({"text": f"{ONE}?unbox={KEY}. And {TWO}?unbox=."}) == [
        BlobLink(ONE, "text", KEY),
        BlobLink(TWO, "text", None),
    ]


def test_no_more_than_so_many() -> None:
    content = {"text": " ".join(blob_id(number) for number in range(MAX_BLOBS + 50))}
    assert len(found(content)) == MAX_BLOBS


PIECES = st.sampled_from(
    [ONE, TWO, f"{ONE}?unbox={KEY}", quote(ONE), "%26", "&amp;", "?unbox=", "ssb:blob/classic/", "%"]
)
VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=4) | st.lists(PIECES, max_size=4).map("".join),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["link", "query", "unbox"]), inner),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(["text", "mentions", "image", "type"]), VALUES, max_size=4))
def test_no_content_makes_it_raise(content: Any) -> None:
    for link in found(content):
        assert link.unbox != ""
