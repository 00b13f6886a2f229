"""The keys that can open private messages, and what they open (protocol.md section 12).

Callers hand over a content string and need not know how it was encrypted: the suffix says that, and each kind of box
has its branch in `KeyRing.open`. Keys have ids that may be stored and shown; the keys themselves stay in here.
"""

import binascii
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from feeds import canonical_json
from feeds.errors import InvalidJson
from feeds.keys import Keypair, to_x25519_secret
from feeds.message import JsonValue
from feeds.private import box1

__all__ = ["KeyRing", "Opened"]


@dataclass(frozen=True, slots=True)
class Opened:
    """A content that was encrypted. Its repr shows nothing of it: a log or a traceback may."""

    content: JsonValue = field(repr=False)
    """Never None."""
    text: bytes = field(repr=False)
    """The same as compact JSON, in V8's spelling."""
    key_id: str
    """Which key opened it; empty for a key that was released to us for this message alone."""
    released: bytes = field(repr=False)
    """What to give away to release this one message."""

    @property
    def unbox(self) -> str:
        """The same as the value of `?unbox=`."""
        return binascii.b2a_base64(self.released, newline=False).decode()


class _BoxKey(NamedTuple):
    id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"_BoxKey({self.id})"


class KeyRing:
    """Every key of ours. Opening needs no state, so any thread may do it."""

    def __init__(self, keypairs: Iterable[Keypair]) -> None:
        """keypairs -- identities whose private messages can be read; the id of such a key is the feed id."""
        self._box1 = tuple(_BoxKey(keypair.id, to_x25519_secret(keypair)) for keypair in keypairs)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of all keys."""
        return tuple(key.id for key in self._box1)

    def without(self, ids: Iterable[str]) -> "KeyRing":
        """A ring that lacks some keys: for trying only the new ones."""
        left = set(ids)
        ring = KeyRing(())
        ring._box1 = tuple(key for key in self._box1 if key.id not in left)
        return ring

    def open(self, content: str) -> Opened | None:
        """What is in an encrypted content, None when no key of ours opens it or what comes out is not JSON.

        Takes any string; never raises. Costs one scalar multiplication a key, about 50 microseconds.
        """
        kind = content[content.rfind(".") :]
        match kind:
            case box1.SUFFIX:
                return self._open_box1(content)
            case _:  # later kinds of box (box2) have their place here
                return None

    def _open_box1(self, content: str) -> Opened | None:
        ciphertext = box1.from_text(content)
        if ciphertext is None:
            return None
        for key in self._box1:
            opened = box1.unbox(ciphertext, key.secret)
            if opened is not None:
                return _read(opened.plaintext, key.id, opened.released)
        return None

    @staticmethod
    def open_released(content: str, released: str) -> Opened | None:
        """What is in a content of which somebody released the key (`?unbox=`); None when that key does not open it."""
        ciphertext, key = box1.from_text(content), box1.released_key(released)
        if ciphertext is None or key is None:
            return None
        plaintext = box1.unbox_released(ciphertext, key)
        return None if plaintext is None else _read(plaintext, "", key)


def _read(plaintext: bytes, key_id: str, released: bytes) -> Opened | None:
    """The JSON in a plaintext, read as JavaScript does: bytes that are no UTF-8 become U+FFFD."""
    try:
        content = canonical_json.parse(plaintext.decode("utf-8", "replace"))
    except InvalidJson:
        return None
    if content is None:
        return None
    return Opened(content, canonical_json.compact(content), key_id, released)
