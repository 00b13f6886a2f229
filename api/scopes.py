"""What a token may do, and which of that each route needs: one table, held against the routes by a test.

A route that is not in the table needs `admin`, so that forgetting one opens nothing. Whatever shows or makes the plain
text of private messages needs `private` as well; which requests do so stands here too, and in `require`, for what only
the body of a request tells.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import Problem

__all__ = ["GRANT", "NEEDED", "OPEN_PATHS", "Grant", "Guard", "TokenScope", "needed", "require"]

OPEN_PATHS: Final = frozenset({"/v1/info", "/healthz", "/readyz"})
"""Answered without a token."""

GRANT: Final = "sbot.grant"
"""Where the ASGI scope of a request has the grant of its token."""


class TokenScope(StrEnum):
    """One kind of thing that a token may allow."""

    READ = "read"
    PUBLISH = "publish"
    PRIVATE = "private"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Grant:
    """What the token of a request allows."""

    scopes: frozenset[TokenScope]
    token: str | None = None
    """Id of the token; None for the node's own, which is the file `http-token`."""


_READ: Final = """
GET /openapi.json
GET /docs
GET /v1/whoami
GET /v1/status
GET /metrics
GET /v1/messages
GET /v1/messages/{id}
GET /v1/messages/{id}/raw
GET /v1/messages/{id}/votes
GET /v1/messages/{id}/backlinks
GET /v1/threads
GET /v1/threads/{id}
GET /v1/timelines/home
GET /v1/timelines/public
GET /v1/timelines/early
GET /v1/timelines/mentions
GET /v1/timelines/channels/{name}
GET /v1/channels
GET /v1/types
GET /v1/feeds
GET /v1/feeds/{id}
GET /v1/feeds/{id}/messages
GET /v1/feeds/{id}/proof
GET /v1/profiles/{id}
GET /v1/profiles/{id}/names
GET /v1/profiles/{id}/follows
GET /v1/profiles/{id}/followers
GET /v1/profiles/{id}/blocks
GET /v1/mutes
GET /v1/rooms
GET /v1/names
GET /v1/search
GET /v1/resolve
GET /v1/blobs
GET /v1/blobs/{id}
GET /v1/blobs/{id}/references
GET /v1/peers
GET /v1/peers/known
GET /v1/replication
GET /v1/replication/preview
GET /v1/replication/{id}
GET /v1/why/{id}
GET /v1/auth/challenges/{id}
GET /v1/auth/sessions/{id}
GET /v1/stream
POST /v1/render
"""
_PUBLISH: Final = """
POST /v1/messages
POST /v1/posts
POST /v1/votes
POST /v1/abouts
POST /v1/contacts
PUT /v1/profiles/{id}/follow
DELETE /v1/profiles/{id}/follow
PUT /v1/profiles/{id}/block
DELETE /v1/profiles/{id}/block
PUT /v1/profiles/{id}/mute
DELETE /v1/profiles/{id}/mute
POST /v1/blobs
POST /v1/blobs/{id}/want
PUT /v1/blobs/{id}/pin
DELETE /v1/blobs/{id}/pin
POST /v1/auth/challenges
POST /v1/auth/request
DELETE /v1/auth/sessions/{id}
"""
_PRIVATE: Final = """
GET /v1/private
GET /v1/private/{id}
"""
_ADMIN: Final = """
GET /v1/tokens
POST /v1/tokens
DELETE /v1/tokens/{id}
GET /v1/invites
POST /v1/invites
POST /v1/invites/accept
POST /v1/invites/qr
DELETE /v1/invites/{id}
POST /v1/rooms
DELETE /v1/rooms/{id}
POST /v1/rooms/{id}/aliases
DELETE /v1/rooms/{id}/aliases/{alias}
POST /v1/aliases/consume
GET /v1/webhooks
POST /v1/webhooks
GET /v1/webhooks/{id}
DELETE /v1/webhooks/{id}
POST /v1/webhooks/{id}/resume
DELETE /v1/messages/{id}
DELETE /v1/feeds/{id}
PUT /v1/feeds/{id}
DELETE /v1/blobs/{id}
POST /v1/admin/retention
POST /v1/peers
DELETE /v1/peers/{id}
POST /v1/replication/request
POST /v1/sign-in/start
POST /v1/sign-in/solve
POST /v1/sign-in/end
POST /v1/rpc/{method}
GET /v1/bundles/clock
POST /v1/bundles/export
POST /v1/bundles/inspect
POST /v1/bundles/import
POST /v1/admin/reindex
POST /v1/admin/vacuum
POST /v1/admin/backup
GET /v1/admin/unlock
GET /v1/doctor
POST /v1/doctor
POST /v1/admin/unlock
"""

NEEDED: Final[Mapping[str, TokenScope]] = {
    route: scope
    for scope, routes in (
        (TokenScope.READ, _READ),
        (TokenScope.PUBLISH, _PUBLISH),
        (TokenScope.PRIVATE, _PRIVATE),
        (TokenScope.ADMIN, _ADMIN),
    )
    for route in routes.split("\n")
    if route
}
"""Method and path of each route, and what it needs whoever asks and however."""

_OPENING: Final = ("private", "unbox")
"""Parameters with which an answer is in plain."""
_NO: Final = frozenset({"0", "false", "no", "off"})


def needed(route: str) -> TokenScope:
    """What a route ("GET /v1/messages/{id}") needs at least."""
    return NEEDED.get(route, TokenScope.ADMIN)


def require(request: Request, scope: TokenScope) -> None:
    """For what only the inside of a request tells. Raises Problem insufficient-scope."""
    _check(request.scope, scope)


class Guard:
    """Stands before one route and lets in whoever has the scopes for it."""

    def __init__(self, app: ASGIApp, scope: TokenScope) -> None:
        self._app: Final = app
        self._needed: Final = scope

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        _check(scope, self._needed)
        if _opens(scope):
            _check(scope, TokenScope.PRIVATE)
        await self._app(scope, receive, send)


def _check(scope: Scope, wanted: TokenScope) -> None:
    grant: Grant | None = scope.get(GRANT)
    if grant is not None and wanted in grant.scopes:
        return
    held = sorted(grant.scopes) if grant is not None else []
    detail = f"This needs a token with the scope {wanted}; see `sbot token`."
    challenge = f'Bearer realm="sbot", error="insufficient_scope", scope="{wanted}"'
    raise Problem("insufficient-scope", detail, headers={"WWW-Authenticate": challenge}, missing=wanted, scopes=held)


def _opens(scope: Scope) -> bool:
    """Whether a request asks for something in plain, by its query or by a link that stands in its path as a whole."""
    if "?unbox=" in scope["path"]:
        return True
    query: bytes = scope["query_string"]
    if b"private" not in query and b"unbox" not in query and b"%" not in query:
        return False
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name in _OPENING and not (name == "private" and value.lower() in _NO):
            return True
    return False
