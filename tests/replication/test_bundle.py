"""The codec of bundles: any chunks, any damage, and the vectors of docs/bundle.md."""

import base64
import os
import time
import tracemalloc
from collections.abc import Callable, Sequence

import msgpack  # type: ignore[import-untyped]
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.keys import Keypair, sign
from replication.bundle import (
    BlobBegin,
    BlobPiece,
    BundleReader,
    BundleWriter,
    ClockPart,
    End,
    Event,
    Header,
    Lacking,
    Slice,
)
from replication.errors import InvalidBundle
from tests.support import builders
from tests.support.vectors import entries

ANNA = builders.keypair("anna")
BLOB = "&47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=.sha256"


def made(
    records: Callable[[BundleWriter], Sequence[bytes]],
    *,
    packed: bool = False,
    keys: Keypair = ANNA,
    by: Keypair = ANNA,
) -> bytes:
    """A bundle that says it is of `keys` and is signed by `by`."""
    writer = BundleWriter(Header(keys.id, 1_600_000_000_000, 1, "series"), packed=packed)
    out = [writer.header(), *records(writer)]
    manifest = writer.manifest(last=True)
    return b"".join([*out, writer.end(manifest, sign(by, writer.to_sign(manifest)))])


def small(writer: BundleWriter) -> list[bytes]:
    return [
        writer.clock({ANNA.id: 2}),
        writer.slice(ANNA.id, 1, builders.chain("anna", 2).texts),
        writer.blob(BLOB, 3),
        writer.piece(b"abc"),
        writer.lacking([BLOB]),
    ]


def read(data: bytes, step: int = 1 << 20) -> tuple[list[Event], str | None]:
    """The events of a file, and what was wrong with it."""
    reader, events = BundleReader(), []
    try:
        for at in range(0, len(data), step):
            events += list(reader.feed(data[at : at + step]))
        reader.finish()
    except InvalidBundle as error:
        return events, str(error)
    return events, None


def drain(data: bytes) -> None:
    """Read a file and keep nothing."""
    reader = BundleReader()
    for at in range(0, len(data), 65536):
        for _ in reader.feed(data[at : at + 65536]):
            pass
    reader.finish()


def frame(value: object) -> bytes:
    content = value if isinstance(value, bytes) else msgpack.packb(value)
    return b"\xc6" + len(content).to_bytes(4, "big") + content


HEADER = {"format": "ssb-bundle", "version": 1, "sender": ANNA.id, "created": 1}


@settings(max_examples=60)
@given(st.booleans(), st.integers(1, 700))
def test_any_chunks_give_the_same_records(packed: bool, step: int) -> None:
    data = made(small, packed=packed)
    events, problem = read(data, step)
    assert problem is None
    assert [type(event) for event in events] == [Header, ClockPart, Slice, BlobBegin, BlobPiece, Lacking, End]
    assert events[2] == Slice(ANNA.id, 1, builders.chain("anna", 2).texts)
    assert events[-1] == End({"messages": 2, "slices": 1, "blobs": 1, "blob_bytes": 3}, True, True)


def test_a_bundle_signed_by_another_is_told() -> None:
    events, problem = read(made(small, by=builders.keypair("mallory")))
    assert problem is None
    assert isinstance(events[-1], End)
    assert not events[-1].signed


@pytest.mark.parametrize("packed", [False, True])
def test_cut_at_every_byte_keeps_the_prefix(packed: bool) -> None:
    data = made(small, packed=packed)
    whole, _ = read(data)
    for length in range(len(data)):
        events, problem = read(data[:length])
        assert problem is not None
        assert len(problem) < 200
        assert events == whole[: len(events)]


@pytest.mark.parametrize("packed", [False, True])
def test_every_flipped_bit_is_refused_or_not_signed(packed: bool) -> None:
    data = made(small, packed=packed)
    for place in range(0, len(data) * 8, 3):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        events, problem = read(bytes(flipped))
        good = bool(events) and isinstance(events[-1], End) and events[-1].signed
        same = events == read(data)[0]  # a flip in what zstd ignores changes nothing
        assert problem is not None or not good or same, place


