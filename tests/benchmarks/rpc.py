"""muxrpc between two of our machines without a socket: what a message costs on each side, with and without the box
stream, and the round trips of small calls over TCP. `python -m tests.benchmarks.rpc [messages]`
"""

import asyncio
import sys
import time
from typing import Any

from feeds.keys import Keypair
from replication.box_stream import Opener, Sealer
from replication.peer import Peer, PeerConfig, connect_peer, listen_peers
from replication.rpc.bodies import BodyType
from replication.rpc.calls import Kind
from replication.rpc.connection import Sink
from replication.rpc.methods import Caller, Method, MethodTable, Who
from replication.rpc.protocol import Items, RpcProtocol
from tests.benchmarks.measure import interleave, micros, report

MESSAGE = b'{"content":"' + b"x" * 686 + b'"}'
READ = 128 * 1024
CALLS = 400


def machines(count: int) -> dict[str, float]:
    """Microseconds a message of 700 bytes for each step, one core."""
    messages = [MESSAGE] * count
    receiver, sender = RpcProtocol(), RpcProtocol()
    call, request = receiver.request(("createHistoryStream",), [], Kind.SOURCE)
    sender.receive(request)
    framed = sender.items(-call, BodyType.JSON, messages)
    sealer, opener = Sealer(b"k" * 32, b"n" * 24), Opener(b"k" * 32, b"n" * 24)
    sealed = bytes(sealer.seal(framed))
    plain_reads = [framed[at : at + READ] for at in range(0, len(framed), READ)]
    sealed_reads = [sealed[at : at + READ] for at in range(0, len(sealed), READ)]

    def frame() -> None:
        sender.items(-call, BodyType.JSON, messages)

    def frame_and_seal() -> None:
        sealer.seal(sender.items(-call, BodyType.JSON, messages))

    def parse() -> None:
        assert sum(taken(receiver, piece) for piece in plain_reads) == count

    def open_and_parse() -> None:
        opener._nonce = int.from_bytes(b"n" * 24, "big")
        assert sum(taken(receiver, opener.open(piece)) for piece in sealed_reads) == count

    contenders = {"frame": frame, "frame+seal": frame_and_seal, "parse": parse, "open+parse": open_and_parse}
    times = interleave(contenders, rounds=30)
    return {f"{name}_us": micros(times, name, count) for name in contenders}


def taken(receiver: RpcProtocol, data: bytes) -> int:
    return sum(len(event.bodies) for event in receiver.receive(data) if isinstance(event, Items))


async def over_tcp(count: int) -> dict[str, float]:
    """A stream of messages and small calls between two nodes in one process, over loopback."""

    async def echo(_caller: Caller, args: list[Any]) -> Any:
        return args[0]

    async def messages(_caller: Caller, args: list[Any], out: Sink) -> None:
        for _ in range(args[0] // 500):
            await out.send([MESSAGE] * 500)

    table = MethodTable(
        [Method(("echo",), Kind.ASYNC, Who.ANON, echo), Method(("messages",), Kind.SOURCE, Who.ANON, messages)]
    )

    async def run(peer: Peer) -> None:
        await peer.run()

    keypair = Keypair.generate()
    server = await listen_peers("127.0.0.1", 0, PeerConfig(keypair, table), run)
    address = f"net:127.0.0.1:{server.port}~shs:{keypair.id[1:45]}"
    peer = await connect_peer(address, PeerConfig(keypair, MethodTable()))
    running = asyncio.create_task(peer.run())
    wall, cpu, got = time.perf_counter(), time.process_time(), 0
    source = peer.connection.source("messages", [count])
    while batch := await source.read_batch():
        got += len(batch)
    assert got == count - count % 500
    stream = {
        "stream_wall_us": round((time.perf_counter() - wall) / got * 1e6, 2),
        "stream_cpu_both_sides_us": round((time.process_time() - cpu) / got * 1e6, 2),
    }
    wall = time.perf_counter()
    for number in range(CALLS):
        assert await peer.connection.call("echo", [number]) == number
    calls = {"calls_one_by_one_a_second": round(CALLS / (time.perf_counter() - wall))}
    await peer.close()
    await running
    await server.close()
    return stream | calls


def main(count: int) -> None:
    report("rpc", messages=count, **machines(count // 10), **asyncio.run(over_tcp(count)))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
