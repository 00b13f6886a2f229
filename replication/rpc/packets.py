"""The muxrpc frame codec (protocol.md section 6), pure.

A frame is a header of nine bytes, ``u8 flags ‖ u32 length ‖ i32 number`` (big-endian), and a body.
A frame of length zero is the goodbye, whatever its flags: that is how deployed decoders read it, so
an empty body can never be sent. But deployed nodes send one nevertheless, after a blob whose size is
a multiple of 64 KiB: an empty piece of bytes is passed over.

The decoder works in runs: frames that follow each other with the same flags and number - the messages
of a feed on their way - come out as one ``Run`` with a list of bodies, which is what makes receiving
thousands of them cheap. It asks for the size allowed from the header, before anything is buffered.
"""

import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple

from replication.errors import RpcProtocolError
from replication.rpc.bodies import Body

STREAM = 0x08
END = 0x04
TYPE_MASK = 0x03
FLAGS_MASK = 0x0F
HEADER = struct.Struct(">BIi")
HEADER_SIZE = HEADER.size
GOODBYE = bytes(HEADER_SIZE)
NUMBER_MAX = 2**31 - 1


class Run(NamedTuple):
    """Consecutive frames with equal flags and number."""

    flags: int
    number: int
    bodies: list[bytes]


LimitOf = Callable[[int, int], int]
"""(flags, number) -> largest body allowed, in bytes."""


def frame(body: Body, number: int, flags: int) -> bytes:
    """One frame; ``flags`` are STREAM and END bits, the body's type is added."""
    if not body.data:
        raise ValueError("an empty body cannot be sent")
    return HEADER.pack(flags | body.kind, len(body.data), number) + body.data


def frames(bodies: Iterable[bytes], number: int, flags: int) -> bytes:
    """Many frames with the same number and flags (including the type), joined."""
    pack = HEADER.pack
    parts: list[bytes] = []
    for body in bodies:
        if not body:
            raise ValueError("an empty body cannot be sent")
        parts += (pack(flags, len(body), number), body)
    return b"".join(parts)


class FrameDecoder:
    """Frames in any pieces in, runs of whole frames out."""

    __slots__ = ("_limit_of", "_needed", "_rest", "_unasked", "goodbye")

    def __init__(self, limit_of: LimitOf, unasked: int) -> None:
        """``limit_of`` is asked only for bodies larger than ``unasked``, which are always allowed."""
        self._limit_of = limit_of
        self._unasked = unasked
        self._rest = bytearray()
        self._needed = HEADER_SIZE
        self.goodbye = False

    @property
    def partial(self) -> bool:
        """Whether a frame has begun and is not complete."""
        return bool(self._rest)

    @property
    def buffered(self) -> int:
        """Bytes held of an incomplete frame."""
        return len(self._rest)

    def decode(self, data: bytes) -> list[Run]:
        """The whole frames up to a goodbye, after which everything is ignored.

        Raises ``RpcProtocolError`` for a body larger than allowed; the stream cannot be followed then.
        """
        if self.goodbye:
            return []
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return []
            data = bytes(self._rest)
        runs: list[Run] = []
        bodies: list[bytes] = []
        append = bodies.append
        last_flags = last_number = -1
        unpack, unasked, size = HEADER.unpack_from, self._unasked, len(data)
        at, needed = 0, HEADER_SIZE
        while size - at >= HEADER_SIZE:
            flags, length, number = unpack(data, at)
            if not length:
                if flags == STREAM:
                    at += HEADER_SIZE
                    continue
                self.goodbye = True
                break
            if length > unasked:
                self._check(flags & FLAGS_MASK, length, number)
            start = at + HEADER_SIZE
            if start + length > size:
                needed = HEADER_SIZE + length
                break
            at = start + length
            if number != last_number or flags != last_flags:
                last_number, last_flags = number, flags
                bodies = []
                append = bodies.append
                runs.append(Run(flags & FLAGS_MASK, number, bodies))
            append(data[start:at])
        self._needed = needed
        self._rest = bytearray() if self.goodbye else bytearray(memoryview(data)[at:])
        return runs

    def _check(self, flags: int, length: int, number: int) -> None:
        limit = self._limit_of(flags, number)
        if length > limit:
            name = "json_frame" if flags & TYPE_MASK else "binary_frame"
            reason = f"a body of {length} bytes was announced; at most {limit} are allowed here"
            raise RpcProtocolError(reason, limit=name)
