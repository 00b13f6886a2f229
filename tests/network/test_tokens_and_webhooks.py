"""Tokens, muting, deleting and webhooks with a real node: the commands, and what is left after kill -9."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import NodeProcess, wait_until


@pytest.fixture(name="node", scope="module")
def _node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("tokens") / "node") as node:
        yield node


def status(node: NodeProcess, path: str, token: str) -> int:
    request = urllib.request.Request(node.http + path, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_token_from_the_command_line(node: NodeProcess) -> None:
    made = node.ok("token", "create", "a bot", "read", "--expires-in", "1h")
    assert made["expires"] - made["created"] == 3600
    assert status(node, "/v1/whoami", made["token"]) == 200
    assert status(node, "/v1/private", made["token"]) == 403
    (listed,) = node.sbot("token", "list").values
    assert listed["id"] == made["id"]
    assert "token" not in listed
    assert node.ok("token", "revoke", made["id"])["revoked"] is True
    assert status(node, "/v1/whoami", made["token"]) == 401
    assert node.sbot("token", "revoke", made["id"]).code == 4
    assert node.sbot("token", "create", "x", "read", "--expires-in", "soon").code == 2
    assert made["token"] not in node.log


def test_mute_and_delete_say_what_they_do(node: NodeProcess) -> None:
    other = "@AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.ed25519"
    assert node.ok("mute", other) == {"id": other, "muted": True}
    assert [one["id"] for one in node.sbot("mute").values] == [other]
    assert node.ok("unmute", other)["muted"] is False
    message = node.post("to be hidden")
    assert "keeps it" in node.ok("delete", message)["note"]
    assert node.sbot("get", message).code == 4
    assert node.sbot("delete", "%AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.sha256").code == 4
    assert node.sbot("delete", node.id).code == 1
    assert node.sbot("delete", other).code == 4


@contextmanager
def listener(answers: list[int | None]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Takes deliveries; None: waits until the sender is gone. Its address and the batches."""
    batches: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            batches.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            answer = answers.pop(0) if answers else 200
            if answer is None:
                self.rfile.read(1)
                return
            self.send_response(answer)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/?secret-of-the-hook", batches
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_nothing_is_lost_for_a_webhook_by_a_kill(tmp_path: Path) -> None:
    with listener([200, None]) as (url, batches), NodeProcess(tmp_path / "node") as node:
        code, made = node.get("/v1/webhooks", json.dumps({"url": url, "filter": {"types": ["post"]}}).encode())
        assert code == 201
        node.post("one")
        wait_until(lambda: len(batches) == 1, 10, "the first delivery")
        wait_until(lambda: node.get(f"/v1/webhooks/{made['id']}")[1]["cursor"] == 1, 10, "the cursor")
        node.post("two")
        wait_until(lambda: len(batches) == 2, 10, "a delivery that is not acknowledged")
        node.kill()
        node.start()
        node.post("three")
        wait_until(lambda: batches[-1]["cursor"] == 3, 10, "all of it")
        shown = node.get(f"/v1/webhooks/{made['id']}")[1]
        time.sleep(0.2)
        texts = [[item["value"]["content"]["text"] for item in batch["items"]] for batch in batches]
        assert texts[:2] == [["one"], ["two"]]
        assert [text for later in texts[2:] for text in later] == ["two", "three"]
        assert shown["error"] is None
        assert "secret-of-the-hook" not in node.log
