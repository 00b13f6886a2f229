"""The packets by which nodes on one local network find each other (protocol.md section 15).

Two kinds are in use, both with multiserver addresses separated by ``;`` inside: plain text on UDP 8008, and a box that
only opens with the network key on UDP 26830, with a signature of the node that it names:
``box(key, key[0..24], {"address": ...}) ‖ sig64``. The nonce never changes, so the box hides the address from strangers
only as long as nobody compares packets; that is the deployed form. Nothing in a packet is to be trusted beyond this:
whoever answers at an address proves its key in the handshake.
"""

from typing import Final, NamedTuple

from nacl.bindings import crypto_secretbox, crypto_secretbox_open
from nacl.exceptions import CryptoError

from feeds import canonical_json, keys
from feeds.errors import InvalidJson
from feeds.keys import Keypair
from replication.address import Address, parse_addresses
from replication.errors import InvalidAddress, RemoteError

PLAIN_PORT: Final = 8008
BOXED_PORT: Final = 26830
MAX_SIZE: Final = 1_400
"""Bytes of a packet that is looked at; the address list of a node with several transports has some 300."""
_NONCE: Final = 24
_SIGNATURE: Final = 64
_DEPTH: Final = 4


class InvalidBeacon(RemoteError):
    """Not a packet by which a node of our network says where it is; the text says why."""


class Beacon(NamedTuple):
    """A node's own word on where it is: its feed id and its TCP addresses, at least one."""

    peer: str
    addresses: list[Address]


def plain_beacon(address: str) -> bytes:
    """The packet for port 8008."""
    return address.encode()


def boxed_beacon(address: str, keypair: Keypair, network_key: bytes) -> bytes:
    """The packet for port 26830."""
    content: canonical_json.JsonValue = {"address": address}
    signature = keys.sign(keypair, canonical_json.indented(content))
    return crypto_secretbox(canonical_json.compact(content), network_key[:_NONCE], network_key) + signature


def read_plain(packet: bytes) -> Beacon:
    """What a packet on port 8008 says; raises ``InvalidBeacon``."""
    _check_size(packet)
    try:
        return _beacon(packet.decode())
    except UnicodeDecodeError:
        raise InvalidBeacon("not UTF-8 text") from None


def read_boxed(packet: bytes, network_key: bytes) -> Beacon:
    """What a packet on port 26830 says, signed by the node it names; raises ``InvalidBeacon``."""
    _check_size(packet)
    address = open_box(packet, network_key)
    beacon = _beacon(address)
    signed = canonical_json.indented({"address": address})
    if not keys.verify(keys.public_from_id(beacon.peer), signed, packet[-_SIGNATURE:]):
        raise InvalidBeacon(f"not signed by {beacon.peer}, which it names")
    return beacon


def open_box(packet: bytes, network_key: bytes) -> str:
    """The address text in a boxed packet, whoever signed it; raises ``InvalidBeacon``."""
    try:
        opened = crypto_secretbox_open(packet[:-_SIGNATURE], network_key[:_NONCE], network_key)
    except (CryptoError, ValueError):
        raise InvalidBeacon("it does not open with the network key: damaged, or of another network") from None
    try:
        content = canonical_json.parse(opened, max_depth=_DEPTH)
    except InvalidJson as error:
        raise InvalidBeacon(f"its content is not JSON: {error}") from None
    address = content.get("address") if isinstance(content, dict) else None
    if not isinstance(address, str):
        raise InvalidBeacon("it has no address")
    return address


def _check_size(packet: bytes) -> None:
    if len(packet) > MAX_SIZE:
        raise InvalidBeacon(f"a packet of {len(packet)} bytes; at most {MAX_SIZE}")


def _beacon(text: str) -> Beacon:
    try:
        found = [each for each in parse_addresses(text) if each.transport == "net" and each.key is not None]
    except InvalidAddress as error:
        raise InvalidBeacon(str(error)) from None
    usable = [each for each in found if each.seed is None and each.port]
    if not usable:
        raise InvalidBeacon("it has no TCP address with a key and a port")
    peer = usable[0].key
    assert peer is not None
    return Beacon(peer, [each for each in usable if each.key == peer])
