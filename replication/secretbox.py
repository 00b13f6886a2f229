"""XSalsa20-Poly1305 with the authenticator apart, on buffers that the caller owns.

The box stream seals a packet's body and its header with two calls each, thousands of times a
second, so the calls must neither copy nor allocate. PyNaCl's own binding allocates a padded copy a
call; its shared library also exports the detached functions, and those are called here through
cffi. Where the library does not show them (a PyNaCl built in another way), ``portable`` does the
same through ``nacl.bindings``. Both give the same bytes.

``Pointer`` values come from ``pointer(buffer)`` and support ``+`` in bytes; the buffer must stay
alive, and cannot be resized, while the pointer is in use.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import cffi
import nacl._sodium  # type: ignore[import-not-found]
from nacl.bindings import crypto_secretbox, crypto_secretbox_open
from nacl.exceptions import CryptoError

MAC_SIZE = 16

Pointer = Any
_FFI = cffi.FFI()
_FFI.cdef(
    """
    int crypto_secretbox_detached(unsigned char *c, unsigned char *mac, const unsigned char *m,
                                  unsigned long long mlen, const unsigned char *n, const unsigned char *k);
    int crypto_secretbox_open_detached(unsigned char *m, const unsigned char *c, const unsigned char *mac,
                                       unsigned long long clen, const unsigned char *n, const unsigned char *k);
    """
)


class SecretBox(NamedTuple):
    """The two functions; lengths in bytes, 24-byte nonces, 32-byte keys.

    ``seal(ciphertext, mac, message, length, nonce, key)`` and
    ``open(message, ciphertext, mac, length, nonce, key)`` return 0, or -1 if the box does not open.
    """

    seal: Callable[[Pointer, Pointer, Pointer, int, bytes, bytes], int]
    open: Callable[[Pointer, Pointer, Pointer, int, bytes, bytes], int]


def pointer(buffer: bytes | bytearray | memoryview) -> Pointer:
    """A byte pointer to the start of ``buffer``, without a copy."""
    return _FFI.from_buffer("unsigned char[]", buffer)


def _portable_seal(ciphertext: Pointer, mac: Pointer, message: Pointer, length: int, nonce: bytes, key: bytes) -> int:
    box = crypto_secretbox(bytes(_FFI.buffer(message, length)), nonce, key)
    _FFI.memmove(mac, box, MAC_SIZE)
    _FFI.memmove(ciphertext, box[MAC_SIZE:], length)
    return 0


def _portable_open(message: Pointer, ciphertext: Pointer, mac: Pointer, length: int, nonce: bytes, key: bytes) -> int:
    box = bytes(_FFI.buffer(mac, MAC_SIZE)) + bytes(_FFI.buffer(ciphertext, length))
    try:
        opened = crypto_secretbox_open(box, nonce, key)
    except CryptoError:
        return -1
    _FFI.memmove(message, opened, length)
    return 0


PORTABLE = SecretBox(_portable_seal, _portable_open)


def _native() -> SecretBox | None:
    try:
        library: Any = _FFI.dlopen(nacl._sodium.__file__)
        return SecretBox(library.crypto_secretbox_detached, library.crypto_secretbox_open_detached)
    except (OSError, AttributeError):
        return None


NATIVE = _native()
SECRETBOX = NATIVE or PORTABLE
