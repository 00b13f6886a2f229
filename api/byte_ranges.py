"""`Range` and `If-Range` (RFC 9110, 13.1.5 and 14) for a body whose size and strong ETag are known. Pure."""

import re
from typing import Final, NamedTuple

__all__ = ["ByteRange", "Unsatisfiable", "wanted_range"]

_RANGE: Final = re.compile(r"\s*bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,40})\s*", re.IGNORECASE)


class ByteRange(NamedTuple):
    """Half-open."""

    start: int
    end: int


class Unsatisfiable(Exception):
    """The range lies outside the body."""


def wanted_range(header: str | None, if_range: str | None, size: int, etag: str | None) -> ByteRange | None:
    """The part of a body that is asked for; None for all of it.

    A header that is malformed, in other units, or asks for several parts is ignored, as a server may; so is any that
    depends on another version. Raises Unsatisfiable.
    """
    if header is None or (if_range is not None and (etag is None or if_range.strip() != etag)):
        return None
    match = _RANGE.fullmatch(header)
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        start, end = max(0, size - int(match[2])), size
    else:
        start = int(match[1])
        end = min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    if start >= end:
        raise Unsatisfiable
    return ByteRange(start, end)
