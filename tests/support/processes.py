"""Real `sbot` processes for tests: on loopback, in directories of their own, bounded in time, ended by their pid.

with NodeProcess(tmp_path / "a") as a, NodeProcess(tmp_path / "b") as b:
    a.sbot("connect", b.address)
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

SBOT = (sys.executable, "-m", "node")
START_SECONDS = 30.0
STOP_SECONDS = 15.0
COMMAND_SECONDS = 30.0


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    out: bytes
    err: str

    @property
    def values(self) -> list[Any]:
        """The JSON values on standard output, one a line."""
        return [json.loads(line) for line in self.out.split(b"\n") if line]

    @property
    def value(self) -> Any:
        (value,) = self.values
        return value


def run(
    *words: str,
    stdin: bytes = b"",
    seconds: float = COMMAND_SECONDS,
    inside: Sequence[str] = (),
    **environ: str,
) -> Done:
    """Run one `sbot` command to its end, with the given environment variables set; `inside` are words before it."""
    environment = clean_environ() | environ
    process = subprocess.run(
        [*inside, *SBOT, *words], input=stdin, capture_output=True, timeout=seconds, env=environment, check=False
    )
    return Done(process.returncode, process.stdout, process.stderr.decode())


def clean_environ() -> dict[str, str]:
    """This process's environment without settings of a node somebody runs here."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SBOT_")}


class NodeProcess:
    """A node with its own data directory; started on entering, ended on leaving. Restart it as often as you like."""

    def __init__(
        self,
        directory: Path,
        *flags: str,
        hops: int = 3,
        log_level: str = "info",
        host: str = "127.0.0.1",
        lan: bool = False,
        inside: Sequence[str] = (),
    ) -> None:
        """`inside` are words before the command: `ip netns exec NAME`, where alone `lan` and another `host` may be."""
        self.directory = directory
        self._flags = ("--hops", str(hops), "--log-level", log_level, "--lan" if lan else "--no-lan", *flags)
        self._host = host
        self._inside = inside
        self._process: subprocess.Popen[bytes] | None = None
        self._log_path = directory.with_name(directory.name + ".log")
        self.ready: dict[str, Any] = {}
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def id(self) -> str:
        return str(self.ready["id"])

    @property
    def address(self) -> str:
        return str(self.ready["address"])

    @property
    def http(self) -> str:
        return str(self.ready["http"])

    @property
    def token(self) -> str:
        return (self.directory / "http-token").read_text().strip()

    @property
    def log(self) -> str:
        """What it wrote to standard error since the first start."""
        return self._log_path.read_text()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Start the process without waiting for it to be ready."""
        assert self._process is None
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        words = [*self._inside, *SBOT, "start", "--path", str(self.directory)]
        words += ["--host", self._host, "--port", str(self.port)]
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*words, "--http-port", "0", *self._flags], stdout=subprocess.PIPE, stderr=log, env=clean_environ()
            )

    def start(self) -> None:
        """Start, and wait for the ready line. The port of the first start is kept over restarts."""
        self.launch()
        self.await_ready()

    def await_ready(self) -> None:
        """Read the ready line of a launched process."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = read_line(self._process.stdout.fileno(), START_SECONDS)
        if not line.endswith(b"\n"):
            self.kill()
            raise AssertionError(f"the node did not get ready: {line!r}\n{self.log}")
        self.ready = json.loads(line)
        self.port = int(self.address.split("~")[0].rpartition(":")[2])

    def terminate(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        code = self._process.wait(STOP_SECONDS)
        self._forget()
        return code

    def kill(self) -> None:
        """kill -9, if it still runs."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait(STOP_SECONDS)
            self._forget()

    def sbot(self, *words: str, stdin: bytes = b"", seconds: float = COMMAND_SECONDS) -> Done:
        """Run a command against this node."""
        return run(*words, "--path", str(self.directory), stdin=stdin, seconds=seconds, inside=self._inside)

    def ok(self, *words: str, stdin: bytes = b"") -> Any:
        """Run a command that must succeed; its one JSON value."""
        done = self.sbot(*words, stdin=stdin)
        assert done.code == 0, (words, done, self.log[-2000:])
        return done.value

    def get(self, path: str, body: bytes | None = None, *, seconds: float = 10.0) -> tuple[int, Any]:
        """GET from its HTTP API (or POST a body): the status and the JSON answer. Much cheaper than a command."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.http + path, data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def post(self, text: str) -> str:
        """Publish a post; its id, once it is acknowledged."""
        content = {"content": {"type": "post", "text": text}}
        status, message = self.get("/v1/messages", json.dumps(content).encode())
        assert status == 201, message
        return str(message["key"])

    def clock(self) -> dict[str, int]:
        """The last sequence of each feed it has (up to 500 feeds)."""
        status, page = self.get("/v1/feeds?limit=500")
        assert status == 200, page
        assert page["next"] is None
        return {feed["id"]: feed["sequence"] for feed in page["items"] if feed["sequence"]}

    def connected(self) -> set[str]:
        """The ids of the peers it is connected with."""
        _, page = self.get("/v1/peers")
        return {peer["id"] for peer in page["items"] if peer["state"] == "connected"}

    def _forget(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None


def read_line(descriptor: int, seconds: float) -> bytes:
    """One line from a pipe, or what came of it until the time was over or the pipe ended."""
    deadline = time.monotonic() + seconds
    line = b""
    while not line.endswith(b"\n") and (left := deadline - time.monotonic()) > 0:
        if select.select([descriptor], [], [], left)[0]:
            byte = os.read(descriptor, 1)
            if not byte:
                break
            line += byte
    return line


def wait_until(condition: Callable[[], bool], seconds: float, what: str, pause: float = 0.1) -> None:
    """Wait for a condition, at most `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come about within {seconds} s")
        time.sleep(pause)
