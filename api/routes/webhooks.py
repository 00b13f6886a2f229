"""Webhooks: have messages posted to a web address; `api.webhooks` explains how."""

from typing import Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import document
from api.bodies import Body, read_object, wrong
from api.errors import Problem
from api.ids import any_id, feed_id, message_id
from api.models import NewWebhook, WebhookBody, WebhookList
from api.models import Webhook as WebhookModel
from api.negotiation import Form
from api.openapi import also, describe, listing
from api.paging import PAGE, is_descending, list_answer, slice_of
from api.services import Services, services_of
from api.webhook_filter import WebhookFilter
from api.webhook_sender import check_url
from api.webhook_store import Webhook

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])

MOST_TYPES: Final = 100
MOST_FEEDS: Final = 1000
_RULES: Final = ("types", "feeds", "channel", "mentions", "root")
_WEBHOOK_PATH: Final = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "Id of a webhook",
    "schema": {"type": "string", "maxLength": 64},
}


@router.get(
    "",
    summary="Webhooks and how they fare",
    responses=listing(WebhookList, "The oldest first"),
    openapi_extra=describe(*PAGE),
)
async def list_webhooks(request: Request) -> Response:
    services = services_of(request)
    items = [orjson.dumps(_shown(services, hook)) for hook in services.webhooks.all()]
    if is_descending(request):
        items.reverse()
    return await list_answer(request, slice_of(items), name="webhooks")


@router.post(
    "",
    status_code=201,
    summary="Have messages posted to a web address",
    responses=also(201, NewWebhook, "With the secret that signs deliveries, which is never shown again", Form.MSGPACK),
    openapi_extra=describe(body=WebhookBody),
)
async def create(request: Request) -> Response:
    services = services_of(request)
    body = await read_object(request, services.settings)
    body.only("url", "filter", "secret", "since")
    url = body.text("url")
    if (reason := check_url(url)) is not None:
        raise wrong("url", reason)
    hook = await services.webhooks.create(url, _filter(body), secret=_secret(body), since=_since(body))
    return document(request, {**_shown(services, hook), "secret": hook.secret}, status=201)


@router.get(
    "/{id}",
    summary="One webhook and how it fares",
    responses=also(200, WebhookModel, "Now", Form.MSGPACK),
    openapi_extra=describe(path=_WEBHOOK_PATH),
)
async def one_webhook(request: Request) -> Response:
    services = services_of(request)
    return _answer(request, services.webhooks.get(request.path_params["id"]))


@router.delete("/{id}", status_code=204, summary="Delete a webhook", openapi_extra=describe(path=_WEBHOOK_PATH))
async def delete(request: Request) -> Response:
    if not await services_of(request).webhooks.delete(request.path_params["id"]):
        raise _unknown()
    return Response(status_code=204)


@router.post(
    "/{id}/resume",
    summary="Try a webhook again at once",
    responses=also(200, WebhookModel, "Now", Form.MSGPACK),
    openapi_extra=describe(path=_WEBHOOK_PATH),
)
async def resume(request: Request) -> Response:
    return _answer(request, await services_of(request).webhooks.resume(request.path_params["id"]))


def _answer(request: Request, hook: Webhook | None) -> Response:
    if hook is None:
        raise _unknown()
    return document(request, _shown(services_of(request), hook))


def _unknown() -> Problem:
    return Problem("webhook-not-found", "There is no webhook with this id; GET /v1/webhooks lists them.")


def _shown(services: Services, hook: Webhook) -> dict[str, object]:
    progress = hook.progress
    state = "paused" if progress.paused else "failing" if progress.failures else "active"
    return {
        "id": hook.id,
        "url": hook.url,
        "filter": hook.filter.as_json(),
        "state": state,
        "cursor": hook.cursor,
        "lag": services.webhooks.lag(hook),
        "failures": progress.failures,
        "error": progress.error,
        "next_try": _milliseconds(progress.next_try),
        "delivered": _milliseconds(hook.delivered),
        "created": hook.created * 1000,
    }


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)


# --- the order --------------------------------------------------------------------------------------------------------


def _filter(order: Body) -> WebhookFilter:
    given = order.get("filter")
    if given is None:
        return WebhookFilter()
    if not isinstance(given, dict):
        raise wrong("filter", "must be an object")
    rules = Body(b"", given)
    rules.only(*_RULES)
    types, feeds = _texts(rules, "types", MOST_TYPES, 200), _texts(rules, "feeds", MOST_FEEDS, 512)
    channel, mentions, root = (_text(rules, name) for name in ("channel", "mentions", "root"))
    return WebhookFilter(
        types=None if types is None else frozenset(types),
        feeds=None if feeds is None else frozenset(map(feed_id, feeds)),
        channel=channel,
        mentions=None if mentions is None else any_id(mentions),
        root=None if root is None else message_id(root),
    )


def _texts(rules: Body, name: str, most: int, longest: int) -> list[str] | None:
    given = rules.get(name)
    if given is None:
        return None
    texts = [one for one in given if isinstance(one, str) and _is_text(one, longest)] if isinstance(given, list) else []
    if not isinstance(given, list) or not 0 < len(given) <= most or len(texts) < len(given):
        raise wrong(name, f"must be a list of 1 to {most} texts of at most {longest} characters")
    return texts


def _text(rules: Body, name: str) -> str | None:
    given = rules.get(name)
    if given is None:
        return None
    if not isinstance(given, str) or not _is_text(given, 512):
        raise wrong(name, "must be a text of 1 to 512 characters")
    return given


def _is_text(given: str, longest: int) -> bool:
    """Half of a surrogate pair, which JSON can hold and the store cannot, names nothing."""
    return 0 < len(given) <= longest and not any("\ud800" <= unit <= "\udfff" for unit in given)


def _secret(order: Body) -> str | None:
    given = order.get("secret")
    if given is None:
        return None
    if not isinstance(given, str) or not 16 <= len(given) <= 256 or not given.isascii() or not given.isprintable():
        raise wrong("secret", "must be 16 to 256 printable ASCII characters")
    return given


def _since(order: Body) -> int | None:
    given = order.get("since")
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= 2**53:
        raise wrong("since", "must be a position: a whole number from 0 on")
    return given
