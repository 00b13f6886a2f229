"""A node process from its ready line to its end: what it leaves, what it refuses, how fast it goes."""

import json
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.processes import SBOT, NodeProcess, clean_environ, read_line, run, wait_until

SECOND_START_SECONDS = 2.0
STOP_SECONDS = 5.0


@pytest.fixture(name="node")
def _node(tmp_path: Path) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path / "node") as node:
        yield node


@contextmanager
def event_stream(node: NodeProcess) -> Iterator[socket.socket]:
    host, _, port = node.http.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as stream:
        head = f"GET /v1/stream HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {node.token}\r\n\r\n"
        stream.sendall(head.encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += stream.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        yield stream


def test_the_ready_line_and_the_data_directory_are_as_promised(node: NodeProcess) -> None:
    assert set(node.ready) == {"event", "id", "address", "http", "pid"}
    assert node.ready["event"] == "ready"
    assert node.ready["pid"] == node.pid
    key = node.id.removeprefix("@").removesuffix(".ed25519")
    assert node.address == f"net:127.0.0.1:{node.port}~shs:{key}"
    assert node.http.startswith("http://127.0.0.1:")
    modes = {item.name: stat.S_IMODE(item.stat().st_mode) for item in node.directory.iterdir()}
    assert stat.S_IMODE(node.directory.stat().st_mode) == 0o700
    promised = {"secret", "config.toml", "sbot.db", "http-token", "socket", "manifest.json", "lock"}
    assert promised <= set(modes)
    assert all(mode & 0o077 == 0 for mode in modes.values()), modes
    manifest = json.loads((node.directory / "manifest.json").read_bytes())
    assert manifest["whoami"] == "sync"
    assert manifest["ebt"]["replicate"] == "duplex"
    assert manifest == node.ok("manifest")
    assert node.get("/healthz")[0] == 200
    assert node.get("/v1/whoami")[1]["id"] == node.id


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order_with_streams_and_peers_open(
    node: NodeProcess, tmp_path: Path, number: signal.Signals
) -> None:
    with NodeProcess(tmp_path / "peer") as peer, event_stream(node), event_stream(node) as stream:
        assert peer.ok("connect", node.address)["state"] == "connected"
        following = subprocess.Popen(
            [*SBOT, "log", "--live", "--path", str(node.directory)], stdout=subprocess.PIPE, env=clean_environ()
        )
        assert following.stdout is not None
        try:
            published = node.ok("publish", "--type", "post", "--text", "hi")
            assert json.loads(read_line(following.stdout.fileno(), 10))["key"] == published["key"]
            began = time.monotonic()
            assert node.terminate(number) == 0
            assert time.monotonic() - began < STOP_SECONDS
            while stream.recv(4096):
                pass
            assert following.wait(10) in (0, 1)
            wait_until(lambda: not peer.connected(), 5, "the peer notices")
        finally:
            following.kill()
            following.wait(10)
            following.stdout.close()
    assert "Traceback" not in node.log
    assert not (node.directory / "socket").exists()


def test_standard_output_carries_one_line_and_restarts_keep_everything(node: NodeProcess) -> None:
    key = node.ok("publish", "--type", "post", "--text", "first")["key"]
    before = {name: (node.directory / name).read_bytes() for name in ("secret", "http-token", "config.toml")}
    node.terminate()
    process = subprocess.Popen(
        [*SBOT, "--path", str(node.directory), "--host", "127.0.0.1", "--port", "0", "--http-port", "0", "--no-lan"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=clean_environ(),
    )
    assert process.stdout is not None
    try:
        line = json.loads(read_line(process.stdout.fileno(), 30))
        assert line["id"] == node.id
        assert node.ok("get", key)["content"]["text"] == "first"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == b""
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()
    assert before == {name: (node.directory / name).read_bytes() for name in before}


def test_a_second_start_names_the_first_and_changes_nothing(node: NodeProcess) -> None:
    before = (node.directory / "secret").read_bytes()
    began = time.monotonic()
    second = node.sbot("start", "--port", "0", "--http-port", "0", "--no-lan")
    assert time.monotonic() - began < SECOND_START_SECONDS
    assert (second.code, second.out) == (1, b"")
    assert str(node.pid) in second.err
    assert "Traceback" not in second.err
    assert (node.directory / "secret").read_bytes() == before
    assert node.ok("status")["id"] == node.id


def test_a_killed_node_leaves_no_lock_and_no_socket_in_the_way(node: NodeProcess) -> None:
    key = node.ok("publish", "--type", "post", "--text", "kept")["key"]
    node.kill()
    assert (node.directory / "socket").exists()
    assert node.sbot("status").code == 3
    node.start()
    assert node.ok("get", key)["content"]["text"] == "kept"


@pytest.mark.parametrize("flag", ["--port", "--http-port"])
def test_a_taken_port_is_told_with_its_number(tmp_path: Path, flag: str) -> None:
    other = {"--port": "--http-port", "--http-port": "--port"}[flag]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = ["start", "--path", str(tmp_path / "n"), "--host", "127.0.0.1", flag, str(port), other, "0", "--no-lan"]
        done = run(*words)
    assert (done.code, done.out) == (1, b"")
    assert f"port {port}" in done.err
    assert flag in done.err
    assert "Traceback" not in done.err
    assert done.err.count("sbot: ") == 1
    assert not (tmp_path / "n" / "socket").exists()


@pytest.mark.parametrize("content", [b"", b"not a key\n", b'{"curve":"ed25519","private":"AAAA.ed25519"}'])
def test_a_corrupt_key_file_stops_the_start_and_is_kept(tmp_path: Path, content: bytes) -> None:
    directory = tmp_path / "node"
    directory.mkdir(mode=0o700)
    (directory / "secret").write_bytes(content)
    done = run("start", "--path", str(directory), "--port", "0", "--http-port", "0", "--no-lan")
    assert (done.code, done.out) == (1, b"")
    assert str(directory / "secret") in done.err
    assert "Traceback" not in done.err
    assert (directory / "secret").read_bytes() == content
    assert not (directory / "sbot.db").exists()


def test_a_damaged_database_is_told_and_kept(tmp_path: Path) -> None:
    directory = tmp_path / "node"
    assert run("init", "--path", str(directory)).code == 0
    (directory / "sbot.db").write_bytes(b"no database" * 1000)
    done = run("start", "--path", str(directory), "--port", "0", "--http-port", "0", "--no-lan")
    assert (done.code, done.out) == (1, b"")
    assert "sbot.db" in done.err
    assert "Traceback" not in done.err
    assert (directory / "sbot.db").read_bytes() == b"no database" * 1000


def test_the_port_with_the_own_key_does_where_the_socket_is_gone(node: NodeProcess) -> None:
    (node.directory / "socket").unlink()
    assert node.sbot("status").code == 3  # the port of this node is not the configured one
    done = run("status", "--path", str(node.directory), SBOT_PORT=str(node.port), SBOT_HOST="127.0.0.1")
    assert done.value["id"] == node.id


def test_a_data_directory_with_a_very_long_name_works(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / ("d" * 80) / ("e" * 80) / "node") as node:
        assert node.ok("status")["id"] == node.id


def test_a_signal_during_the_start_ends_it_as_well(tmp_path: Path) -> None:
    for pause in (0.3, 0.6, 0.9):
        node = NodeProcess(tmp_path / f"node-{pause}")
        node.launch()
        time.sleep(pause)
        try:
            assert node.terminate() in (0, -signal.SIGTERM)  # the latter before it could listen to signals
        finally:
            node.kill()
        assert "Traceback" not in node.log
