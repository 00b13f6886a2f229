"""A small web server on loopback for pages that a browser opens; it records every path that was asked for."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

LATE = "/late"
LATE_SECONDS = 2.0


class Page(NamedTuple):
    """An answer as it goes out."""

    body: bytes
    headers: Mapping[str, str]
    status: int = 200


def html(text: str, **headers: str) -> Page:
    """A page; `Content_Security_Policy` stands for a header of that name."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Page(text.encode(), {"Content-Type": "text/html; charset=utf-8", **named})


class PageServer:
    """Answers by `pages`, a function from a path with its query to a page, or None for a 404.

    A page that asks for LATE is not loaded before its scripts had two seconds.
    """

    def __init__(self, pages: Callable[[str], Page | None]) -> None:
        self.pages = pages
        self.asked: list[str] = []
        self.port = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@contextlib.contextmanager
def page_server(pages: Callable[[str], Page | None]) -> Iterator[PageServer]:
    """The server, while the block runs."""
    served = PageServer(pages)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            if self.path == LATE:
                time.sleep(LATE_SECONDS)
            page = served.pages(self.path) or Page(b"", {}, 404)
            self.send_response_only(page.status)
            for name, value in page.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            self.wfile.write(page.body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Nothing: standard error belongs to the tests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join(10)
