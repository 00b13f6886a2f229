"""Hostile bundles sent to a real node over HTTP, and given to commands: each ends soon, small and with a report."""

import http.client
import json
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.benchmarks.nodes import cpu_seconds, memory
from tests.support import hostile_bundles
from tests.support.hostile_bundles import FORKED, GOOD
from tests.support.processes import NodeProcess, run

SECONDS = 10.0
MEGABYTES = 64.0


def upload(node: NodeProcess, path: str, body: bytes | Iterable[bytes]) -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection(node.http.removeprefix("http://"), timeout=60)
    try:
        headers = {"Authorization": f"Bearer {node.token}", "Content-Type": "application/octet-stream"}
        connection.request("POST", path, body, headers, encode_chunked=not isinstance(body, bytes))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.mark.timeout(240)
def test_each_upload_ends_soon_and_small(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "node") as node:
        honest = hostile_bundles.small(packed=True)
        for path in ("/v1/bundles/inspect", "/v1/bundles/import"):
            status, report = upload(node, path, honest)
            assert (status, report["problem"]) == (200, None)
        node.sbot("export", str(tmp_path / "x"))
        before = memory(node.pid)["highest_rss_mb"]
        for number, (name, data) in enumerate(hostile_bundles.files()):
            if name.startswith(("record", "a header")) and number % 7:
                continue  # each of them is tried at the door
            for path in ("/v1/bundles/inspect", "/v1/bundles/import"):
                begun = cpu_seconds(node.pid)
                status, report = upload(node, path, data)
                assert status == 200, (name, report)
                assert report["problem"], name
                assert not report["complete"] or name == "a manifest that miscounts", name
                assert cpu_seconds(node.pid) - begun < SECONDS, name
        assert memory(node.pid)["highest_rss_mb"] - before < MEGABYTES
        begun_at = time.monotonic()
        status, report = upload(node, "/v1/bundles/import", hostile_bundles.endless_blob(100))
        assert (status, report["blobs_refused"]) == (200, 1)
        assert memory(node.pid)["highest_rss_mb"] - before < MEGABYTES
        assert time.monotonic() - begun_at < 60
        clock = node.clock()
        assert clock.keys() <= {GOOD.id, FORKED.id}
        assert clock[GOOD.id] == 6
        assert node.post("still here")
        assert "Traceback" not in node.log
        assert node.terminate() == 0


@pytest.mark.parametrize(
    "name", ["zip bomb", "zstd of zeros", "deep arrays", "noise", "a frame of 4 GiB", "twice the same bundle", "a fork"]
)
def test_commands_say_it_in_a_sentence(tmp_path: Path, name: str) -> None:
    data = dict(hostile_bundles.files())[name]
    (tmp_path / "file").write_bytes(data)
    assert run("init", "--path", str(tmp_path / "node")).code == 0
    for words, stdin in ((["inspect", str(tmp_path / "file")], b""), (["inspect", "-"], data)):
        done = run(*words, stdin=stdin)
        assert done.code == 1
        assert done.value["problem"]
        assert "Traceback" not in done.err
    done = run("import", "-", "--path", str(tmp_path / "node"), stdin=data)
    assert done.code == 1
    assert done.value["problem"]
    assert "Traceback" not in done.err
