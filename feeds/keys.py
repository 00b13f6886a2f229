"""Ed25519 key pairs, signatures, and the text of the key file (protocol.md section 3).

libsodium's verdict on a signature is ours and no other library's: they disagree at the edges (safety.md). This is the
only module that calls it for signing. Where the network has a signing key (caps.sign, "HMAC key"), every signature
covers HMAC-SHA-512-256(key, bytes) in place of the bytes.
"""

import binascii
import hmac as _hmac
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import _cffi_backend
import nacl._sodium  # type: ignore[import-not-found]
from nacl import bindings
from nacl.exceptions import CryptoError

from feeds.errors import InvalidKey

__all__ = [
    "Keypair",
    "Signed",
    "format_key_file",
    "hmac",
    "parse_hmac_key",
    "parse_key_file",
    "parse_network_key",
    "public_from_id",
    "sign",
    "to_x25519_public",
    "to_x25519_secret",
    "verify",
    "verify_many",
]

PUBLIC_SIZE: Final = 32
SEED_SIZE: Final = 32
SECRET_SIZE: Final = 64
SIGNATURE_SIZE: Final = 64

Signed: TypeAlias = tuple[bytes, bytes, bytes]
"""Signature (64 bytes), what it covers, public key (32 bytes)."""


def _find_verify() -> Any:
    """libsodium's crypto_sign_verify_detached, called without copying and with the GIL released.

    PyNaCl binds only crypto_sign_open, which wants signature and text in one buffer and returns another copy. The
    detached call is in the same library; where that does not export it, the bound one serves.
    Its type is put together here: letting cffi parse a declaration would take a twentieth of a second of every start.
    """
    backend: Any = _cffi_backend
    text = backend.new_pointer_type(backend.new_primitive_type("unsigned char"))
    length, verdict = map(backend.new_primitive_type, ("unsigned long long", "int"))
    verify = backend.new_function_type((text, text, length, text), verdict)
    try:
        return backend.load_library(nacl._sodium.__file__).load_function(verify, "crypto_sign_verify_detached")
    except (AttributeError, OSError):
        return _verify_by_open


def _verify_by_open(signature: bytes, message: bytes, _length: int, public: bytes) -> int:
    try:
        bindings.crypto_sign_open(signature + message, public)
    except (CryptoError, ValueError):
        return -1
    return 0


_verify_detached: Final = _find_verify()


@dataclass(frozen=True, slots=True)
class Keypair:
    """An identity. `secret` is libsodium's 64 bytes (seed, then public key) and never shows in its repr."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != SECRET_SIZE:
            raise InvalidKey(f"a secret key has {SECRET_SIZE} bytes, this one has {len(self.secret)}")
        if bindings.crypto_sign_seed_keypair(self.secret[:SEED_SIZE])[0] != self.secret[SEED_SIZE:]:
            raise InvalidKey("the two halves of the secret key disagree")

    @classmethod
    def generate(cls, seed: bytes | None = None) -> "Keypair":
        """The key pair of a 32-byte seed, or of fresh randomness."""
        if seed is None:
            return cls(bindings.crypto_sign_keypair()[1])
        if len(seed) != SEED_SIZE:
            raise InvalidKey(f"a seed has {SEED_SIZE} bytes, this one has {len(seed)}")
        return cls(bindings.crypto_sign_seed_keypair(seed)[1])

    @property
    def public(self) -> bytes:
        return self.secret[SEED_SIZE:]

    @property
    def seed(self) -> bytes:
        return self.secret[:SEED_SIZE]

    @property
    def id(self) -> str:
        """Classic feed id."""
        return f"@{_base64(self.public)}.ed25519"


def sign(keypair: Keypair, data: bytes, hmac_key: bytes | None = None) -> bytes:
    """64-byte signature of data, or of its HMAC where the network has a signing key."""
    covered = data if hmac_key is None else hmac(hmac_key, data)
    return bindings.crypto_sign(covered, keypair.secret)[:SIGNATURE_SIZE]


def verify(public: bytes, data: bytes, signature: bytes, hmac_key: bytes | None = None) -> bool:
    """Whether signature covers data. Wrong lengths are a wrong signature, never an exception."""
    if len(public) != PUBLIC_SIZE or len(signature) != SIGNATURE_SIZE:
        return False
    covered = bytes(data) if hmac_key is None else hmac(hmac_key, data)
    return bool(_verify_detached(bytes(signature), covered, len(covered), bytes(public)) == 0)


def verify_many(items: Iterable[Signed]) -> int:
    """Index of the first item whose signature is wrong, -1 when there is none.

    A tight loop for a worker thread: libsodium runs without the GIL, and little else happens between two calls.
    """
    check = _verify_detached
    for index, (signature, covered, public) in enumerate(items):
        # The lengths guard memory: the C function reads 64 and 32 bytes whatever it is given.
        if len(signature) != 64 or len(public) != 32 or check(signature, covered, len(covered), public) != 0:
            return index
    return -1


def hmac(key: bytes, data: bytes) -> bytes:
    """NaCl's crypto_auth: the first 32 bytes of HMAC-SHA-512."""
    return _hmac.digest(key, data, "sha512")[:32]


