"""Our node as its users run it: `python -m node start` in a process of its own, driven over its HTTP API."""

import asyncio
import contextlib
import hashlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from feeds.keys import Keypair
from feeds.message import JsonValue
from replication.peer import PeerConfig, connect_local
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import Kind, MethodTable
from tests.interop.js_peer import Digests
from tests.support.processes import clean_environ

START_SECONDS = 30.0
STOP_SECONDS = 8.0
POLL_SECONDS = 0.02
FEW = 8
WANTS_A_CALL = 500

# The kernel kills the node when the test process dies (Linux); elsewhere it is only ended by `stop`.
LAUNCHER = """
import ctypes, runpy, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
sys.argv[0] = "sbot"
runpy.run_module("node", run_name="__main__")
"""


class OurNode:
    """One data folder; `start` and `stop` or `kill` may alternate. `options` are flags of `sbot start`."""

    def __init__(self, folder: Path, network_key: str, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "data"
        self.log = folder / "log"
        self._options = ["--network-key", network_key, *options]
        self._process: asyncio.subprocess.Process | None = None
        self._http: httpx.AsyncClient | None = None
        self.id = self.address = self.http_address = self.token = ""

    @property
    def port(self) -> int:
        return int(self.address.split(":")[2].split("~")[0])

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def open(self) -> "OurNode":
        """Starts the process; returns when it has printed its ready line."""
        flags = ["--path", str(self.path), "--host", "127.0.0.1", "--port", "0", "--http-port", "0", "--no-lan"]
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                LAUNCHER,
                "start",
                *flags,
                *self._options,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=clean_environ(),
            )
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), START_SECONDS)
        assert line, f"our node ended while starting: {self.log_tail()}"
        ready = json.loads(line)
        self.id, self.address = ready["id"], ready["address"]
        self.http_address = ready["http"]
        self.token = (self.path / "http-token").read_text().strip()
        headers = {"Authorization": f"Bearer {self.token}"}
        self._http = httpx.AsyncClient(base_url=self.http_address, headers=headers, timeout=30, trust_env=False)
        return self

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    async def stop(self) -> int | None:
        """SIGTERM, as a service manager would; the exit code."""
        if self._process is None:
            return None
        await self._close_http()
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            code = await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            self._process.kill()
            code = await self._process.wait()
        await self._drain_output()
        return code

    async def kill(self) -> None:
        """SIGKILL: nothing is written any more."""
        if self._process is None:
            return
        await self._close_http()
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._drain_output()

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        assert self._http is not None
        answer = await self._http.request(method, path, **options)
        assert answer.status_code < 400, f"{method} {path}: {answer.status_code} {answer.text} log: {self.log_tail()}"
        return answer

    async def publish(self, content: dict[str, Any]) -> dict[str, Any]:
        message: dict[str, Any] = (await self.request("POST", "/v1/messages", json={"content": content})).json()
        return message

    async def dial(self, address: str) -> None:
        await self.request("POST", "/v1/peers", json={"address": address})

    async def hang_up(self, peer: str) -> None:
        await self.request("DELETE", f"/v1/peers/{quote(peer, safe='')}")

    async def add_blob(self, data: bytes) -> str:
        """Its id."""
        return str((await self.request("POST", "/v1/blobs", content=data)).json()["id"])

    async def blob(self, blob: str) -> bytes | None:
        """The bytes of a blob that is held, None if it is not (and it is wanted from then on)."""
        assert self._http is not None
        answer = await self._http.get(f"/v1/blobs/{quote(blob, safe='')}")
        assert answer.status_code in (200, 404), answer.text
        return answer.content if answer.status_code == 200 else None

    async def want_blob(self, blob: str) -> None:
        await self.request("POST", f"/v1/blobs/{quote(blob, safe='')}/want")

    async def peers(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = (await self.request("GET", "/v1/peers")).json()["items"]
        return items

    async def without(self, peer: str, timeout: float = 10.0) -> None:
        """Returns when no connection to `peer` is left."""
        deadline = time.monotonic() + timeout
        while True:
            state = {item["id"]: item["state"] for item in await self.peers()}
            if state.get(peer) != "connected":
                return
            assert time.monotonic() < deadline, f"{peer} is still connected"
            await asyncio.sleep(POLL_SECONDS)

    async def want(self, feeds: Iterable[str], wanted: bool = True) -> None:
        """Asks for feeds by hand: a few over HTTP, many at once over the local socket."""
        asked = list(feeds)
        if len(asked) <= FEW:
            for feed in asked:
                await self.request("POST", "/v1/replication/request", json={"feed": feed, "replicate": wanted})
            return
        async with self.local() as rpc:
            for start in range(0, len(asked), WANTS_A_CALL):
                some: list[JsonValue] = list(asked[start : start + WANTS_A_CALL])
                assert await rpc.call("replicate.request", [some, wanted], kind=Kind.SYNC) is True

    async def sequence(self, feed: str) -> int:
        """The feed's latest sequence here, 0 for one that is not known."""
        assert self._http is not None
        answer = await self._http.get(f"/v1/feeds/{quote(feed, safe='')}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return 0
        assert answer.status_code == httpx.codes.OK, answer.text
        return int(answer.json()["sequence"])

    async def clock(self) -> dict[str, int]:
        clock: dict[str, int] = {}
        cursor: str | None = None
        while True:
            page = (
                await self.request("GET", "/v1/feeds", params={"limit": 500, **({"cursor": cursor} if cursor else {})})
            ).json()
            clock.update((item["id"], item["sequence"]) for item in page["items"] if item["sequence"])
            cursor = page["next"]
            if cursor is None:
                return clock

    async def reach(self, clock: Mapping[str, int], timeout: float = 60.0) -> float:
        """Waits until at least these sequences are here; the seconds it took."""
        begun = time.monotonic()
        while True:
            if len(clock) == 1:
                have = {feed: await self.sequence(feed) for feed in clock}
            else:
                have = await self.clock()
            missing = {
                feed: (have.get(feed, 0), sequence) for feed, sequence in clock.items() if have.get(feed, 0) < sequence
            }
            elapsed = time.monotonic() - begun
            if not missing:
                return elapsed
            assert elapsed < timeout, (
                f"after {elapsed:.1f} s {len(missing)} feeds lack messages, e.g. "
                + str(next(iter(missing.items())))
                + self.log_tail()
            )
            await asyncio.sleep(POLL_SECONDS)

    @asynccontextmanager
    async def local(self) -> AsyncIterator[RpcConnection]:
        """A local program's connection to the node's unix socket."""
        peer = await connect_local(self.path / "socket", PeerConfig(Keypair.generate(bytes(32)), MethodTable()))
        running = asyncio.create_task(peer.run())
        try:
            yield peer.connection
        finally:
            await peer.close()
            await running

    async def rows(self) -> AsyncIterator[tuple[str, str]]:
        """Each message's id and the text of its value, exactly as the node sends them to local programs."""
        async with self.local() as rpc:
            source = rpc.source("createLogStream", [{}])
            while batch := await source.read_batch():
                for body in batch:
                    yield _key_and_value(body.data.decode())

    async def digest(self) -> Digests:
        """As JsPeer.digest: what both hold is equal in every id and every byte of the values' JSON text."""
        feeds: dict[str, list[tuple[int, str, str]]] = {}
        async for key, text in self.rows():
            value = json.loads(text)
            feeds.setdefault(value["author"], []).append((value["sequence"], key, text))
        digests: Digests = {}
        for feed, messages in feeds.items():
            whole = hashlib.sha256()
            for _, key, text in sorted(messages):
                whole.update(f"{key}\n{text}\n".encode())
            digests[feed] = (len(messages), whole.hexdigest())
        return digests

    async def _close_http(self) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def _drain_output(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        with contextlib.suppress(asyncio.LimitOverrunError):
            await self._process.stdout.read()
        self._process = None


def _key_and_value(line: str) -> tuple[str, str]:
    head, value = line.split(',"value":', 1)
    key = json.loads(head + "}")["key"]
    return key, value[: value.rindex(',"timestamp":')]
