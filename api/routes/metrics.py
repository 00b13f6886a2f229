"""Figures for Prometheus and what reads like it. Counters begin at 0 when the node starts."""

import resource
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.events import open_streams
from api.exposition import MEDIA_TYPE, Metric, counter, exposition, gauge
from api.footprint import database_bytes, free_bytes, resident_bytes
from api.services import Services, feed_state, services_of
from replication.peer_info import Direction, PeerState

__all__ = ["router"]

router: Final = APIRouter(tags=["node"])

STATES: Final = ("open", "locked", "forked")
DELIVERED: Final = ("added", "duplicate", "invalid", "fork", "gap")
_TEXT: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "Now", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


@router.get("/metrics", summary="Figures in Prometheus' text format", responses=_TEXT, response_class=Response)
async def metrics(request: Request) -> Response:
    services = services_of(request)
    found = [
        *_log(services),
        *_peers(services),
        *_blobs(services),
        *_http(request),
        *_process(services),
    ]
    return Response(exposition(found), media_type=MEDIA_TYPE)


def _log(services: Services) -> Iterator[Metric]:
    feeds = services.log.feeds()
    state = feed_state(services, services.me)
    yield gauge("sbot_log_position", "Messages received so far: the position of the last.", services.log.position)
    yield gauge("sbot_messages", "Messages held.", sum(feed.messages for feed in feeds))
    yield gauge("sbot_message_bytes", "Bytes of the texts of messages held.", sum(feed.bytes for feed in feeds))
    yield gauge("sbot_feeds", "Feeds of which something is held.", len(feeds))
    yield gauge("sbot_own_sequence", "Messages of our own feed.", services.log.sequence(services.me))
    yield gauge("sbot_own_feed", "1 for the state of our own feed.", {s: int(s == state) for s in STATES}, "state")
    behind = {"": 0} | services.indexer.behind
    yield gauge("sbot_index_behind_max", "Messages that the view furthest behind lacks.", max(behind.values()))
    yield gauge("sbot_index_behind", "Messages that a view lacks, where it does.", services.indexer.behind, "view")
    delivered = dict.fromkeys(DELIVERED, 0) | services.ingest.counts
    yield counter("sbot_delivered_total", "Messages delivered by peers, by what became of them.", delivered, "result")


def _peers(services: Services) -> Iterator[Metric]:
    peers = [peer for peer in services.peers.peers() if peer.state is PeerState.CONNECTED]
    by_direction = {str(way): sum(peer.direction is way for peer in peers) for way in Direction}
    traffic, status = services.peers.traffic(), services.replication.status()
    yield gauge("sbot_peers", "Peers connected.", by_direction, "direction")
    yield counter("sbot_connections_total", "Connections with peers.", traffic.connections)
    yield counter("sbot_callers_refused_total", "Callers turned away in or before the handshake.", traffic.refused)
    moved = {"in": traffic.bytes_in, "out": traffic.bytes_out}
    yield counter("sbot_peer_bytes_total", "Bytes over connections with peers.", moved, "direction")
    exchanged = {
        way: sum(int(peer.get(member, 0)) for peer in status["peers"])
        for way, member in (("in", "received"), ("out", "sent"))
    }
    help = "Messages exchanged by EBT over the connections that are open."
    yield gauge("sbot_peer_messages", help, exchanged, "direction")
    yield gauge(
        "sbot_messages_missing", "Messages that peers say they have and we want.", status["messages"]["missing"]
    )
    yield gauge("sbot_feeds_wanted", "Feeds that we want.", status["feeds"]["wanted"])


def _blobs(services: Services) -> Iterator[Metric]:
    totals = services.blobs.totals()
    yield gauge("sbot_blobs", "Blobs held.", totals.blobs)
    yield gauge("sbot_blob_bytes", "Bytes of blobs held.", totals.bytes)
    help = "Bytes of blobs that count against the quota."
    yield gauge("sbot_blob_foreign_bytes", help, totals.foreign_bytes)
    yield gauge("sbot_blob_quota_bytes", "Room for those.", services.blobs.limits.quota)
    yield gauge("sbot_blobs_wanted", "Blobs wanted and not held.", totals.wants)


def _http(request: Request) -> Iterator[Metric]:
    answers: Counter[int] = request.app.state.answers
    by_class = {f"{figure}xx": answers[figure] for figure in range(2, 6)}
    yield counter("sbot_http_answers_total", "HTTP answers by class of status.", by_class, "status")
    yield gauge("sbot_event_streams", "Event streams open.", open_streams(request.app))
    breaches: Counter[str] = Counter(services_of(request).peers.traffic().breaches) + request.app.state.breaches
    yield counter("sbot_limit_breaches_total", "Times that a limit held somebody back.", breaches, "limit")


def _process(services: Services) -> Iterator[Metric]:
    path = services.database.path
    used = resource.getrusage(resource.RUSAGE_SELF)
    yield gauge("sbot_database_bytes", "Bytes of the database's files.", database_bytes(path))
    yield gauge("sbot_disk_free_bytes", "Room left on its disk.", free_bytes(path))
    yield gauge("process_resident_memory_bytes", "Memory in use.", resident_bytes())
    seconds = used.ru_utime + used.ru_stime
    yield counter("process_cpu_seconds_total", "Processor time used.", round(seconds, 3))
    yield gauge("process_start_time_seconds", "When the node started, since 1970.", round(services.started, 3))
    yield gauge("sbot_info", "1, with the version.", {services.version: 1}, "version")
