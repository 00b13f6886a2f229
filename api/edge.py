"""The outermost layer of the application: who may ask, headers of every answer, HEAD, and the last catch.

Plain ASGI, because a middleware with a task group of its own would buffer streams and cost more than most routes.
"""

import logging
from collections import Counter
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.auth import Access
from api.errors import Problem, ProblemResponse, problem_of

__all__ = ["Edge", "on_the_wire"]

logger = logging.getLogger(__name__)

_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
"""Added to every answer that does not set them itself."""

_LIMITS: Final = {"body-too-large": "http_body", "too-many-streams": "http_streams"}
"""The limits (of `replication.limits`) behind problems, by their code."""


class Edge:
    """Wraps the whole application.

    answers -- counts them by the first figure of their status; breaches -- counts limits that held a client back.
    """

    def __init__(self, app: ASGIApp, access: Access, answers: Counter[int], breaches: Counter[str]) -> None:
        self._app: Final = app
        self._access: Final = access
        self._answers: Final = answers
        self._breaches: Final = breaches

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = _Answer(send, head=scope["method"] == "HEAD")
        try:
            if (refusal := self._access.refusal(scope)) is not None:
                raise refusal
            if answer.head:
                scope = {**scope, "method": "GET"}
            await self._app(scope, receive, answer.send)
        except (ClientDisconnect, _HeadAnswered):
            return
        except Exception as error:
            await self._failed(error, answer, scope, receive)
        finally:
            if answer.status:
                self._answers[answer.status // 100] += 1

    async def _failed(self, error: Exception, answer: "_Answer", scope: Scope, receive: Receive) -> None:
        problem = problem_of(error)
        if problem is None or problem.kind.status in (500, 503):
            logger.error("%s %s failed", scope["method"], instance(scope), exc_info=error)
        if problem is None:
            problem = Problem("internal-error", "The node could not answer. Its log says why.")
        if (limit := _LIMITS.get(problem.code)) is not None:
            self._breaches[limit] += 1
        if answer.started:
            # Too late for a problem: leaving the answer unfinished makes the server cut the connection, so that the
            # reader sees that something is missing.
            return
        await ProblemResponse(problem, instance(scope))(scope, receive, answer.send)


def instance(scope: Scope) -> str:
    """The path asked for as it was written, without the query."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.decode("ascii", "replace")


def on_the_wire(problem: Problem, asked: str) -> bytes:
    """A whole answer for what never became a request, after which the connection is closed."""
    answer = ProblemResponse(problem, asked)
    status = HTTPStatus(answer.status_code)
    lines = b"".join(b"%b: %b\r\n" % header for header in _with_ours(answer.raw_headers))
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\nconnection: close\r\n".encode()
    return head + lines + b"\r\n" + bytes(answer.body)


def _with_ours(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    headers = list(headers)
    present = {name for name, _ in headers}
    return [*headers, *(pair for pair in _HEADERS if pair[0] not in present)]


class _HeadAnswered(Exception):
    """The headers of an endless answer are sent, which is all that HEAD wants."""


class _Answer:
    """Sends on what the application answers, with our headers, and without the body for HEAD."""

    __slots__ = ("_send", "head", "started", "status")

    def __init__(self, send: Send, *, head: bool) -> None:
        self._send = send
        self.head = head
        self.started = False
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": _with_ours(message["headers"])}
            self.started = True
            self.status = message["status"]
            await self._send(message)
        elif not self.head:
            await self._send(message)
        else:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            if message.get("more_body", False):
                raise _HeadAnswered
