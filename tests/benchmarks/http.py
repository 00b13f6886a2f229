"""What the HTTP API costs: requests per second of the server's CPU, with a bare ASGI application beside it.

One message by id, and a list of 100 messages, on four connections; the bare application answers the same bytes from
memory under the same server. CPU time is the server process's own, so the client's speed does not count.

    python -m tests.benchmarks.http [--requests 4000]
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

from tests.benchmarks import nodes

CONNECTIONS = 4
MESSAGES = 5000

BARE = """
import json, os, socket, sys, uvicorn
body = open(sys.argv[1], "rb").read()
start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json"),
         (b"content-length", str(len(body)).encode())]}
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send(start)
        await send({"type": "http.response.body", "body": body})
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
listener.listen()
print(json.dumps({"port": listener.getsockname()[1], "pid": os.getpid()}), flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", access_log=False)).run(sockets=[listener])
"""


class Client:
    """Sends the same GET again and again on keep-alive connections and checks that each answer is a 200."""

    def __init__(self, port: int, path: str, headers: str = "") -> None:
        self._port = port
        self._request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}\r\n".encode()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 200"):
            raise SystemExit(head.decode())
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        return await reader.readexactly(length)

    async def _many(self, count: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)
        body = b""
        for _ in range(count):
            body = await self._one(reader, writer)
        writer.close()
        await writer.wait_closed()
        return body

    async def run(self, requests: int, pid: int) -> tuple[float, bytes]:
        """Requests per second of CPU of process `pid`, and one body."""
        await self._many(requests // 10)  # warm
        before = nodes.cpu_seconds(pid)
        bodies = await asyncio.gather(*(self._many(requests // CONNECTIONS) for _ in range(CONNECTIONS)))
        return requests / (nodes.cpu_seconds(pid) - before), bodies[0]


@asynccontextmanager
async def bare_server(root: Path, body: bytes) -> AsyncIterator[tuple[int, int]]:
    """Port and pid of a server that answers everything with `body`."""
    file = root / "body"
    file.write_bytes(body)
    with subprocess.Popen([sys.executable, "-c", BARE, str(file)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        try:
            yield ready["port"], ready["pid"]
        finally:
            process.terminate()
            process.wait(10)


async def beside(root: Path, client: Client, pid: int, requests: int) -> dict[str, float]:
    ours, body = await client.run(requests, pid)
    async with bare_server(root, body) as (port, bare_pid):
        bare, _ = await Client(port, "/").run(requests, bare_pid)
    return {
        "requests_per_cpu_second": round(ours),
        "bare_asgi_per_cpu_second": round(bare),
        "ratio": round(bare / ours, 2),
        "body_bytes": len(body),
    }


async def run(requests: int) -> dict[str, object]:
    texts = nodes.messages(MESSAGES, 50)
    with tempfile.TemporaryDirectory(prefix="pysbot-bench-") as root:
        folder = Path(root, "node")
        await nodes.fill(folder, texts)
        async with nodes.running(folder) as node:
            await nodes.settled(node)
            listed = (await node.request("GET", "/v1/messages", params={"limit": 1})).json()
            port = urlsplit(node.http_address).port
            assert port is not None
            token = f"Authorization: Bearer {node.token}\r\n"
            by_id = Client(port, f"/v1/messages/{quote(listed['items'][0]['key'], safe='')}", token)
            hundred = Client(port, "/v1/messages?limit=100", token)
            one = await beside(Path(root), by_id, node.pid, requests)
            many = await beside(Path(root), hundred, node.pid, requests // 2)
    return {"benchmark": "http", "requests": requests, "message_by_id": one, "list_of_100": many}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=4000)
    print(json.dumps(asyncio.run(run(parser.parse_args().requests))))


if __name__ == "__main__":
    main()
