"""Our secret handshake, box stream and muxrpc against the npm packages alone, in both roles."""

import asyncio
import base64
import hashlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from feeds.keys import Keypair
from replication import secret_stream
from replication.errors import HandshakeFailed
from replication.secret_stream import SecretStream
from tests.interop.conftest import Lab
from tests.interop.js_peer import JsWire
from tests.interop.line_process import CommandFailed
from tests.support.processes import clean_environ

OUR_SEED = hashlib.sha256(b"our side").digest()
THEIR_SEED = hashlib.sha256(b"their side").digest()
OTHER_KEY = hashlib.sha256(b"another network").digest()
ECHO_BYTES = 1_000_000
PIECES = (1, 7, 4095, 4096, 4097, 65536, 20000)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture
async def wire(lab: Lab) -> JsWire:
    return await lab.wire()


@pytest.fixture
async def their_echo(wire: JsWire, network_key: str) -> tuple[JsWire, str]:
    """The JavaScript side as a server that sends everything back; its multiserver address."""
    return wire, await serve(wire, "echo", network_key)


async def serve(wire: JsWire, mode: str, network_key: str, *, refuse: bool = False) -> str:
    at = await wire.call("listen", mode=mode, seed=text(THEIR_SEED), networkKey=network_key, refuse=refuse)
    return f"net:127.0.0.1:{at['port']}~shs:{at['public']}"


async def echo(stream: SecretStream) -> None:
    while data := await stream.read():
        await stream.send(data)


@pytest.fixture
async def our_echo(network_key: str) -> AsyncIterator[int]:
    """Our side as a server that sends everything back; its port."""
    server = await secret_stream.listen(
        "127.0.0.1", 0, Keypair.generate(OUR_SEED), echo, network_key=base64.b64decode(network_key)
    )
    yield server.port
    await server.close()


async def test_our_client_and_their_server_carry_a_million_bytes_each_way(
    their_echo: tuple[JsWire, str], network_key: str
) -> None:
    wire, address = their_echo
    us = Keypair.generate(OUR_SEED)
    sent, received, total = hashlib.sha256(), hashlib.sha256(), 0
    async with await secret_stream.connect(address, us, network_key=base64.b64decode(network_key)) as stream:
        assert stream.remote_id == Keypair.generate(THEIR_SEED).id

        async def send() -> None:
            for turn in range(100):
                piece = hashlib.shake_256(bytes([turn])).digest(PIECES[turn % len(PIECES)])
                sent.update(piece)
                await stream.send(piece)

        sender = asyncio.create_task(send())
        whole = sum(PIECES[turn % len(PIECES)] for turn in range(100))
        async with asyncio.timeout(20):
            while total < whole:
                data = await stream.read()
                assert data, "the peer said goodbye in the middle"
                total += len(data)
                received.update(data)
            await sender
    assert sent.digest() == received.digest()
    accepted = await wire.notice("accepted")
    assert accepted["error"] is None
    assert accepted["remote"] == text(us.public)


async def test_their_client_and_our_server_carry_a_million_bytes_each_way(
    wire: JsWire, our_echo: int, network_key: str
) -> None:
    us = Keypair.generate(OUR_SEED)
    result = await wire.call(
        "dial",
        mode="echo",
        seed=text(THEIR_SEED),
        networkKey=network_key,
        port=our_echo,
        remote=text(us.public),
        size=ECHO_BYTES,
    )
    assert result == {"total": ECHO_BYTES, "equal": True}


async def test_our_client_gives_up_at_a_server_of_another_network(their_echo: tuple[JsWire, str]) -> None:
    wire, address = their_echo
    with pytest.raises(HandshakeFailed):
        await secret_stream.connect(address, Keypair.generate(OUR_SEED), network_key=OTHER_KEY)
    assert (await wire.notice("accepted"))["error"] is not None


async def test_our_client_gives_up_at_a_server_with_another_key(
    their_echo: tuple[JsWire, str], network_key: str
) -> None:
    wire, address = their_echo
    wrong = Keypair.generate(OTHER_KEY)
    with pytest.raises(HandshakeFailed):
        await secret_stream.connect(
            address.split("~")[0] + "~shs:" + text(wrong.public),
            Keypair.generate(OUR_SEED),
            network_key=base64.b64decode(network_key),
        )
    assert (await wire.notice("accepted"))["error"] is not None


async def test_our_client_hears_that_it_is_not_wanted(wire: JsWire, network_key: str) -> None:
    address = await serve(wire, "echo", network_key, refuse=True)
    with pytest.raises(HandshakeFailed):
        await secret_stream.connect(address, Keypair.generate(OUR_SEED), network_key=base64.b64decode(network_key))


@pytest.mark.parametrize("wrong", ["network key", "server key"])
async def test_our_server_turns_their_client_away(wire: JsWire, our_echo: int, network_key: str, wrong: str) -> None:
    network = text(OTHER_KEY) if wrong == "network key" else network_key
    server = Keypair.generate(OTHER_KEY if wrong == "server key" else OUR_SEED)
    common: dict[str, Any] = {"mode": "echo", "seed": text(THEIR_SEED), "port": our_echo, "size": 10}
    with pytest.raises(CommandFailed, match=r"shs\.client"):
        await wire.call("dial", **common, networkKey=network, remote=text(server.public))
    right = text(Keypair.generate(OUR_SEED).public)
    result = await wire.call("dial", **common, networkKey=network_key, remote=right)
    assert result["equal"], "our server does not serve the next client"


async def test_sbot_pipe_joins_any_program_to_their_server(
    their_echo: tuple[JsWire, str], network_key: str, tmp_path: Path
) -> None:
    _, address = their_echo
    sent = hashlib.shake_256(b"piped").digest(300_000)
    command = ["-m", "node", "pipe", address, "--network-key", network_key, "--path", str(tmp_path / "pipe")]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environ(),
    )
    received, complaints = await asyncio.wait_for(process.communicate(sent), 30)
    assert process.returncode == 0, complaints.decode()
    assert received == sent
