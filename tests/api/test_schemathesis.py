"""Every route of a whole running node, asked with what its description allows and with what it does not.

Whatever is sent, no answer is a fault of the node; answers have the status, type and shape that the document says, and
errors are problems of the table. The same cases each time: PYSBOT_SCHEMATHESIS is how many of each kind a route gets,
PYSBOT_SCHEMATHESIS_SEED another choice of them.
"""

import asyncio
import base64
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance
from starlette.routing import Route

from api.app import ROUTERS
from api.errors import KINDS
from node import config
from node.sbot import Sbot
from tests.support import builders

# The node in its thread uses the random module while cases are drawn in another.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")

EXAMPLES: Final = int(os.environ.get("PYSBOT_SCHEMATHESIS", "1"))
SEED: Final = os.environ.get("PYSBOT_SCHEMATHESIS_SEED")
UNAVAILABLE: Final = {
    ("POST /v1/rooms", 502),
    ("POST /v1/rooms", 504),
    ("POST /v1/rooms/{id}/aliases", 502),
    ("POST /v1/rooms/{id}/aliases", 504),
    ("DELETE /v1/rooms/{id}/aliases/{alias}", 502),
    ("DELETE /v1/rooms/{id}/aliases/{alias}", 504),
    ("POST /v1/aliases/consume", 502),
    ("POST /v1/aliases/consume", 504),
    ("POST /v1/peers", 502),
    ("POST /v1/peers", 504),
    ("POST /v1/sign-in/solve", 502),
    ("POST /v1/sign-in/solve", 504),
    ("POST /v1/sign-in/start", 502),
    ("POST /v1/auth/request", 502),
}
"""What another node has to answer: it is not there."""
LONGEST_QUERY: Final = 60_000
"""Bytes: the server hangs up on whose request has a head that is much longer."""
NOWHERE: Final = "http://127.0.0.1:9/"
"""Where webhooks may go in this test."""
ENDLESS: Final = "GET /v1/stream"
METHODS: Final = [
    "whoami",
    "manifest",
    "version",
    "status",
    "address",
    "get",
    "getLatest",
    "getFeedState",
    "getVectorClock",
    "latestSequence",
    "blobs.has",
    "blobs.meta",
    "blobs.size",
    "blobs.rm",
    "blobs.push",
    "conn.dbPeers",
    "conn.forget",
    "ebt.peerStatus",
    "ebt.request",
    "friends.follow",
    "friends.get",
    "friends.hops",
    "friends.isBlocking",
    "gossip.peers",
    "gossip.remove",
    "private.publish",
    "private.unbox",
    "progress",
    "publish",
    "replicate.request",
    "createLogStream",
    "createFeedStream",
    "createUserStream",
    "createHistoryStream",
    "messagesByType",
    "links",
    "blobs.get",
    "blobs.ls",
    "private.read",
    "latest",
    "blobs.add",
    "ebt.replicate",
    "nothing",
]
"""By their old names: what ends by itself and dials nobody."""
ROUTES: Final = sorted(
    f"{method} {route.path_format}"
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, Route)
    for method in route.methods or ()
)


