"""POST /v1/rpc: values, streams, sinks, refusals, readers that leave or are slow."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from feeds.message import JsonValue
from replication.errors import RemoteVisible
from replication.rpc.bodies import RawJson
from replication.rpc.methods import Caller, Kind, Method, Who
from replication.rpc.streams import Duplex, Sink, Source
from tests.api.test_access import code
from tests.api.test_tokens import holder
from tests.support.api import TOKEN, Api, connect, serve

BIG = b'"' + b"x" * 60_000 + b'"'


class Methods:
    """What is called, and what became of it."""

    def __init__(self) -> None:
        self.taken = b""
        self.callers: list[Caller] = []
        self.sent = 0
        self.ended = asyncio.Event()

    def add_to(self, api: Api) -> None:
        found: list[tuple[str, Kind, Any]] = [
            ("echo", Kind.ASYNC, self.echo),
            ("group.raw", Kind.SYNC, self.raw),
            ("group.bytes", Kind.ASYNC, self.bytes),
            ("wait", Kind.ASYNC, self.wait),
            ("refuse", Kind.ASYNC, self.refuse),
            ("break", Kind.ASYNC, self.fail),
            ("count", Kind.SOURCE, self.count),
            ("late", Kind.SOURCE, self.late),
            ("endless", Kind.SOURCE, self.endless),
            ("refusing", Kind.SOURCE, self.refusing),
            ("halfway", Kind.SOURCE, self.halfway),
            ("pieces", Kind.SOURCE, self.pieces),
            ("take", Kind.SINK, self.take),
            ("talk", Kind.DUPLEX, self.talk),
        ]
        for name, kind, handler in found:
            api.methods.add(Method(tuple(name.split(".")), kind, Who.LOCAL, handler))

    async def echo(self, caller: Caller, args: list[JsonValue]) -> JsonValue:
        self.callers.append(caller)
        return args

    async def raw(self, _caller: Caller, _args: list[JsonValue]) -> RawJson:
        return RawJson(b'{"b":1e21,"a":"\\ud800"}')

    async def bytes(self, _caller: Caller, _args: list[JsonValue]) -> bytes:
        return b"\x00\xff"

    async def wait(self, _caller: Caller, _args: list[JsonValue]) -> None:
        await self._held(asyncio.sleep(3600))

    async def refuse(self, _caller: Caller, args: list[JsonValue]) -> JsonValue:
        raise RemoteVisible(f"not with {args}")

    async def fail(self, _caller: Caller, _args: list[JsonValue]) -> JsonValue:
        raise RuntimeError("secret of /home/me")

    async def count(self, _caller: Caller, args: list[JsonValue], out: Sink) -> None:
        for n in range(int(str(args[0]))):
            await out.send_value({"n": n, "text": "a\u2028b"})

    async def late(self, _caller: Caller, _args: list[JsonValue], out: Sink) -> None:
        await asyncio.sleep(0.7)
        await out.send_value(1)

    async def endless(self, _caller: Caller, _args: list[JsonValue], out: Sink) -> None:
        async def go_on() -> None:
            while True:
                await out.send([BIG])
                self.sent += 1

        await self._held(go_on())

    async def refusing(self, _caller: Caller, _args: list[JsonValue], _out: Sink) -> None:
        raise RemoteVisible("not today")

    async def halfway(self, _caller: Caller, _args: list[JsonValue], out: Sink) -> None:
        await out.send_value(1)
        await asyncio.sleep(0.05)
        raise RemoteVisible("no more")

    async def pieces(self, _caller: Caller, _args: list[JsonValue], out: Sink) -> None:
        for piece in (b"\x00\xff", b"abc", "text"):
            await out.send_value(piece)

    async def take(self, _caller: Caller, args: list[JsonValue], inp: Source) -> None:
        while batch := await inp.read_batch():
            self.taken += b"".join(body.data for body in batch)
            if args == ["little"]:
                raise RemoteVisible("that is enough")

    async def talk(self, _caller: Caller, _args: list[JsonValue], _both: Duplex) -> None:
        pass

    async def _held(self, job: Any) -> None:
        try:
            await job
        finally:
            self.ended.set()


@pytest.fixture
def methods(api: Api) -> Methods:
    made = Methods()
    made.add_to(api)
    return made


async def call(api: Api, method: str, args: Any = None, **more: Any) -> httpx.Response:
    return await api.client.post(f"/v1/rpc/{method}", json=[] if args is None else args, **more)


async def test_values(api: Api, methods: Methods) -> None:
    answer = await call(api, "echo", [1, "x", {"a": None}])
    assert (answer.status_code, answer.json()) == (200, [1, "x", {"a": None}])
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert (await call(api, "echo", {"only": "one"})).json() == [{"only": "one"}]
    assert (await api.client.post("/v1/rpc/echo")).json() == []
    assert methods.callers[0].local
    for spelled in ("group.raw", "group/raw"):
        assert (await call(api, spelled)).content == b'{"b":1e21,"a":"\\ud800"}'
    answer = await call(api, "group.bytes")
    assert (answer.content, answer.headers["content-type"]) == (b"\x00\xff", "application/octet-stream")


async def test_sources_are_lines(api: Api, methods: Methods) -> None:
    answer = await call(api, "count", [3])
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.text.count("\n") == 3
    assert [json.loads(line) for line in answer.text.splitlines()] == [{"n": n, "text": "a\u2028b"} for n in range(3)]
    assert (await call(api, "count", [0])).content == b""
    assert (await call(api, "late")).content == b"1\n"
    assert (await call(api, "pieces")).content == b'"AP8="\n"YWJj"\n"text"\n'
    answer = await call(api, "pieces", headers={"Accept": "application/octet-stream"})
    assert answer.content == b'\x00\xffabc"text"'
    assert answer.headers["content-type"] == "application/octet-stream"


async def test_sinks_take_the_body(api: Api, methods: Methods) -> None:
    data = bytes(range(256)) * 1000
    answer = await api.client.post("/v1/rpc/take", content=data)
    assert (answer.status_code, answer.content) == (204, b"")
    assert methods.taken == data
    answer = await api.client.post("/v1/rpc/take", params={"args": '["little"]'}, content=data)
    assert code(answer) == "rpc-failed"
    assert answer.json()["error"] == "that is enough"
    for wrong in ("{}", "x", "[" * 2000):
        assert code(await api.client.post("/v1/rpc/take", params={"args": wrong}, content=data)) == "invalid-parameter"
    assert code(await api.client.post("/v1/rpc/take", content=b"x" * 1_000_001)) == "blob-too-large"


async def test_methods_are_for_who_may_everything(api: Api, methods: Methods) -> None:
    for scopes, missing in ((("admin",), "private"), (("read", "publish", "private"), "admin")):
        async with holder(api, *scopes) as client:
            answer = await client.post("/v1/rpc/echo")
            assert code(answer) == "insufficient-scope"
            assert answer.json()["missing"] == missing
    async with holder(api, "admin", "private") as client:
        assert (await client.post("/v1/rpc/echo")).json() == []


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        ("refuse", "rpc-failed"),
        ("refusing", "rpc-failed"),
        ("talk", "method-is-duplex"),
        ("nothing", "method-not-found"),
        ("group", "method-not-found"),
        ("echo.", "method-not-found"),
        ("echo..x", "method-not-found"),
        ("x" * 300, "method-not-found"),
        ("%00", "method-not-found"),
    ],
)
async def test_refusals(api: Api, methods: Methods, method: str, problem: str) -> None:
    answer = await call(api, method)
    assert code(answer) == problem
    if problem == "rpc-failed":
        assert answer.json()["method"] == method


@pytest.mark.parametrize(
    ("body", "headers", "problem"),
    [
        (b"1", {}, "invalid-body"),
        (b"null", {}, "invalid-body"),
        (b"[", {}, "invalid-json"),
        (b"[" * 400 + b"]" * 400, {}, "rpc-failed"),
        (b"[]", {"Content-Type": "text/plain"}, "unsupported-media-type"),
        (b"x" * 2_000_000, {}, "body-too-large"),
    ],
)
async def test_bodies(api: Api, methods: Methods, body: bytes, headers: dict[str, str], problem: str) -> None:
    headers = {"Content-Type": "application/json", **headers}
    assert code(await api.client.post("/v1/rpc/echo", content=body, headers=headers)) == problem


async def test_large_values(api: Api, methods: Methods) -> None:
    text = "é\ud800" * 60_000
    answer = await api.client.post(
        "/v1/rpc/echo", content=json.dumps([text]), headers={"Content-Type": "application/json"}
    )
    assert answer.json() == [text]


async def test_a_fault_is_ours_and_tells_nothing(api: Api, methods: Methods, caplog: pytest.LogCaptureFixture) -> None:
    answer = await call(api, "break")
    assert (answer.status_code, code(answer)) == (500, "internal-error")
    assert "secret" not in answer.text
    assert "secret of" in caplog.text


# --- over a real connection -------------------------------------------------------------------------------------------


def request(method: str) -> bytes:
    head = f"POST /v1/rpc/{method} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
    return f"{head}Content-Length: 0\r\n\r\n".encode()


@pytest.mark.parametrize("method", ["endless", "wait"])
async def test_a_reader_that_leaves_ends_the_call(api: Api, methods: Methods, method: str) -> None:
    async with serve(api) as server:
        async with connect(server) as (reader, writer):
            writer.write(request(method))
            if method == "endless":
                await reader.readuntil(b"\r\n\r\n")
            else:
                await asyncio.sleep(0.1)
        await asyncio.wait_for(methods.ended.wait(), 5)
        async with asyncio.timeout(5):
            while api.app.state.calls:  # noqa: ASYNC110 - the application has no event for it
                await asyncio.sleep(0.01)


async def test_a_slow_reader_holds_the_method_back(api: Api, methods: Methods) -> None:
    async with serve(api) as server, connect(server) as (reader, writer):
        writer.write(request("endless"))
        await reader.readuntil(b"\r\n\r\n")
        before = -1
        while before != methods.sent:
            before = methods.sent
            await asyncio.sleep(0.1)
        assert before * len(BIG) < 16_000_000


async def test_an_error_on_the_way_cuts_the_answer(api: Api, methods: Methods) -> None:
    async with serve(api) as server, connect(server) as (reader, writer):
        writer.write(request("halfway"))
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert not answer.endswith(b"0\r\n\r\n")


async def test_the_end_of_the_node_ends_calls(api: Api, methods: Methods) -> None:
    async with serve(api) as server, connect(server) as (reader, writer), connect(server) as (_, second):
        writer.write(request("wait"))
        second.write(request("endless"))
        await asyncio.sleep(0.1)
        await server.stop()
        assert b" 503 " in await reader.read()
    assert methods.ended.is_set()


async def test_so_many_at_once_and_no_more(api: Api, methods: Methods) -> None:
    async with serve(api) as server:
        held = [await asyncio.open_connection(*server.address) for _ in range(api.services.settings.streams)]
        for _, writer in held:
            writer.write(request("wait"))
        await asyncio.sleep(0.3)
        answer = await call(api, "echo")
        assert code(answer) == "too-many-streams"
        for _, writer in held:
            writer.close()
