"""Encrypted blobs: `&…=.sha256?unbox=KEY.boxs` in a link gives the key to a blob that is a box stream.

Box stream as in protocol.md section 5, with the nonce starting at 24 zeros, as the deployed programs make them. The key
is the hash of the content, so it is used for one blob only. Pure.
"""

import base64
import binascii
from typing import Final

from replication.box_stream import Opener, Sealer

__all__ = ["box", "parse_key", "unbox"]

_NONCE: Final = bytes(24)
_SUFFIX: Final = ".boxs"


def parse_key(text: str) -> bytes | None:
    """The key in a link's query: base64 of 32 bytes with or without `.boxs`; None for anything else."""
    plain = text.replace(" ", "+").removesuffix(_SUFFIX)
    try:
        key = base64.b64decode(plain, validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == 32 else None


def unbox(data: bytes, key: bytes) -> bytes | None:
    """The content of a boxed blob; None when the key does not open all of it."""
    opener = Opener(key, _NONCE)
    content = opener.open(data)
    return content if opener.end_of_input() is None else None


def box(content: bytes, key: bytes) -> bytes:
    """A boxed blob."""
    sealer = Sealer(key, _NONCE)
    return bytes(sealer.seal(content)) + sealer.goodbye()
