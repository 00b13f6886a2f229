"""Names that rooms keep for people: what is signed for one, and the links that lead to one (protocol section 17). Pure.

Whoever registers an alias signs the room, itself and the alias, so that a room cannot give somebody else's name away:
a link is of use only after its signature was checked.
"""

import binascii
import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from feeds.keys import Keypair, sign, verify
from feeds.refs import FeedRef
from replication.address import parse_address
from replication.errors import InvalidAddress, InvalidAlias
from replication.room_state import is_classic

_SUFFIX: Final = ".sig.ed25519"
_ALIAS: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SIGNATURE: Final = re.compile(r"[A-Za-z0-9+/]{85}[AQgw]==\.sig\.ed25519")
_LINK_MAX: Final = 4096


class Alias(NamedTuple):
    """A checked alias: `user` is reached through `room`, which is at `address`."""

    alias: str
    user: str
    room: str
    address: str
    signature: str


def read_alias(text: str) -> str:
    """A name as rooms take it, in lower case. Raises InvalidAlias."""
    alias = text.strip().lower()
    if not _ALIAS.fullmatch(alias):
        raise InvalidAlias(
            f"{text[:80]!r} is no alias: it takes up to 63 letters a-z, digits, and hyphens that are not at an end"
        )
    return alias


def signed_text(room: str, user: str, alias: str) -> bytes:
    """What the owner of an alias signs. Ids are canonical feed ids."""
    return f"=room-alias-registration:{room}:{user}:{alias}".encode()


def sign_alias(keypair: Keypair, room: str, alias: str) -> str:
    """The owner's signature, `….sig.ed25519`. It is plain, also where the network has a signing key."""
    signature = sign(keypair, signed_text(room, keypair.id, alias))
    return binascii.b2a_base64(signature, newline=False).decode() + _SUFFIX


def is_signed(signature: object, room: str, user: str, alias: str) -> bool:
    """Whether a value, whatever it is, is the user's signature for this alias in this room."""
    if not (isinstance(signature, str) and _SIGNATURE.fullmatch(signature) and is_classic(user)):
        return False
    raw = binascii.a2b_base64(signature.removesuffix(_SUFFIX))
    return verify(FeedRef.parse(user).data, signed_text(room, user, alias), raw)


def checked_alias(given: Mapping[str, object]) -> Alias:
    """The alias that a room or a link tells of, once its signature is found right. Raises InvalidAlias."""
    texts = [given.get(name) for name in ("alias", "userId", "roomId", "multiserverAddress", "signature")]
    if not all(isinstance(text, str) for text in texts):
        raise InvalidAlias("the alias lacks its owner, its room, the room's address or the signature")
    name, user, room, address, signature = (str(text) for text in texts)
    alias = read_alias(name)
    if alias != name or not is_classic(user) or not is_classic(room):
        raise InvalidAlias(f"the alias {alias} names no feed as its owner or its room")
    try:
        parsed = parse_address(address)
    except InvalidAddress as error:
        raise InvalidAlias(f"the address of the room of alias {alias} cannot be read: {error}") from None
    if parsed.key != room:
        raise InvalidAlias(f"the address of alias {alias} is not that of its room")
    if not is_signed(signature, room, user, alias):
        raise InvalidAlias(f"the signature of alias {alias} is not its owner's; do not trust this link")
    return Alias(alias, user, room, address, signature)


def read_alias_uri(uri: str) -> Alias:
    """The alias of an `ssb:experimental?action=consume-alias&…` link. Raises InvalidAlias."""
    given = action_parameters(uri, "consume-alias")
    for name in ("userId", "roomId", "signature", "multiserverAddress"):
        given[name] = given.get(name, "").replace(" ", "+")  # a plus sign that was not percent-encoded
    return checked_alias(given)


def alias_uri(alias: Alias) -> str:
    """The link that leads to an alias."""
    return "ssb:experimental?" + urlencode(
        {
            "action": "consume-alias",
            "roomId": alias.room,
            "alias": alias.alias,
            "userId": alias.user,
            "signature": alias.signature,
            "multiserverAddress": alias.address,
        }
    )


def action_parameters(uri: str, action: str) -> dict[str, str]:
    """The parameters of an `ssb:experimental` link with this action. Raises InvalidAlias."""
    try:
        parts = urlsplit(uri.strip()) if len(uri) <= _LINK_MAX else None
        given = dict(parse_qsl(parts.query, max_num_fields=20)) if parts is not None else {}
    except ValueError:
        parts, given = None, {}
    where = "" if parts is None else (parts.netloc or parts.path).strip("/")
    if parts is None or parts.scheme != "ssb" or where != "experimental" or given.get("action") != action:
        raise InvalidAlias(f"expected a link that begins with ssb:experimental?action={action}")
    return given
