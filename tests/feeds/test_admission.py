"""The rules of ingest alone: who is blamed, what is kept, how work is shared and put together again."""

import marshal
import random
from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.admission import BAD_SIGNATURES_ALLOWED, Item, Outcome, Task, Verdict, judge, judge_contradictions, share
from feeds.content import FoundLink
from feeds.errors import InvalidMessage
from feeds.formats.registry import CLASSIC
from feeds.message import EMPTY, Message, Tip
from tests.support.builders import Feed, chain, keypair
from tests.support.chain_model import extend

FEED = chain("one", 24)
Damage = Callable[[bytes], bytes]


def sequence_of(message: Message, _: Sequence[FoundLink]) -> int:
    return message.sequence


def tampered(text: bytes) -> bytes:
    """The message with another signature of the right form."""
    at = text.rindex(b'"signature":"') + 13
    return text[:at] + (b"A" if text[at : at + 1] != b"A" else b"B") + text[at + 1 :]


def garbled(text: bytes) -> bytes:
    """A message whose content is no content, its head untouched."""
    return text[: text.index(b'"content":')] + b'"content":[]}'


def branch(feed: Feed, after: int) -> Feed:
    """Another continuation of a feed, signed by its author."""
    previous = feed.ids[after - 1] if after else None
    return Feed(feed.keys, previous=previous, sequence=after, timestamp=feed.timestamp + 1000)


def deliver(*deliveries: Sequence[bytes]) -> list[Item]:
    return sorted(
        (number, CLASSIC.peek(text)[1], place, text)
        for number, texts in enumerate(deliveries)
        for place, text in enumerate(texts)
    )


def task(items: list[Item], base: Tip = EMPTY, feed: Feed = FEED, forked: bool = False) -> Task:
    return Task(CLASSIC.name, feed.id, base.sequence, base.id, False, forked, items)


def judged(task: Task, hmac_key: bytes | None = None) -> tuple[Verdict, Outcome]:
    """Through marshal, as a child process gets and gives it."""
    plain = marshal.loads(marshal.dumps([tuple(task)]))
    (answer,) = judge(plain, hmac_key, [sequence_of])
    verdict = Verdict(*marshal.loads(marshal.dumps(tuple(answer))))
    base = Tip(task.sequence, task.id)
    outcome = Outcome(task.author, CLASSIC, base, task.forked, base)
    assert outcome.join(task, verdict)
    settled = [*outcome.taken, *outcome.duplicates, *outcome.known, *(item for item, _ in outcome.rejected)]
    assert sorted(settled) == task.items, "every item ends in exactly one list"
    return verdict, outcome


def kinds(outcome: Outcome) -> list[tuple[int, int, str]]:
    """Delivery, sequence and kind of what was rejected."""
    return sorted((item[0], item[1], rejection.kind) for item, rejection in outcome.rejected)


def test_a_run_is_taken_with_its_columns() -> None:
    _, outcome = judged(task(deliver(FEED.texts)))
    assert outcome.texts == FEED.texts
    assert outcome.end == Tip(24, FEED.ids[-1])
    assert outcome.keys == [CLASSIC.prepare(text).key for text in FEED.texts]
    assert outcome.extracts == [list(range(1, 25))]
    assert outcome.rejected == []


def test_texts_in_any_order_within_a_delivery() -> None:
    shuffled = FEED.texts[:]
    random.Random(3).shuffle(shuffled)
    _, outcome = judged(task(deliver(shuffled)))
    assert outcome.texts == FEED.texts


def test_another_spelling_is_stored_in_the_usual_one() -> None:
    spelled = b" " + FEED.texts[1].replace(b'"hash":', b'"hash" : ')
    verdict, outcome = judged(task(deliver([FEED.texts[0], spelled])))
    assert verdict.respelled == {1: FEED.texts[1]}
    assert outcome.texts == FEED.texts[:2]


def test_a_gap_is_a_gap_and_what_is_at_or_before_the_tip_is_known() -> None:
    base = Tip(3, FEED.ids[2])
    _, outcome = judged(task(deliver(FEED.texts[1:5] + FEED.texts[6:8]), base))
    assert outcome.texts == FEED.texts[3:5]
    assert [item[1] for item in outcome.known] == [2, 3]
    assert kinds(outcome) == [(0, 7, "gap"), (0, 8, "gap")]


