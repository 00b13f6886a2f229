"""XSalsa20-Poly1305 in place, on buffers that the caller owns.

The box stream seals and opens two boxes a packet, thousands of times a second, so a call must neither copy
nor allocate. PyNaCl's Python functions do both; the C functions that they call are used here directly.
``PORTABLE`` does the same through the Python functions, for a PyNaCl that has others inside. Both give the
same bytes.

A box is its authenticator of 16 bytes and the ciphertext behind it. ``Pointer`` values come from
``pointer(buffer)`` and support ``+`` in bytes; the buffer must stay alive, and cannot be resized, while one
is in use.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from nacl._sodium import ffi, lib  # type: ignore[import-not-found]
from nacl.bindings import crypto_secretbox, crypto_secretbox_open
from nacl.exceptions import CryptoError

MAC_SIZE = 16

Pointer = Any


class SecretBox(NamedTuple):
    """The two functions; lengths in bytes, 24-byte nonces, 32-byte keys; both work in place.

    ``seal(box, message, message_length, nonce, key)`` and ``open(message, box, box_length, nonce, key)``
    return 0, or -1 if the box does not open.
    """

    seal: Callable[[Pointer, Pointer, int, bytes, bytes], int]
    open: Callable[[Pointer, Pointer, int, bytes, bytes], int]


def pointer(buffer: bytes | bytearray | memoryview) -> Pointer:
    """A byte pointer to the start of ``buffer``, without a copy."""
    return ffi.from_buffer("unsigned char[]", buffer)


def _portable_seal(box: Pointer, message: Pointer, length: int, nonce: bytes, key: bytes) -> int:
    ffi.memmove(box, crypto_secretbox(bytes(ffi.buffer(message, length)), nonce, key), length + MAC_SIZE)
    return 0


def _portable_open(message: Pointer, box: Pointer, length: int, nonce: bytes, key: bytes) -> int:
    try:
        opened = crypto_secretbox_open(bytes(ffi.buffer(box, length)), nonce, key)
    except CryptoError:
        return -1
    ffi.memmove(message, opened, len(opened))
    return 0


PORTABLE = SecretBox(_portable_seal, _portable_open)


def _native() -> SecretBox | None:
    try:
        return SecretBox(lib.crypto_secretbox_easy, lib.crypto_secretbox_open_easy)
    except AttributeError:
        return None


NATIVE = _native()
SECRETBOX = NATIVE or PORTABLE
