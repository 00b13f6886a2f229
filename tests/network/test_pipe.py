"""`sbot pipe`: two processes joined over the secret handshake, each direction ending on its own."""

import contextlib
import random
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from node import keyfile
from tests.support.builders import keypair
from tests.support.processes import SBOT, clean_environ, read_line, run

SECONDS = 30.0
SEED = 3


class Pipe:
    """One `sbot pipe` process."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen(
            [*SBOT, "pipe", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environ(),
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.stdin, self.stdout, self.stderr = self.process.stdin, self.process.stdout, self.process.stderr
        self.address = ""
        if "--listen" in words:
            self.address = self.said("listening on ")

    def said(self, what: str) -> str:
        line = read_line(self.stderr.fileno(), SECONDS).decode()
        assert what in line, line
        return line.partition(what)[2].strip()

    def say(self, data: bytes, *, last: bool = True) -> None:
        """Write to its standard input in the background, and end that if asked to."""

        def write() -> None:
            with contextlib.suppress(BrokenPipeError):
                self.stdin.write(data)
                self.stdin.flush()
                if last:
                    self.stdin.close()

        threading.Thread(target=write, daemon=True).start()

    def end(self) -> tuple[int, bytes, bytes]:
        """Read everything it prints; exit code, output, errors."""
        out = self.stdout.read()
        return self.process.wait(SECONDS), out, self.stderr.read()


@contextmanager
def pipe(*words: str) -> Iterator[Pipe]:
    one = Pipe(*words)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait(SECONDS)
        for stream in (one.stdin, one.stdout, one.stderr):
            with contextlib.suppress(BrokenPipeError):
                stream.close()


@pytest.mark.timeout(60)
def test_much_data_passes_both_ways_at_once(tmp_path: Path) -> None:
    there, back = random.Random(SEED).randbytes(20_000_000), random.Random(SEED + 1).randbytes(9_000_001)
    with pipe("--listen", "127.0.0.1:0") as server, pipe(server.address, "--path", str(tmp_path / "none")) as client:
        client.say(there)
        server.say(back)
        ended: list[tuple[int, bytes, bytes]] = []
        reading = threading.Thread(target=lambda: ended.append(server.end()))
        reading.start()
        assert client.end() == (0, back, b"")
        reading.join(SECONDS)
        ((code, out, _),) = ended
        assert (code, out == there) == (0, True)
    assert not (tmp_path / "none").exists()


def test_each_direction_ends_on_its_own() -> None:
    with pipe("--listen", "127.0.0.1:0") as server, pipe(server.address) as client:
        client.say(b"question")
        server.said("connected to @")
        assert server.stdout.read(8) == b"question"
        assert server.process.poll() is None
        server.say(b"answer", last=False)
        assert client.stdout.read(6) == b"answer"
        assert client.process.poll() is None
        server.say(b", and more")
        assert client.end() == (0, b", and more", b"")
        assert server.end()[0] == 0


def test_lines_arrive_as_they_are_written() -> None:
    with pipe("--listen", "127.0.0.1:0") as server, pipe(server.address) as client:
        for word in (b"one\n", b"two\n", b"three\n"):
            client.say(word, last=False)
            assert server.stdout.readline() == word
            server.say(word, last=False)
            assert client.stdout.readline() == word


def test_the_own_key_is_used_where_there_is_one(tmp_path: Path) -> None:
    own = keyfile.load_or_create(tmp_path / "secret")
    with pipe("--listen", "127.0.0.1:0") as server, pipe(server.address, "--path", str(tmp_path)) as client:
        client.say(b"")
        assert server.said("connected to ") == own.id
    ephemeral = ("--path", str(tmp_path), "--ephemeral")
    with pipe("--listen", "127.0.0.1:0") as server, pipe(server.address, *ephemeral) as client:
        client.say(b"")
        assert server.said("connected to ") != own.id


def test_strangers_and_foreign_networks_are_turned_away_and_the_right_one_still_comes(tmp_path: Path) -> None:
    own = keyfile.load_or_create(tmp_path / "secret")
    with pipe("--listen", "127.0.0.1:0", "--allow", own.id) as server:
        stranger = run("pipe", server.address)
        assert (stranger.code, stranger.out) == (1, b"")
        assert stranger.err.count("\n") == 1
        foreign = run("pipe", server.address, "--network-key", "A" * 43 + "=", "--path", str(tmp_path))
        assert foreign.code == 1
        wrong = server.address.replace(server.address[-44:], keypair("other").id[1:45])
        assert run("pipe", wrong, "--path", str(tmp_path)).code == 1
        port = int(server.address.split("~")[0].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as garbage:
            garbage.sendall(b"\xff" * 64)
        with pipe(server.address, "--path", str(tmp_path)) as client:
            client.say(b"hello")
            server.say(b"")
            assert client.end()[0] == 0
            code, out, err = server.end()
        assert (code, out) == (0, b"hello")
        assert err.count(b"refused") == 4
        assert b"Traceback" not in err


def test_a_cut_is_told_from_an_end() -> None:
    with pipe("--listen", "127.0.0.1:0") as server, pipe(server.address) as client:
        client.say(b"half of it", last=False)
        assert server.stdout.read(4) == b"half"
        client.process.kill()
        code, out, err = server.end()
        assert (code, out) == (1, b" of it")
        assert b"sbot: The connection broke" in err
        assert b"Traceback" not in err


def test_a_taken_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("pipe", "--listen", f"127.0.0.1:{port}")
    assert done.code == 1
    assert f"port {port}" in done.err