def test_the_same_message_from_several_peers_is_taken_once() -> None:
    _, outcome = judged(task(deliver(FEED.texts[:5], FEED.texts[2:9], FEED.texts)))
    assert outcome.texts == FEED.texts
    assert len(outcome.duplicates) == 5 + 7 + 24 - 24
    assert outcome.rejected == []


@pytest.mark.parametrize("damage", [tampered, garbled])
def test_a_bad_message_harms_only_the_peer_that_brought_it(damage: Damage) -> None:
    bad = [*FEED.texts[:4], damage(FEED.texts[4]), *FEED.texts[5:8]]
    _, outcome = judged(task(deliver(bad)))
    assert outcome.texts == FEED.texts[:4]
    assert kinds(outcome) == [(0, 5, "invalid"), (0, 6, "gap"), (0, 7, "gap"), (0, 8, "gap")]
    _, outcome = judged(task(deliver(bad, FEED.texts[:10])))
    assert outcome.texts == FEED.texts[:10]
    assert kinds(outcome) == [(0, 5, "invalid"), (0, 6, "gap"), (0, 7, "gap"), (0, 8, "gap")]
    _, outcome = judged(task(deliver(FEED.texts[:10], bad)))
    assert outcome.texts == FEED.texts[:10]
    assert kinds(outcome) == [(1, 5, "invalid")]
    assert outcome.fork is None


def test_a_bad_text_before_the_good_one_in_one_delivery() -> None:
    _, outcome = judged(
        task(deliver([FEED.texts[0], garbled(FEED.texts[1]), tampered(FEED.texts[1]), *FEED.texts[1:4]]))
    )
    assert outcome.texts == FEED.texts[:4]
    assert kinds(outcome) == [(0, 2, "invalid"), (0, 2, "invalid")]


def test_the_first_messages_signature_counts_too() -> None:
    _, outcome = judged(task(deliver([tampered(FEED.texts[0])], FEED.texts[:2])))
    assert outcome.texts == FEED.texts[:2]
    assert kinds(outcome) == [(0, 1, "invalid")]


def test_many_bad_signatures_end_a_deliverys_credit_but_not_anothers() -> None:
    bad = []
    for at in range(6):
        text = tampered(FEED.texts[0])
        bad.append(
            text.replace(
                b'"signature":"' + text[text.rindex(b'"signature":"') + 13 :][:1], b'"signature":"%c' % (66 + at)
            )
        )
    _, outcome = judged(task(deliver([*bad, FEED.texts[0]], FEED.texts[:3])))
    assert outcome.texts == FEED.texts[:3]
    assert outcome.taken[0][0] == 1
    found = [kind for _, _, kind in kinds(outcome)]
    assert found.count("invalid") == BAD_SIGNATURES_ALLOWED
    assert found.count("gap") == 7 - BAD_SIGNATURES_ALLOWED


def test_another_authors_text_under_a_wrong_head_is_not_taken() -> None:
    items = [(0, 1, 0, chain("two", 1).texts[0])]
    _, outcome = judged(task(items))
    assert outcome.taken == []
    assert kinds(outcome) == [(0, 1, "invalid")]


def test_a_branch_beside_what_was_just_taken_is_a_fork() -> None:
    other = branch(FEED, 2)
    for text in range(3):
        other.append({"type": "post", "text": f"other {text}"})
    _, outcome = judged(task(deliver(FEED.texts[:5], other.texts)))
    assert outcome.texts == FEED.texts[:5]
    assert kinds(outcome) == [(1, 3, "fork"), (1, 4, "fork"), (1, 5, "fork")]
    assert outcome.fork is not None
    assert outcome.fork[:3] == (3, FEED.texts[2], other.texts[0])


def test_a_message_that_names_another_predecessor_is_a_fork() -> None:
    other = branch(FEED, 2)
    other.append({"type": "post", "text": "other 3"})
    other.append({"type": "post", "text": "other 4"})
    base = Tip(3, FEED.ids[2])
    _, outcome = judged(task(deliver(other.texts[1:]), base))
    assert kinds(outcome) == [(0, 4, "fork")]
    assert outcome.fork is not None
    assert outcome.fork[:3] == (3, None, other.texts[1])
    _, outcome = judged(task(deliver(FEED.texts[3:6], other.texts[1:]), base))
    assert outcome.texts == FEED.texts[3:6]
    assert outcome.fork is not None
    assert outcome.fork[:2] == (4, FEED.texts[3])


