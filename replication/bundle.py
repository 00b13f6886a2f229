"""The codec of bundles: files that carry feeds and blobs to where no network reaches (docs/bundle.md).

A bundle is a stream of msgpack values. Each is a `bin 32` whose content is one record, itself a msgpack array that
begins with the kind; so a reader knows how long a record is before it reads it, and refuses what is too long. The last
record carries the sender's signature over everything before it. All of that may be one zstd frame.

Pure: bytes in, records out, whatever the chunks; `InvalidBundle` is the only error. Whoever reads must not believe
what is said about messages and blobs before they were verified.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgpack  # type: ignore[import-untyped]
import zstandard

from feeds.errors import InvalidRef
from feeds.keys import public_from_id, verify
from feeds.refs import BlobRef, FeedRef, is_blob, is_feed
from replication.errors import InvalidBundle

__all__ = [
    "BLOB_PIECE",
    "MAX_RECORD",
    "BlobBegin",
    "BlobPiece",
    "BundleReader",
    "BundleWriter",
    "ClockPart",
    "End",
    "Event",
    "Header",
    "Lacking",
    "Slice",
    "looks_like_bundle",
    "signed_bytes",
]

FORMAT: Final = "ssb-bundle"
VERSION: Final = 1
MAX_RECORD: Final = 1024 * 1024
"""Bytes of one record's content."""
MAX_MESSAGE: Final = 64 * 1024
MAX_TEXTS: Final = 4096
MAX_ENTRIES: Final = 4096
MAX_LISTED: Final = 500_000
"""Entries of all clocks and lists of blobs in one bundle."""
BLOB_PIECE: Final = 64 * 1024
MAX_BLOB: Final = 1 << 30
"""Bytes that a blob may claim; no node keeps nearly so long ones."""
MAX_BUNDLE: Final = 1 << 50
"""Bytes of a whole stream where the caller sets no other bound."""
LONGEST_ID: Final = 256
LARGEST_NUMBER: Final = 2**53

ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
BIN32: Final = 0xC6
FRAME_HEAD: Final = 5
WINDOW: Final = 8 * 1024 * 1024
"""Most that unpacking may remember."""
_PACKED_AT_ONCE: Final = 512
"""A zstd block makes 128 KiB out of 4 bytes at most, so these make 16 MiB."""
FREE_BYTES: Final = 64 * 1024 * 1024
RATIO: Final = 200
"""A stream may unpack to so many times its size, and `FREE_BYTES` besides."""
_CONTEXT: Final = b"ssb-bundle-1:"

_HEADER, _CLOCK, _SLICE, _BLOB, _PIECE, _LACKING, _END = 0, 1, 2, 3, 4, 5, 9


@dataclass(frozen=True, slots=True)
class Header:
    """The first record. Not to be believed before the signature at the end was seen."""

    sender: str
    """Feed id of whoever made the bundle."""
    created: int
    """Milliseconds since 1970, as the sender claims."""
    part: int = 1
    """Which part of a series this is, from 1."""
    series: str = ""
    """The same in all parts of a series."""
    options: Mapping[str, Any] | None = None
    """How it was made, for people."""


class ClockPart(NamedTuple):
    """A piece of the sender's clock: what it held, not what the bundle carries."""

    clock: dict[str, int]


class Slice(NamedTuple):
    """Messages of one feed in a row, each as the exact text that is stored."""

    feed: str
    first: int
    texts: list[bytes]


class BlobBegin(NamedTuple):
    """A blob; its bytes follow as pieces until `size` are complete."""

    id: str
    size: int


class BlobPiece(NamedTuple):
    data: bytes
    last: bool
    """Whether the blob is complete now."""


class Lacking(NamedTuple):
    """Blobs that belong to what was carried and found no room; the next part has them."""

    blobs: list[str]


class End(NamedTuple):
    """The manifest. `counts` are the sender's, and agree with what was read if it is signed."""

    counts: dict[str, int]
    last: bool
    """Whether no part follows."""
    signed: bool
    """Whether the signature is the sender's over all that was read."""


Event: TypeAlias = Header | ClockPart | Slice | BlobBegin | BlobPiece | Lacking | End


def looks_like_bundle(head: bytes) -> bool:
    """Whether a file with these first bytes (four are enough) is a bundle, packed or not."""
    return head[:1] == bytes([BIN32]) or head[:4] == ZSTD_MAGIC


