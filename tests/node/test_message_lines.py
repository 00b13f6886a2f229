"""`sbot verify`'s reading and checking: the verdicts of the vectors, odd lines, bounded memory."""

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.config import BadValue, named
from node.message_lines import BATCH_BYTES, CHUNK, LONGEST_LINE, Checker, Line, Verdict, read_batches
from tests.support import vectors
from tests.support.builders import Feed, keypair


def check(*lines: str | bytes, alone: bool = False, hmac_key: bytes | None = None) -> list[Verdict]:
    checker = Checker(hmac_key=hmac_key, alone=alone, in_turn=map)
    data = b"\n".join(line.encode() if isinstance(line, str) else line for line in lines)
    return [verdict for batch in read_batches(io.BytesIO(data)) for verdict in checker.check(batch)]


def reasons(verdicts: list[Verdict]) -> list[str | None]:
    return [verdict.reason for verdict in verdicts]


def written(name: str, count: int, hmac_key: bytes | None = None) -> Feed:
    feed = Feed(keypair(name), hmac_key)
    for number in range(count):
        feed.append({"type": "post", "text": f"message {number} \u2028 of {name}"})
    return feed


def as_kvt(feed: Feed, index: int, key: str | None = None) -> bytes:
    key = feed.ids[index] if key is None else key
    return b'{"key":"%b","value":%b,"timestamp":1700000000000}' % (key.encode(), feed.texts[index])


def test_interleaved_feeds_pass_line_by_line() -> None:
    entries = vectors.entries("classic-feeds.jsonl.gz")
    for alone in (False, True):
        verdicts = check(*(entry["value_json"] for entry in entries), alone=alone)
        assert verdicts == [Verdict(line, entry["key"], None) for line, entry in enumerate(entries, 1)]


def test_messages_wrapped_as_key_value_timestamp_pass_too() -> None:
    entries = vectors.entries("classic-feeds.jsonl.gz")
    lines = [f'{{"key":{json.dumps(e["key"])},"value":{e["value_json"]},"timestamp":1.5}}' for e in entries]
    assert check(*lines) == [Verdict(line, entry["key"], None) for line, entry in enumerate(entries, 1)]


def test_first_messages_of_the_generated_vectors_get_the_recommended_verdict() -> None:
    entries = [entry for entry in vectors.entries("classic-generated.json") if entry["state"] is None]
    seen = set()
    for entry in entries:
        both = (entry["ssb_validate"]["valid"], entry["ssb_classic"]["valid"])
        if both not in ((True, True), (False, False)):
            continue  # tests/feeds says which of the two counts
        try:
            hmac_key = named("hmac_key").parse(entry["hmac_key"] or "")
        except BadValue:
            assert not both[0]  # the command refuses such a key before it reads a line
            continue
        (verdict,) = check(entry["message_json"].replace("\n", " "), hmac_key=hmac_key)
        assert (verdict.reason is None) == both[0], (entry["class"], verdict)
        assert verdict.id == (entry["id"] if both[0] else None)
        seen.add(both[0])
    assert seen == {True, False}


def test_a_feed_must_begin_at_its_beginning_unless_order_does_not_count() -> None:
    feed = written("a", 3)
    assert check(feed.texts[1])[0].reason is not None
    assert check(feed.texts[1], alone=True) == [Verdict(1, feed.ids[1], None)]


def test_after_a_bad_line_only_the_true_next_message_passes() -> None:
    feed = written("a", 4)
    other = written("b", 2)
    damaged = feed.texts[1].replace(b"message 1", b"massage 1")
    verdicts = check(
        feed.texts[0], damaged, feed.texts[2], other.texts[0], feed.texts[1], feed.texts[2], other.texts[1]
    )
    assert [verdict.line for verdict in verdicts if verdict.reason is None] == [1, 4, 5, 6, 7]
    assert "signature" in str(verdicts[1].reason)


def test_a_repeated_message_is_not_the_next_one_but_stands_alone() -> None:
    feed = written("a", 2)
    lines = [feed.texts[0], feed.texts[0], feed.texts[1], feed.texts[0]]
    assert [reason is None for reason in reasons(check(*lines))] == [True, False, True, False]
    assert "earlier line" in str(check(*lines)[1].reason)
    assert reasons(check(*lines, alone=True)) == [None] * 4


