"""What can go wrong between this node and its peers, and whose fault it is.

::

    ReplicationError
    ├── LocalError                 our side, or the person using it
    │   ├── InvalidAddress         a text that is no multiserver address (also a ValueError)
    │   ├── InvalidInvite          a text that is no invite code (also a ValueError)
    │   ├── InvalidAlias           an alias, or a link of one, that cannot be used (also a ValueError)
    │   ├── NoPublicAddress        this node knows no address to tell others (also an InvalidAddress)
    │   ├── TooManyInvites         some must be revoked first
    │   ├── InvalidBundle          a file that is no bundle, or damaged from here on (also a ValueError)
    │   ├── AddressInUse           the port or socket path to listen on is taken
    │   └── RemoteVisible          raised by a method's handler: its text may be shown to the caller
    └── RemoteError                the peer, or the network between
        ├── DialFailed             no connection; ``step`` and ``reason`` for a person
        │   ├── DialTimeout        ... because it took too long
        │   └── HandshakeFailed    ... because the secret handshake stopped (dialling or answering)
        │       └── HandshakeTimeout   ... its deadline passed (also a DialTimeout)
        ├── BoxStreamError         damaged, replayed or cut off ciphertext
        ├── RpcProtocolError       broken muxrpc framing, or a limit was passed
        ├── RemoteCallError        the peer answered a call with an error
        ├── InviteRefused          the pub does not take our invite: its words
        ├── RoomFailed             a room, or its web page, did not do what it was asked
        ├── StreamEnded            sending on a stream that the peer has ended
        └── ConnectionClosed       the connection is gone; pending calls fail with it
"""


class ReplicationError(Exception):
    """Base of every error this package lets out."""


class LocalError(ReplicationError):
    """Our side or the person using it must change something."""


class RemoteError(ReplicationError):
    """The peer, or the network, did not do its part; ``limit`` names the one that it passed, if that was it."""

    def __init__(self, *args: object, limit: str = "") -> None:
        super().__init__(*args)
        self.limit = limit


class InvalidAddress(LocalError, ValueError):
    """The text is not a multiserver address we understand; the message says which part."""


class InvalidInvite(LocalError, ValueError):
    """The text is not an invite code."""


class NoPublicAddress(InvalidAddress):
    """Nobody told this node under which address others reach it; the message says what to do."""


class TooManyInvites(LocalError):
    """No more invites can be made."""


class InvalidBundle(LocalError, ValueError):
    """The bytes are no bundle, or a damaged one; what was read before stands."""


class InvalidAlias(LocalError, ValueError):
    """The text is no alias, or the signature in a link is not its owner's."""


class AddressInUse(LocalError):
    """Another process holds the port or the socket path."""


class RemoteVisible(LocalError):
    """A refusal whose text may be sent to the caller; any other error of a handler is hidden."""


class DialFailed(RemoteError):
    """No authenticated connection came about.

    ``step`` names where it stopped (``connect``, or a step of the handshake), ``reason`` is for a person.
    """

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(f"{step}: {reason}")
        self.step = step
        self.reason = reason


class DialTimeout(DialFailed):
    """The peer did not answer in time."""


class HandshakeFailed(DialFailed):
    """The secret handshake stopped at ``step`` because of ``reason``."""


class HandshakeTimeout(HandshakeFailed, DialTimeout):
    """The handshake was not complete at its deadline."""


class BoxStreamError(RemoteError):
    """The encrypted stream was damaged or cut; nothing of the damaged packet was delivered."""


class RpcProtocolError(RemoteError):
    """The peer's muxrpc frames cannot be followed any further."""


class RemoteCallError(RemoteError):
    """The peer answered a call or ended a stream with an error: ``name`` and ``message`` are its words."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
        self.message = message


class InviteRefused(RemoteError):
    """The pub did not take our invite; the text has its words."""


class RoomFailed(RemoteError):
    """A room, or its web page, did not do what it was asked; the text is for a person."""


class StreamEnded(RemoteError):
    """The peer has ended this stream, so nothing more can be sent on it."""


class ConnectionClosed(RemoteError):
    """The connection ended, by either side or by a cut."""
