"""The box stream: a byte stream cut into sealed packets (protocol.md section 5).

A packet is a sealed header of 34 bytes, ``box(nonce, u16 length ‖ authenticator of the body)``, and
the body's ciphertext, sealed with ``nonce + 1``. The nonce is one big-endian number of 192 bits that
goes up by two a packet and wraps. A header of eighteen zeros is the *goodbye*: nothing follows.
Bodies are at most 4096 bytes; longer writes are split.

::

    0            16     18                34                        34 + length
    ├────────────┼──────┼─────────────────┼─────────────────────────┤
    │ header's   │length│ body's          │ body                    │
    │ authentic. │      │ authenticator   │                         │
    └────────────┴──────┴─────────────────┴─────────────────────────┘
     └──────────── header box ───────────┘
                         └───────────────── body box ──────────────┘

Opened in place, the header leaves the body's authenticator just where the box of the body begins, so
neither side ever moves a byte of it. ``Sealer`` and ``Opener`` are pure. An ``Opener`` delivers nothing
of a packet that does not open completely, and nothing at all after a damage, a goodbye or the end.
"""

from replication.errors import BoxStreamError
from replication.limits import DEFAULT_LIMITS, Limits
from replication.secretbox import MAC_SIZE, SECRETBOX, SecretBox, pointer

BODY_MAX = 4096
HEADER_SIZE = 34
_PLAIN_HEADER = 18
_BODY_BOX = HEADER_SIZE - MAC_SIZE
_NONCE_MASK = (1 << 192) - 1
_GOODBYE = bytes(_PLAIN_HEADER)
_SCRATCH_KEPT = 64 * 1024


