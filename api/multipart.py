"""`multipart/form-data` bodies (RFC 7578) as they stream in: any cut of the bytes gives the same parts. Pure.

A form in a browser sends files so. Only what is needed is read of a part's head: its name, and whether it is a file.
"""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

__all__ = ["MultipartError", "MultipartReader", "PartBegins", "PartData", "boundary_of"]

HEAD_LIMIT: Final = 8 * 1024
PREAMBLE_LIMIT: Final = 8 * 1024
PARTS_LIMIT: Final = 32

_BOUNDARY: Final = re.compile(r'(?:^|;)\s*boundary=(?:"([^"\\\r\n]{1,70})"|([^\s;"]{1,70}))\s*(?:;|$)', re.IGNORECASE)
_NAME: Final = re.compile(r';\s*name=(?:"([^"]*)"|([^\s;"]+))', re.IGNORECASE)
_FILE: Final = re.compile(r";\s*filename\*?=", re.IGNORECASE)
_PADDING: Final = b" \t"


class MultipartError(ValueError):
    """The bytes are no such body; the text says why."""


class PartBegins(NamedTuple):
    """A part; what follows is its data."""

    name: str
    is_file: bool


class PartData(NamedTuple):
    """More bytes of the part that began last."""

    data: bytes


def boundary_of(parameters: str) -> bytes:
    """The boundary in what follows the media type in Content-Type. Raises MultipartError."""
    match = _BOUNDARY.search(parameters)
    boundary = (match[1] or match[2]) if match else ""
    if not boundary or not boundary.isascii() or not boundary.isprintable() or boundary.endswith(" "):
        raise MultipartError("Content-Type names no boundary")
    return boundary.encode()


class MultipartReader:
    """Give it the body with `feed`, and `finish` at the end."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter: Final = b"\r\n--" + boundary
        self._buffer = bytearray(b"\r\n")  # the first delimiter may begin the body
        self._step: Callable[[list[PartBegins | PartData]], bool] = self._skip_preamble
        self._parts = 0
        self._ended = False

    def feed(self, data: bytes) -> list[PartBegins | PartData]:
        """What the next bytes mean. Raises MultipartError."""
        if self._ended:
            return []  # an epilogue means nothing
        self._buffer += data
        events: list[PartBegins | PartData] = []
        while self._step(events):
            pass
        return events

    def finish(self) -> None:
        """The body is over. Raises MultipartError if it should not be."""
        if not self._ended:
            raise MultipartError("the body ends before its last boundary")

    # Each step returns whether it got on; what it could not use yet stays in the buffer.

    def _skip_preamble(self, _events: list[PartBegins | PartData]) -> bool:
        at = self._buffer.find(self._delimiter)
        if at < 0:
            if len(self._buffer) > PREAMBLE_LIMIT:
                raise MultipartError("there is no boundary at the beginning")
            return False
        del self._buffer[: at + len(self._delimiter)]
        self._step = self._after_delimiter
        return True

    def _after_delimiter(self, _events: list[PartBegins | PartData]) -> bool:
        if self._buffer.startswith(b"--"):
            self._ended = True
            return False
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if bytes(self._buffer.strip(_PADDING)) not in (b"", b"-", b"\r"):
                raise MultipartError("a boundary is followed by something else")
            self._bound_head()
            return False
        if self._buffer[:end].strip(_PADDING):
            raise MultipartError("a boundary is followed by something else")
        # The line end stays: a part without headers begins with an empty line.
        del self._buffer[:end]
        self._step = self._read_head
        return True

    def _read_head(self, events: list[PartBegins | PartData]) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            self._bound_head()
            return False
        head = bytes(self._buffer[:end]).decode("utf-8", "replace")
        del self._buffer[: end + 4]
        self._parts += 1
        if self._parts > PARTS_LIMIT or end > HEAD_LIMIT:
            raise MultipartError("there are too many parts, or the head of one is too long")
        events.append(_part(head))
        self._step = self._read_data
        return True

    def _read_data(self, events: list[PartBegins | PartData]) -> bool:
        at = self._buffer.find(self._delimiter)
        if at < 0:
            sure = len(self._buffer) - len(self._delimiter) + 1
            if sure > 0:
                events.append(PartData(bytes(self._buffer[:sure])))
                del self._buffer[:sure]
            return False
        if at:
            events.append(PartData(bytes(self._buffer[:at])))
        del self._buffer[: at + len(self._delimiter)]
        self._step = self._after_delimiter
        return True

    def _bound_head(self) -> None:
        if len(self._buffer) > HEAD_LIMIT:
            raise MultipartError("the head of a part is too long")


def _part(head: str) -> PartBegins:
    for line in head.split("\r\n"):
        field, _, value = line.partition(":")
        if field.strip().lower() == "content-disposition":
            name = _NAME.search(value)
            return PartBegins((name[1] or name[2] or "") if name else "", _FILE.search(value) is not None)
    return PartBegins("", False)
