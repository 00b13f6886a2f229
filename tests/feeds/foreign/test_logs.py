"""The logs of the JavaScript nodes: whole, in any pieces, with deleted records, and damaged at every byte."""

import pytest

from feeds.foreign.logs import BLOCK, Damage, blocked_records, flume_lines, flume_records, message_lines
from tests.support.foreign_logs import bipf, blocked, flume

RECORDS = [b'{"a":%d}' % number + b"x" * (number % 7) for number in range(20)]


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def good(found: list[tuple[int, bytes] | Damage]) -> list[bytes]:
    return [record[1] for record in found if not isinstance(record, Damage)]


@pytest.mark.parametrize("width", [4, 6, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 20])
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_flume_in_any_pieces(width: int, count: int, size: int) -> None:
    data = flume(RECORDS[:count], width)
    assert good(list(flume_records(cut(data, size)))) == RECORDS[:count]
    assert not [each for each in flume_records(cut(data, size)) if isinstance(each, Damage)]


@pytest.mark.parametrize("width", [4, 8])
def test_a_flume_log_cut_anywhere_keeps_its_good_records(width: int) -> None:
    data = flume(RECORDS, width)
    ends = [len(flume(RECORDS[:count], width)) for count in range(len(RECORDS) + 1)]
    for at in range(1, len(data)):
        found = list(flume_records([data[:at]]))
        whole = sum(end <= at for end in ends) - 1
        assert good(found) == RECORDS[:whole]
        assert isinstance(found[-1], Damage) is (at not in ends)


def test_a_flipped_byte_never_harms_what_is_before_it() -> None:
    data = flume(RECORDS)
    ends = [len(flume(RECORDS[:count])) for count in range(len(RECORDS) + 1)]
    for at in range(len(data)):
        bad = bytearray(data)
        bad[at] ^= 0x55
        whole = sum(end <= at for end in ends) - 1
        assert good(list(flume_records([bytes(bad)])))[:whole] == RECORDS[:whole]


def test_a_flume_log_does_not_swallow_huge_claims() -> None:
    assert list(flume_records([b"\xff\xff\xff\xf0" + bytes(100)])) == [Damage(0, "a record claims 4294967280 bytes")]


def test_deleted_records_are_left_out() -> None:
    assert list(flume_lines([flume([b'{"a":1}', bytes(9), b'{"b":\n2}'])])) == [b'{"a":1}', b'{"b": 2}']
    message = bipf({"key": "%", "value": {"b": 1, "a": 1e21}, "timestamp": 1.5})
    assert list(message_lines([blocked([message, bytes(50), message])])) == [b'{"b":1,"a":1e+21}'] * 2


@pytest.mark.parametrize("size", [1000, BLOCK, 3 * BLOCK])
def test_blocks_in_any_pieces(size: int) -> None:
    records = [bytes([number]) * (1 + number * 150) for number in range(1, 200)]
    data = blocked(records)
    assert len(data) > 3 * BLOCK
    assert good(list(blocked_records(cut(data, size)))) == records


def test_a_blocked_log_cut_anywhere_keeps_its_good_records() -> None:
    data = blocked(RECORDS)
    used = sum(len(record) + 2 for record in RECORDS)
    ends = [sum(len(record) + 2 for record in RECORDS[:count]) for count in range(len(RECORDS) + 1)]
    for at in range(1, used):
        found = list(blocked_records([data[:at]]))
        assert good(found) == RECORDS[: sum(end <= at for end in ends) - 1]
        assert isinstance(found[-1], Damage) is (at not in ends)


def test_a_damaged_block_does_not_hide_the_next() -> None:
    bad = b"\xff\xff".ljust(BLOCK, b"\0")
    found = list(blocked_records([bad + blocked(RECORDS)]))
    assert found[0] == Damage(0, "a record is longer than its block")
    assert good(found) == RECORDS


@pytest.mark.parametrize(
    "record", [b"\x01\x02", bipf([1]), bipf({"value": "text"})], ids=["no bipf", "no object", "no message"]
)
def test_a_record_that_is_no_message_is_damage(record: bytes) -> None:
    message = bipf({"key": "%", "value": {"a": 1}, "timestamp": 1.5})
    found = list(message_lines([blocked([message, record, message])]))
    assert [type(each) for each in found] == [bytes, Damage, bytes]