def test_only_the_authors_signature_makes_a_fork() -> None:
    other = branch(FEED, 2)
    forged = tampered(other.append({"type": "post", "text": "forged"}))
    for deliveries in ([FEED.texts[:3], [forged]], [[*FEED.texts[:2], forged], FEED.texts[:3]]):
        _, outcome = judged(task(deliver(*deliveries)))
        assert outcome.texts == FEED.texts[:3]
        assert outcome.fork is None
        assert [kind for _, _, kind in kinds(outcome)] == ["invalid"]


def test_nothing_more_is_taken_of_a_forked_feed() -> None:
    base = Tip(3, FEED.ids[2])
    _, outcome = judged(task(deliver(FEED.texts[1:6]), base, forked=True))
    assert outcome.taken == []
    assert [item[1] for item in outcome.known] == [2, 3]
    assert kinds(outcome) == [(0, 4, "fork"), (0, 5, "fork"), (0, 6, "fork")]


def test_known_texts_are_compared_with_the_stored_ones() -> None:
    base = Tip(6, FEED.ids[5])
    other = branch(FEED, 3)
    other.append({"type": "post", "text": "other"})
    spelled = FEED.texts[1] + b" "
    _, outcome = judged(task(deliver([FEED.texts[0], spelled, tampered(FEED.texts[2]), other.texts[0]]), base))
    assert outcome.compare({1: FEED.texts[0]}) is None
    _, outcome = judged(task(deliver([FEED.texts[0], spelled, tampered(FEED.texts[2]), other.texts[0]]), base))
    found = outcome.compare(dict(enumerate(FEED.texts, 1)))
    assert found is not None
    judge_contradictions(outcome, found, None)
    assert [item[1] for item in outcome.duplicates] == [1, 2]
    assert kinds(outcome) == [(0, 3, "invalid"), (0, 4, "fork")]
    assert outcome.fork is not None
    assert outcome.fork[:3] == (4, FEED.texts[3], other.texts[0])


def test_an_extractor_that_raises_keeps_no_message_out(caplog: pytest.LogCaptureFixture) -> None:
    def picky(message: Message, _: Sequence[FoundLink]) -> int:
        if message.sequence == 2:
            raise RuntimeError("odd")
        return message.sequence

    (verdict,) = judge([task(deliver(FEED.texts[:3]))], None, [picky])
    assert verdict.extracts == [[1, None, 3]]
    assert "cannot read" in caplog.text


def test_an_extractor_that_is_not_wanted_leaves_its_column_empty() -> None:
    cut = share([task(deliver(FEED.texts))], 3)
    outcome = Outcome(FEED.id, CLASSIC, EMPTY, False, EMPTY)
    for part in cut:
        for piece, verdict in zip(part, judge(part, None, [None, sequence_of]), strict=True):
            assert outcome.join(piece, verdict)
    assert outcome.extracts == [[], list(range(1, 25))]


def test_signatures_cover_the_networks_key_where_it_has_one() -> None:
    key = bytes(range(32))
    keyed = chain("one", 3, hmac_key=key)
    assert judged(task(deliver(keyed.texts), feed=keyed), key)[1].texts == keyed.texts
    assert judged(task(deliver(keyed.texts), feed=keyed))[1].texts == []
    assert judged(task(deliver(FEED.texts)), key)[1].texts == []


