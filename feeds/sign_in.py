"""Signing in to a site with one's feed: what is signed, and the link that asks for it (protocol.md section 17). Pure.

Both sides give a nonce of 32 bytes: `sc` is the server's, `cc` the client's. The client signs both and both ids, so
that a signature is good for one visit to one site only.
"""

import binascii
import re
from typing import Final, NamedTuple, TypeGuard
from urllib.parse import urlencode

from feeds import ssb_uris
from feeds.errors import InvalidRef
from feeds.keys import Keypair, sign, verify
from feeds.refs import FeedRef, is_feed

__all__ = ["StartRequest", "is_nonce", "is_solution", "login_query", "parse_start", "signed_text", "solve", "start_uri"]

_ACTION: Final = "start-http-auth"
_SUFFIX: Final = ".sig.ed25519"
_IS_NONCE = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=").fullmatch
_IS_SIGNATURE = re.compile(r"[A-Za-z0-9+/]{85}[AQgw]==\.sig\.ed25519").fullmatch


class StartRequest(NamedTuple):
    """What a site asks for in its link."""

    server: str
    """The site's feed id."""
    sc: str
    address: str | None
    """Where to reach it, as a multiserver address."""


def is_nonce(value: object) -> TypeGuard[str]:
    """Whether a value is the canonical base64 of 32 bytes."""
    return isinstance(value, str) and _IS_NONCE(value) is not None


def signed_text(server: str, client: str, sc: str, cc: str) -> bytes:
    """What the client signs. Ids are canonical feed ids."""
    return f"=http-auth-sign-in:{server}:{client}:{sc}:{cc}".encode()


def solve(keypair: Keypair, server: str, sc: str, cc: str) -> str:
    """The client's signature, `….sig.ed25519`. It is plain, also where the network has a signing key."""
    signature = sign(keypair, signed_text(server, keypair.id, sc, cc))
    return binascii.b2a_base64(signature, newline=False).decode() + _SUFFIX


def is_solution(value: object, server: str, client: str, sc: str, cc: str) -> bool:
    """Whether a value, whatever it is, is the signature of this client (a classic feed) for this visit."""
    if not (
        isinstance(value, str)
        and _IS_SIGNATURE(value)
        and is_nonce(sc)
        and is_nonce(cc)
        and is_feed(client)
        and client[0] == "@"
    ):
        return False
    signature = binascii.a2b_base64(value.removesuffix(_SUFFIX))
    return verify(FeedRef.parse(client).data, signed_text(server, client, sc, cc), signature)


def login_query(client: str, cc: str) -> str:
    """The query of a site's login page with which the client begins."""
    return urlencode({"ssb-http-auth": "1", "cid": client, "cc": cc})


def start_uri(server: str, sc: str, address: str | None = None) -> str:
    """The link by which a site asks to be signed in to."""
    more = {} if address is None else {"multiserverAddress": address}
    return "ssb:experimental?" + urlencode({"action": _ACTION, "sid": server, "sc": sc, **more})


def parse_start(uri: str) -> StartRequest:
    """Take such a link apart. Raises InvalidRef."""
    found = ssb_uris.parse(uri)
    if found is None or found.type != ssb_uris.EXPERIMENTAL:
        raise InvalidRef("this is no ssb:experimental link")
    given = found.parameters()
    # a plus sign that was not percent-encoded reads as a blank
    server, sc = given.get("sid", "").replace(" ", "+"), given.get("sc", "").replace(" ", "+")
    if given.get("action") != _ACTION or not is_nonce(sc):
        raise InvalidRef(f"the link must have action={_ACTION} and sc, 32 bytes in base64")
    return StartRequest(str(FeedRef.parse(server)), sc, given.get("multiserverAddress") or None)
