"""Every route with every kind of nonsense in every place: a refusal each time, never a failure, never a change."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from tests.api.test_access import code
from tests.support import builders
from tests.support.api import Api

FEED = builders.keypair("someone").id
TEXTS = [
    *(
        "",
        " ",
        "x",
        "0",
        "-1",
        "1e3",
        "null",
        "true",
        "NaN",
        "1" * 400,
        "x" * 3000,
        "\x00",
        "a\x00b",
        "\x7f",
        "é",
        "🎉",
    ),
    *("%", "%00", "%25", "..", "../../etc/passwd", "/etc/passwd", "//", ";", "?", "#", "' OR 1=1 --", "<script>", "*"),
    *(
        "@",
        "@=.ed25519",
        "%=.sha256",
        "ssb:",
        "ssb:message/sha256/",
        "ssb://feed/ed25519/x",
        "net:x:1~shs:x",
        "\r\nX: y",
    ),
    *(builders.message_id(1), FEED, builders.blob_id(1), "A" * 43 + "=", "A" * 44, "_" * 42 + "A="),
]
RAW = ["%", "%2", "%zz", "%ff", "%c0%ae%c0%ae", "%ed%a0%80", "%F0%9F", "%0d%0a", "%2e%2e%2f", "%252e", "+", "%u0041"]
VALUES: list[Any] = [
    *(None, True, 0, -1, 1.5, 1e308, 2**70, "", "x", "\ud800", "\x00", FEED),
    *([], [[]], {}, {"": ""}, {"type": 1}, ["x"] * 100),
]


class Operation(NamedTuple):
    method: str
    path: str
    described: dict[str, Any]

    def names(self, place: str) -> list[str]:
        return [found["name"] for found in self.described.get("parameters", []) if found["in"] == place]


def operations(api: Api) -> Iterator[Operation]:
    for path, item in api.app.openapi()["paths"].items():
        for method, described in item.items():
            if path != "/v1/stream":  # endless; tests of its own
                yield Operation(method.upper(), path, described)


@pytest.fixture
def send(api: Api, caplog: pytest.LogCaptureFixture) -> "Sender":
    return Sender(api, caplog)


class Sender:
    """Sends requests and looks at what came of them."""

    def __init__(self, api: Api, caplog: pytest.LogCaptureFixture) -> None:
        self._api = api
        self._caplog = caplog
        self.sent = 0

    async def __call__(self, method: str, path: str, **rest: Any) -> None:
        before = self._api.store.log.position
        answer = await self._api.client.request(method, path, **rest)
        self.sent += 1
        shown = (method, path, rest, answer.status_code, answer.text[:500])
        assert answer.status_code < 500, shown
        assert not [record for record in self._caplog.records if record.levelname == "ERROR"], shown
        assert "Traceback" not in answer.text, shown
        if answer.status_code >= 400:
            code(answer)
            assert self._api.store.log.position == before, shown


async def test_paths(api: Api, send: Sender) -> None:
    for method, path, _ in operations(api):
        if "{id}" in path:
            for text in [*(quote(text, safe="") for text in TEXTS), *RAW]:
                await send(method, path.replace("{id}", text))
        for suffix in ("/", "/x", "/..%2f..%2fsecret", "%00", "/raw/raw", ";x=1"):
            await send(method, path.replace("{id}", quote(FEED, safe="")) + suffix)
    assert send.sent > 500


async def test_queries(api: Api, send: Sender) -> None:
    for operation in operations(api):
        if operation.method == "GET":
            path = operation.path.replace("{id}", quote(api.me, safe=""))
            for name in operation.names("query"):
                for text in [*(quote(text, safe="") for text in TEXTS), *RAW]:
                    await send("GET", f"{path}?{name}={text}")
    for query in ("&&&", "=", "==&=", "%", "\xff", "a" * 10_000, "limit", "limit[]=1", "&".join(["limit=1"] * 2000)):
        await send("GET", "/v1/messages?" + quote(query, safe="&=%[]"))
    assert send.sent > 400


async def test_headers(api: Api, send: Sender) -> None:
    names = [
        "Accept",
        "If-None-Match",
        "Content-Type",
        "Content-Length",
        "Content-Encoding",
        "Origin",
        "Sec-Fetch-Site",
    ]
    for operation in operations(api):
        path = operation.path.replace("{id}", quote(api.me, safe=""))
        for name in [*names, *operation.names("header")]:
            for text in ("", ",", ";", "*", '"', "\x80\xff", "x" * 5000, "a/b;q=9e999", "*/*;q=-1", "-1", "1" * 5000):
                await send(operation.method, path, headers=[(name.encode(), text.encode("latin-1"))])


async def test_bodies(api: Api, send: Sender) -> None:
    json_type = {"Content-Type": "application/json"}
    for operation in operations(api):
        taken = operation.described.get("requestBody", {"content": {}})["content"]
        if "application/json" not in taken:
            continue
        schema = taken["application/json"]["schema"]
        valid = {"content": {"type": "post"}, "feed": FEED, "replicate": True, "address": "x", "text": "x"}
        valid |= {"server": FEED, "uri": "ssb:x", "cc": "x", "name": "x"}
        valid |= {"scopes": ["read"], "url": "http://127.0.0.1:1/"}
        whole = {name: valid.get(name, "x") for name in schema.get("required", ())}
        bodies = [*VALUES, *({**whole, name: value} for name in [*whole, "recps", "extra"] for value in VALUES)]
        others = set(schema.get("properties", ())).difference(whole)
        bodies += [{**whole, name: value} for name in sorted(others) for value in VALUES[::3]]
        bodies += [{**whole, "content": {"type": "post", "x": value}} for value in VALUES]
        for body in bodies:
            await send(operation.method, operation.path, content=json.dumps(body), headers=json_type)
        for raw in (
            b"",
            b"\x00",
            b"\xff",
            b"[" * 50_000,
            b'{"a":' * 50_000,
            b'"' + b"\\u0000" * 9000 + b'"',
            b"1" * 50_000,
        ):
            await send(operation.method, operation.path, content=raw, headers=json_type)
    assert send.sent > 150