def signed_bytes(digest: bytes, manifest: bytes) -> bytes:
    """What the signature covers. digest -- SHA-256 of all frames before the last, unpacked."""
    return _CONTEXT + digest + manifest


class BundleWriter:
    """Turns records into the bytes of a bundle. Each method returns what is to be written; `end` comes last."""

    def __init__(self, header: Header, *, packed: bool, level: int = 3) -> None:
        """packed -- one zstd frame around everything."""
        self._hash: Final = hashlib.sha256()
        self._packer: Final = (
            zstandard.ZstdCompressor(level=level, write_checksum=True).compressobj() if packed else None
        )
        self.counts: Final = {"messages": 0, "slices": 0, "blobs": 0, "blob_bytes": 0}
        self.size = 0
        """Bytes returned so far."""
        self._header: Final = header

    def header(self) -> bytes:
        """The beginning."""
        header = self._header
        fields = {
            "format": FORMAT,
            "version": VERSION,
            "sender": header.sender,
            "created": header.created,
            "part": header.part,
            "series": header.series,
            "options": dict(header.options or {}),
        }
        return self._record([_HEADER, fields])

    def clock(self, clock: Mapping[str, int]) -> bytes:
        """Some entries of the sender's clock, at most `MAX_ENTRIES`."""
        return self._record([_CLOCK, dict(clock)])

    def slice(self, feed: str, first: int, texts: Sequence[bytes]) -> bytes:
        """Messages of a feed, `first` being the sequence of the first."""
        self.counts["messages"] += len(texts)
        self.counts["slices"] += 1
        return self._record([_SLICE, feed, first, list(texts)])

    def blob(self, blob: str, size: int) -> bytes:
        """The head of a blob; `piece` must follow until it is complete."""
        self.counts["blobs"] += 1
        self.counts["blob_bytes"] += size
        return self._record([_BLOB, blob, size])

    def piece(self, data: bytes) -> bytes:
        """At most `BLOB_PIECE` bytes of the blob begun last."""
        return self._record([_PIECE, data])

    def lacking(self, blobs: Sequence[str]) -> bytes:
        """Blobs left to the next part."""
        return self._record([_LACKING, list(blobs)])

    def manifest(self, *, last: bool) -> bytes:
        """The counts, as they are signed."""
        return _pack({**self.counts, "last": last})

    def to_sign(self, manifest: bytes) -> bytes:
        """What the sender signs."""
        return signed_bytes(self._hash.digest(), manifest)

    def end(self, manifest: bytes, signature: bytes) -> bytes:
        """The last record, and whatever the packer still holds."""
        out = self._record([_END, manifest, signature])
        if self._packer is not None:
            rest = self._packer.flush()
            self.size += len(rest)
            out += rest
        return out

    def flush(self) -> bytes:
        """What the packer holds back, so that `size` is true."""
        if self._packer is None:
            return b""
        rest = self._packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        self.size += len(rest)
        return rest

    def _record(self, value: list[Any]) -> bytes:
        content = _pack(value)
        if len(content) > MAX_RECORD:
            raise ValueError("a record of a bundle is too long")
        frame = b"%c%b%b" % (BIN32, len(content).to_bytes(4, "big"), content)
        self._hash.update(frame)
        out = frame if self._packer is None else self._packer.compress(frame)
        self.size += len(out)
        return out


def _pack(value: object) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


