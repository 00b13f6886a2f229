"""Invites: make, list, revoke, redeem; and `join`, which takes whatever leads to other people."""

from collections.abc import Callable, Mapping
from typing import Final

from api.pasted import read_pasted
from api.qr import blocks
from node.commands.catalogue import Invocation
from node.commands.local import Local, local
from node.commands.rooms import consume_alias, join_room
from node.commands.tokens import day, span
from node.errors import UsageError
from node.output import clean


def create(invocation: Invocation) -> int:
    """Make an invite; its code is printed now and never again."""
    with local(
        invocation, most=1, valued=("uses", "note", "expires-in", "external"), switches=("modern", "qr")
    ) as here:
        values = here.found.values
        if here.words:
            values.setdefault("uses", here.words[0])
        made = here.node.create_invite(
            uses=here.number("uses", 1),
            note=values.get("note"),
            expires_in=span(values.get("expires-in")),
            external=values.get("external"),
            modern=here.found.on("modern"),
        )
        if not here.output.pretty and not here.found.on("qr"):
            here.value(made["invite"])
            return 0
        here.output.line(clean(made["invite"]))
        if here.found.on("qr"):
            for line in blocks(made["invite"]):
                here.output.line(line)
        if here.output.pretty:
            here.output.line(
                f"Good for {made['uses']}. It is not shown again; sbot invite revoke {made['id']} ends it."
            )
    return 0


def list_invites(invocation: Invocation) -> int:
    """Print the invites, without their secrets."""
    with local(invocation, most=0) as here:
        found = list(here.node.invites())
        if here.output.pretty:
            rows = [
                (one["id"], one["state"], f"{one['used']} of {one['uses']}", _ends(one["expires"]), one["note"])
                for one in found
            ]
            here.output.table(("id", "state", "used", "ends", "note"), rows)
        else:
            for one in found:
                here.value(dict(one))
    return 0


def revoke(invocation: Invocation) -> int:
    """End an invite at once."""
    with local(invocation, least=1, most=1) as here:
        here.node.revoke_invite(here.words[0])
        if here.output.pretty:
            here.output.line("The invite is good for nothing any more. Feeds that came by it stay followed.")
        else:
            here.value({"id": here.words[0], "revoked": True})
    return 0


def accept(invocation: Invocation) -> int:
    """Redeem an invite."""
    with local(invocation, least=1, most=1) as here:
        _accept(here, here.words[0])
    return 0


def join(invocation: Invocation) -> int:
    """Take an invite, or connect to an address."""
    with local(invocation, least=1, most=1) as here:
        kind = read_pasted(here.words[0]).kind
        way = WAYS.get(kind)
        if way is None:
            raise UsageError(f"That is no invite and no address ({kind}); paste the whole code that you were given.")
        way(here, here.words[0])
    return 0


def _accept(here: Local, code: str) -> None:
    joined = here.node.accept_invite(code)
    if not here.output.pretty:
        here.value(dict(joined))
        return
    if joined["already"]:
        here.output.line(f"{joined['pub']} follows this node already; the invite was not used up.")
    else:
        here.output.line(f"{joined['pub']} follows this node now, and this node follows it.")


def _connect(here: Local, address: str) -> None:
    connected = here.node.connect(address)
    if here.output.pretty:
        here.output.line(f"Connected to {connected['id']}; it is remembered.")
    else:
        here.value(dict(connected))


WAYS: Final[Mapping[str, Callable[[Local, str], None]]] = {
    "invite": _accept,
    "address": _connect,
    "room-invite": join_room,
    "alias": consume_alias,
    "alias-link": consume_alias,
}
"""What to do with a pasted text, by what `api.pasted` says it is."""


def _ends(milliseconds: int | None) -> str:
    return day(None if milliseconds is None else milliseconds // 1000)
