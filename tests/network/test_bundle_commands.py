"""`sbot clock`, `export`, `inspect`, `import` in real processes: with a running node and without one."""

import http.server
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.builders import generate
from tests.support.filling import fill
from tests.support.processes import NodeProcess, clean_environ, run


def sbot(path: Path, *words: str) -> object:
    done = run(*words, "--path", str(path))
    assert done.code == 0, done.err
    return done.value


def test_from_store_to_node_and_back(tmp_path: Path) -> None:
    here, stick = tmp_path / "here", tmp_path / "stick"
    fill(here, generate(400, 5))
    wrote = sbot(here, "export", str(stick))
    assert isinstance(wrote, dict)
    assert stick.stat().st_size == wrote["bytes"]
    contents = sbot(here, "inspect", str(stick))
    assert isinstance(contents, dict)
    assert (contents["signed"], contents["last"], contents["problem"]) == (True, True, None)
    with NodeProcess(tmp_path / "there") as node:
        report = node.ok("import", str(stick))
        assert (report["added"], report["gaps"], report["signed"]) == (contents["messages"], 0, True)
        clock = tmp_path / "there.clock"
        clock.write_bytes(node.sbot("clock").out)
        post = node.post("from there")
        lines = node.sbot("export", "-", "--format", "jsonl")
        assert lines.out.count(b"\n") == contents["messages"] + 1
        assert node.ok("export", str(tmp_path / "back"), "--for", str(clock))
        parts = node.sbot("export", str(tmp_path / "many"), "--max-bytes", "65536").values
        assert len(parts) >= 2
        Path(parts[-1]["file"]).unlink()
        assert (
            node.sbot("export", str(tmp_path / "many"), "--max-bytes", "65536").values[-1]["file"] == parts[-1]["file"]
        )
        assert node.terminate() == 0
    assert post.startswith("%")
    back = sbot(here, "import", str(tmp_path / "back"))
    assert isinstance(back, dict)
    assert (back["messages"], back["added"]) == (1, 1)
    fresh = tmp_path / "fresh"
    assert run("init", "--path", str(fresh)).code == 0
    reports = run("import", *(part["file"] for part in parts), "--path", str(fresh)).values
    assert sum(report["added"] for report in reports) == contents["messages"] + 1
    damaged = stick.read_bytes()[:-40]
    stick.write_bytes(damaged)
    done = run("import", str(stick), "--path", str(fresh))
    assert done.code == 1
    assert "cut off" in done.value["problem"]
    assert run("inspect", str(stick)).code == 1
    assert run("inspect", str(tmp_path / "nothing")).code == 1
    assert run("import", str(stick), "--path", str(tmp_path / "nobody")).code == 1


def test_an_import_that_is_killed_is_completed_by_another(tmp_path: Path) -> None:
    here, stick = tmp_path / "here", tmp_path / "stick"
    fill(here, generate(2500, 20))
    sbot(here, "export", str(stick))
    there = tmp_path / "there"
    assert run("init", "--path", str(there)).code == 0
    command = [sys.executable, "-m", "node", "import", str(stick), "--path", str(there)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=clean_environ()
    ) as process:
        time.sleep(0.8)
        process.send_signal(signal.SIGKILL)
    report = sbot(there, "import", str(stick))
    assert isinstance(report, dict)
    assert report["added"] + report["duplicates"] == report["messages"] >= 2500
    again = sbot(there, "import", str(stick))
    assert isinstance(again, dict)
    assert (again["added"], again["duplicates"]) == (0, report["messages"])


@contextmanager
def cutting_server(data: bytes, cut: int) -> Iterator[str]:
    """A server that hangs up after so many bytes, and knows Range."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            start = int(self.headers.get("Range", "bytes=0-")[6:-1])
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.send_header("ETag", '"one"')
            self.end_headers()
            self.wfile.write(data[start : start + cut])
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/bundle"
        finally:
            server.shutdown()
            thread.join()


def test_a_bundle_is_fetched_on_after_a_cut(tmp_path: Path) -> None:
    here, stick, there = tmp_path / "here", tmp_path / "stick", tmp_path / "there"
    fill(here, generate(200, 3))
    sbot(here, "export", str(stick))
    assert run("init", "--path", str(there)).code == 0
    data = stick.read_bytes()
    with cutting_server(data, len(data) // 2 + 1) as address:
        report = sbot(there, "import", address)
        assert isinstance(report, dict)
        assert (report["added"], report["problem"]) == (report["messages"], None)
        done = run("import", address, "--max-bytes", "1000", "--path", str(there))
        assert done.code == 1
        assert "more than 1000 bytes" in done.err