class BundleReader:
    """Reads a bundle in any chunks. Holds one record, and what unpacking needs.

    `feed` is lazy: take all its events before the next chunk. After InvalidBundle nothing more can be read; what
    came before it stands.
    """

    def __init__(self, *, max_bytes: int = MAX_BUNDLE) -> None:
        """max_bytes -- bound of the unpacked stream."""
        self._max_bytes: Final = max_bytes
        self._head = b""
        self._mode: Literal["?", "plain", "packed"] = "?"
        self._unpacker: Any = None
        self._buffer = bytearray()
        self._hash: Final = hashlib.sha256()
        self._header: Header | None = None
        self._blob_left = 0
        self._ended = False
        self._listed = 0
        self.taken = 0
        """Bytes given to `feed`."""
        self.unpacked = 0
        """Bytes of records seen, headed and unpacked."""
        self._counts: Final = {"messages": 0, "slices": 0, "blobs": 0, "blob_bytes": 0}

    @property
    def packed(self) -> bool:
        return self._mode == "packed"

    @property
    def ended(self) -> bool:
        """Whether the last record was read."""
        return self._ended

    def feed(self, data: bytes) -> Iterator[Event]:
        """Records that are complete with this chunk. Raises InvalidBundle."""
        if self._mode == "?":
            data = self._head + data
            if len(data) < len(ZSTD_MAGIC):
                self._head = data
                return
            self._head = b""
            self._begin(data)
        for start in range(0, len(data), step := _PACKED_AT_ONCE if self.packed else MAX_RECORD):
            chunk = data[start : start + step]
            self.taken += len(chunk)
            yield from self._plain(self._unpack(chunk) if self.packed else chunk)

    def finish(self) -> None:
        """The file is at its end. Raises InvalidBundle if the bundle is not."""
        if not self._ended or (self.packed and not self._unpacker.eof):
            where = "before it began" if self._header is None else f"after {self.unpacked} bytes"
            raise InvalidBundle(f"the file is cut off {where}; copy it again, or ask its sender for a new one")

    def _begin(self, data: bytes) -> None:
        if data.startswith(ZSTD_MAGIC):
            self._mode = "packed"
            self._unpacker = zstandard.ZstdDecompressor(max_window_size=WINDOW).decompressobj()
        elif data[0] == BIN32:
            self._mode = "plain"
        else:
            raise InvalidBundle("this is no bundle: it begins otherwise; sbot inspect reads files made by sbot export")

    def _unpack(self, chunk: bytes) -> bytes:
        if self._unpacker.eof:
            raise InvalidBundle("there are bytes after the end of the packed stream")
        try:
            out: bytes = self._unpacker.decompress(chunk)
        except (zstandard.ZstdError, MemoryError) as error:
            raise InvalidBundle(f"the packed stream is damaged after {self.taken} bytes ({error})") from None
        if self._unpacker.unused_data:
            raise InvalidBundle("there are bytes after the end of the packed stream")
        if self.unpacked + len(out) > FREE_BYTES + RATIO * self.taken:
            raise InvalidBundle("the packed stream unpacks to far more than messages and blobs do; it is refused")
        return out

    def _plain(self, data: bytes) -> Iterator[Event]:
        self.unpacked += len(data)
        if self.unpacked > self._max_bytes:
            raise InvalidBundle(f"the bundle is longer than {self._max_bytes} bytes; ask for it in parts")
        buffer = self._buffer
        buffer += data
        at = 0
        try:
            while len(buffer) - at >= FRAME_HEAD:
                if self._ended:
                    raise InvalidBundle("there are bytes after the end")
                length = int.from_bytes(buffer[at + 1 : at + FRAME_HEAD], "big")
                if buffer[at] != BIN32 or length > MAX_RECORD:
                    raise InvalidBundle(self._damaged("no record begins there"))
                if len(buffer) - at < FRAME_HEAD + length:
                    break
                frame = bytes(buffer[at : at + FRAME_HEAD + length])
                at += len(frame)
                event = self._read(_parse(frame[FRAME_HEAD:], self._damaged))
                self._hash.update(frame)
                yield event
            if self._ended and len(buffer) > at:
                raise InvalidBundle("there are bytes after the end")
        finally:
            del buffer[:at]

    def _damaged(self, what: str) -> str:
        return f"the bundle is damaged before byte {self.unpacked}: {what}"

    def _read(self, value: list[Any]) -> Event:
        """One record, held against those before it."""
        kind, *rest = value
        if (kind == _HEADER) == (self._header is not None):
            raise InvalidBundle(self._damaged("its header is missing or repeated"))
        if self._blob_left and kind != _PIECE:
            raise InvalidBundle(self._damaged("a blob is incomplete"))
        match kind, rest:
            case 0, [dict(fields)]:
                self._header = self._read_header(fields)
                return self._header
            case 1, [dict(clock)]:
                self._listing(len(clock))
                return ClockPart({self._feed(feed): self._number(sequence) for feed, sequence in clock.items()})
            case 2, [feed, first, list(texts)]:
                return self._read_slice(feed, first, texts)
            case 3, [blob, size]:
                if self._number(size) > MAX_BLOB:
                    raise InvalidBundle(self._damaged("a blob is longer than any"))
                self._counts["blobs"] += 1
                self._counts["blob_bytes"] += size
                self._blob_left = size
                return BlobBegin(self._blob(blob), size)
            case 4, [bytes(data)]:
                if len(data) > min(BLOB_PIECE, self._blob_left) or not data:
                    raise InvalidBundle(self._damaged("a piece of a blob has a wrong length"))
                self._blob_left -= len(data)
                return BlobPiece(data, self._blob_left == 0)
            case 5, [list(blobs)]:
                self._listing(len(blobs))
                return Lacking([self._blob(blob) for blob in blobs])
            case 9, [bytes(manifest), bytes(signature)]:
                return self._read_end(manifest, signature)
        raise InvalidBundle(self._damaged("a record has an unknown form"))

    def _listing(self, ids: int) -> None:
        self._listed += ids
        if self._listed > MAX_LISTED:
            raise InvalidBundle(self._damaged("its clocks and lists have more entries than there are feeds"))

    def _read_header(self, fields: dict[Any, Any]) -> Header:
        if fields.get("format") != FORMAT:
            raise InvalidBundle("this is no bundle: its header says something else")
        if fields.get("version") != VERSION:
            raise InvalidBundle(
                f"the bundle has version {_shown(fields.get('version'))}, and only {VERSION} is known here"
            )
        series, options = fields.get("series", ""), fields.get("options", {})
        if not isinstance(series, str) or len(series) > LONGEST_ID or not isinstance(options, dict):
            raise InvalidBundle(self._damaged("its header has a wrong form"))
        sender = self._feed(fields.get("sender"))
        if not sender.startswith("@"):
            raise InvalidBundle(self._damaged("its sender is no classic feed"))
        return Header(sender, self._number(fields.get("created")), self._number(fields.get("part", 1)), series, options)

    def _read_slice(self, feed: object, first: object, texts: list[Any]) -> Slice:
        if not texts or not all(type(text) is bytes and len(text) <= MAX_MESSAGE for text in texts):
            raise InvalidBundle(self._damaged("a slice holds no messages, or too long ones"))
        found = Slice(self._feed(feed), self._number(first), texts)
        self._counts["messages"] += len(texts)
        self._counts["slices"] += 1
        return found

    def _read_end(self, manifest: bytes, signature: bytes) -> End:
        counts = _parse_map(manifest, self._damaged)
        last = counts.pop("last", True)
        header = self._header
        assert header is not None
        self._ended = True
        covered = signed_bytes(self._hash.digest(), manifest)
        signed = verify(public_from_id(header.sender), covered, signature) and counts == self._counts
        read = {str(name): self._number(count) for name, count in counts.items()}
        return End(read, last is True, signed)

    def _feed(self, text: object) -> str:
        if isinstance(text, str) and len(text) <= LONGEST_ID:
            if is_feed(text):
                return text
            try:
                return str(FeedRef.parse(text))
            except InvalidRef:
                pass
        raise InvalidBundle(self._damaged("something is no feed id"))

    def _blob(self, text: object) -> str:
        if isinstance(text, str) and len(text) <= LONGEST_ID:
            if is_blob(text):
                return text
            try:
                return str(BlobRef.parse(text))
            except InvalidRef:
                pass
        raise InvalidBundle(self._damaged("something is no blob id"))

    def _number(self, value: object) -> int:
        if type(value) is int and 0 <= value <= LARGEST_NUMBER:
            return value
        raise InvalidBundle(self._damaged("a number is missing or out of range"))


def _parse(content: bytes, damaged: Any) -> list[Any]:
    try:
        value = msgpack.unpackb(
            content,
            raw=False,
            strict_map_key=True,
            max_array_len=MAX_TEXTS,
            max_map_len=MAX_ENTRIES,
            max_ext_len=0,
            max_str_len=4096,
        )
    except (ValueError, TypeError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise InvalidBundle(damaged(f"a record cannot be read ({type(error).__name__})")) from None
    if not isinstance(value, list) or not value or type(value[0]) is not int:
        raise InvalidBundle(damaged("a record has an unknown form"))
    return value


def _parse_map(content: bytes, damaged: Any) -> dict[Any, Any]:
    value = _parse(b"\x92\x00" + content, damaged)[1]
    if not isinstance(value, dict):
        raise InvalidBundle(damaged("its manifest has a wrong form"))
    return value


def _shown(value: object) -> str:
    return repr(value)[:20]


def pieces_of(data: bytes) -> Iterable[bytes]:
    """A blob's bytes in pieces that fit."""
    return (data[at : at + BLOB_PIECE] for at in range(0, len(data), BLOB_PIECE))