# --- sharing ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 24), min_size=1, max_size=8), st.integers(1, 5))
def test_shared_work_gives_the_same_whole(lengths: list[int], workers: int) -> None:
    feeds = [chain(name, 24) for name in range(len(lengths))]
    tasks = [task(deliver(feed.texts[:length]), feed=feed) for feed, length in zip(feeds, lengths, strict=True)]
    parts = share(tasks, workers)
    assert len(parts) <= workers
    counts = [sum(len(task.items) for task in part) for part in parts]
    assert sum(counts) == sum(lengths)
    assert max(counts) <= -(-sum(lengths) // workers) + 1
    outcomes = {feed.id: Outcome(feed.id, CLASSIC, EMPTY, False, EMPTY) for feed in feeds}
    for part in parts:
        for piece, verdict in zip(part, judge(part, None, [sequence_of]), strict=True):
            assert outcomes[piece.author].join(piece, verdict)
    for feed, length in zip(feeds, lengths, strict=True):
        assert outcomes[feed.id].texts == feed.texts[:length]
        assert outcomes[feed.id].extracts == [list(range(1, length + 1))]


def test_a_part_judged_from_a_tip_that_did_not_come_is_refused() -> None:
    other = branch(FEED, 11)
    for at in range(12):
        other.append({"type": "post", "text": f"other {at}"})
    mixed = FEED.texts[:12] + other.texts[1:]
    parts = share([task(deliver(mixed))], 2)
    assert [len(part[0].items) for part in parts] == [12, 11]
    outcome = Outcome(FEED.id, CLASSIC, EMPTY, False, EMPTY)
    joined = [
        outcome.join(piece, verdict)
        for part in parts
        for piece, verdict in zip(part, judge(part, None, []), strict=True)
    ]
    assert joined == [True, False]
    assert outcome.texts == FEED.texts[:12]


@pytest.mark.parametrize("bad", [0, 5, 11, 12, 20, 23])
def test_a_bad_message_in_either_part_stops_the_feed_there(bad: int) -> None:
    texts = FEED.texts[:]
    texts[bad] = tampered(texts[bad])
    parts = share([task(deliver(texts))], 2)
    outcome = Outcome(FEED.id, CLASSIC, EMPTY, False, EMPTY)
    for part in parts:
        for piece, verdict in zip(part, judge(part, None, []), strict=True):
            outcome.join(piece, verdict)
    assert outcome.texts == FEED.texts[:bad]


def test_only_plain_runs_are_cut() -> None:
    doubled = task(deliver(FEED.texts, FEED.texts))
    assert [len(part) for part in share([doubled], 3)] == [1]
    holed = task(deliver(FEED.texts[:10] + FEED.texts[11:]))
    assert [len(part) for part in share([holed], 3)] == [1]
    late = task(deliver(FEED.texts[5:]))
    assert [len(part) for part in share([late], 3)] == [1]


# --- the same verdicts as validation ----------------------------------------------------------------------------------

DAMAGES = st.sampled_from([None, None, None, tampered, garbled])


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 12), DAMAGES), max_size=14), st.integers(0, 6))
def test_the_longest_valid_prefix_is_what_the_simple_model_finds(
    picks: list[tuple[int, Damage | None]], held: int
) -> None:
    """A delivery in order of sequence, without second chances, is judged as the simple model judges it."""
    base = Tip(held, FEED.ids[held - 1]) if held else EMPTY
    seen: dict[int, bytes] = {}
    for sequence, damage in picks:
        text = FEED.texts[sequence - 1]
        seen.setdefault(sequence, text if damage is None else damage(text))
    texts = [seen[sequence] for sequence in sorted(seen)]
    new = [text for sequence, text in sorted(seen.items()) if sequence > held]
    _, outcome = judged(task(deliver(texts), base))
    assert outcome.texts == [message.text for message in extend(CLASSIC, FEED.id, base, new).accepted]
    assert outcome.fork is None
    assert len(outcome.known) == len(texts) - len(new)


def test_nothing_to_judge() -> None:
    assert judge([], None, []) == []
    assert judge([task([], feed=Feed(keypair("none")))], None, [])[0].taken == []


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 23), st.integers(0, 2000), st.binary(max_size=3), st.booleans()), max_size=12))
def test_damage_of_any_kind_is_judged_without_an_exception(cuts: list[tuple[int, int, bytes, bool]]) -> None:
    """Bytes replaced or put in anywhere: every item is accounted for and nothing but the true messages is taken."""
    texts = []
    for which, at, new, over in cuts:
        text = FEED.texts[which]
        texts.append(text[:at] + new + text[at + (len(new) if over else 0) :])
    items = []
    for place, text in enumerate(texts):
        with suppress(InvalidMessage):
            author, sequence = CLASSIC.peek(text)
            if author == FEED.id:
                items.append((0, sequence, place, text))
    _, outcome = judged(task(sorted(items)))
    assert outcome.texts == FEED.texts[: len(outcome.texts)]
    assert outcome.fork is None