def to_x25519_public(public: bytes) -> bytes:
    """The X25519 public key of an Ed25519 one. Raises InvalidKey for bytes that are no point of the main subgroup."""
    if len(public) != PUBLIC_SIZE:
        raise InvalidKey(f"a public key has {PUBLIC_SIZE} bytes, this one has {len(public)}")
    try:
        return bindings.crypto_sign_ed25519_pk_to_curve25519(public)
    except (CryptoError, RuntimeError):
        raise InvalidKey("the public key is no usable point of the curve") from None


def to_x25519_secret(keypair: Keypair) -> bytes:
    """The X25519 secret key of an Ed25519 key pair."""
    return bindings.crypto_sign_ed25519_sk_to_curve25519(keypair.secret)


# --- text forms -------------------------------------------------------------------------------------------------------

_KEY_TEXT = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()


def public_from_id(feed: str) -> bytes:
    """The public key inside a classic feed id, which the caller has checked to be one."""
    return binascii.a2b_base64(feed[1:45])


def parse_hmac_key(text: str) -> bytes:
    """The 32 bytes of a signing key (caps.sign): canonical base64 and nothing else. Raises InvalidKey."""
    return _parse_key32(text, "the signing key (HMAC key)")


def parse_network_key(text: str) -> bytes:
    """The 32 bytes of a network key (caps.shs): canonical base64 and nothing else. Raises InvalidKey."""
    return _parse_key32(text, "the network key")


def _parse_key32(text: object, what: str) -> bytes:
    if not isinstance(text, str):
        raise InvalidKey(f"{what} must be a string of base64")
    if not _KEY_TEXT.fullmatch(text):
        raise InvalidKey(f"{what} must be the canonical base64 of 32 bytes: 44 characters, the last of them '='")
    return binascii.a2b_base64(text)


# --- key file ---------------------------------------------------------------------------------------------------------

_COMMENT = re.compile(r"\s*#[^\n]*")
_CURVE: Final = "ed25519"
_SUFFIX: Final = ".ed25519"


def parse_key_file(text: str) -> Keypair:
    """The identity in the text of a key file. Raises InvalidKey with what is wrong and what to do, never with the key.

    Comments run from `#` to the end of the line, anywhere. What is left is the JSON object {curve, public, private, id}
    or, in files of the earliest versions, the private key alone on a line. All parts must agree.
    """
    body = _COMMENT.sub("", text).strip()
    if not body:
        raise InvalidKey("the key file holds no key, only comments or nothing; restore it from a backup")
    if not body.startswith(("{", "[", '"')):
        return Keypair(_secret_bytes(body))
    try:
        # As the deployed readers do: the lines of the object are joined, so a line break may stand anywhere.
        fields = json.loads(body.replace("\r", "").replace("\n", ""))
    except (ValueError, RecursionError):
        raise InvalidKey("the key file is damaged: what it holds beside comments is not JSON") from None
    if not isinstance(fields, dict):
        raise InvalidKey("the key file is damaged: it holds no object {curve, public, private, id}")
    if fields.get("curve", _CURVE) != _CURVE:
        raise InvalidKey(f"the key file is for another curve; only {_CURVE} is known")
    keypair = Keypair(_secret_bytes(fields.get("private")))
    _check_agreement(keypair, fields)
    return keypair


def _secret_bytes(text: object) -> bytes:
    if not isinstance(text, str):
        raise InvalidKey("the key file holds no private key (member `private`)")
    try:
        secret = binascii.a2b_base64(text.strip().removesuffix(_SUFFIX).encode("ascii"), strict_mode=True)
    except (ValueError, binascii.Error):
        raise InvalidKey("the private key in the key file is not base64") from None
    if len(secret) != SECRET_SIZE:
        raise InvalidKey(f"the private key in the key file has {len(secret)} bytes in place of {SECRET_SIZE}")
    return secret


def _check_agreement(keypair: Keypair, fields: dict[str, object]) -> None:
    public = keypair.id[1:]
    given = fields.get("public")
    if given is not None and (not isinstance(given, str) or given.removesuffix(_SUFFIX) + _SUFFIX != public):
        raise InvalidKey("the key file is damaged: its public key does not belong to its private key")
    name = fields.get("id")
    if name is not None and (not isinstance(name, str) or name.removeprefix("@") != public):
        raise InvalidKey("the key file is damaged: its id does not belong to its private key")


_FILE_TEXT: Final = """\
# This is the secret of your identity. Whoever has it can speak in your name.
# Never show it to anyone, and never use it on two machines: two messages with
# the same sequence break your feed for good. Keep a copy of it in a safe place.

%s

# Your public id, which you may share:
#
#   %s
"""


def format_key_file(keypair: Keypair) -> str:
    """The text of a key file in the classic form, which every other implementation reads too."""
    fields = {
        "curve": _CURVE,
        "public": keypair.id[1:],
        "private": _base64(keypair.secret) + _SUFFIX,
        "id": keypair.id,
    }
    return _FILE_TEXT % (json.dumps(fields, indent=2), keypair.id)
