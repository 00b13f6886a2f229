"""Multiserver addresses: how a peer can be reached and who it must prove to be (protocol.md section 2.3).

``addresses = address *(";" address)``, ``address = protocol *("~" protocol)``,
``protocol = name *(":" data)``. Inside data ``! : ; ~`` are written with a ``!`` before them. The first
protocol carries the bytes (``net:HOST:PORT``, ``unix:PATH``, ``ws://HOST:PORT`` ...), the second tells
who is there (``shs:KEY``, or ``shs:KEY:SEED`` when the dialler is to use the seed's identity, or
``noauth``). The old form ``HOST:PORT:@KEY.ed25519`` is read too.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from replication.errors import InvalidAddress, InvalidInvite

DEFAULT_PORT = 8008
_NAME = re.compile(r"[a-z][a-z0-9-]+")
_BLANK = re.compile(r"\s")
_KEY = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")
_LEGACY = re.compile(r"(?P<host>.+):(?P<port>[0-9]*):@(?P<key>[A-Za-z0-9+/]{43}=)\.ed25519")
_LEGACY_INVITE = re.compile(_LEGACY.pattern + r"~(?P<seed>[A-Za-z0-9+/]{43}=)")
_MAX_LENGTH = 4096
_WEB_PORTS = {"ws": 80, "wss": 443}
_URL = re.compile(r"//(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~%/-]*)?")


class Protocol(NamedTuple):
    """One layer of an address: ``net`` with ``("localhost", "8008")``."""

    name: str
    data: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Address:
    """One way to reach one peer. ``data`` holds the transport's own parts, unescaped."""

    transport: str
    data: tuple[str, ...]
    public: bytes | None = None
    seed: bytes | None = None

    @classmethod
    def net(cls, host: str, port: int, public: bytes | None, seed: bytes | None = None) -> "Address":
        """A TCP address."""
        return cls("net", (host, str(port)), public, seed)

    @property
    def host(self) -> str:
        """Host name or address; an IPv6 address has no brackets. For a unix socket its path."""
        if self.transport in _WEB_PORTS:
            return self._url.hostname or ""
        if self.transport in ("net", "onion"):
            return ":".join(self.data[:-1])
        return ":".join(self.data)

    @property
    def port(self) -> int:
        """TCP port; 0 where the transport has none."""
        if self.transport in _WEB_PORTS:
            return self._url.port or _WEB_PORTS[self.transport]
        return int(self.data[-1]) if self.transport in ("net", "onion") else 0

    @property
    def path(self) -> str:
        """What a WebSocket is asked for: ``/`` unless the address says otherwise."""
        return self._url.path or "/"

    @property
    def key(self) -> str | None:
        """The feed id of the peer, or None for an address without authentication."""
        return None if self.public is None else f"@{_base64(self.public)}.ed25519"

    @property
    def _url(self) -> SplitResult:
        return urlsplit(":".join((self.transport, *self.data)))

    def __str__(self) -> str:
        parts = [Protocol(self.transport, self.data)]
        if self.public is None:
            parts.append(Protocol("noauth", ()))
        else:
            secrets = () if self.seed is None else (_base64(self.seed),)
            parts.append(Protocol("shs", (_base64(self.public), *secrets)))
        return format_layers(parts)


def parse_addresses(text: str) -> list[Address]:
    """All alternatives that we understand, in order; raises ``InvalidAddress`` if there is none."""
    if len(text) > _MAX_LENGTH:
        raise InvalidAddress(f"an address of {len(text)} characters; at most {_MAX_LENGTH}")
    text = text.strip()
    if legacy := _LEGACY.fullmatch(text):
        return [_from_legacy(legacy)]
    alternatives = decode_layers(text)
    if alternatives is None:
        raise InvalidAddress(f"{text!r} is not an address; expected net:HOST:PORT~shs:KEY")
    found: list[Address] = []
    problem: InvalidAddress | None = None
    for layers in alternatives:
        try:
            found.append(_from_layers(layers))
        except InvalidAddress as error:
            problem = problem or error
    if not found and problem is not None:
        raise problem
    return found


def parse_address(text: str) -> Address:
    """The first alternative of ``text``; raises ``InvalidAddress``."""
    return parse_addresses(text)[0]


