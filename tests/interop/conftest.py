"""Fixtures of the interop suite: the packages, fresh nodes in folders of their own, the data sets.

Everything here is marked `interop`. Without node, npm or the packages the tests are skipped with the reason, or fail
with it when the environment's PYSBOT_REQUIRE names `interop`.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.interop import dataset, packages
from tests.interop.dataset import Dataset
from tests.interop.js_peer import JsPeer, JsProgram, JsRoom, JsWire, Stack
from tests.interop.our_node import OurNode
from tests.interop.relay import Relay

HERE = Path(__file__).parent
MISSING = pytest.StashKey[str]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.interop)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Installs before the tests begin, so that no test's own time runs out over it."""
    wanted = any(HERE in item.path.parents for item in session.items)
    if not wanted or session.config.option.collectonly:
        return
    try:
        packages.install()
    except packages.PackagesMissing as missing:
        session.config.stash[MISSING] = str(missing)


@pytest.fixture
def javascript(request: pytest.FixtureRequest) -> None:
    """The npm packages are installed, or the test is skipped or fails."""
    missing = request.config.stash.get(MISSING, None)
    if missing is None:
        return
    if packages.REQUIRED:
        pytest.fail(f"the interop suite is required here but cannot run: {missing}")
    pytest.skip(missing)


@pytest.fixture
def network_key() -> str:
    """A network of the tests' own, so that no node of the real one can ever be met."""
    return base64.b64encode(b"pysbot interop tests, loopback  ").decode()


class Lab:
    """Starts nodes for one test and ends every one of them afterwards."""

    def __init__(self, folder: Path, network_key: str) -> None:
        self._folder = folder
        self.network_key = network_key
        self._ends: list[Callable[[], Awaitable[object]]] = []
        self._count = 0

    def _next_folder(self, name: str) -> Path:
        self._count += 1
        return self._folder / f"{self._count}-{name}"

    async def js(self, stack: Stack, **options: Any) -> JsPeer:
        peer = JsPeer(stack, self._next_folder(stack), self.network_key, **options)
        self._ends.append(peer.stop)
        return await peer.open()

    async def ours(self, *options: str) -> OurNode:
        node = OurNode(self._next_folder("ours"), self.network_key, *options)
        self._ends.append(node.stop)
        return await node.open()

    async def wire(self) -> JsWire:
        wire = JsWire(self._next_folder("wire"))
        self._ends.append(wire.stop)
        await wire.start()
        return wire

    async def room(self, name: str = "A room") -> JsRoom:
        room = JsRoom(self._next_folder("room"), self.network_key, name)
        self._ends.append(room.stop)
        return await room.open()

    async def program(self) -> JsProgram:
        program = JsProgram(self._next_folder("program"))
        self._ends.append(program.stop)
        await program.start()
        return program

    async def relay(
        self, address: str, *, cut_after: int | None = None, per_second: int | None = None
    ) -> tuple[Relay, str]:
        """A relay in front of the node at `address`, and the address through it."""
        transport, _, rest = address.partition("~")
        host, port = transport.split(":")[1:]
        relay = Relay(int(port), cut_after=cut_after, per_second=per_second)
        self._ends.append(relay.close)
        return relay, f"net:{host}:{await relay.open()}~{rest}"

    async def close(self) -> None:
        await asyncio.gather(*(end() for end in self._ends))


@pytest.fixture
async def lab(javascript: None, tmp_path: Path, network_key: str) -> AsyncIterator[Lab]:
    lab = Lab(tmp_path, network_key)
    try:
        yield lab
    finally:
        await lab.close()


@pytest.fixture(scope="session")
def ten_thousand(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """10 000 messages of 100 feeds."""
    return dataset.make(tmp_path_factory.mktemp("dataset"), 10_000, 100, seed=1)


@pytest.fixture(scope="session")
def six_thousand(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """6 000 messages of 60 feeds: more than the sockets' buffers hold, so that a sync has a middle."""
    return dataset.make(tmp_path_factory.mktemp("dataset"), 6_000, 60, seed=3)


@pytest.fixture(scope="session")
def one_thousand(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """1 000 messages of 100 feeds."""
    return dataset.make(tmp_path_factory.mktemp("dataset"), 1_000, 100, seed=2)
