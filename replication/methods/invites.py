"""invite.* and getAddress: making, using and redeeming invites (protocol.md section 16)."""

from dataclasses import asdict
from typing import Any

from feeds.errors import FeedLocked
from feeds.message import JsonValue
from replication.errors import InvalidAddress, RemoteVisible
from replication.invites import LONGEST_NOTE, MOST_SECONDS, MOST_USES
from replication.inviting import Inviting
from replication.methods import options
from replication.methods.local import local
from replication.methods.services import MethodServices
from replication.rpc.bodies import RawJson
from replication.rpc.methods import Caller, Kind, Method, Who


def methods(services: MethodServices) -> list[Method]:
    """`invite.use` and `getAddress` are for holders of invites, the others for the node's own user."""

    def inviting() -> Inviting:
        if services.inviting is None:
            raise RemoteVisible("this node has nothing to do with invites")
        return services.inviting

    async def create(_caller: Caller, args: list[JsonValue]) -> str:
        """A code, for `{uses, external, note, modern, expires_in}` or just the number of uses."""
        first = args[0] if args else None
        number = isinstance(first, int | float) and not isinstance(first, bool)
        opts: options.Options = {"uses": first} if number else options.options(args)
        modern = options.flag(opts, "modern", False)
        uses = _whole(opts, "uses", MOST_USES)
        ends = _whole(opts, "expires_in", MOST_SECONDS)
        note = options.text(opts, "note") or ""
        if len(note) > LONGEST_NOTE:
            raise RemoteVisible(f"invite.create: a note has at most {LONGEST_NOTE} characters")
        address = inviting().advertised(options.text(opts, "external") or "")
        many = 1 if modern else uses or 1  # as codes of the modern form always were
        _, code = await inviting().invites.create(address, uses=many, note=note, expires_in=ends, modern=modern)
        return code

    async def use(caller: Caller, args: list[JsonValue]) -> RawJson:
        """`{feed}`: follow it; the message that says so, as `{key, value, timestamp}`."""
        opts = options.options(args, bare="feed")
        if opts.get("feed") is None:
            raise RemoteVisible("feed to follow is missing")
        feed = options.feed(opts["feed"], "feed")
        try:
            entry = await inviting().invites.use(caller.id, feed)
        except FeedLocked as error:
            raise RemoteVisible("this node cannot follow anybody just now; the invite was not used") from error
        return RawJson(entry.as_kvt())

    async def accept(_caller: Caller, args: list[JsonValue]) -> RawJson:
        """Redeem a code; the messages that were published, each as `{key, value, timestamp}`."""
        opts = options.options(args, bare="invite")
        code = options.text(opts, "invite")
        if code is None:
            raise RemoteVisible("invite.accept: expected the code of an invite")
        joined = await inviting().joining.accept(code)
        return RawJson(b"[%b]" % b",".join(entry.as_kvt() for entry in joined.messages))

    async def get_address(caller: Caller, _args: list[JsonValue]) -> str | None:
        """The address under which others reach us, null if we know none."""
        if not caller.local and not inviting().invites.is_open(caller.id):
            raise RemoteVisible("invite has expired")
        try:
            return str(inviting().advertised())
        except InvalidAddress:
            return None

    async def all_of_them(_caller: Caller, _args: list[JsonValue]) -> list[dict[str, Any]]:
        """Every invite, without its secret."""
        found = inviting().invites
        return [asdict(invite) | {"state": invite.state(found.now)} for invite in found.all()]

    async def revoke(_caller: Caller, args: list[JsonValue]) -> bool:
        """End an invite by its id."""
        return await inviting().invites.revoke(options.feed_argument(args))

    return [
        local("invite.create", Kind.ASYNC, create),
        Method(("invite", "use"), Kind.ASYNC, Who.INVITE, use),
        local("invite.accept", Kind.ASYNC, accept),
        local("invite.list", Kind.ASYNC, all_of_them),
        local("invite.revoke", Kind.ASYNC, revoke),
        Method(("getAddress",), Kind.ASYNC, Who.INVITE, get_address),
    ]


def _whole(opts: options.Options, name: str, most: int) -> int | None:
    value = options.whole(opts, name)
    if value is not None and not 0 < value <= most:
        raise RemoteVisible(f"invite.create: {name} must be a whole number from 1 to {most}")
    return value
