"""One keep-alive connection to the HTTP API, and a further one for each answer that is read piece by piece."""

import http.client
import select
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from api.client.problems import CONNECTION_LOST, UNEXPECTED, ApiProblem, NodeNotRunning
from feeds.canonical_json import JsonValue, compact, parse
from feeds.errors import InvalidJson

__all__ = ["Answer", "Connection", "Query", "escaped"]

TIMEOUT: Final = 60.0
"""Seconds of silence after which an answer is given up; the node itself gives up dialling and bodies earlier."""
LARGEST: Final = 16 * 1024 * 1024
"""Bytes of an answer, or of a line of one, that is held as a whole."""
PIECE: Final = 64 * 1024
JSON: Final = "application/json"
READING: Final = ("GET", "HEAD")
IDLE: Final = 20.0
"""Seconds after which a connection is not used again: the node closes idle ones after 30."""

Query = Mapping[str, str | int | bool | Iterable[str] | None]
"""Parameters; None leaves one out, True and False are 1 and 0, several values are joined by commas."""


class Answer:
    """What came back: status, headers (names in lower case), body."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status: Final = status
        self.headers: Final = headers
        self.body: Final = body

    def json(self) -> Any:
        """The body as the value that V8 reads it as. Raises ApiProblem."""
        try:
            return parse(self.body)
        except InvalidJson as error:
            raise ApiProblem(UNEXPECTED, self.status, f"The answer is not JSON: {error.reason}.") from None


class Connection:
    """Requests to one node. Not to be shared between threads."""

    def __init__(self, base_url: str, token: str, *, timeout: float = TIMEOUT) -> None:
        parts = urlsplit(base_url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{base_url!r} is no http:// address")
        self.url: Final = base_url.rstrip("/")
        self._host: Final = parts.hostname
        self._port: Final = parts.port or 80
        self._base: Final = parts.path.rstrip("/")
        self._headers: Final = {"Authorization": f"Bearer {token}"}
        self._timeout: Final = timeout
        self._kept: http.client.HTTPConnection | None = None
        self._used = 0.0

    def close(self) -> None:
        """Close the connection; another request would open a new one."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def request(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        *,
        body: JsonValue = None,
        data: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request, `body` as JSON or `data` as it is, and its whole answer. Raises ApiProblem for all but 2xx."""
        sent = dict(headers or {}) | self._headers | {"Accept": JSON}
        if body is not None:
            data, sent["Content-Type"] = compact(body), JSON
        target = self._target(path, query)
        again = method in READING and self._is_warm()
        try:
            return self._exchange(method, target, data, sent)
        except ApiProblem as problem:
            if not again or problem.code != CONNECTION_LOST:
                raise
        return self._exchange(method, target, data, sent)

    @contextmanager
    def streaming(
        self,
        path: str,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        body: JsonValue = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """An answer to be read piece by piece, to a GET or to a POST of `body`, on a connection of its own.

        Raises ApiProblem.
        """
        sent = self._headers | dict(headers or {}) | ({} if body is None else {"Content-Type": JSON})
        data = None if body is None else compact(body)
        connection = self._fresh()
        try:
            with _told():
                connection.request("GET" if data is None else "POST", self._target(path, query), data, sent)
                response = connection.getresponse()
                if response.status >= 300:
                    raise _problem(_whole(response))
            yield response
        finally:
            connection.close()

    def pieces(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        """The body of a streamed answer as it comes. Raises ApiProblem when it ends too early."""
        while True:
            with _told():
                piece = response.read1(PIECE) if response.chunked else response.read(PIECE)
                if not piece and response.length:
                    raise http.client.IncompleteRead(b"", response.length)
            if not piece:
                return
            yield piece

    def lines(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        """The lines of a streamed answer, without their ends."""
        rest: list[bytes] = []
        size = 0
        for piece in self.pieces(response):
            first, *others = piece.split(b"\n")
            rest.append(first)
            size += len(first)
            if others:
                yield b"".join(rest)
                yield from others[:-1]
                rest, size = [others[-1]], len(others[-1])
            if size > LARGEST:
                raise ApiProblem(UNEXPECTED, response.status, f"A line of the answer is longer than {LARGEST} bytes.")
        if size:
            yield b"".join(rest)

    def _exchange(
        self, method: str, target: str, data: bytes | Iterable[bytes] | None, headers: dict[str, str]
    ) -> Answer:
        connection, self._kept = self._kept if self._is_warm() else None, None
        try:
            if connection is None:
                connection = self._fresh()
            try:
                with _told():
                    connection.request(method, target, body=data, headers=headers)
            except ApiProblem:
                # A body may be refused before it has all been sent; then the refusal is there to be read.
                answer = _early_answer(connection)
                if answer is None:
                    raise
            else:
                with _told():
                    answer = _whole(connection.getresponse())
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        if connection.sock is not None:
            self._kept, self._used = connection, time.monotonic()
        if answer.status >= 300:
            raise _problem(answer)
        return answer

    def _fresh(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout, blocksize=PIECE)
        try:
            connection.connect()
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            raise NodeNotRunning(f"No node answers at {self.url} ({reason}); start it with: sbot start.") from None
        assert connection.sock is not None
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _is_warm(self) -> bool:
        """Whether the kept connection is still open, as far as can be seen from here."""
        kept = self._kept
        if kept is None or kept.sock is None:
            return False
        heard = select.poll()
        heard.register(kept.sock, select.POLLIN)
        if time.monotonic() - self._used < IDLE and not heard.poll(0):
            return True
        self.close()
        return False

    def _target(self, path: str, query: Query | None) -> str:
        told = {name: _told_as(value) for name, value in (query or {}).items() if value is not None}
        return self._base + path + (f"?{urlencode(told, errors='surrogatepass')}" if told else "")


def escaped(text: str) -> str:
    """A piece of a path."""
    return quote(text, safe="", errors="surrogatepass")


def _told_as(value: str | int | bool | Iterable[str]) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value) if isinstance(value, str | int) else ",".join(value)


@contextmanager
def _told() -> Iterator[None]:
    """Failures of sockets and of HTTP as the client's own exception."""
    try:
        yield
    except TimeoutError:
        raise ApiProblem(CONNECTION_LOST, 0, "The node took too long to answer; its log may say why.") from None
    except (OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        raise ApiProblem(CONNECTION_LOST, 0, f"The connection to the node broke ({reason}).") from None


def _early_answer(connection: http.client.HTTPConnection) -> Answer | None:
    """The answer to a request that could not be sent to its end."""
    if connection.sock is None:
        return None
    response = http.client.HTTPResponse(connection.sock, method="POST")
    try:
        response.begin()
        return _whole(response)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        response.close()
        connection.close()


def _whole(response: http.client.HTTPResponse) -> Answer:
    body = response.read(LARGEST + 1)
    if len(body) <= LARGEST and response.length:
        raise http.client.IncompleteRead(body, response.length)
    if len(body) > LARGEST:
        response.close()
        raise ApiProblem(UNEXPECTED, response.status, f"The answer is longer than {LARGEST} bytes.")
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)


def _problem(answer: Answer) -> ApiProblem:
    try:
        members = answer.json()
    except ApiProblem:
        members = None
    if not isinstance(members, dict) or not isinstance(members.get("code"), str):
        return ApiProblem(UNEXPECTED, answer.status, f"The answer is no problem of this API (status {answer.status}).")
    known = ("type", "title", "status", "detail", "instance", "code")
    rest = {name: value for name, value in members.items() if name not in known}
    return ApiProblem(str(members["code"]), answer.status, str(members.get("detail", "")), rest)
