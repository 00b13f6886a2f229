"""The node itself: what it is, who it is, how it does, whether it lives."""

from collections import Counter
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import document
from api.errors import Problem
from api.events import open_streams
from api.footprint import database_bytes, free_bytes, resident_bytes
from api.models import Health, Info, Status, Whoami
from api.negotiation import Form
from api.openapi import also
from api.paging import MAX_LIMIT
from api.services import MESSAGE_UNITS, Services, feed_state, services_of, sync_progress
from feeds.formats.registry import FORMATS
from feeds.refs import FeedRef
from replication.peer_info import PeerState

__all__ = ["router"]

router: Final = APIRouter(tags=["node"])

FEATURES: Final = (
    "publish",
    "stream",
    "replication",
    "threads",
    "timelines",
    "votes",
    "channels",
    "idempotency",
    "ndjson",
    "msgpack",
    "private",
    "blobs",
    "profiles",
    "names",
    "search",
    "render",
    "rpc",
    "tokens",
    "webhooks",
    "sign-in",
    "invites",
    "rooms",
    "bundles",
    "deletion",
)
"""What a program may look for before it asks; the names of groups of routes are among them."""


@router.get("/v1/info", summary="What this node is", responses=also(200, Info, "Open to everybody", Form.MSGPACK))
async def info(request: Request) -> Response:
    services = services_of(request)
    value = {
        "id": services.me,
        "software": "pysbot",
        "version": services.version,
        "features": [*FEATURES, *(f"feed:{known.name}" for known in FORMATS)],
        "limits": {
            "message_units": MESSAGE_UNITS,
            "body_bytes": services.settings.body_limit,
            "blob_bytes": services.blobs.limits.max_size,
            "page_items": MAX_LIMIT,
            "event_streams": services.settings.streams,
        },
    }
    headers = {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}
    return document(request, value, headers=headers)


@router.get("/v1/whoami", summary="Our own feed", responses=also(200, Whoami, "Id, tip and state", Form.MSGPACK))
async def whoami(request: Request) -> Response:
    services = services_of(request)
    sequence = services.log.sequence(services.me)
    value = {"id": services.me, "uri": FeedRef.parse(services.me).uri, **services.publishing.status()}
    return document(request, value, headers={"ETag": f'"{sequence}"'})


@router.get("/v1/status", summary="How the node does", responses=also(200, Status, "Now", Form.MSGPACK))
async def status(request: Request) -> Response:
    services = services_of(request)
    feeds = services.log.feeds()
    peers = services.peers.peers()
    behind = services.indexer.behind
    traffic = services.peers.traffic()
    breaches: Counter[str] = Counter(traffic.breaches) + request.app.state.breaches
    value = {
        "id": services.me,
        "version": services.version,
        "state": feed_state(services, services.me),
        "uptime_seconds": round(max(0.0, services.now() - services.started), 3),
        "log": {
            "position": services.log.position,
            "feeds": len(feeds),
            "bytes": sum(feed.bytes for feed in feeds),
        },
        "index": {"ready": not behind, "behind": behind},
        "peers": {
            "connected": sum(peer.state is PeerState.CONNECTED for peer in peers),
            "known": len(peers),
        },
        "sync": sync_progress(services),
        "streams": {"open": open_streams(request.app)},
        "limits": {"refused": traffic.refused, "breaches": dict(sorted(breaches.items()))},
        "blobs": _blobs(services),
        "disk": _disk(services),
        "memory": {"resident_bytes": resident_bytes()},
    }
    return document(request, value)


@router.get("/healthz", summary="Alive", responses=also(200, Health, "The process answers", Form.MSGPACK))
async def healthz(request: Request) -> Response:
    return document(request, {"status": "ok"})


@router.get("/readyz", summary="Ready", responses=also(200, Health, "The store answers", Form.MSGPACK))
async def readyz(request: Request) -> Response:
    services = services_of(request)
    if services.stopping.is_set():
        raise Problem("stopping", "The node is stopping.", headers={"Retry-After": "5"})
    services.database.peek(lambda connection: connection.execute("SELECT 1").fetchone())
    return document(request, {"status": "ready"})


def _blobs(services: Services) -> dict[str, int]:
    totals = services.blobs.totals()
    return {
        "count": totals.blobs,
        "bytes": totals.bytes,
        "foreign_bytes": totals.foreign_bytes,
        "quota_bytes": services.blobs.limits.quota,
        "wanted": totals.wants,
    }


def _disk(services: Services) -> dict[str, int]:
    path = services.database.path
    return {"database_bytes": database_bytes(path), "free_bytes": free_bytes(path)}
