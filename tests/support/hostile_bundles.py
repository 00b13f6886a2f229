"""Files that somebody made to harm whoever reads a bundle.

Each is told by a name. None of them holds anything valid but messages of `GOOD` and of `FORKED` up to its split.
"""

import gzip
import io
import itertools
import os
import random
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgpack  # type: ignore[import-untyped]
import zstandard

from feeds.keys import sign
from replication.bundle import BundleWriter, Header
from tests.support import builders

ANNA = builders.keypair("anna")
GOOD, FORKED = builders.chain("good", 6), builders.chain("forked", 6)
BLOB = builders.blob_id(1)
HEADER = {"format": "ssb-bundle", "version": 1, "sender": ANNA.id, "created": 1}
WRONG: Sequence[Any] = (None, True, -1, 2**60, 1.5, "x", b"x", [], {}, [[]], {"x": None}, "@x", "&x", "x" * 5000)


def frame(value: object) -> bytes:
    """One frame; bytes are taken as its content."""
    content = value if isinstance(value, bytes) else msgpack.packb(value)
    return b"\xc6" + len(content).to_bytes(4, "big") + content


def bundle(records: Callable[[BundleWriter], Sequence[bytes]], *, packed: bool = False) -> bytes:
    """A whole bundle, rightly signed."""
    writer = BundleWriter(Header(ANNA.id, 1), packed=packed)
    out = [writer.header(), *records(writer)]
    manifest = writer.manifest(last=True)
    return b"".join([*out, writer.end(manifest, sign(ANNA, writer.to_sign(manifest)))])


def small(*, packed: bool = False) -> bytes:
    """A small sound bundle: two messages, a blob."""
    return bundle(
        lambda writer: [
            writer.clock({GOOD.id: 6}),
            writer.slice(GOOD.id, 1, GOOD.texts[:2]),
            writer.blob("&ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=.sha256", 3),
            writer.piece(b"abc"),
        ],
        packed=packed,
    )


def files() -> Iterator[tuple[str, bytes]]:
    """Hostile files and their names; all are refused or reported, and the same each time."""
    yield from _no_bundles()
    yield from _claims()
    yield from _bombs()
    yield from _wrong_types()
    yield from _told_wrongly()


def _no_bundles() -> Iterator[tuple[str, bytes]]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("bundle", bytes(50 << 20))
    yield "zip bomb", archive.getvalue()
    yield "gzip bomb", gzip.compress(bytes(50 << 20), mtime=0)
    yield "noise", random.Random(7).randbytes(100_000)
    yield "zeros", bytes(3_000_000)
    yield "newlines", b"\n" * 2_000_000
    yield "nested JSON", b"[" * 1_000_000
    yield "one endless line", b'{"author":"' + b"x" * 5_000_000
    yield "JSON lines of nothing", b'{"value":{"author":1}}\n' * 20_000


def _claims() -> Iterator[tuple[str, bytes]]:
    head = frame([0, HEADER])
    yield "a frame of 4 GiB", head + b"\xc6\xff\xff\xff\xff"
    for name, code in (("array", "dd"), ("map", "df"), ("bin", "c6"), ("str", "db"), ("ext", "c9")):
        claim = bytes.fromhex(code) + b"\xff\xff\xff\xff" + b"\x00" * 20
        yield f"a record that is a {name} of 4 GiB", head + frame(claim)
        for kind in (0, 1, 2, 3, 4, 5, 9):
            yield f"record {kind} with a {name} of 4 GiB", head + frame(b"\x92" + bytes([kind]) + claim)
    yield "a blob of 4 GiB", head + frame([3, BLOB, 4 << 30]) + frame([4, bytes(65536)]) * 40
    yield "a blob of 2^53", head + frame([3, BLOB, 1 << 53]) + frame([4, bytes(65536)]) * 40
    yield "a message of 2^53", head + frame([2, GOOD.id, 1 << 53, [GOOD.texts[0]]])
    for size in (4 << 30, 1 << 60):
        packer = zstandard.ZstdCompressor().compressobj(size=size)
        yield (
            f"zstd that says it has {size} bytes",
            packer.compress(head) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK),
        )
    yield "deep arrays", head + frame(b"\x91" * 1_000_000)
    yield "deep maps", head + frame(b"\x81\xa1x" * 300_000)
    yield "deep arrays in a header", frame(b"\x92\x00\x81\xa7options" + b"\x91" * 500_000)


def _bombs() -> Iterator[tuple[str, bytes]]:
    pack = zstandard.ZstdCompressor(level=19).compress
    head = frame([0, HEADER])
    yield "zstd of zeros", pack(bytes(300 << 20))
    yield "zstd of zstd", pack(pack(bytes(300 << 20)))
    yield "the same slice for ever", pack(head + frame([2, ANNA.id, 1, [b"x" * 60_000] * 16]) * 300)
    yield "the same good slice for ever", pack(head + frame([2, GOOD.id, 1, GOOD.texts]) * 20_000)
    yield "wide arrays", pack(head + frame([5, [BLOB] * 4000]) * 300)
    yield "wide maps", pack(head + frame([1, {builders.keypair(n).id: n for n in range(500)}]) * 300)
    wide = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    ).compressobj()
    yield "a window of 128 MiB", wide.compress(head + os.urandom(1000)) + wide.flush()


