"""What a pasted text is: an id in any spelling, an ssb: URI, an invite, an address, a link. Nothing is looked up."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from feeds import ssb_uris
from feeds.conversation import normalise_channel
from feeds.errors import InvalidRef
from feeds.refs import BlobRef, FeedRef, MessageRef, extract
from replication.address import Address, parse_address, parse_invite
from replication.errors import InvalidAddress, InvalidInvite

__all__ = ["Pasted", "read_pasted"]

_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ACTIONS: Final = {"consume-alias": "alias", "claim-http-invite": "room-invite", "start-http-auth": "sign-in"}
_KINDS: Final = (FeedRef, MessageRef, BlobRef)
_OUTER: Final = "<>\"' \t\r\n"


@dataclass(frozen=True, slots=True)
class Pasted:
    """The reading of a pasted text; what does not apply is None."""

    kind: str
    ids: tuple[FeedRef | MessageRef | BlobRef, ...] = ()
    """What is named; several when the spelling leaves it open."""
    address: str | None = None
    """Without the secret of an invite."""
    alias: str | None = None
    host: str | None = None
    action: str | None = None


def read_pasted(text: str) -> Pasted:
    """What a text is; the kind is "unknown" when it is nothing known. Any text may come in."""
    text = text.strip(_OUTER)
    for reading in (_as_id, _as_uri, _as_invite, _as_address, _as_web_link, _as_channel, _as_inner_id):
        found = reading(text)
        if found is not None:
            return found
    return Pasted("unknown")


def _as_id(text: str) -> Pasted | None:
    for spelled in (text, unquote(text)):
        refs = tuple(_refs(re.split("[?#]", spelled, maxsplit=1)[0] if spelled[:1] in "@%&" else spelled))
        if refs:
            return Pasted(refs[0].kind if len(refs) == 1 else "id", refs)
    return None


def _refs(text: str) -> Iterator[FeedRef | MessageRef | BlobRef]:
    for kind in _KINDS:
        with suppress(InvalidRef):
            yield kind.parse(text)


def _as_uri(text: str) -> Pasted | None:
    if not text.startswith("ssb:"):
        return None
    uri = ssb_uris.parse(text)
    if uri is None:
        return Pasted("unknown-uri")
    if uri.type == ssb_uris.ADDRESS:
        inner = uri.parameters()["multiserverAddress"]
        return _as_invite(inner) or _as_address(inner) or Pasted("unknown-uri")
    if uri.type != ssb_uris.EXPERIMENTAL:
        return Pasted(uri.type)
    given = uri.parameters()
    action = given.get("action")
    user = _first_feed(given.get("userId", ""))
    address = _as_address(given.get("multiserverAddress", ""))
    return Pasted(
        _ACTIONS.get(action or "", "unknown-uri"),
        () if user is None else (user,),
        address=None if address is None else address.address,
        alias=given.get("alias"),
        host=None if address is None else address.host,
        action=action,
    )


def _first_feed(text: str) -> FeedRef | None:
    with suppress(InvalidRef):
        return FeedRef.parse(text)
    return None


def _as_invite(text: str) -> Pasted | None:
    try:
        address = parse_invite(text)
    except (InvalidInvite, InvalidAddress):
        return None
    shown = Address(address.transport, address.data, address.public)
    return _reached("invite", shown)


def _as_address(text: str) -> Pasted | None:
    try:
        return _reached("address", parse_address(text))
    except InvalidAddress:
        return None


def _reached(kind: str, address: Address) -> Pasted:
    feed = None if address.key is None else _first_feed(address.key)
    return Pasted(kind, () if feed is None else (feed,), address=str(address), host=address.host)


def _as_web_link(text: str) -> Pasted | None:
    if not text.startswith(("https://", "http://")):
        return None
    try:
        link = urlsplit(text)
        host = link.hostname
    except ValueError:
        return None
    inner = _as_inner_id(text)
    if inner is not None or not host:
        return inner
    path = link.path.strip("/")
    if path == "join" and ("token=" in link.query or "invite=" in link.query):
        return Pasted("room-invite", host=host)
    if not link.query and _LABEL.fullmatch(path):
        return Pasted("alias-link", alias=path, host=host)
    label, _, room = host.partition(".")
    if not link.query and not path and "." in room and _LABEL.fullmatch(label) and not room.replace(".", "").isdigit():
        return Pasted("alias-link", alias=label, host=room)
    return Pasted("web-link", host=host)


def _as_channel(text: str) -> Pasted | None:
    name = normalise_channel(text[1:]) if text.startswith("#") and len(text) < 200 else None
    return None if name is None else Pasted("channel", alias=name)


def _as_inner_id(text: str) -> Pasted | None:
    """The first id in a link or a longer text."""
    inside = extract(text)
    refs = () if inside is None else tuple(_refs(inside))
    return Pasted(refs[0].kind, refs[:1]) if refs else None
