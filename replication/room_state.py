"""What a room says of itself and of who is in it, and the addresses that lead through it (protocol section 17). Pure.

Rooms of the second kind tell who comes and goes, those of the first send the whole list each time. Everything here
comes from outside and may be anything.
"""

from typing import Final, NamedTuple

from feeds.refs import CLASSIC, FeedRef, is_feed
from replication.address import Address
from replication.errors import InvalidAddress

TRANSPORT: Final = "tunnel"
MAX_ATTENDANTS: Final = 1_000
MAX_NAME: Final = 200
MAX_FEATURES: Final = 32


class Metadata(NamedTuple):
    """`version` 1 or 2; `membership`: whether the room counts us among its members, None if it does not say."""

    version: int
    name: str = ""
    membership: bool | None = None
    features: tuple[str, ...] = ()


class Moves(NamedTuple):
    """Who came and who went, in the order in which the room named them."""

    joined: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


def read_metadata(answer: object, *, version: int) -> Metadata | None:
    """What `room.metadata` (version 2) or `tunnel.isRoom` (version 1) answered; None if this is no room."""
    if not isinstance(answer, dict):
        return Metadata(version) if answer and version == 1 else None
    features = answer.get("features")
    named = [each[:MAX_NAME] for each in features if isinstance(each, str)] if isinstance(features, list) else []
    name, membership = answer.get("name"), answer.get("membership")
    return Metadata(
        2 if named else version,
        name[:MAX_NAME] if isinstance(name, str) else "",
        membership if isinstance(membership, bool) else None,
        tuple(named[:MAX_FEATURES]),
    )


class Attendance:
    """Who is in one room, besides ourselves and the room."""

    def __init__(self, *without: str) -> None:
        """`without` are ids that do not count: ours, and the room's."""
        self._without = frozenset(without)
        self._here: dict[str, None] = {}

    @property
    def here(self) -> list[str]:
        """Ids of those who are in the room."""
        return list(self._here)

    def take_event(self, event: object) -> Moves:
        """One item of `room.attendants`; what is not understood changes nothing."""
        if not isinstance(event, dict):
            return Moves()
        kind, one = event.get("type"), event.get("id")
        if kind == "state":
            return self.take_list(event.get("ids"))
        if not isinstance(one, str):
            return Moves()
        if kind == "joined" and self._counts(one) and one not in self._here and len(self._here) < MAX_ATTENDANTS:
            self._here[one] = None
            return Moves(joined=(one,))
        if kind == "left" and one in self._here:
            del self._here[one]
            return Moves(left=(one,))
        return Moves()

    def take_list(self, ids: object) -> Moves:
        """One item of `tunnel.endpoints`: everybody who is in the room now."""
        if not isinstance(ids, list):
            return Moves()
        now = dict.fromkeys([one for one in ids if self._counts(one)][:MAX_ATTENDANTS])
        before, self._here = self._here, now
        return Moves(tuple(one for one in now if one not in before), tuple(one for one in before if one not in now))

    def clear(self) -> Moves:
        """We left the room, and know of nobody any more."""
        return self.take_list([])

    def _counts(self, one: object) -> bool:
        return is_classic(one) and one not in self._without


def is_classic(value: object) -> bool:
    """Whether a value is the id of a classic feed: only such can be reached by the secret handshake."""
    return isinstance(value, str) and value[:1] == "@" and is_feed(value) and value.endswith(".ed25519")


def tunnel_address(portal: str, target: str) -> str:
    """The address of `target` through the room `portal`; both are classic feed ids."""
    return str(Address(TRANSPORT, (portal, target), _public(target)))


def read_tunnel(address: Address) -> tuple[str, str]:
    """Room and target of a tunnel address. Raises InvalidAddress."""
    if address.transport != TRANSPORT or len(address.data) != 2 or not all(map(is_classic, address.data)):
        raise InvalidAddress(f"{address} leads through no room; expected tunnel:ROOM:PEER~shs:KEY")
    portal, target = address.data
    if portal == target or target != address.key:
        raise InvalidAddress(f"{address}: the peer in it is not the one that its key names")
    return portal, target


def _public(feed: str) -> bytes:
    ref = FeedRef.parse(feed)
    if ref.format != CLASSIC:
        raise InvalidAddress(f"{feed} cannot be reached through a room")
    return ref.data
