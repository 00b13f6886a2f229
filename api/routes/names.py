"""Names for ids, and ids for names: what shows people instead of keys."""

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.ids import feed_id
from api.models import NameList
from api.naming import names_of
from api.openapi import describe, listing
from api.paging import PAGE, is_descending, list_answer, slice_of
from api.parameters import Parameter, listed, text
from api.services import Services, services_of
from feeds.names import Teller, as_json, folded_name, short_id
from feeds.views import profiles

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/names", tags=["profiles"])

MAX_IDS: Final = 500
SHORTEST_ID: Final = len("@") + 6
PREFIX: Final = Parameter("q", text(128), "Beginning of a name, without regard to case and accents, or of an id")
IDS: Final = Parameter("ids", text(64 * 1024), f"Feed ids, separated by commas or repeated; at most {MAX_IDS}")


@router.get(
    "",
    summary="What feeds are called",
    responses=listing(
        NameList, "Feeds with the name that counts, those called exactly `q` first, or in the order of `ids`"
    ),
    openapi_extra=describe(PREFIX, IDS, *PAGE),
)
async def list_names(request: Request) -> Response:
    services = services_of(request)
    ids = listed(IDS, request)
    prefix = PREFIX.of(request)
    if ids:
        if len(ids) > MAX_IDS:
            raise IDS.refusal(f"has more than {MAX_IDS} ids")
        items = await _items(services, list(dict.fromkeys(feed_id(one) for one in ids)))
    elif prefix is not None:
        items = await _named(services, prefix)
    else:
        raise PREFIX.refusal("or ids must be given")
    if is_descending(request):
        items.reverse()
    return await list_answer(request, slice_of([as_json(item).encode() for item in items]), name="names")


async def _named(services: Services, prefix: str) -> list[dict[str, object]]:
    """Feeds called so, the ones called exactly so first, and of these the ones that we named."""
    feeds = await services.database.read(lambda connection: profiles.subjects_named(connection, prefix))
    begun = [info.id for info in services.log.feeds() if info.id.startswith(prefix)] if _is_short_id(prefix) else []
    start = folded_name(prefix)
    found = []
    for item in await _items(services, list(dict.fromkeys([*feeds, *begun[:MAX_IDS]]))):
        name, id = folded_name(str(item["name"])), str(item["id"])
        if name.startswith(start) or (begun and id.startswith(prefix)):
            found.append(((name != start, name == start and item["from"] != Teller.ME, name, id), item))
    return [item for _, item in sorted(found, key=lambda pair: pair[0])]


def _is_short_id(text: str) -> bool:
    """Whether a text may be the beginning of an id, as feeds without a name are shown by it."""
    return text.startswith("@") and len(text) >= SHORTEST_ID


async def _items(services: Services, feeds: list[str]) -> list[dict[str, object]]:
    names = await names_of(services, feeds)
    return [
        {"id": feed, "name": name.value or short_id(feed), "from": str(name.teller)} for feed, name in names.items()
    ]
