"""Rooms: list, join, leave; names in them."""

from node.commands.catalogue import Invocation
from node.commands.local import Local, local
from node.output import clean


def list_rooms(invocation: Invocation) -> int:
    """Print the rooms and who is in them."""
    with local(invocation, most=0) as here:
        found = list(here.node.rooms())
        if here.output.pretty:
            rows = [
                (
                    one["id"],
                    clean(one["name"]),
                    "connected" if one["connected"] else "not connected",
                    str(len(one["attendants"])),
                    ", ".join(alias["alias"] for alias in one["aliases"]),
                )
                for one in found
            ]
            here.output.table(("id", "name", "state", "others", "aliases"), rows)
        else:
            for one in found:
                here.value(dict(one))
    return 0


def join(invocation: Invocation) -> int:
    """Join a room by its address or by an invite."""
    with local(invocation, least=1, most=1) as here:
        join_room(here, here.words[0])
    return 0


def join_room(here: Local, text: str) -> None:
    """Join, and say so."""
    room = here.node.join_room(text)
    if here.output.pretty:
        here.output.line(f"In the room {clean(room['name']) or room['id']}, with {len(room['attendants'])} others.")
    else:
        here.value(dict(room))


def leave(invocation: Invocation) -> int:
    """Hang up on a room and forget it."""
    with local(invocation, least=1, most=1) as here:
        here.node.leave_room(here.words[0])
        here.value({"id": here.words[0], "left": True})
    return 0


def register(invocation: Invocation) -> int:
    """Take a name in a room."""
    with local(invocation, least=2, most=2) as here:
        made = here.node.register_alias(here.words[0], here.words[1])
        if here.output.pretty:
            here.output.line(f"Others find this node at {clean(made['url'])}")
        else:
            here.value(dict(made))
    return 0


def revoke(invocation: Invocation) -> int:
    """Give a name in a room back."""
    with local(invocation, least=2, most=2) as here:
        here.node.revoke_alias(here.words[0], here.words[1])
        here.value({"id": here.words[0], "alias": here.words[1], "revoked": True})
    return 0


def consume(invocation: Invocation) -> int:
    """Connect to whom a link of an alias leads to."""
    with local(invocation, least=1, most=1) as here:
        consume_alias(here, here.words[0])
    return 0


def consume_alias(here: Local, link: str) -> None:
    """Connect, and say with whom."""
    alias = here.node.consume_alias(link)
    if here.output.pretty:
        here.output.line(f"Connected to {alias['user']}, who is {alias['alias']} in the room {alias['room']}.")
    else:
        here.value(dict(alias))