class Sealer:
    """The sending half. The state is one key and the next nonce; every nonce is used once."""

    __slots__ = ("_box", "_ended", "_key", "_nonce")

    def __init__(self, key: bytes, nonce: bytes, *, box: SecretBox = SECRETBOX) -> None:
        self._key = key
        self._nonce = int.from_bytes(nonce, "big")
        self._box = box
        self._ended = False

    def seal(self, data: bytes | bytearray | memoryview) -> bytearray:
        """All of ``data`` as packets, in a fresh buffer; empty data gives no packet."""
        if self._ended:
            raise ValueError("nothing can be sent after the goodbye")
        size = len(data)
        out = bytearray(size + HEADER_SIZE * -(-size // BODY_MAX))
        if not size:
            return out
        seal, key, nonce = self._box.seal, self._key, self._nonce
        source, target = pointer(data), pointer(out)
        done = at = 0
        while done < size:
            length = size - done
            if length > BODY_MAX:
                length = BODY_MAX
            packet = target + at
            body_nonce = nonce + 1 & _NONCE_MASK
            seal(packet + _BODY_BOX, source + done, length, body_nonce.to_bytes(24, "big"), key)
            out[at + 16], out[at + 17] = length >> 8, length & 255
            seal(packet, packet + MAC_SIZE, _PLAIN_HEADER, nonce.to_bytes(24, "big"), key)
            nonce = nonce + 2 & _NONCE_MASK
            at += HEADER_SIZE + length
            done += length
        self._nonce = nonce
        return out

    def goodbye(self) -> bytes:
        """The packet that ends the stream; only once, and nothing may follow."""
        if self._ended:
            return b""
        self._ended = True
        out = bytearray(HEADER_SIZE)
        packet = pointer(out)
        self._box.seal(packet, packet + MAC_SIZE, _PLAIN_HEADER, self._nonce.to_bytes(24, "big"), self._key)
        return bytes(out)


class Opener:
    """The receiving half: ciphertext in any pieces in, plaintext out."""

    __slots__ = (
        "_body_length",
        "_box",
        "_empty",
        "_empty_max",
        "_key",
        "_nonce",
        "_rest",
        "_scratch",
        "ended",
        "failure",
    )

    def __init__(
        self, key: bytes, nonce: bytes, *, limits: Limits = DEFAULT_LIMITS, box: SecretBox = SECRETBOX
    ) -> None:
        self._key = key
        self._nonce = int.from_bytes(nonce, "big")
        self._box = box
        self._rest = b""  # of an incomplete packet; from the body's authenticator on, once the header is open
        self._body_length = -1  # of the packet whose header is open; -1 while a header is awaited
        self._scratch = bytearray()
        self._empty = 0
        self._empty_max = limits.empty_packets
        self.ended = False
        self.failure: BoxStreamError | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more can come: after a goodbye or a damage."""
        return self.ended or self.failure is not None

    @property
    def partial(self) -> bool:
        """Whether a packet has begun and is not complete."""
        return bool(self._rest)

    def open(self, data: bytes | bytearray | memoryview) -> bytes:
        """The plaintext of all packets completed by ``data``.

        A goodbye sets ``ended``. A damage sets ``failure``; what was intact before it is still
        returned, so the cuts of ``data`` make no difference. Later calls raise ``BoxStreamError``.
        """
        if self.failure is not None:
            raise self.failure
        if self.ended:
            return b""
        kept = len(self._rest)
        size = kept + len(data)
        scratch = self._scratch_for(size)
        view = memoryview(scratch)
        view[:kept] = self._rest
        view[kept:size] = data
        taken, length = self._open_packets(scratch, size)
        self._rest = b"" if self.over else bytes(view[taken:size])
        return bytes(view[:length])

    def end_of_input(self) -> BoxStreamError | None:
        """The transport reached its end: None after a goodbye, otherwise the error that it is."""
        if not self.over:
            self._damaged("cut in the middle of a packet" if self.partial else "cut without a goodbye")
        return self.failure

    def _open_packets(self, buffer: bytearray, size: int) -> tuple[int, int]:
        """Open in place what is complete; returns how many bytes were used up, and how many of the
        buffer are plaintext now."""
        open_, key, nonce, length = self._box.open, self._key, self._nonce, self._body_length
        start = pointer(buffer)
        at = filled = 0
        while True:
            if length < 0:
                if size - at < HEADER_SIZE:
                    break
                header = start + at
                if open_(header + MAC_SIZE, header, HEADER_SIZE, nonce.to_bytes(24, "big"), key):
                    self._damaged("a packet's header does not open: damaged, replayed or out of order")
                    break
                nonce = nonce + 1 & _NONCE_MASK
                length = buffer[at + 16] << 8 | buffer[at + 17]
                if 0 < length <= BODY_MAX:
                    self._empty = 0
                elif not self._allows(length, buffer[at + MAC_SIZE : at + HEADER_SIZE]):
                    break
                at += _BODY_BOX
            if size - at < MAC_SIZE + length:
                break
            if open_(start + filled, start + at, MAC_SIZE + length, nonce.to_bytes(24, "big"), key):
                self._damaged("a packet's body does not open: damaged or out of order")
                break
            nonce = nonce + 1 & _NONCE_MASK
            at += MAC_SIZE + length
            filled += length
            length = -1
        self._nonce, self._body_length = nonce, length
        return at, filled

    def _allows(self, length: int, header: bytearray) -> bool:
        """What a length that is not of a usual packet means."""
        if length > BODY_MAX:
            self._damaged(f"a packet of {length} bytes; at most {BODY_MAX} are allowed", "box_body")
        elif header == _GOODBYE:
            self.ended = True
        else:
            self._empty += 1
            if self._empty > self._empty_max:
                self._damaged(f"more than {self._empty_max} empty packets in a row", "empty_packets")
        return not self.over

    def _damaged(self, reason: str, limit: str = "") -> None:
        self.failure = BoxStreamError(reason, limit=limit)

    def _scratch_for(self, size: int) -> bytearray:
        """Room for ``size`` bytes. A fresh large buffer costs more than the decryption's overhead (page
        faults), so it is kept while much arrives, and given back when the peer falls silent."""
        if len(self._scratch) < size:
            self._scratch = bytearray(max(size, min(2 * size, 2 * _SCRATCH_KEPT)))
        elif len(self._scratch) > _SCRATCH_KEPT and size < _SCRATCH_KEPT // 16:
            self._scratch = bytearray(max(size, BODY_MAX))
        return self._scratch