def test_a_second_branch_is_refused() -> None:
    feed = written("a", 2)
    branch = Feed(feed.keys, previous=feed.ids[0], sequence=1, timestamp=feed.timestamp)
    branch.append({"type": "post", "text": "other"})
    verdicts = check(*feed.texts, branch.texts[0])
    assert [reason is None for reason in reasons(verdicts)] == [True, True, False]


def test_the_tip_is_kept_from_batch_to_batch() -> None:
    feed = written("a", 6)
    checker = Checker(hmac_key=None, alone=False, in_turn=map)
    batches = [[Line(number, text)] for number, text in enumerate(feed.texts, 1)]
    assert [checker.check(batch)[0].id for batch in batches] == feed.ids


def test_the_hmac_key_counts() -> None:
    key = bytes(range(32))
    feed = written("a", 2, key)
    assert reasons(check(*feed.texts, hmac_key=key)) == [None, None]
    assert None not in reasons(check(*feed.texts))
    assert None not in reasons(check(*feed.texts, hmac_key=bytes(32)))


@pytest.mark.parametrize("key", ["%AAAA.sha256", "", "@x", "\\ud800"])
def test_a_key_that_is_not_the_messages_id_is_refused(key: str) -> None:
    feed = written("a", 2)
    first, second = check(as_kvt(feed, 0, key), as_kvt(feed, 1))
    assert feed.ids[0] in str(first.reason)
    assert second == Verdict(2, feed.ids[1], None)


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[]",
        b"null",
        b"1",
        b'"text"',
        b"{",
        b"\xff",
        b'{"value":null}',
        b'{"value":{},"key":1}',
        b'{"key":"x","value":[1]}',
        b"[" * 5000,
        b'{"value":' * 2000,
        b'{"value":{"a":"\\ud800"},"key":"x"}',
        b"\xef\xbb\xbf{}",
        b"\x00",
    ],
)
def test_what_is_no_message_gets_a_reason_and_the_next_line_is_read(line: bytes) -> None:
    feed = written("a", 1)
    for alone in (False, True):
        first, second = check(line, feed.texts[0], alone=alone)
        assert first.line == 1
        assert first.reason
        assert second == Verdict(2, feed.ids[0], None)


def test_line_separators_inside_strings_are_no_line_ends_and_blank_lines_are_counted() -> None:
    feed = written("a", 2)
    assert "\u2028".encode() in feed.texts[0]
    verdicts = check(b"", feed.texts[0] + b"\r", b"  ", feed.texts[1], b"")
    assert verdicts == [Verdict(2, feed.ids[0], None), Verdict(4, feed.ids[1], None)]


def test_a_line_without_end_is_skipped_while_it_is_read() -> None:
    feed = written("a", 1)
    verdicts = check(b"x" * (LONGEST_LINE + CHUNK), feed.texts[0], b"y" * (LONGEST_LINE * 3))
    assert [verdict.line for verdict in verdicts] == [1, 2, 3]
    assert "longer than" in str(verdicts[0].reason)
    assert verdicts[1].reason is None
    assert "longer than" in str(verdicts[2].reason)


def test_large_input_comes_in_batches() -> None:
    line = b"x" * 1000 + b"\n"
    sizes = [sum(len(item.text or b"") for item in batch) for batch in read_batches(io.BytesIO(line * 10_000))]
    assert sum(sizes) == 10_000_000
    assert max(sizes) <= BATCH_BYTES + CHUNK


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"", b"{}", b'{"value":{}}', b'{"author":1}']), max_size=6))
@settings(max_examples=100, deadline=None)
def test_whatever_the_bytes_each_line_gets_one_verdict(lines: list[bytes]) -> None:
    data = b"\n".join(lines)
    expected = [number for number, line in enumerate(data.split(b"\n"), 1) if line.strip()]
    for alone in (False, True):
        verdicts = check(data, alone=alone)
        assert [verdict.line for verdict in verdicts] == expected
        assert all(verdict.reason for verdict in verdicts)
