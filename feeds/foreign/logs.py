"""The logs of the JavaScript nodes, read as streams: flume's `log.offset` and ssb-db2's `log.bipf`.

flume (flumelog-offset): records `length u32, data, length u32, end`, big endian, where `end` is the offset after the
record in 32, 48 or 64 bits, always the same in one file; the data is the JSON text of {key, value, timestamp}.
ssb-db2 (async-append-only-log): blocks of 64 KiB filled with records `length u16 little endian, data`, and zeros
where no further one found room; the data is BIPF of the same. In both a deleted record is overwritten with zeros.

What is damaged comes as a `Damage` in its place, never as an exception. After it flume's log cannot be read on, for
nothing tells where the next record begins; the other one is read on from the next block.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from feeds.canonical_json import compact
from feeds.foreign.bipf import InvalidBipf, decode

__all__ = ["BLOCK", "Damage", "blocked_records", "flume_lines", "flume_records", "message_lines"]

BLOCK: Final = 65536
LARGEST_RECORD: Final = 1024 * 1024
"""Bytes of a record that is still believed; a message has 8 KiB."""
_WIDTHS: Final = (4, 6, 8)


class Damage(NamedTuple):
    """A place that could not be read."""

    offset: int
    reason: str


def flume_lines(pieces: Iterable[bytes]) -> Iterator[bytes | Damage]:
    """One JSON text of {key, value, timestamp} for each record of flume's log, without line feeds."""
    for _, record in _whole(flume_records(pieces)):
        yield record if isinstance(record, Damage) else record.replace(b"\n", b" ")


def message_lines(pieces: Iterable[bytes]) -> Iterator[bytes | Damage]:
    """The JSON text of each message in ssb-db2's log, as V8 would print it."""
    for offset, record in _whole(blocked_records(pieces)):
        if isinstance(record, Damage):
            yield record
            continue
        try:
            value = decode(record)
            if not isinstance(value, dict) or not isinstance(value.get("value"), dict):
                raise InvalidBipf("there is no message in it")
            yield compact(value["value"])
        except InvalidBipf as error:
            yield Damage(offset, str(error))
        except UnicodeEncodeError:
            yield Damage(offset, "it holds a text that is not Unicode")


def _whole(records: Iterable[tuple[int, bytes] | Damage]) -> Iterator[tuple[int, bytes | Damage]]:
    """Records without those that were deleted."""
    for record in records:
        if isinstance(record, Damage):
            yield record.offset, record
        elif record[1].strip(b"\0"):
            yield record


def flume_records(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes] | Damage]:
    """Each record with its offset, from the bytes of the file in any pieces."""
    held = b""
    base, width = 0, 0
    """The offset of what is held, and the bytes of `end`, 0 while unknown."""
    for piece in pieces:
        held += piece
        at = 0
        while len(held) - at >= 4:
            size = int.from_bytes(held[at : at + 4], "big")
            if size > LARGEST_RECORD:
                yield Damage(base + at, f"a record claims {size} bytes")
                return
            tail = at + 4 + size
            if len(held) - tail < 4 + (width or max(_WIDTHS)):
                break
            width = width or _width(held, tail, base)
            end = tail + 4 + width
            if held[tail : tail + 4] != held[at : at + 4] or not width or _number(held, tail + 4, end) != base + end:
                yield Damage(base + at, "the two ends of a record disagree")
                return
            yield base + at, held[at + 4 : tail]
            at = end
        held, base = held[at:], base + at
    if not width and len(held) >= 8:  # a single record, with less behind it than the widest end has
        tail = 4 + int.from_bytes(held[:4], "big")
        width = _width(held, tail, base)
        if width and held[tail : tail + 4] == held[:4]:
            yield base, held[4:tail]
            held, base = held[tail + 4 + width :], base + tail + 4 + width
    if held:
        yield Damage(base, "the last record is cut off")


def _width(held: bytes, tail: int, base: int) -> int:
    """How wide the end of the first record is, 0 if it is none."""
    for width in _WIDTHS:
        end = tail + 4 + width
        if end <= len(held) and _number(held, tail + 4, end) == base + end:
            return width
    return 0


def _number(held: bytes, start: int, end: int) -> int:
    return int.from_bytes(held[start:end], "big")


def blocked_records(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes] | Damage]:
    """Each record with its offset, from the bytes of the file in any pieces."""
    held, base = b"", 0
    for piece in pieces:
        held += piece
        at = 0
        while len(held) - at >= BLOCK:
            yield from _block(held[at : at + BLOCK], base + at)
            at += BLOCK
        held, base = held[at:], base + at
    if held:
        yield from _block(held, base)


def _block(block: bytes, base: int) -> Iterator[tuple[int, bytes] | Damage]:
    at = 0
    while len(block) - at >= 2:
        size = int.from_bytes(block[at : at + 2], "little")
        if size == 0:
            return
        end = at + 2 + size
        if end > len(block):
            cut = len(block) < BLOCK
            yield Damage(base + at, "the last record is cut off" if cut else "a record is longer than its block")
            return
        yield base + at, block[at + 2 : end]
        at = end
    if len(block) < BLOCK and at < len(block):
        yield Damage(base + at, "the last record is cut off")
