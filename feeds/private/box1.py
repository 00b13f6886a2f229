"""box1, the encryption of private messages in classic feeds (protocol.md section 12; npm private-box).

    nonce 24 | ephemeral public key E 32 | a slot of 49 bytes for each recipient | body
    slot = secretbox(X25519(e, R), nonce, number of recipients | body key 32),  body = secretbox(body key, nonce, text)

Nothing says who the recipients are: a reader makes the one secret it shares with E and tries it on slot after slot. One
nonce serves all boxes of a message, which is sound because each has a key of its own. Randomness is an argument.
"""

import binascii
from collections.abc import Sequence
from typing import Final, NamedTuple

from nacl import bindings
from nacl.exceptions import CryptoError

from feeds.errors import InvalidKey, InvalidMessage

__all__ = [
    "BODY_KEY_SIZE",
    "EPHEMERAL_SIZE",
    "MAX_RECIPIENTS",
    "NONCE_SIZE",
    "SUFFIX",
    "Opened",
    "box",
    "from_text",
    "released_key",
    "to_text",
    "unbox",
    "unbox_released",
]

SUFFIX: Final = ".box"
MAX_RECIPIENTS: Final = 7
"""That a writer may name, itself included."""
SLOTS_TRIED: Final = 8
"""By a reader: the deployed one counts from 0 to 7 inclusive, so whoever sits in an eighth slot can read."""
NONCE_SIZE: Final = 24
EPHEMERAL_SIZE: Final = 32
BODY_KEY_SIZE: Final = 32
_MAC: Final = 16
_SLOT: Final = 1 + BODY_KEY_SIZE + _MAC
_SLOTS_AT: Final = NONCE_SIZE + 32


class Opened(NamedTuple):
    """What a key made of a box."""

    plaintext: bytes
    released: bytes
    """Opens this one message for anybody who is told it (`?unbox=`): the number of recipients, then the body key."""

    def __repr__(self) -> str:
        return "Opened(…)"  # neither may end up in a log


def box(
    plaintext: bytes, recipients: Sequence[bytes], *, nonce: bytes, ephemeral_secret: bytes, body_key: bytes
) -> bytes:
    """The ciphertext for 1 to 7 X25519 public keys.

    nonce (24 bytes), ephemeral_secret and body_key (32 each) -- fresh randomness, never used twice. Raises
    InvalidMessage for a wrong number of recipients, InvalidKey for a key that nobody can have the secret of.
    """
    if not 1 <= len(recipients) <= MAX_RECIPIENTS:
        raise InvalidMessage(f"a private message has 1 to {MAX_RECIPIENTS} recipients, not {len(recipients)}", "recps")
    key_and_count = bytes([len(recipients)]) + body_key
    slots = []
    for public in recipients:
        shared = _shared(ephemeral_secret, public)
        if shared is None:
            raise InvalidKey("a recipient's key is no usable point of the curve")
        slots.append(bindings.crypto_secretbox(key_and_count, nonce, shared))
    ephemeral = bindings.crypto_scalarmult_base(ephemeral_secret)
    return b"".join([nonce, ephemeral, *slots, bindings.crypto_secretbox(plaintext, nonce, body_key)])


def unbox(ciphertext: bytes, secret: bytes) -> Opened | None:
    """Open a box with an X25519 secret key; None when it is not for that key, or damaged. Any bytes will do."""
    if len(ciphertext) < _SLOTS_AT + _SLOT + _MAC:
        return None
    shared = _shared(secret, ciphertext[NONCE_SIZE:_SLOTS_AT])
    if shared is None:
        return None
    nonce = ciphertext[:NONCE_SIZE]
    for begin in range(_SLOTS_AT, _SLOTS_AT + SLOTS_TRIED * _SLOT, _SLOT):
        if begin + _SLOT > len(ciphertext) - _MAC:
            return None
        slot = _open(ciphertext[begin : begin + _SLOT], nonce, shared)
        if slot is not None:
            plaintext = _open_body(ciphertext, slot[0], slot[1:])
            return None if plaintext is None else Opened(plaintext, slot)
    return None


def unbox_released(ciphertext: bytes, released: bytes) -> bytes | None:
    """Open the body of a box with a key that a recipient gave away.

    released -- the body key with the number of recipients before it (33 bytes), as deployed peers give it away, or
    alone (32).
    """
    if len(released) == 1 + BODY_KEY_SIZE:
        return _open_body(ciphertext, released[0], released[1:])
    if len(released) != BODY_KEY_SIZE:
        return None
    counts = range(min((len(ciphertext) - _SLOTS_AT - _MAC) // _SLOT, 255) + 1)
    opened = (_open_body(ciphertext, count, released) for count in counts)
    return next((plaintext for plaintext in opened if plaintext is not None), None)


def _shared(secret: bytes, public: bytes) -> bytes | None:
    """The X25519 secret of the two; None for the points that libsodium refuses."""
    try:
        return bindings.crypto_scalarmult(secret, public)
    except (CryptoError, RuntimeError):
        return None


def _open_body(ciphertext: bytes, count: int, key: bytes) -> bytes | None:
    return _open(ciphertext[_SLOTS_AT + count * _SLOT :], ciphertext[:NONCE_SIZE], key)


def _open(box: bytes, nonce: bytes, key: bytes) -> bytes | None:
    if len(box) < _MAC or len(nonce) != NONCE_SIZE:
        return None
    try:
        return bindings.crypto_secretbox_open(box, nonce, key)
    except (CryptoError, ValueError):
        return None


# --- text forms -------------------------------------------------------------------------------------------------------


def to_text(ciphertext: bytes) -> str:
    """The content of a classic message: base64, then `.box`."""
    return binascii.b2a_base64(ciphertext, newline=False).decode() + SUFFIX


def from_text(content: str) -> bytes | None:
    """The ciphertext in a content string; None for anything but base64 followed by `.box`."""
    return _decoded(content[: -len(SUFFIX)]) if content.endswith(SUFFIX) else None


def released_key(text: str) -> bytes | None:
    """The key in an `?unbox=` link; plus signs that became blanks on the way are put right. None for what is none."""
    key = _decoded(text.replace(" ", "+").removesuffix(".boxs"))
    return key if key is not None and len(key) in (BODY_KEY_SIZE, 1 + BODY_KEY_SIZE) else None


def _decoded(text: str) -> bytes | None:
    try:
        return binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (ValueError, binascii.Error):
        return None
