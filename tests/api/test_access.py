"""Who may ask: token, Host, Origin; what every answer carries; unknown paths and methods."""

import base64
from pathlib import Path

import httpx
import pytest
from starlette.routing import Route
from starlette.types import Message

from api.app import ROUTERS
from api.auth import OPEN_PATHS, Access
from api.services import HttpSettings
from tests.support.api import TOKEN, Api, open_api

IN_MODULE = pytest.mark.asyncio(loop_scope="module")

BEARER = {"Authorization": f"Bearer {TOKEN}"}


def code(response: httpx.Response) -> str:
    """The problem code of an error answer, which must be a whole problem document."""
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert {"type", "title", "status", "detail", "instance", "code"} <= set(problem)
    assert problem["status"] == response.status_code
    return str(problem["code"])


def every_route() -> list[tuple[str, str]]:
    return [
        (method, route.path.replace("{id:path}", "x"))
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, Route)
        for method in sorted(route.methods or ())
    ]


@pytest.mark.parametrize(("method", "path"), every_route())
@IN_MODULE
async def test_all_but_three_paths_want_the_token(shared: Api, method: str, path: str) -> None:
    async with shared.stranger() as stranger:
        answer = await stranger.request(method, path)
    if path in OPEN_PATHS:
        assert answer.status_code == 200
    else:
        assert answer.status_code == 401
        assert code(answer) == "unauthorized"
        assert answer.headers["www-authenticate"].startswith("Bearer ")
    assert shared.store.log.position == 0


@pytest.mark.parametrize(
    "path", ["/docs", "/openapi.json", "/nonsense", "/", "/v1/info/", "//v1/info", "/v1/%2e%2e/healthz"]
)
@IN_MODULE
async def test_paths_outside_the_routes_want_the_token_too(shared: Api, path: str) -> None:
    async with shared.stranger() as stranger:
        assert (await stranger.get(path)).status_code == 401


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN} x"],
)
@IN_MODULE
async def test_wrong_tokens(shared: Api, value: str) -> None:
    async with shared.stranger(Authorization=value) as stranger:
        answer = await stranger.get("/v1/whoami")
    assert answer.status_code == 401
    assert code(answer) == "unauthorized"
    assert TOKEN not in answer.text


@IN_MODULE
async def test_two_authorization_headers_are_none(shared: Api) -> None:
    async with shared.stranger() as stranger:
        headers = [("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer other")]
        assert (await stranger.get("/v1/whoami", headers=headers)).status_code == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
@IN_MODULE
async def test_the_scheme_has_no_case(shared: Api, scheme: str) -> None:
    async with shared.stranger(Authorization=f"{scheme} {TOKEN}") as stranger:
        assert (await stranger.get("/v1/whoami")).status_code == 200


@IN_MODULE
async def test_a_browser_opens_the_documents_with_the_token_as_password(shared: Api) -> None:
    basic = "Basic " + base64.b64encode(f"me:{TOKEN}".encode()).decode()
    async with shared.stranger(Authorization=basic) as browser:
        assert (await browser.get("/docs")).status_code == 200
        assert (await browser.get("/openapi.json")).status_code == 200
        assert (await browser.get("/v1/whoami")).status_code == 401
    async with shared.stranger(Authorization="Basic !!!") as browser:
        answer = await browser.get("/docs")
        assert answer.status_code == 401
        # Chromium reads one challenge of each header, and asks for a password only when that is Basic.
        schemes = [challenge.partition(" ")[0] for challenge in answer.headers.get_list("www-authenticate")]
        assert schemes == ["Bearer", "Basic"]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8989", "localhost", "LOCALHOST:1", "[::1]", "[::1]:65535", "localhost:80"]
)
@IN_MODULE
async def test_loopback_names_with_any_port(shared: Api, host: str) -> None:
    assert (await shared.client.get("/v1/whoami", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8989",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "127.0.0.1@evil.test",
        "localhost:8989:1",
        "localhost:port",
        "",
        "::1",
        "[::1",
        "localhost\t",
        "0.0.0.0",
        "127.0.0.2",
        "x.test#localhost",
    ],
)
@pytest.mark.parametrize("path", ["/v1/whoami", "/v1/info", "/healthz"])
@IN_MODULE
async def test_foreign_hosts_get_nothing(shared: Api, host: str, path: str) -> None:
    answer = await shared.client.get(path, headers={"Host": host})
    assert answer.status_code == 403
    assert code(answer) == "host-not-allowed"
    assert shared.me not in answer.text


async def test_configured_names(tmp_path: Path) -> None:
    async with open_api(tmp_path, HttpSettings(hosts=["Node.Example", "fd00::7"])) as api:
        for host in ("node.example", "NODE.example:443", "[fd00::7]:8989", "127.0.0.1"):
            assert (await api.client.get("/v1/whoami", headers={"Host": host})).status_code == 200
        assert (await api.client.get("/v1/whoami", headers={"Host": "other.example"})).status_code == 403


def test_two_host_headers_are_refused() -> None:
    scope = {"method": "GET", "path": "/healthz", "headers": [(b"host", b"localhost"), (b"host", b"localhost")]}
    refusal = Access(TOKEN).refusal(scope)
    assert refusal is not None
    assert refusal.code == "host-not-allowed"


