"""Fetching a bundle by its address: after a cut the rest is asked for, also of a server that knows no ranges."""

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from node.commands import fetching
from node.errors import NodeError

DATA = bytes(range(256)) * 2000
Answer = Callable[[http.server.BaseHTTPRequestHandler, int, int], None]
"""Answers one request; gets its number, from 0, and the first byte that is asked for."""


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "WAIT", 0.0)


@contextmanager
def serving(answer: Answer) -> Iterator[tuple[str, list[int]]]:
    """A server, its address, and where each request began."""
    asked: list[int] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            start = int(self.headers.get("Range", "bytes=0-")[6:-1])
            asked.append(start)
            answer(self, len(asked) - 1, start)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/bundle", asked
        finally:
            server.shutdown()
            thread.join()


def send(
    handler: http.server.BaseHTTPRequestHandler, status: int, start: int, most: int, *, tag: str | None = None
) -> None:
    """Say that everything from `start` on comes, and send at most so many bytes of it."""
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(DATA) - start))
    if tag is not None:
        handler.send_header("ETag", tag)
    handler.end_headers()
    handler.wfile.write(DATA[start : start + most])


def got(address: str, limit: int | None = None) -> bytes:
    return b"".join(fetching.fetched(address, limit))


@pytest.mark.parametrize("tag", ['"one"', 'W/"weak"', None])
def test_the_rest_is_asked_for_after_each_cut(tag: str | None) -> None:
    with serving(lambda handler, _n, start: send(handler, 206 if start else 200, start, 200_000, tag=tag)) as (
        url,
        asked,
    ):
        assert got(url) == DATA
        assert asked == [0, 200_000, 400_000]


def test_a_server_without_ranges_begins_anew_and_nothing_comes_twice() -> None:
    with serving(lambda handler, n, _start: send(handler, 200, 0, (n + 1) * 300_000)) as (url, asked):
        assert got(url) == DATA
        assert asked == [0, 300_000]


def test_a_file_that_was_changed_meanwhile_is_refused() -> None:
    with (
        serving(lambda handler, n, _start: send(handler, 200, 0, 300_000, tag=f'"{n}"')) as (url, _),
        pytest.raises(NodeError, match="was changed"),
    ):
        got(url)


def test_it_is_given_up_when_nothing_comes_any_more() -> None:
    with serving(lambda handler, n, start: send(handler, 206, start, 0 if n else 1000)) as (url, asked):
        with pytest.raises(NodeError, match="try again later"):
            got(url)
        assert len(asked) == 1 + fetching.TRIES - 1


def test_other_answers_and_too_long_files_are_refused() -> None:
    with (
        serving(lambda handler, _n, _start: send(handler, 404, 0, 10)) as (url, _),
        pytest.raises(NodeError, match="404"),
    ):
        got(url)
    with (
        serving(lambda handler, _n, start: send(handler, 200, start, len(DATA))) as (url, _),
        pytest.raises(NodeError, match="more than 1000 bytes"),
    ):
        got(url, 1000)
    with pytest.raises(NodeError):
        got("http://127.0.0.1:1/x")


def test_an_end_that_was_not_seen_is_no_error() -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler, number: int, _start: int) -> None:
        if number:
            handler.send_error(416)
            return
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(DATA) + 1))
        handler.end_headers()
        handler.wfile.write(DATA)

    with serving(answer) as (url, asked):
        assert got(url) == DATA
        assert asked == [0, len(DATA)]
