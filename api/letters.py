"""Private messages in answers: only where a request asks for them, never kept by any cache."""

from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from api.answers import written
from api.errors import Problem
from api.paging import Chunk, Fetch, Mark, is_descending
from api.parameters import Parameter, flag, text
from api.services import Services, services_of
from feeds.log import Entry
from feeds.mailbox import OpenedEntry, Wanted
from feeds.private.stored import boxed_content

__all__ = ["PRIVATE", "UNBOX", "WORDS", "letter_answer", "letters", "opened_for", "wants_opened"]

PRIVATE: Final = Parameter("private", flag(), "Decrypt private messages that we can read, and give them in plain")
UNBOX: Final = Parameter("unbox", text(128), "Key that a recipient released: opens this one message")
WORDS: Final = Parameter("q", text(1000), "Words that all occur in the message")

NO_STORE: Final = {"Cache-Control": "no-store", "Vary": "Accept"}


def letters(
    request: Request,
    wanted: Wanted,
    *,
    newest_first: bool = False,
    shown: Callable[[OpenedEntry], bytes] = OpenedEntry.as_kvt,
) -> Fetch:
    """Private messages that fit, in plain, in receive order; marks are positions. newest_first -- unless asked else."""
    services, descending = services_of(request), is_descending(request, newest_first=newest_first)
    end = services.log.position

    async def fetch(mark: Mark | None, limit: int) -> Chunk:
        after = int(mark or 0)
        if descending and mark is not None and after <= 1:
            return Chunk([], None)
        found = await services.mailbox.find(wanted, after=after, limit=limit + 1, descending=descending)
        fitting = [one for one in found if one.entry.position <= end]
        page = fitting[:limit]
        more = len(fitting) > limit or (len(found) > limit and descending)
        return Chunk([shown(one) for one in page], page[-1].entry.position if page and more else None)

    return fetch


def wants_opened(request: Request) -> bool:
    """Whether an answer about one message is to be in plain."""
    return bool(PRIVATE.of(request)) or _released(request) is not None


def opened_for(request: Request, services: Services, entry: Entry) -> OpenedEntry | None:
    """The message in plain, None where there is nothing to open or it is not for us.

    Raises Problem unbox-failed when a released key is given and is another message's.
    """
    released = _released(request)
    if released is None or boxed_content(entry.text) is None:
        return services.mailbox.open(entry) if PRIVATE.of(request) else None
    opened = services.mailbox.open_released(entry, released)
    if opened is None:
        raise Problem("unbox-failed", "This key does not open the message.")
    return opened


def letter_answer(request: Request, message: bytes) -> Response:
    """One message that may be in plain: whatever it is, a key that comes later may change it, so it is not kept."""
    return written(request, message, headers=NO_STORE)


def _released(request: Request) -> str | None:
    """From the query, or from a link (`%….sha256?unbox=…`) that stands percent-encoded in the path as a whole."""
    _, _, query = str(request.path_params.get("id", "")).partition("?")
    return query[6:] if query.startswith("unbox=") else UNBOX.of(request)