@settings(max_examples=150)
@given(st.binary(max_size=400), st.booleans())
def test_arbitrary_bytes_raise_only_invalid_bundle(data: bytes, headed: bool) -> None:
    read(frame([0, HEADER]) + data if headed else data)
    read(frame([0, HEADER]) + frame(data))


@pytest.mark.parametrize(
    "records",
    [
        b"\xc6\xff\xff\xff\xff",
        frame(b"\xdd\xff\xff\xff\xff"),
        frame(b"\xdf\xff\xff\xff\xff"),
        frame(b"\xc6\xff\xff\xff\xff"),
        frame(b"\x91" * 100_000),
        frame((b"\xdc\x0f\xff" + b"\xc0") * 1000),
        frame([2, ANNA.id, 1, [b"x" * 70_000]]),
        frame([2, ANNA.id, -1, [b"x"]]),
        frame([2, ANNA.id, 2**60, [b"x"]]),
        frame([2, ANNA.id, True, [b"x"]]),
        frame([2, ANNA.id, 1, ["text"]]),
        frame([2, "nobody", 1, [b"x"]]),
        frame([2, ANNA.id, 1, []]),
        frame([3, BLOB, 4 << 30]) + frame([2, ANNA.id, 1, [b"x"]]),
        frame([3, BLOB, 2]) + frame([4, b"abc"]),
        frame([4, b"abc"]),
        frame([1, {ANNA.id: "1"}]),
        frame([1, {1: 1}]),
        frame([7]),
        frame([True, {}]),
        frame([]),
        frame({}),
        frame([0, HEADER]),
        frame([9, b"\x80", b"short"]) + b"x",
        frame([9, b"\xc1", b"short"]),
        frame([9, b"\x90", b"short"]),
    ],
)
def test_hostile_records_are_refused(records: bytes) -> None:
    _, problem = read(frame([0, HEADER]) + records)
    assert problem is not None
    assert len(problem) < 200


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"format": "x"}, {"sender": "@x"}, {"created": None}, {"part": "1"}]
)
def test_wrong_headers_are_refused(change: dict[str, object]) -> None:
    events, problem = read(frame([0, HEADER | change]))
    assert events == []
    assert problem is not None


def test_packed_bombs_end_soon_and_small() -> None:
    zeros = zstandard.ZstdCompressor(level=19).compress(bytes(400 << 20))
    slices = frame([0, HEADER]) + frame([2, ANNA.id, 1, [b"x" * 60_000] * 16]) * 400
    same = zstandard.ZstdCompressor(level=19).compress(slices)
    wide = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    ).compressobj()
    window = wide.compress(frame([0, HEADER]) + os.urandom(1000)) + wide.flush()
    for bomb in (zeros, same, window):
        begun = time.monotonic()
        tracemalloc.start()
        with pytest.raises(InvalidBundle):
            drain(bomb)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert time.monotonic() - begun < 10
        assert peak < 64 << 20


@pytest.mark.parametrize("entry", entries("bundle.json"), ids=lambda entry: entry["name"])
def test_vectors(entry: dict[str, object]) -> None:
    data = base64.b64decode(str(entry["bundle"]))
    events, problem = read(data)
    assert (problem is None) == entry["complete"]
    end = events[-1] if events and isinstance(events[-1], End) else None
    assert (end.signed if end else None) == entry["signed"]
    texts = [text.decode() for event in events if isinstance(event, Slice) for text in event.texts]
    assert texts == entry["messages"]
    blobs = [event.id for event in events if isinstance(event, BlobBegin)]
    assert blobs == entry["blobs"]


def test_lists_without_end_are_refused() -> None:
    lists = frame([0, HEADER]) + frame([5, [BLOB] * 4000]) * 126
    assert read(lists)[1] is not None
    assert "more entries" in str(read(lists)[1])
