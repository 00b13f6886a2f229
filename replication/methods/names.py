"""names.* and about.*: what feeds and other things are called, and by whom (protocol.md sections 11 and 19, local)."""

from collections.abc import Iterable
from typing import Any

from feeds.content import target_of
from feeds.message import JsonValue
from feeds.names import Said, choose
from feeds.views import profiles
from replication.errors import RemoteVisible
from replication.methods import options
from replication.methods.local import local
from replication.methods.services import MethodServices
from replication.rpc.methods import Caller, Kind, Method

NAMES_AT_MOST = 5000
ALIKE_AT_MOST = 500


def methods(services: MethodServices) -> list[Method]:
    """All for the node's own user. What feeds that we block say of others does not count."""
    database, me = services.database, services.me

    async def said(subjects: list[str], field: str = "name") -> dict[str, list[Said]]:
        found = await database.read(lambda connection: profiles.said_of(connection, subjects, field))
        return {subject: list(heard(words, subject)) for subject, words in found.items()}

    def heard(words: Iterable[Said], subject: str) -> Iterable[Said]:
        blocked = services.graph.blocks(me)
        return (one for one in words if one.author == subject or one.author not in blocked)

    async def named(prefix: str, limit: int) -> dict[str, list[Said]]:
        return await said(await database.read(lambda c: profiles.subjects_named(c, prefix, limit=limit)))

    async def get(_caller: Caller, _args: list[JsonValue]) -> dict[str, dict[str, str]]:
        """`{feed: {author: name}}` of feeds with a name, 5000 at most."""
        found = await named("", NAMES_AT_MOST)
        return {subject: {one.author: one.value for one in words} for subject, words in found.items() if words}

    async def get_signifier(_caller: Caller, args: list[JsonValue]) -> str | None:
        """The name of a feed that counts here, null if it has none."""
        feed = options.feed_argument(args)
        return choose((await said([feed])).get(feed, []), me=me, subject=feed).value

    async def get_image_for(_caller: Caller, args: list[JsonValue]) -> str | None:
        """The picture of a feed that counts here, null if it has none."""
        feed = options.feed_argument(args)
        return choose((await said([feed], "image")).get(feed, []), me=me, subject=feed).value

    async def get_signifies(_caller: Caller, args: list[JsonValue]) -> list[dict[str, Any]]:
        """`{id, name, rank}` of each feed that somebody calls so; rank is how many do."""
        name = args[0] if args else None
        if not isinstance(name, str) or not name.removeprefix("@"):
            raise RemoteVisible("names.getSignifies: expected a name")
        wanted = name.removeprefix("@").casefold()
        found = []
        for feed, words in (await named(name, ALIKE_AT_MOST)).items():
            alike = [one.value for one in words if one.value.removeprefix("@").casefold() == wanted]
            if alike:
                found.append({"id": feed, "name": alike[0], "rank": len(alike)})
        return sorted(found, key=lambda one: (-one["rank"], one["id"]))

    async def claims(args: list[JsonValue]) -> tuple[str, list[profiles.Claim]]:
        """The subject and what is said of it in one field, the oldest first."""
        opts = options.options(args)
        field, dest = options.text(opts, "key"), options.text(opts, "dest")
        subject = None if dest is None else target_of(dest)
        if not field or subject is None:
            raise RemoteVisible("expected {key: name of a field, dest: id}")
        found = await database.read(lambda connection: profiles.claims_about(connection, subject))
        blocked = services.graph.blocks(me)
        fitting = [one for one in found if one.field == field]
        fitting = [one for one in fitting if one.author == subject or one.author not in blocked]
        return subject, sorted(fitting, key=lambda one: one.position)

    async def social_values(_caller: Caller, args: list[JsonValue]) -> dict[str, JsonValue]:
        """`{author: value}`: the last word of each."""
        _, found = await claims(args)
        return {one.author: one.value for one in found}

    async def social_value(_caller: Caller, args: list[JsonValue]) -> JsonValue:
        """The value that counts: our own, else the thing's own, else the newest; null if there is none."""
        subject, found = await claims(args)
        by_author = {one.author: one.value for one in found}
        return by_author.get(me, by_author.get(subject, found[-1].value if found else None))

    async def latest_value(_caller: Caller, args: list[JsonValue]) -> JsonValue:
        """The newest value, whoever gave it; null if there is none."""
        _, found = await claims(args)
        return found[-1].value if found else None

    return [
        local("names.get", Kind.ASYNC, get),
        local("names.getSignifier", Kind.ASYNC, get_signifier),
        local("names.getSignifies", Kind.ASYNC, get_signifies),
        local("names.getImageFor", Kind.ASYNC, get_image_for),
        local("about.socialValue", Kind.ASYNC, social_value),
        local("about.socialValues", Kind.ASYNC, social_values),
        local("about.latestValue", Kind.ASYNC, latest_value),
    ]
