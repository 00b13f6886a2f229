"""A JavaScript SSB node (peers/peer.js), and the npm packages of the wire alone (peers/wire.js)."""

import base64
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from tests.interop.line_process import LineProcess
from tests.interop.packages import PEERS

Stack = Literal["server", "db2"]
Clock = Mapping[str, int]
Digests = dict[str, tuple[int, str]]


class JsPeer(LineProcess):
    """One node of the stack `server` (ssb-server 16) or `db2` (ssb-db2 8), on a loopback port of its own choice.

    `hops`: what its own policy replicates (1 = whom it follows); `ebt=False` leaves the EBT plugin out;
    `ws`: WebSockets too, at `ws_address`; `scheduler` (db2): follow the social graph, as plain db2 does not.
    """

    def __init__(self, stack: Stack, folder: Path, network_key: str, **options: Any) -> None:
        self.stack = stack
        self.data = folder / "data"
        folder.mkdir(parents=True, exist_ok=True)
        settings = {"stack": stack, "dir": str(self.data), "networkKey": network_key, **options}
        super().__init__(["node", str(PEERS / "peer.js"), json.dumps(settings)], folder / "log")
        self.id = ""
        self.address = ""
        self.ws_address = ""

    async def open(self) -> "JsPeer":
        ready = await self.start()
        self.ws_address = ready.get("ws", "")
        self.id, self.address = ready["id"], ready["address"]
        return self

    async def publish(self, content: dict[str, Any] | str, **more: Any) -> dict[str, Any]:
        message: dict[str, Any] = await self.call("publish", content=content, **more)
        return message

    async def load(self, file: Path) -> None:
        """Takes in a file of message values, one JSON text a line."""
        await self.call("load", file=str(file), timeout=90)

    async def want(self, feeds: Iterable[str], wanted: bool = True) -> None:
        await self.call("want", feeds=list(feeds), wanted=wanted)

    async def dial(self, address: str, *, managed: bool = False) -> None:
        """`managed`: by ssb-gossip or ssb-conn, which then also ping."""
        await self.call("dial", address=address, managed=managed)

    async def add_blob(self, data: bytes) -> str:
        """Adds a blob to the peer's own store; its id."""
        return str(await self.call("addBlob", base64=base64.b64encode(data).decode()))

    async def blob(self, blob: str) -> bytes | None:
        """The bytes of a blob that the peer holds, None if it does not."""
        if await self.ask("blobs.size", blob, on=None) is None:
            return None
        pieces = await self.ask("blobs.get", blob, on=None, kind="source")
        return b"".join(base64.b64decode(piece["base64"]) for piece in pieces)

    async def hang_up(self) -> None:
        await self.call("hangUp")

    async def clock(self) -> dict[str, int]:
        clock: dict[str, Any] = await self.call("clock")
        return {feed: value["sequence"] if isinstance(value, dict) else value for feed, value in clock.items()}

    async def reach(self, clock: Clock, timeout: float = 60.0) -> None:
        """Returns when the peer has stored at least these sequences."""
        await self.call("reach", clock=dict(clock), ms=timeout * 1000, timeout=timeout + 5)

    async def digest(self) -> Digests:
        """feed -> (messages, hash over every id and the JSON text of every value)."""
        return {feed: (count, text) for feed, (count, text) in (await self.call("digest", timeout=60)).items()}

    async def ask(self, method: str, *args: Any, on: str | bool | None = True, **more: Any) -> Any:
        """Calls a method of the node at the other end (`on` = its feed id or True), or of the peer itself (None)."""
        return await self.call("call", on=on, method=method, args=list(args), **more)


class JsWire(LineProcess):
    """secret-handshake, pull-box-stream and muxrpc from npm, with no node around them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(["node", str(PEERS / "wire.js")], folder / "log")


class JsRoom(LineProcess):
    """The room server ssb-room 1; peers meet at `address`."""

    def __init__(self, folder: Path, network_key: str, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        settings = {"dir": str(folder / "data"), "networkKey": network_key, "name": name}
        super().__init__(["node", str(PEERS / "room.js"), json.dumps(settings)], folder / "log")
        self.id = ""
        self.address = ""

    async def open(self) -> "JsRoom":
        ready = await self.start()
        self.id, self.address = ready["id"], ready["address"]
        return self


class JsProgram(LineProcess):
    """A local program of the old sbot (ssb-client), to be attached to a node."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(["node", str(PEERS / "client.js")], folder / "log")
