"""The HTTP half of a node: its port, and the server inside the node's event loop."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator

from api.app import create_app
from api.server import HttpServer, bind
from api.services import Examines, HttpSettings, Services
from api.webhooks import Webhooks
from feeds.retention_rules import parse_rules
from node.config import Config
from node.errors import NodeError, PortTaken
from node.store import Store
from node.version import VERSION
from replication.connections import Connections
from replication.explaining import Explainer
from replication.inviting import Inviting
from replication.local_calls import LocalCalls
from replication.replicator import Clocks, Replicator
from replication.room_membership import RoomMembership
from replication.rpc.methods import MethodTable
from replication.sign_in import SignIn

log = logging.getLogger("node.web")

LOOPBACK_NAMES = ("127.0.0.1", "::1", "localhost")


@contextlib.contextmanager
def http_port(config: Config) -> Iterator[socket.socket]:
    """The HTTP port, taken before anything else is opened. Raises NodeError."""
    try:
        listener = bind(config.http_host, config.http_port)
    except socket.gaierror as error:
        raise NodeError(f"{config.http_host} is no address to listen on ({error.strerror}); see --http-host.") from None
    except OSError as error:
        reason = str(error.strerror).lower()
        raise PortTaken(host=config.http_host, port=config.http_port, flag="--http-port", reason=reason) from None
    if config.http_host not in LOOPBACK_NAMES:
        log.warning("the HTTP API is open to other machines, unencrypted, at %s", config.http_host)
    try:
        yield listener
    finally:
        listener.close()


def http_server(
    listener: socket.socket,
    config: Config,
    *,
    token: str,
    me: str,
    store: Store,
    replicator: Replicator,
    connections: Connections,
    explainer: Explainer,
    sign_in: SignIn,
    inviting: Inviting,
    rooms: RoomMembership,
    doctor: Examines,
    webhooks: Webhooks,
    table: MethodTable,
    clocks: Clocks,
) -> HttpServer:
    """The server of one node, not yet started."""
    services = Services(
        me=me,
        version=VERSION,
        token=token,
        database=store.database,
        log=store.log,
        live=store.live,
        ingest=store.ingest,
        indexer=store.indexer,
        graph=store.graph,
        blobs=store.blobs,
        bundles=store.bundles,
        mailbox=store.mailbox,
        peers=connections,
        replication=replicator,
        explainer=explainer,
        publishing=store.publishing,
        erasing=store.erasing,
        retention=store.retention,
        retention_rules=parse_rules(config.retention),
        rpc=LocalCalls(table),
        sign_in=sign_in,
        inviting=inviting,
        rooms=rooms,
        doctor=doctor,
        webhooks=webhooks,
        now=clocks.wall,
        started=clocks.wall(),
        settings=HttpSettings(
            hosts=(config.http_host, *config.http_names),
            body_limit=config.limits.http_body,
            streams=config.limits.http_streams,
        ),
        stopping=asyncio.Event(),
    )
    return HttpServer(create_app(services), listener, stopping=services.stopping)
