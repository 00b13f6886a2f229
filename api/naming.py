"""What feeds are called here: by us, by themselves, by others, in this order."""

from collections.abc import Iterable, Sequence

from api.services import Services
from feeds.names import Chosen, Said, choose
from feeds.views import profiles

__all__ = ["chosen", "names_of"]


async def names_of(services: Services, feeds: Sequence[str]) -> dict[str, Chosen]:
    """The name of each feed (canonical ids), in the order given; a value of None is for a feed without any."""
    said = await services.database.read(lambda connection: profiles.said_of(connection, feeds))
    return {feed: chosen(services, said.get(feed, ()), feed) for feed in feeds}


def chosen(services: Services, said: Iterable[Said], feed: str) -> Chosen:
    """The word that counts; what feeds that we block say of others does not."""
    blocked = set(services.graph.blocks(services.me))
    heard = [one for one in said if one.author not in blocked or one.author == feed]
    return choose(heard, me=services.me, subject=feed)
