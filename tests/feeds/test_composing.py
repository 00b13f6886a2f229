"""Contents as deployed clients write them: what is found in texts, and how the members come together."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds import composing
from feeds.composing import MAX_MENTIONS, BlobFacts, Spot, find_mentions
from feeds.content import Relation, links, read_contact
from feeds.conversation import read_channels, read_post, read_vote
from feeds.names import read_about
from feeds.refs import BlobRef, FeedRef, MessageRef
from tests.support.builders import blob_id, keypair, message_id

ALICE, BOB = keypair("alice").id, keypair("bob").id
MESSAGE, BLOB = message_id(1), blob_id(1)


@pytest.mark.parametrize(
    ("text", "mentions"),
    [
        ("", []),
        ("nothing here, not even an@address or 100%", []),
        (f"hello [@alice]({ALICE})", [{"link": ALICE, "name": "alice"}]),
        (f"hello [Alice **A.**]({ALICE})", [{"link": ALICE, "name": "Alice A."}]),
        (f"bare {ALICE}, and {MESSAGE}.", [{"link": ALICE}, {"link": MESSAGE}]),
        (f"[{MESSAGE}]({MESSAGE})", [{"link": MESSAGE}]),
        (f"<{FeedRef.parse(ALICE).uri}>", [{"link": ALICE}]),
        (f"see {MessageRef.parse(MESSAGE).uri} there", [{"link": MESSAGE}]),
        (f"[it]({BlobRef.parse(BLOB).uri})", [{"link": BLOB, "name": "it"}]),
        (f"![a cat]({BLOB}) and [again]({BLOB})", [{"link": BLOB, "name": "a cat"}]),
        (f"{BLOB} then [named]({BLOB})", [{"link": BLOB, "name": "named"}]),
        (f"![x]({BLOB}?unbox={'A' * 43}=.boxs)", [{"link": BLOB, "name": "x"}]),
        (f"[![a cat]({BLOB})]({MESSAGE})", [{"link": BLOB, "name": "a cat"}, {"link": MESSAGE}]),
        (f"> quoted [@a]({ALICE})\n\n* {BOB}", [{"link": ALICE, "name": "a"}, {"link": BOB}]),
        (f"| a |\n|---|\n| {ALICE} |", [{"link": ALICE}]),
        (f"`{ALICE}` and\n\n```\n{BOB} #tag\n```\n\n    {MESSAGE} #tag", []),
        ("#One and (#two), #one again, not a#tag, [#Three](#three) [x](#four)", ["#one", "#two", "#three", "#four"]),
        (f"#first {ALICE} #second", ["#first", ALICE, "#second"]),
        (f"[web](http://example.com/{ALICE})", []),
        ("[mail](mailto:a@example.com) [](@x) [broken](%nonsense) ![]()", []),
        (f"[a][ref]\n\n[ref]: {ALICE}", [{"link": ALICE, "name": "a"}]),
    ],
)
def test_what_a_text_mentions(text: str, mentions: list[Any]) -> None:
    assert find_mentions(text) == [{"link": one} if isinstance(one, str) else one for one in mentions]


def test_a_percent_sign_in_an_id_is_no_escape() -> None:
    id = "%20" + MESSAGE[3:]
    assert find_mentions(f"[x]({id})") == [{"link": id, "name": "x"}]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=20), st.sampled_from([ALICE, BLOB, "[", "](", ")", "#", "`", "!", "\n", "ssb:", "\ud800"])
        ),
        max_size=40,
    )
)
def test_any_text_is_read(parts: list[str]) -> None:
    found = find_mentions("".join(parts))
    assert all(isinstance(one["link"], str) and one["link"] for one in found)
    assert len({str(one["link"]) for one in found}) == len(found)


def test_many_mentions_are_cut_and_deep_nesting_is_survived() -> None:
    assert len(find_mentions(" ".join(message_id(n) for n in range(300)))) == MAX_MENTIONS
    assert find_mentions(">" * 5000 + ALICE) == []
    assert find_mentions(">" * 20 + ALICE) == [{"link": ALICE}]
    assert find_mentions("[" * 2000) == []


def test_a_plain_post() -> None:
    assert composing.post("hello") == {"type": "post", "text": "hello"}
    assert composing.post("x", channel="#My Channel!", content_warning="") == {
        "type": "post",
        "text": "x",
        "channel": "mychannel",
    }
    assert composing.post("x", channel="#", content_warning="spiders") == {
        "type": "post",
        "text": "x",
        "contentWarning": "spiders",
    }


def test_a_reply_reads_back() -> None:
    content = composing.post("x", reply=Spot(MESSAGE, [message_id(2), message_id(3)]))
    read = read_post(content)
    assert read is not None
    assert (read.root, read.fork, read.branches) == (MESSAGE, None, (message_id(2), message_id(3)))


def test_mentions_come_together() -> None:
    content = composing.post(
        f"#tag [@al]({ALICE}) ![cat]({BLOB})",
        mentions=[{"link": BOB, "name": "bob"}, {"link": ALICE, "name": "alice"}, {"link": "#other"}],
        blobs={BLOB: BlobFacts(17, "image/png"), blob_id(2): BlobFacts(1, None)},
    )
    assert content["mentions"] == [
        {"link": "#tag"},
        {"link": ALICE, "name": "alice"},
        {"type": "image/png", "size": 17, "link": BLOB, "name": "cat"},
        {"link": BOB, "name": "bob"},
        {"link": "#other"},
    ]
    assert {ALICE, BOB, BLOB} == {link.target for link in links(content)}
    assert read_channels(content) == ["tag", "other"]


def test_votes_read_back() -> None:
    for value, word in composing.EXPRESSIONS.items():
        read = read_vote(composing.vote(MESSAGE, value, spot=Spot(BLOB, [MESSAGE]), channel="A b"))
        assert read is not None
        assert (read.link, read.value, read.expression) == (MESSAGE, value, word)
    content = composing.vote(MESSAGE, 1, "Yup", spot=Spot(message_id(9), [MESSAGE]), channel="A b")
    assert content == {
        "type": "vote",
        "channel": "ab",
        "vote": {"link": MESSAGE, "value": 1, "expression": "Yup"},
        "root": message_id(9),
        "branch": [MESSAGE],
    }


def test_abouts_read_back() -> None:
    content = composing.about(ALICE, {"name": "Al", "image": BLOB}, BlobFacts(5, "image/gif"))
    assert content == {
        "type": "about",
        "about": ALICE,
        "name": "Al",
        "image": {"link": BLOB, "type": "image/gif", "size": 5},
    }
    read = read_about(content)
    assert read is not None
    assert read.fields == {"name": "Al", "image": BLOB}
    taken_back = read_about(composing.about(ALICE, {"image": None}))
    assert taken_back is not None
    assert taken_back.fields == {"image": None}


@pytest.mark.parametrize(
    ("following", "blocking", "relation"),
    [(True, False, Relation.FOLLOW), (False, True, Relation.BLOCK), (False, False, Relation.NONE)],
)
def test_contacts_read_back(following: bool, blocking: bool, relation: Relation) -> None:
    read = read_contact(composing.contact(ALICE, following=following, blocking=blocking))
    assert read is not None
    assert (read.feed, read.relation) == (ALICE, relation)