@dataclass(frozen=True, slots=True)
class Running:
    """A node in a thread of its own, and what it holds."""

    url: str
    session: requests.Session
    operations: dict[str, Any]
    known: dict[str, list[str]]
    """Ids by the beginning of the paths that take them."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("node")
    flags = {"host": "127.0.0.1", "port": "0", "http_port": "0", "lan": "false", "path": str(folder)}
    loop = asyncio.new_event_loop()
    opened: list[Any] = []
    ready, stop = threading.Event(), asyncio.Event()

    async def run() -> None:
        try:
            async with Sbot.open(config.load(flags, {})) as sbot:
                opened.append((sbot, await filled(sbot)))
                ready.set()
                await stop.wait()
        finally:
            ready.set()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), name="node")
    thread.start()
    try:
        assert ready.wait(30)
        ((sbot, known),) = opened
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {sbot.directory.http_token()}"
        document = session.get(f"{sbot.http.url}/openapi.json", timeout=10).json()
        operations = {}
        for result in schemathesis.openapi.from_dict(document).get_all_operations():
            assert isinstance(result, Ok), result
            operation = result.ok()
            operations[f"{operation.method.upper()} {operation.path}"] = operation
        yield Running(sbot.http.url, session, operations, known)
        session.close()
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()


async def filled(sbot: Sbot) -> dict[str, list[str]]:
    """Something of each kind."""
    ingest = sbot.store.ingest
    friend = builders.Feed(builders.keypair("friend"))
    root = await ingest.publish({"type": "post", "text": "root #tag", "channel": "tag"})
    reply = friend.append({"type": "post", "text": "reply", "root": root.id, "branch": root.id})
    vote = friend.append({"type": "vote", "vote": {"link": root.id, "value": 1, "expression": "Like"}})
    about = friend.append({"type": "about", "about": friend.id, "name": "friend"})
    report = await ingest.add([reply, vote, about], source="test")
    assert report.added == 3
    private = await ingest.publish({"type": "post", "text": "psst"}, recps=[friend.id])
    await ingest.publish({"type": "contact", "contact": friend.id, "following": True})
    blob = await sbot.store.blobs.add(b"\x89PNG\r\n\x1a\n" + bytes(5000))
    messages = [root.id, private.id, *friend.ids]
    return {
        "/v1/messages/": messages,
        "/v1/threads/": messages,
        "/v1/private/": messages,
        "/v1/feeds/": [sbot.id, friend.id],
        "/v1/profiles/": [sbot.id, friend.id],
        "/v1/replication/": [sbot.id, friend.id],
        "/v1/blobs/": [blob.id],
        "/v1/rpc/": METHODS,
    }


def test_the_stream_of_events_begins_and_goes_on(node: Running) -> None:
    with node.session.get(f"{node.url}/v1/stream?since=0", stream=True, timeout=5) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith(b"event:")) == b"event: message"
    assert "text/event-stream" in json.dumps(node.operations[ENDLESS].definition.raw["responses"])


def test_all_methods_are_there_over_http(node: Running) -> None:
    """The whole table behind POST /v1/rpc, with what the node holds."""

    def call(method: str, *args: Any, **more: Any) -> requests.Response:
        return node.session.post(f"{node.url}/v1/rpc/{method}", json=list(args), timeout=20, **more)

    me = call("whoami").json()["id"]
    assert me == node.known["/v1/feeds/"][0]
    lines = call("createLogStream", {"limit": 3}).text.splitlines()
    assert [json.loads(line)["key"] for line in lines][:1] == node.known["/v1/messages/"][:1]
    assert call("latestSequence", me).json() == call("getLatest", me).json()["value"]["sequence"]
    with call("createLogStream", {"live": True, "old": False, "limit": 1}, stream=True) as live:
        assert live.status_code == 200
        made = node.session.post(f"{node.url}/v1/posts", json={"text": "now"}, timeout=5).json()
        assert json.loads(next(live.iter_lines()))["key"] == made["key"]
    (blob,) = node.known["/v1/blobs/"]
    assert call("blobs.size", blob).json() == 5008
    assert len(call("blobs/get", blob, headers={"Accept": "application/octet-stream"}).content) == 5008
    data = os.urandom(200_000)
    assert node.session.post(f"{node.url}/v1/rpc/blobs.add", data=data, timeout=20).status_code == 204
    added = call("blobs.ls", {"meta": True}).text.splitlines()[-1]
    stored = node.session.get(f"{node.url}/v1/blobs/{quote(json.loads(added)['id'], safe='')}", timeout=5)
    assert stored.content == data
    assert base64.b64decode(json.loads(call("blobs.get", blob).text.splitlines()[0]))[:4] == b"\x89PNG"


@pytest.mark.parametrize("route", [route for route in ROUTES if route != ENDLESS])
def test_no_request_makes_the_node_fail(node: Running, route: str) -> None:
    operation = node.operations[route]
    print(f"{route}: {EXAMPLES} of each kind, seed {SEED or 'fixed'}")

    @settings(
        max_examples=2 * EXAMPLES,
        derandomize=SEED is None,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases(node, route, operation))
    def ask(case: Any) -> None:
        if len(urlencode(case.query or {}, doseq=True, errors="replace")) < LONGEST_QUERY:
            check(route, case, case.call(node.url, session=node.session, timeout=20))

    if SEED is not None:
        seed(int(SEED))(ask)
    ask()


def cases(node: Running, route: str, operation: Any) -> st.SearchStrategy[Any]:
    """What the description allows, and what it does not; half the ids in paths are of what is here."""
    made = st.one_of(operation.as_strategy(GenerationMode.POSITIVE), operation.as_strategy(GenerationMode.NEGATIVE))
    known = next((ids for start, ids in node.known.items() if start in route), [])

    @st.composite
    def changed(draw: st.DrawFn) -> Any:
        case = draw(made)
        if known and "{" in route and (draw(st.booleans()) or route.startswith("POST /v1/rpc")):
            case.path_parameters = {name: draw(st.sampled_from(known)) for name in case.path_parameters or {}}
        if isinstance(case.body, dict) and isinstance(case.body.get("url"), str):
            case.body["url"] = NOWHERE
        return case

    return changed()


def check(route: str, case: Any, answer: Any) -> None:
    """What must be true of every answer."""
    status = answer.status_code
    if status >= 400:
        problem = answer.json()
        assert answer.headers["content-type"] == ["application/problem+json"], problem
        assert KINDS[problem["code"]].status == status == problem["status"], problem
        assert status < 500 or (route, status) in UNAVAILABLE, problem
        return
    documented = case.operation.definition.raw["responses"]
    assert str(status) in documented, f"{status} is not documented"
    case.validate_response(answer, checks=[content_type_conformance, response_schema_conformance])
