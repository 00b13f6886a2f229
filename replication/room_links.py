"""What a text that should lead into a room is: an address, an invite of either kind, or an alias. Pure.

Rooms of the first kind give out addresses with one well-known secret behind the key, which means nothing.
"""

import base64
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from replication.address import Address, parse_address
from replication.errors import InvalidAddress, InvalidAlias, InvalidInvite
from replication.room_aliases import action_parameters

OPEN_SEED: Final = base64.b64decode("SSB+Room+PSK3TLYC2T86EHQCUHBUHASCASE18JBV24=")
LONGEST: Final = 4096


class Claim(NamedTuple):
    """An invite that is claimed by sending it, with our id, to a web address."""

    invite: str
    post_to: str


def read_room_address(text: str) -> str:
    """A room's address, without the secret of an open room. Raises InvalidAddress."""
    address = parse_address(text.strip().strip("\"'"))
    if address.seed is not None and address.seed != OPEN_SEED:
        raise InvalidAddress("this is an invite of a pub, not the address of a room; redeem it with join")
    return str(Address(address.transport, address.data, address.public))


def is_web_link(text: str) -> bool:
    """Whether a text is an http or https link."""
    return text.strip().lower().startswith(("http://", "https://"))


def json_url(link: str) -> str:
    """The web address that answers in JSON what the page behind a link says. Raises InvalidInvite."""
    try:
        parts = urlsplit(link.strip())
        query = [pair for pair in parse_qsl(parts.query, max_num_fields=20) if pair[0] != "encoding"]
        if len(link) > LONGEST or not parts.hostname or parts.username or parts.password or not link.isascii():
            raise ValueError
    except ValueError:
        raise InvalidInvite("not a web link that leads into a room") from None
    return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode([*query, ("encoding", "json")]), ""))


def read_claim_uri(uri: str) -> Claim:
    """An `ssb:experimental?action=claim-http-invite&…` link. Raises InvalidInvite."""
    try:
        given = action_parameters(uri, "claim-http-invite")
    except InvalidAlias as error:
        raise InvalidInvite(str(error)) from None
    return read_claim(given)


def read_claim(given: object) -> Claim:
    """The `invite` and `postTo` that a link or a room's page gives. Raises InvalidInvite."""
    invite, post_to = (given.get("invite"), given.get("postTo")) if isinstance(given, dict) else (None, None)
    if not isinstance(invite, str) or not isinstance(post_to, str) or not invite or not is_web_link(post_to):
        raise InvalidInvite("the invite lacks its code, or the web address where it is claimed")
    if len(invite) > LONGEST or len(post_to) > LONGEST:
        raise InvalidInvite("the invite is too long")
    return Claim(invite, post_to)