def _wrong_types() -> Iterator[tuple[str, bytes]]:
    """Every place of every record with what does not belong there."""
    head = frame([0, HEADER])
    texts = [GOOD.texts[0]]
    records: Sequence[list[Any]] = (
        [1, {GOOD.id: 6}],
        [2, GOOD.id, 1, texts],
        [3, BLOB, 3],
        [4, b"abc"],
        [5, [BLOB]],
        [9, msgpack.packb({"messages": 0}), bytes(64)],
    )
    for record in records:
        for place, wrong in itertools.product(range(len(record)), WRONG):
            changed = [*record[:place], wrong, *record[place + 1 :]]
            if _might_be_right(changed):
                continue
            yield f"record {record[0]} with {_shown(wrong)} at {place}", head + frame(changed)
        yield f"record {record[0]} without its last", head + frame(record[:-1])
        yield f"record {record[0]} with one more", head + frame([*record, None])
        yield f"record {record[0]} before the header", frame(record)
    for member, wrong in itertools.product(("format", "version", "sender", "created"), WRONG):
        if not (member == "created" and wrong is True):
            yield f"a header whose {member} is {_shown(wrong)}", frame([0, HEADER | {member: wrong}])


def _might_be_right(record: Sequence[Any]) -> bool:
    """An empty clock and an empty list are allowed; a manifest may be any map, and a signature anything."""
    return record in ([1, {}], [5, []]) or (record[0] == 9 and all(type(value) is bytes for value in record[1:]))


def _shown(value: object) -> str:
    return repr(value)[:12]


def _told_wrongly() -> Iterator[tuple[str, bytes]]:
    """What is well-formed and says what is not so."""
    sound = small()
    yield "bytes after the end", sound + b"x"
    yield "twice the same bundle", sound + sound
    yield "two zstd frames", small(packed=True) * 2
    yield "the end in the middle", bundle(lambda writer: [writer.end(writer.manifest(last=True), bytes(64))])
    yield "a manifest that miscounts", _miscounted()
    split = builders.chain("forked", 3)
    split.append({"type": "post", "text": "another fourth"})
    yield (
        "a fork",
        bundle(lambda w: [w.slice(FORKED.id, 1, FORKED.texts), w.slice(FORKED.id, 4, split.texts[3:])]) + b"!",
    )
    backwards = [GOOD.texts[at] for at in reversed(range(6))]
    yield "a slice backwards", bundle(lambda w: [w.slice(GOOD.id, 1, backwards)]) + b"!"
    yield (
        "slices backwards",
        bundle(lambda w: [w.slice(GOOD.id, at, [GOOD.texts[at - 1]]) for at in (6, 5, 4, 1)]) + b"!",
    )
    yield "slices again and again", bundle(lambda w: [w.slice(GOOD.id, 1, GOOD.texts)] * 50) + b"!"
    yield "a slice under another name", bundle(lambda w: [w.slice(ANNA.id, 77, GOOD.texts)]) + b"!"
    spoiled = [text.replace(b'"hash"', b'"hasH"') for text in GOOD.texts]
    yield "spoiled messages", bundle(lambda w: [w.slice(GOOD.id, 1, spoiled)]) + b"!"
    garbage = [b"", b"null", b"{", b"[" * 60_000, b'{"author":' * 5000, b"\xff\xfe", b'{"sequence":1e400}']
    yield "messages that are none", bundle(lambda w: [w.slice(GOOD.id, 1, garbage)]) + b"!"
    yield "a blob of another hash", bundle(lambda w: [w.blob(BLOB, 3), w.piece(b"abc")]) + b"!"
    yield "a blob that is cut", frame([0, HEADER]) + frame([3, BLOB, 100]) + frame([4, b"abc"]) + frame([5, []])
    yield "a blob that is too long", frame([0, HEADER]) + frame([3, BLOB, 2]) + frame([4, b"abc"])


def _miscounted() -> bytes:
    writer = BundleWriter(Header(ANNA.id, 1), packed=False)
    out = writer.header() + writer.slice(GOOD.id, 1, GOOD.texts)
    writer.counts["messages"] += 1
    manifest = writer.manifest(last=True)
    return out + writer.end(manifest, sign(ANNA, writer.to_sign(manifest)))


def endless_blob(megabytes: int) -> Iterator[bytes]:
    """A bundle with one blob that does not end, as it is sent."""
    yield frame([0, HEADER]) + frame([3, BLOB, 1 << 30])
    piece = frame([4, bytes(65536)])
    for _ in range(megabytes * 16):
        yield piece
