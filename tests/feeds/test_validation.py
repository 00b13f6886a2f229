"""One message at a time, and the model of what extends a feed: duplicates, gaps, forks, damage, in any order."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.errors import InvalidMessage
from feeds.formats.registry import CLASSIC
from feeds.message import EMPTY, Tip
from feeds.validation import check_alone, check_next
from tests.support.builders import Feed, chain, keypair, message_id
from tests.support.chain_model import Extension, extend

FEED = chain("me", 12)
TEXTS = FEED.texts
HMAC_KEY = bytes(range(32))


def tip_at(sequence: int, feed: Feed = FEED) -> Tip:
    return Tip(sequence, feed.ids[sequence - 1]) if sequence else EMPTY


def run(texts: list[bytes], tip: Tip = EMPTY, feed: Feed = FEED, hmac_key: bytes | None = None) -> Extension:
    return extend(CLASSIC, feed.id, tip, texts, hmac_key)


def fork_of(feed: Feed, after: int, **overrides: Any) -> bytes:
    """A second message by the same author that follows the first `after` ones."""
    previous = feed.ids[after - 1] if after else None
    other = Feed(feed.keys, feed.hmac_key, previous, after, 1_600_000_000_000)
    return other.append({"type": "post", "text": "another branch"}, **overrides)


def with_bad_signature(text: bytes) -> bytes:
    value = json.loads(text)
    signature = value["signature"]
    value["signature"] = ("B" if signature[0] == "A" else "A") + signature[1:]
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


@pytest.mark.parametrize("have", [0, 1, 5, 11])
def test_a_run_is_taken_whole(have: int) -> None:
    extension = run(TEXTS[have:], tip_at(have))
    assert [message.id for message in extension.accepted] == FEED.ids[have:]
    assert [message.text for message in extension.accepted] == TEXTS[have:]
    assert (extension.duplicates, extension.rejections, extension.fork) == ([], [], None)


def test_nothing_extends_nothing() -> None:
    assert run([]) == Extension()


def test_what_is_here_already_is_told_by_index() -> None:
    extension = run(TEXTS[2:6] + TEXTS[4:8], tip_at(4))
    assert extension.duplicates == [0, 1, 4, 5]
    assert [message.sequence for message in extension.accepted] == [5, 6, 7, 8]
    assert not extension.rejections
    assert run(TEXTS[:3], tip_at(8)).duplicates == [0, 1, 2]


def test_a_gap_ends_the_run() -> None:
    extension = run([*TEXTS[:2], *TEXTS[3:]])
    assert [message.sequence for message in extension.accepted] == [1, 2]
    (rejection,) = extension.rejections
    assert (rejection.kind, rejection.index, rejection.sequence) == ("gap", 2, 4)
    assert rejection.reason == "sequence is 4, the next one here is 3"
    assert rejection.id == FEED.ids[3]
    assert extension.fork is None


@pytest.mark.parametrize("after", [1, 5, 11])
def test_another_branch_is_kept_as_evidence(after: int) -> None:
    """The author signed two messages for one place; what chains from ours stays, the other is handed out as proof."""
    other = fork_of(FEED, after, previous=message_id(7))
    extension = run([*TEXTS[:after], other, *TEXTS[after:]])
    assert len(extension.accepted) == after
    (rejection,) = extension.rejections
    assert (rejection.kind, rejection.index, rejection.author) == ("fork", after, FEED.id)
    assert FEED.ids[after - 1] in rejection.reason
    assert message_id(7) in rejection.reason
    assert extension.fork is not None
    assert extension.fork.text == other


@pytest.mark.parametrize("have", [0, 2, 3])
def test_a_second_message_for_a_place_we_hold_is_a_fork(have: int) -> None:
    other = fork_of(FEED, 2)
    extension = run([*TEXTS[have:5], other], tip_at(have))
    assert len(extension.accepted) == 5 - have
    assert extension.rejections[0].kind == "fork"
    assert FEED.ids[2] in extension.rejections[0].reason
    assert extension.fork is not None
    assert extension.fork.text == other


def test_before_the_tip_nothing_is_known_to_compare_with() -> None:
    assert run([fork_of(FEED, 2)], tip_at(4)).duplicates == [0]


def test_a_claimed_branch_without_signature_is_no_fork() -> None:
    """Else any peer could call any feed forked."""
    for text in (fork_of(FEED, 5, previous=message_id(7)), fork_of(FEED, 4)):
        extension = run([*TEXTS[:5], with_bad_signature(text)])
        assert extension.fork is None
        assert len(extension.accepted) == 5
        assert extension.rejections[0].kind == "invalid"
        assert "signature" in extension.rejections[0].reason


def test_a_first_message_with_a_previous_is_invalid() -> None:
    text = Feed(FEED.keys).append({"type": "post", "text": "x"}, previous=message_id(1))
    (rejection,) = run([text]).rejections
    assert (rejection.kind, rejection.index) == ("invalid", 0)
    assert "previous" in rejection.reason


def test_null_as_previous_in_the_middle_is_another_branch() -> None:
    extension = run([fork_of(FEED, 5, previous=None)], tip_at(5))
    assert extension.rejections[0].kind == "fork"
    assert "null" in extension.rejections[0].reason


@pytest.mark.parametrize("at", [0, 4, 11])
def test_a_bad_signature_keeps_what_came_before(at: int) -> None:
    texts = [*TEXTS[:at], with_bad_signature(TEXTS[at]), *TEXTS[at + 1 :]]
    extension = run(texts)
    assert [message.sequence for message in extension.accepted] == list(range(1, at + 1))
    (rejection,) = extension.rejections
    assert (rejection.kind, rejection.index, rejection.sequence) == ("invalid", at, at + 1)
    assert extension.fork is None


def test_a_bad_signature_outdoes_a_later_fault() -> None:
    """The first bad one in the order of the texts is reported, though signatures are looked at last."""
    texts = [TEXTS[0], with_bad_signature(TEXTS[1]), TEXTS[0], b"nonsense"]
    extension = run(texts)
    assert len(extension.accepted) == 1
    assert [rejection.index for rejection in extension.rejections] == [1]
    assert extension.duplicates == []


def test_the_index_counts_duplicates_too() -> None:
    extension = run([TEXTS[0], TEXTS[1], TEXTS[2], with_bad_signature(TEXTS[3])], tip_at(2))
    assert extension.duplicates == [0, 1]
    assert [message.sequence for message in extension.accepted] == [3]
    assert extension.rejections[0].index == 3


@pytest.mark.parametrize("text", [b"", b"null", b"{}", b"\xff", b"[" * 5000, b'{"previous":1}', b" " * 70_000])
def test_nonsense_ends_the_run_and_is_never_raised(text: bytes) -> None:
    extension = run([TEXTS[0], text, TEXTS[1]])
    assert len(extension.accepted) == 1
    (rejection,) = extension.rejections
    assert (rejection.kind, rejection.index, rejection.id) == ("invalid", 1, None)
    assert rejection.reason


def test_a_rejection_says_whose_message_it_was() -> None:
    text = TEXTS[3].replace(b'"hash":"sha256"', b'"hash":"sha512"')
    (rejection,) = run([text], tip_at(3)).rejections
    assert (rejection.author, rejection.sequence) == (FEED.id, 4)
    assert rejection.reason == f'hash must be "sha256", found "sha512" (at byte {text.index(b"sha512") - 1})'


def test_another_author_ends_the_run() -> None:
    stranger = chain("stranger", 1)
    (rejection,) = run([stranger.texts[0]]).rejections
    assert (rejection.kind, rejection.author) == ("invalid", stranger.id)


def test_with_a_signing_key() -> None:
    feed = chain("hmac", 5, hmac_key=HMAC_KEY)
    assert len(run(feed.texts, feed=feed, hmac_key=HMAC_KEY).accepted) == 5
    for texts, key in ((feed.texts, None), (feed.texts, bytes(32)), (chain("hmac", 5).texts, HMAC_KEY)):
        extension = run(texts, feed=feed, hmac_key=key)
        assert not extension.accepted
        assert extension.rejections[0].index == 0


def test_a_message_alone() -> None:
    assert check_alone(CLASSIC, TEXTS[7]).id == FEED.ids[7]
    with pytest.raises(InvalidMessage, match="signature"):
        check_alone(CLASSIC, with_bad_signature(TEXTS[7]))
    with pytest.raises(InvalidMessage, match="signature"):
        check_alone(CLASSIC, TEXTS[7], HMAC_KEY)
    with pytest.raises(InvalidMessage, match="ends too early"):
        check_alone(CLASSIC, TEXTS[7][:-1])


def test_the_next_message() -> None:
    assert check_next(CLASSIC, TEXTS[0], EMPTY).id == FEED.ids[0]
    assert check_next(CLASSIC, TEXTS[7], tip_at(7)).id == FEED.ids[7]
    for text, tip in (
        (TEXTS[7], tip_at(6)),
        (TEXTS[7], tip_at(8)),
        (fork_of(FEED, 7, previous=message_id(1)), tip_at(7)),
    ):
        with pytest.raises(InvalidMessage, match=r"sequence|previous"):
            check_next(CLASSIC, text, tip)
    with pytest.raises(InvalidMessage, match="signature"):
        check_next(CLASSIC, with_bad_signature(TEXTS[7]), tip_at(7))


OTHER = chain(keypair("other").id, 3)
POOL = [
    *TEXTS,
    *(with_bad_signature(text) for text in TEXTS[:4]),
    *(fork_of(FEED, after) for after in (0, 1, 4)),
    fork_of(FEED, 3, previous=message_id(1)),
    *OTHER.texts,
    b"",
    b"nonsense",
    TEXTS[2][:-40],
]


@given(st.lists(st.sampled_from(POOL), max_size=12), st.integers(0, 12))
@settings(max_examples=200)
def test_any_mixture(texts: list[bytes], have: int) -> None:
    """What is accepted is the true continuation, and each text up to the first fault has one outcome."""
    extension = run(texts, tip_at(have))
    count = len(extension.accepted)
    ours = [message.text for message in extension.accepted]
    assert ours == TEXTS[have : have + count] or ours[:1] == [fork_of(FEED, have)]
    end = extension.rejections[0].index if extension.rejections else len(texts)
    assert count + len(extension.duplicates) == end
    assert len(extension.rejections) <= 1
    assert extension.fork is None or extension.rejections[0].kind == "fork"
    if extension.fork is not None:
        assert check_alone(CLASSIC, extension.fork.text) == extension.fork


@given(st.integers(1, 11))
def test_any_cut_of_a_run_gives_the_same(cut: int) -> None:
    first = run(TEXTS[:cut])
    last = first.accepted[-1]
    second = run(TEXTS[cut:], Tip(last.sequence, last.id))
    assert [*first.accepted, *second.accepted] == run(TEXTS).accepted
