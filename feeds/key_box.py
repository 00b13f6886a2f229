"""A key file that only a passphrase opens: argon2id, then secretbox (docs/backup.md has the format).

    {"type": "ssb-key-box", "version": 1, "id": "@….ed25519",
     "kdf": {"name": "argon2id", "salt": 16 bytes, "operations": 4, "memory": 67108864},
     "cipher": "xsalsa20-poly1305", "nonce": 24 bytes, "box": 80 bytes}

Bytes are base64. The box holds the 64-byte secret key. `id` stands outside so that a program can say whose key it is
without the passphrase; it is compared with the key when the box is opened. What a file claims that opening it costs is
bounded before anything is computed.
"""

import binascii
import json
import re
import unicodedata
from typing import Final, NamedTuple

from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id
from nacl.secret import SecretBox

from feeds.errors import InvalidKey, InvalidRef
from feeds.keys import Keypair
from feeds.refs import FeedRef

__all__ = ["DEFAULT_COST", "NONCE_SIZE", "SALT_SIZE", "Cost", "KeyBox", "parse", "seal"]

TYPE: Final = "ssb-key-box"
VERSION: Final = 1
SALT_SIZE: Final = 16
NONCE_SIZE: Final = 24
BOX_SIZE: Final = 80
LARGEST: Final = 16 * 1024
"""Characters of such a file."""
MOST_OPERATIONS: Final = 16
MOST_MEMORY: Final = 256 * 1024 * 1024
LEAST_MEMORY: Final = 8 * 1024
LONGEST_PASSPHRASE: Final = 1024


class Cost(NamedTuple):
    """What one try of a passphrase costs: passes over the memory, and bytes of it."""

    operations: int
    memory: int


DEFAULT_COST: Final = Cost(4, 64 * 1024 * 1024)
"""A few tenths of a second, and it fits into a small machine."""


class KeyBox(NamedTuple):
    """A box that was read and not yet opened."""

    id: str
    """Whose key it says it is."""
    salt: bytes
    cost: Cost
    nonce: bytes
    box: bytes

    def open(self, passphrase: str) -> Keypair:
        """The identity inside. Takes the time that `cost` says. Raises InvalidKey."""
        try:
            secret = SecretBox(_key(passphrase, self.salt, self.cost)).decrypt(self.box, self.nonce)
        except CryptoError:
            raise InvalidKey("the passphrase is wrong, or the file is damaged") from None
        keypair = Keypair(secret)
        if keypair.id != self.id:
            raise InvalidKey("the file is damaged: the key in it is not that of its id")
        return keypair


def seal(keypair: Keypair, passphrase: str, *, salt: bytes, nonce: bytes, cost: Cost = DEFAULT_COST) -> str:
    """The text of the file. salt, nonce -- fresh random bytes. Raises InvalidKey for a passphrase that will not do."""
    if not passphrase:
        raise InvalidKey("the passphrase is empty")
    box = SecretBox(_key(passphrase, salt, cost)).encrypt(keypair.secret, nonce).ciphertext
    fields = {
        "type": TYPE,
        "version": VERSION,
        "id": keypair.id,
        "kdf": {"name": "argon2id", "salt": _base64(salt), "operations": cost.operations, "memory": cost.memory},
        "cipher": "xsalsa20-poly1305",
        "nonce": _base64(nonce),
        "box": _base64(box),
    }
    return json.dumps(fields, indent=2) + "\n"


_COMMENT: Final = re.compile(r"^\s*#[^\n]*$", re.MULTILINE)


def parse(text: str) -> KeyBox | None:
    """The box in a text; None when it is something else, as a plain key file. Raises InvalidKey for a damaged one.

    Lines that begin with `#` are comments.
    """
    if len(text) > LARGEST:
        return None
    try:
        fields = json.loads(_COMMENT.sub("", text))
    except (ValueError, RecursionError):
        if TYPE in text:
            raise InvalidKey("the encrypted key file is damaged: it is not JSON") from None
        return None
    if not isinstance(fields, dict) or fields.get("type") != TYPE:
        return None
    if fields.get("version") != VERSION:
        raise InvalidKey("the encrypted key file is of a later version; a newer program reads it")
    kdf = fields.get("kdf")
    if not isinstance(kdf, dict) or kdf.get("name") != "argon2id" or fields.get("cipher") != "xsalsa20-poly1305":
        raise InvalidKey("the encrypted key file is damaged, or made in a way that is not known here")
    return KeyBox(
        _id(fields.get("id")),
        _bytes(kdf.get("salt"), SALT_SIZE, "salt"),
        Cost(
            _number(kdf.get("operations"), 1, MOST_OPERATIONS, "operations"),
            _number(kdf.get("memory"), LEAST_MEMORY, MOST_MEMORY, "memory"),
        ),
        _bytes(fields.get("nonce"), NONCE_SIZE, "nonce"),
        _bytes(fields.get("box"), BOX_SIZE, "box"),
    )


def _key(passphrase: str, salt: bytes, cost: Cost) -> bytes:
    """The same text typed on two keyboards is one passphrase: it is normalised (NFKC)."""
    try:
        data = unicodedata.normalize("NFKC", passphrase).encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidKey("the passphrase is not text") from None
    if len(data) > LONGEST_PASSPHRASE:
        raise InvalidKey(f"the passphrase is longer than {LONGEST_PASSPHRASE} bytes")
    try:
        return bytes(argon2id.kdf(SecretBox.KEY_SIZE, data, salt, opslimit=cost.operations, memlimit=cost.memory))
    except (CryptoError, RuntimeError, MemoryError):
        raise InvalidKey(f"there is not enough memory: {cost.memory // 1024} KiB are needed") from None


def _id(value: object) -> str:
    try:
        if isinstance(value, str) and str(FeedRef.parse(value)) == value:
            return value
    except InvalidRef:
        pass
    raise InvalidKey("the encrypted key file is damaged: member `id` is no id of a feed")


def _bytes(value: object, size: int, name: str) -> bytes:
    if isinstance(value, str) and len(value) < 4 * size:
        try:
            data = binascii.a2b_base64(value.encode("ascii"), strict_mode=True)
        except (ValueError, binascii.Error):
            data = b""
        if len(data) == size:
            return data
    raise InvalidKey(f"the encrypted key file is damaged: member `{name}` is not {size} bytes of base64")


def _number(value: object, least: int, most: int, name: str) -> int:
    if type(value) is int and least <= value <= most:
        return value
    raise InvalidKey(f"the encrypted key file asks for `{name}` beyond what is taken here, {least} to {most}")


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()
