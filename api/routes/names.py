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
from feeds.names import as_json, folded_name, short_id
from feeds.views import profiles

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/names", tags=["profiles"])

MAX_IDS: Final = 500
PREFIX: Final = Parameter("q", text(128), "Beginning of a name, without regard to case and accents")
IDS: Final = Parameter("ids", text(64 * 1024), f"Feed ids, separated by commas or repeated; at most {MAX_IDS}")


@router.get(
    "",
    summary="What feeds are called",
    responses=listing(NameList, "Feeds with the name that counts, by name or in the order of `ids`"),
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
    feeds = await services.database.read(lambda connection: profiles.subjects_named(connection, prefix))
    start = folded_name(prefix)
    found = [item for item in await _items(services, feeds) if folded_name(str(item["name"])).startswith(start)]
    return sorted(found, key=lambda item: (folded_name(str(item["name"])), str(item["id"])))


async def _items(services: Services, feeds: list[str]) -> list[dict[str, object]]:
    names = await names_of(services, feeds)
    return [
        {"id": feed, "name": name.value or short_id(feed), "from": str(name.teller)} for feed, name in names.items()
    ]
