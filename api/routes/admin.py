"""Care of the store: views made anew, old messages erased, the file made small again, backups of the running node."""

import asyncio
import re
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import document
from api.bodies import read_object, wrong
from api.errors import Problem
from api.models import BackedUp, BackupBody, ReindexBody, Reindexing, Retained, RetentionBody, Vacuumed
from api.negotiation import Form
from api.openapi import also, describe
from api.services import services_of
from feeds.backup import BackupUnderWay, back_up
from feeds.message import JsonValue
from feeds.retention_rules import parse_rules

__all__ = ["router"]

FOLDER: Final = "backups"
"""In the data directory. No other place is written to for a program, whatever it asks for."""
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

router: Final = APIRouter(prefix="/v1/admin", tags=["admin"])


@router.post(
    "/reindex",
    summary="Make views anew from the log",
    responses=also(202, Reindexing, "Begun; /v1/status tells how far it is", Form.MSGPACK),
    openapi_extra=describe(body=ReindexBody),
)
async def reindex(request: Request) -> Response:
    services = services_of(request)
    known = services.indexer.names
    wanted: JsonValue = None
    if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
        order = await read_object(request, services.settings)
        order.only("views")
        wanted = order.get("views")
    if wanted is None:
        wanted = [*known]
    names = [name for name in wanted if isinstance(name, str)] if isinstance(wanted, list) else []
    if not names or wanted != names:
        raise wrong("views", "must be a list of names of views, at least one; leave it out for all")
    for name in names:
        if name not in known:
            raise wrong("views", f"must be of {', '.join(known)}")
    begun = await services.indexer.rebuild(names)
    return document(request, {"views": begun, "messages": services.log.position}, status=202)


@router.post(
    "/vacuum",
    summary="Write the database file anew without what was deleted",
    responses=also(200, Vacuumed, "Done; nothing could be written meanwhile", Form.MSGPACK),
)
async def vacuum(request: Request) -> Response:
    return document(request, {"freed_bytes": await services_of(request).database.vacuum()})


@router.post(
    "/retention",
    summary="Erase what rules say need not be kept, or tell what that would be",
    responses=also(200, Retained, "Done, or reckoned; views are made anew where something went", Form.MSGPACK),
    openapi_extra=describe(body=RetentionBody),
)
async def retention(request: Request) -> Response:
    services = services_of(request)
    order = await read_object(request, services.settings)
    order.only("rules", "dry_run")
    dry_run = order.get("dry_run") is not None and order.flag("dry_run")
    text = order.optional_text("rules")
    rules = services.retention_rules if text is None else parse_rules(text)
    work = services.retention.plan if dry_run else services.retention.apply
    outcome = await work(rules, now=int(services.now() * 1000))
    shares = [share._asdict() for share in outcome.rules]
    return document(request, {"dry_run": dry_run, **outcome._asdict(), "rules": shares})


@router.post(
    "/backup",
    summary="Back up the running node, without its key, into a folder of the data directory",
    responses=also(200, BackedUp, "Done", Form.MSGPACK),
    openapi_extra=describe(body=BackupBody),
)
async def backup(request: Request) -> Response:
    services = services_of(request)
    name: JsonValue = None
    if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
        order = await read_object(request, services.settings)
        order.only("directory")
        name = order.get("directory")
    if name is None:
        name = "main"
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise wrong("directory", "must be a name of letters, digits, - and _, at most 64 of them, and no path")
    folder = services.database.path.parent
    now = int(services.now() * 1000)
    try:
        made = await asyncio.to_thread(back_up, folder, folder / FOLDER / name, services.me, key=None, now=now)
    except BackupUnderWay:
        raise Problem("backup-running", "Another backup into this folder is under way; ask again later.") from None
    answer: dict[str, JsonValue] = {"directory": f"{FOLDER}/{name}", **made._asdict()}
    del answer["sha256"], answer["key"]
    return document(request, answer)
