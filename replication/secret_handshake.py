"""The secret handshake as two pure machines: bytes in, bytes out (protocol.md section 4).

=====  =====  ==========================================================================
step   bytes  content
=====  =====  ==========================================================================
1 C→S     64  ``HMAC(N, Ea) ‖ Ea``                                       *hello*
2 S→C     64  ``HMAC(N, Eb) ‖ Eb``                                       *hello*
3 C→S    112  ``box(K3, sign_a(N ‖ B ‖ H(s1)) ‖ A)``                     *client-authenticate*
4 S→C     80  ``box(K4, sign_b(N ‖ sigA ‖ A ‖ H(s1)))``                  *server-accept*
=====  =====  ==========================================================================

N is the network key, (A, a) and (B, b) the long-term keys of client and server, (Ea, ea) and
(Eb, eb) fresh X25519 keys. The client knows B beforehand, and A travels only in a box that needs b
to open, so a client never shows itself to a wrong server.

A machine is told the fresh secret, so it needs no randomness. It raises ``HandshakeFailed`` at the
first thing that is wrong and is dead from then on; the driver closes the socket without a word.
Bytes that arrive behind the last message belong to the box stream and are kept in ``leftover``.
"""

import hashlib
import hmac
from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from nacl.bindings import crypto_scalarmult, crypto_scalarmult_base, crypto_secretbox, crypto_secretbox_open
from nacl.exceptions import CryptoError

from feeds.errors import InvalidKey
from feeds.keys import Keypair, sign, to_x25519_public, to_x25519_secret, verify
from replication.errors import HandshakeFailed, HandshakeTimeout

MAIN_NETWORK = bytes.fromhex("d4a1cb88a66f02f8db635ce26441cc5dac1b08420ceaac230839b755845a9ffb")
"""The network key (caps.shs) of the main SSB network."""

EPHEMERAL_SECRET_SIZE = 32
_HELLO_SIZE = 64
_AUTHENTICATE_SIZE = 112
_ACCEPT_SIZE = 80
_ZERO_NONCE = bytes(24)


class Step(StrEnum):
    """Where a handshake stands; the names appear in errors."""

    HELLO = "hello"
    CLIENT_AUTHENTICATE = "client-authenticate"
    SERVER_ACCEPT = "server-accept"


class SessionKeys(NamedTuple):
    """What both sides know afterwards: keys and first nonces of the two box streams, and who the peer is."""

    send_key: bytes
    send_nonce: bytes
    receive_key: bytes
    receive_nonce: bytes
    remote_public: bytes


class Handshake(ABC):
    """What both machines share: collecting bytes until a message is whole, and the end states."""

    def __init__(self, keypair: Keypair, network_key: bytes, ephemeral_secret: bytes) -> None:
        if len(network_key) != 32 or len(ephemeral_secret) != EPHEMERAL_SECRET_SIZE:
            raise ValueError("network key and ephemeral secret are 32 bytes each")
        self._keypair = keypair
        self._network_key = network_key
        self._ephemeral_secret = ephemeral_secret
        self._ephemeral_public = crypto_scalarmult_base(ephemeral_secret)
        self._own_mac = _hello_mac(network_key, self._ephemeral_public)
        self._buffer = bytearray()
        self._expected = _HELLO_SIZE
        self._failed = False
        self.step = Step.HELLO
        self.keys: SessionKeys | None = None

    @property
    def leftover(self) -> bytes:
        """Bytes received after the handshake was complete: the start of the box stream."""
        return bytes(self._buffer) if self.keys is not None else b""

    def receive(self, data: bytes | bytearray | memoryview) -> bytes:
        """Take what arrived, in any pieces; returns what must be sent (often nothing).

        Raises ``HandshakeFailed``; the connection must then be closed without sending anything.
        """
        if self._failed:
            raise self._fail("the handshake has already failed")
        self._buffer += data
        reply = b""
        while self.keys is None and len(self._buffer) >= self._expected:
            message = bytes(self._buffer[: self._expected])
            del self._buffer[: self._expected]
            reply += self._take(message)
        return reply

    def end_of_input(self) -> HandshakeFailed:
        """The peer closed before the handshake was complete; returns the error that says what that means."""
        return self._fail(self._meaning_of_silence())

    def timed_out(self) -> HandshakeFailed:
        """The deadline passed; returns the error to raise."""
        self._failed = True
        return HandshakeTimeout(self.step.value, "the peer did not answer in time")

    @abstractmethod
    def _take(self, message: bytes) -> bytes: ...

    @abstractmethod
    def _meaning_of_silence(self) -> str: ...

    def _fail(self, reason: str) -> HandshakeFailed:
        self._failed = True
        return HandshakeFailed(self.step.value, reason)

    def _open_hello(self, message: bytes, wrong: str) -> tuple[bytes, bytes]:
        mac, ephemeral = message[:32], message[32:]
        if not hmac.compare_digest(mac, _hello_mac(self._network_key, ephemeral)):
            raise self._fail(wrong)
        if hmac.compare_digest(ephemeral, self._ephemeral_public):
            raise self._fail("the peer sends our own hello back")
        return mac, ephemeral

    def _shared(self, secret: bytes, public: bytes) -> bytes:
        """X25519, refusing points of small order (libsodium reports the all-zero result)."""
        try:
            shared = crypto_scalarmult(secret, public)
        except (CryptoError, TypeError, ValueError, RuntimeError):
            raise self._fail("the peer's key is a weak point") from None
        if not any(shared):
            raise self._fail("the peer's key is a weak point")
        return shared

    def _curve_key(self, public: bytes) -> bytes:
        try:
            return to_x25519_public(public)
        except InvalidKey:
            raise self._fail("the peer's public key is not usable") from None

    def _unbox(self, key: bytes, box: bytes, wrong: str) -> bytes:
        try:
            return crypto_secretbox_open(box, _ZERO_NONCE, key)
        except (CryptoError, TypeError, ValueError):
            raise self._fail(wrong) from None

    def _complete(self, last_box_key: bytes, remote_mac: bytes, remote_public: bytes) -> None:
        session = _sha256(last_box_key)
        self.keys = SessionKeys(
            send_key=_sha256(session, remote_public),
            send_nonce=remote_mac[:24],
            receive_key=_sha256(session, self._keypair.public),
            receive_nonce=self._own_mac[:24],
            remote_public=remote_public,
        )