def parse_invite(text: str) -> Address:
    """The address in an invite code of either form, with its ``seed``; raises ``InvalidInvite``.

    Quotes around the code and a part behind ``#`` (a page to go to afterwards) do not count.
    """
    code = text.strip().strip("\"'").partition("#")[0]
    if old := _LEGACY_INVITE.fullmatch(code):
        code = f"{_from_legacy(old)}:{old['seed']}"
    try:
        address = parse_address(code)
    except InvalidAddress as error:
        raise InvalidInvite(f"not an invite: {error}") from None
    if address.seed is None:
        raise InvalidInvite(f"{address} is an address, not an invite: the secret behind the key is missing")
    return address


def decode_layers(text: str) -> list[list[Protocol]] | None:
    """Split an address text into alternatives of layers; None if it does not follow the grammar."""
    if _BLANK.search(text):
        return None
    alternatives = []
    for alternative in _split(text, ";"):
        layers = []
        for layer in _split(alternative, "~"):
            name, *data = _split(layer, ":")
            if not _NAME.fullmatch(name):
                return None
            layers.append(Protocol(name, tuple(_unescape(part) for part in data)))
        alternatives.append(layers)
    return alternatives


def format_layers(layers: list[Protocol]) -> str:
    """The text of one alternative."""
    return "~".join(":".join((layer.name, *map(_escape, layer.data))) for layer in layers)


def _from_layers(layers: list[Protocol]) -> Address:
    text = format_layers(layers[:1])  # without the identity, which may hold an invite's secret
    if len(layers) != 2:
        raise InvalidAddress(f"{text}: expected a transport and an identity, as in net:HOST:PORT~shs:KEY")
    transport, identity = layers
    public, seed = _identity(identity, text)
    if transport.name == "unix":
        return Address("unix", (":".join(transport.data),), public, seed)
    if public is None:
        raise InvalidAddress(f"{text}: only a unix socket can be used without a key")
    if transport.name in _WEB_PORTS:
        _check_url(transport, text)
        # one spelling of an IPv6 address, which stands in a URL without escapes
        return Address(transport.name, tuple(":".join(transport.data).split(":")), public, seed)
    if transport.name in ("net", "onion"):
        host = ":".join(transport.data[:-1])
        if not host:
            raise InvalidAddress(f"{text}: the host is missing")
        return Address(transport.name, (host, str(_port(transport.data[-1], text))), public, seed)
    return Address(transport.name, transport.data, public, seed)


def _identity(layer: Protocol, text: str) -> tuple[bytes | None, bytes | None]:
    if layer.name == "noauth":
        return None, None
    if layer.name != "shs" or not layer.data:
        raise InvalidAddress(f"{text}: the key is missing, expected ~shs:KEY")
    seed = _key(layer.data[1], "seed", text) if len(layer.data) > 1 else None
    return _key(layer.data[0], "key", text), seed


def _from_legacy(match: re.Match[str]) -> Address:
    text = f"{match['host']}:{match['port']}"
    port = _port(match["port"], text) if match["port"] else DEFAULT_PORT
    return Address.net(match["host"].removeprefix("[").removesuffix("]"), port, _key(match["key"], "key", text))


def _check_url(layer: Protocol, text: str) -> None:
    url = ":".join(layer.data)
    try:
        if not _URL.fullmatch(url) or urlsplit(f"{layer.name}:{url}").port == 0:
            raise ValueError
    except ValueError:  # also what urlsplit raises of an impossible port or IPv6 address
        raise InvalidAddress(f"{text}: expected {layer.name}://HOST:PORT") from None


def _port(text: str, where: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise InvalidAddress(f"{where}: {text!r} is not a port")
    return int(text)


def _key(text: str, what: str, where: str) -> bytes:
    if not _KEY.fullmatch(text):
        raise InvalidAddress(f"{where}: the {what} is not 32 bytes of canonical base64")
    return base64.b64decode(text)


def _split(text: str, separator: str) -> list[str]:
    """Split at separators that no ``!`` escapes; escapes stay in the parts."""
    parts, start, at = [], 0, 0
    while at < len(text):
        if text[at] == "!":
            at += 2
            continue
        if text[at] == separator:
            parts.append(text[start:at])
            start = at + 1
        at += 1
    parts.append(text[start:])
    return parts


def _escape(text: str) -> str:
    return re.sub(r"[!:;~]", lambda match: "!" + match.group(), text)


def _unescape(text: str) -> str:
    return re.sub(r"!(.)", r"\1", text)


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()
