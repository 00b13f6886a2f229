"""What kind of file some bytes are, by how they begin, and which kinds a browser may show in place. Pure.

Nobody vouches for a blob, so what its sender called it counts for nothing. HTML, SVG and everything else that can carry
a script is not recognised at all: it goes out as bytes to be saved.
"""

from typing import Final

__all__ = ["HEAD_SIZE", "UNKNOWN", "is_inline", "media_type"]

HEAD_SIZE: Final = 512
"""Bytes of a file that are looked at."""
UNKNOWN: Final = "application/octet-stream"
TEXT: Final = "text/plain; charset=utf-8"

_BEGINNINGS: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b\x08", "application/gzip"),
)
_IN_RIFF: Final = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
_IN_MP4: Final = {b"avif": "image/avif", b"avis": "image/avif", b"M4A ": "audio/mp4", b"M4B ": "audio/mp4"}
_MP4: Final = frozenset(
    (b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V ", b"dash", b"MSNV")
)
_INLINE: Final = ("image/", "audio/", "video/")
_CONTROLS: Final = bytes(set(range(32)) - set(b"\t\n\r\f\x1b"))


def media_type(head: bytes) -> str:
    """The type of a file from its first bytes; `UNKNOWN` for what is not known for sure."""
    for beginning, kind in _BEGINNINGS:
        if head.startswith(beginning):
            return kind
    if head[:4] == b"RIFF":
        return _IN_RIFF.get(head[8:12], UNKNOWN)
    if head[4:8] == b"ftyp":
        return "video/mp4" if head[8:12] in _MP4 else _IN_MP4.get(head[8:12], UNKNOWN)
    return TEXT if _is_plain_text(head[:HEAD_SIZE]) else UNKNOWN


def is_inline(kind: str) -> bool:
    """Whether a browser may show it in place: pictures, sound and films of the kinds above, never anything else."""
    return kind.startswith(_INLINE)


def _is_plain_text(head: bytes) -> bool:
    """UTF-8 without control characters and without anything that looks like markup."""
    if not head or b"<" in head or head.translate(None, _CONTROLS) != head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        # the last character may be cut
        return error.end == len(head) == HEAD_SIZE and error.reason == "unexpected end of data"
    return True