class ClientHandshake(Handshake):
    """The dialling side. Send ``hello`` first, then feed what arrives to ``receive``."""

    def __init__(
        self, keypair: Keypair, server_public: bytes, ephemeral_secret: bytes, network_key: bytes = MAIN_NETWORK
    ) -> None:
        super().__init__(keypair, network_key, ephemeral_secret)
        self._server_public = server_public
        self._box_key = b""
        self._expected_signature_of = b""
        self._server_mac = b""

    @property
    def hello(self) -> bytes:
        """Message 1, to be sent at once."""
        return self._own_mac + self._ephemeral_public

    def _take(self, message: bytes) -> bytes:
        if self.step is Step.HELLO:
            return self._authenticate(message)
        return self._check_accept(message)

    def _authenticate(self, message: bytes) -> bytes:
        self._server_mac, server_ephemeral = self._open_hello(
            message, "the answer to our hello is not of our network: another network key, or not an SSB node"
        )
        network, server = self._network_key, self._server_public
        s1 = self._shared(self._ephemeral_secret, server_ephemeral)
        s2 = self._shared(self._ephemeral_secret, self._curve_key(server))
        s3 = self._shared(to_x25519_secret(self._keypair), server_ephemeral)
        hashed = _sha256(s1)
        signature = sign(self._keypair, network + server + hashed)
        self._box_key = _sha256(network, s1, s2, s3)
        self._expected_signature_of = network + signature + self._keypair.public + hashed
        self.step = Step.SERVER_ACCEPT
        self._expected = _ACCEPT_SIZE
        return crypto_secretbox(signature + self._keypair.public, _ZERO_NONCE, _sha256(network, s1, s2))

    def _check_accept(self, message: bytes) -> bytes:
        wrong = "the server could not prove that it holds the key of the address"
        signature = self._unbox(self._box_key, message, wrong)
        if not verify(self._server_public, self._expected_signature_of, signature):
            raise self._fail(wrong)
        self._complete(self._box_key, self._server_mac, self._server_public)
        return b""

    def _meaning_of_silence(self) -> str:
        if self.step is Step.HELLO:
            return "closed after our hello: the peer uses another network key, or is not an SSB node"
        return (
            "closed after we showed who we are: the peer does not let us in, or its key is not the one of the address"
        )


class ServerHandshake(Handshake):
    """The answering side. ``authorize(public key)`` may turn an authenticated caller away without a word."""

    def __init__(
        self,
        keypair: Keypair,
        ephemeral_secret: bytes,
        network_key: bytes = MAIN_NETWORK,
        authorize: Callable[[bytes], bool] = lambda _public: True,
    ) -> None:
        super().__init__(keypair, network_key, ephemeral_secret)
        self._authorize = authorize
        self._client_mac = b""
        self._client_ephemeral = b""
        self._s1 = b""

    def _take(self, message: bytes) -> bytes:
        if self.step is Step.HELLO:
            return self._answer_hello(message)
        return self._accept(message)

    def _answer_hello(self, message: bytes) -> bytes:
        self._client_mac, self._client_ephemeral = self._open_hello(
            message, "the caller's hello is not of our network: another network key, or not an SSB node"
        )
        self._s1 = self._shared(self._ephemeral_secret, self._client_ephemeral)
        self.step = Step.CLIENT_AUTHENTICATE
        self._expected = _AUTHENTICATE_SIZE
        return self._own_mac + self._ephemeral_public

    def _accept(self, message: bytes) -> bytes:
        network, own = self._network_key, self._keypair
        s2 = self._shared(to_x25519_secret(own), self._client_ephemeral)
        opened = self._unbox(
            _sha256(network, self._s1, s2), message, "the caller expects another key than ours at this address"
        )
        signature, client_public = opened[:64], opened[64:]
        hashed = _sha256(self._s1)
        if not verify(client_public, network + own.public + hashed, signature):
            raise self._fail("the caller does not hold the key it claims")
        s3 = self._shared(self._ephemeral_secret, self._curve_key(client_public))
        box_key = _sha256(network, self._s1, s2, s3)
        self.step = Step.SERVER_ACCEPT
        if not self._authorize(client_public):
            raise self._fail("the caller is not let in")
        accept = sign(own, network + signature + client_public + hashed)
        self._complete(box_key, self._client_mac, client_public)
        return crypto_secretbox(accept, _ZERO_NONCE, box_key)

    def _meaning_of_silence(self) -> str:
        if self.step is Step.HELLO:
            return "closed before its hello was complete"
        return "closed after our hello: the caller expects another key, or another network"


def _hello_mac(network_key: bytes, ephemeral: bytes) -> bytes:
    return hmac.digest(network_key, ephemeral, "sha512")[:32]


def _sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()
