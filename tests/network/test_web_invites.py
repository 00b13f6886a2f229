"""Joining a room by the web link of an invite, with whole nodes and a web server that answers as rooms do."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.processes import NodeProcess, wait_until


@contextmanager
def room_pages(address: str) -> Iterator[tuple[str, list[Any]]]:
    """The invite's link, and what was posted to claim it; it is good once."""
    claimed: list[Any] = []

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/join?invite=abc&encoding=json"
            base = f"http://127.0.0.1:{server.server_port}"
            self.answer({"status": "successful", "invite": "abc", "postTo": f"{base}/invite/consume"})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            claimed.append(body)
            if len(claimed) > 1 or body["invite"] != "abc":
                self.answer({"status": "failed", "error": "the invite is used up"})
            else:
                self.answer({"status": "successful", "multiserverAddress": address})

        def answer(self, value: Any) -> None:
            data = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/join?invite=abc", claimed
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_web_invite_in_a_private_network_is_claimed_only_where_that_is_allowed(tmp_path: Path) -> None:
    with (
        NodeProcess(tmp_path / "room", "--room", "A room at home") as room,
        NodeProcess(tmp_path / "careful") as careful,
        NodeProcess(tmp_path / "at-home", "--private-web") as at_home,
        room_pages(room.address) as (link, claimed),
    ):
        refused = careful.sbot("join", link)
        assert (refused.code, claimed) == (1, [])
        assert "https" in refused.err
        joined = at_home.ok("join", link)
        assert claimed == [{"id": at_home.id, "invite": "abc"}]
        assert joined["id"] == room.id
        wait_until(lambda: room.id in at_home.connected(), 15, "the room")
        again = at_home.sbot("join", link)
        assert again.code == 1
        assert "the invite is used up" in again.err