BODY = {"content": {"type": "post", "text": "hello"}}


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "ftp://127.0.0.1:8989"},
        {"Origin": "http://127.0.0.1:8989.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://127.0.0.1:8989", "Sec-Fetch-Site": "cross-site"},
    ],
)
@IN_MODULE
async def test_pages_of_other_origins_may_not_write(shared: Api, headers: dict[str, str]) -> None:
    for method, path in (("POST", "/v1/messages"), ("PUT", "/v1/profiles/x/follow"), ("DELETE", "/v1/peers/x")):
        answer = await shared.client.request(method, path, headers=headers, json=BODY)
        assert answer.status_code == 403
        assert code(answer) == "origin-not-allowed"
    assert shared.store.log.position == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://127.0.0.1:8989"},
        {"Origin": "http://127.0.0.1:8989", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_our_own_pages_may_write(api: Api, headers: dict[str, str]) -> None:
    assert (await api.client.post("/v1/messages", headers=headers, json=BODY)).status_code == 201


async def test_configured_origins_may_write(tmp_path: Path) -> None:
    async with open_api(tmp_path, HttpSettings(origins=["https://App.example"])) as api:
        for origin, status in (("https://app.example", 201), ("http://app.example", 403)):
            answer = await api.client.post("/v1/messages", headers={"Origin": origin}, json=BODY)
            assert answer.status_code == status


SECURITY = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/info"),
        ("GET", "/v1/whoami"),
        ("GET", "/docs"),
        ("GET", "/nonsense"),
        ("PATCH", "/v1/whoami"),
        ("POST", "/v1/messages"),
        ("GET", "/v1/messages?limit=x"),
        ("HEAD", "/v1/status"),
        ("OPTIONS", "/v1/messages"),
    ],
)
@IN_MODULE
async def test_every_answer_carries_the_security_headers(shared: Api, method: str, path: str) -> None:
    answer = await shared.client.request(method, path)
    for name, value in SECURITY.items():
        assert answer.headers[name] == value
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "server" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"


@IN_MODULE
async def test_cors_is_off_but_for_info(shared: Api) -> None:
    headers = {"Origin": "https://somewhere.example"}
    assert (await shared.client.get("/v1/info", headers=headers)).headers["access-control-allow-origin"] == "*"
    for path in ("/v1/whoami", "/healthz", "/nonsense"):
        assert "access-control-allow-origin" not in (await shared.client.get(path, headers=headers)).headers
    preflight = {**headers, "Access-Control-Request-Method": "POST"}
    answer = await shared.client.options("/v1/messages", headers=preflight)
    assert answer.status_code == 405
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/messages", "GET, HEAD, POST"),
        ("POST", "/v1/whoami", "GET, HEAD"),
        ("PATCH", "/v1/profiles/x/follow", "DELETE, PUT"),
        ("GET", "/v1/profiles/x/block", "DELETE, PUT"),
        ("POST", "/v1/messages/x", "DELETE, GET, HEAD"),
        ("DELETE", "/openapi.json", "GET, HEAD"),
        ("GET", "/v1/peers/x", "DELETE"),
        ("GET", "/v1/blobs/x/want", "POST"),
        ("GET", "/v1/blobs/x/pin", "DELETE, PUT"),
        ("TRACE", "/v1/info", "GET, HEAD"),
    ],
)
@IN_MODULE
async def test_methods_that_a_path_does_not_take(shared: Api, method: str, path: str, allowed: str) -> None:
    answer = await shared.client.request(method, path)
    assert answer.status_code == 405
    assert code(answer) == "method-not-allowed"
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "/v1/whoami%0A",
        "/healthz%0A",
        "/v2/info",
        "/v1/message",
        "/etc/passwd",
        "/v1/info/x",
        "/docs/x",
    ],
)
@IN_MODULE
async def test_unknown_paths(shared: Api, path: str) -> None:
    answer = await shared.client.get(path)
    assert answer.status_code == 404
    assert code(answer) == "not-found"
    assert answer.json()["instance"] == path


async def test_head_is_get_without_the_body(api: Api) -> None:
    (message,) = await api.publish("hello")
    for path in ("/v1/info", "/v1/messages", f"/v1/messages/{message.replace('%', '%25')}", "/openapi.json"):
        get, head = await api.client.get(path), await api.client.head(path)
        assert head.status_code == get.status_code == 200
        assert head.content == b""
        assert head.headers["content-length"] == str(len(get.content))
        assert head.headers.get("etag") == get.headers.get("etag")


async def test_head_of_endless_answers_ends(api: Api) -> None:
    await api.publish("one", "two")
    head = await api.client.head("/v1/stream")
    assert head.status_code == 200
    assert head.headers["content-type"].startswith("text/event-stream")
    assert head.content == b""
    head = await api.client.head("/v1/messages", headers={"Accept": "application/x-ndjson"})
    assert head.headers["content-type"] == "application/x-ndjson"
    assert head.content == b""
    assert not api.app.state.streams


@IN_MODULE
async def test_websockets_are_not_spoken(shared: Api) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await shared.app({"type": "websocket", "path": "/v1/stream", "headers": []}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]
