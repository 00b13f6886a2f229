"""Puts the HTTP application together: `create_app(services)` is all that the node needs of this package's routes."""

import copy
import re
from collections import Counter
from typing import Any, Final

import orjson
from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route

from api.auth import Access
from api.docs_page import POLICY
from api.docs_page import render as docs_html
from api.edge import Edge
from api.errors import Problem
from api.negotiation import Form
from api.openapi import openapi_document
from api.routes import (
    admin,
    blobs,
    bundles,
    compose,
    deletion,
    doctor,
    feeds,
    invites,
    messages,
    metrics,
    mutes,
    names,
    node,
    peers,
    private,
    profiles,
    publish,
    reactions,
    render,
    replication,
    resolve,
    rooms,
    rpc,
    search,
    sign_in,
    stream,
    threads,
    timelines,
    tokens,
    unlock,
    webhooks,
    why,
)
from api.scopes import OPEN_PATHS, Guard, needed
from api.services import Services
from api.tokens import Tokens

__all__ = ["create_app"]

ROUTERS: Final[tuple[APIRouter, ...]] = (
    reactions.router,  # before messages: an id takes in all that follows it in a path
    messages.router,
    publish.router,
    compose.router,
    node.router,
    metrics.router,
    feeds.router,
    invites.router,
    rooms.router,
    profiles.router,
    names.router,
    search.router,
    resolve.router,
    blobs.router,
    threads.router,
    timelines.router,
    private.router,
    render.router,
    peers.router,
    replication.router,
    why.router,
    rpc.router,
    sign_in.router,
    stream.router,
    tokens.router,
    mutes.router,
    deletion.router,
    doctor.router,
    unlock.router,
    webhooks.router,
    bundles.router,
    admin.router,
)


def create_app(services: Services) -> FastAPI:
    """The ASGI application of one node."""
    kept = Tokens(services.database, services.now)
    access = Access(services.token, hosts=services.settings.hosts, origins=services.settings.origins, tokens=kept.grant)
    answers: Counter[int] = Counter()
    breaches: Counter[str] = Counter()
    app = FastAPI(
        version=services.version,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        middleware=[Middleware(Edge, access=access, answers=answers, breaches=breaches)],
        exception_handlers={HTTPException: _http_error},
    )
    app.state.services = services
    app.state.answers = answers
    app.state.breaches = breaches
    app.state.tokens = kept
    app.state.streams = set()
    app.state.downloads = set()
    app.state.calls = set()
    for router in ROUTERS:  # taken over one by one: included ones are looked up in a roundabout way
        app.router.routes.extend(map(_guarded, router.routes))
    document: list[dict[str, Any]] = []  # made once, when somebody first asks for it

    def openapi() -> dict[str, Any]:
        if not document:
            document.append(openapi_document(app, services.version))
        return document[0]

    app.openapi = openapi  # type: ignore[method-assign]
    app.router.routes.append(_guarded(Route("/openapi.json", _openapi, include_in_schema=False)))
    app.router.routes.append(_guarded(Route("/docs", _docs, include_in_schema=False)))
    return app


def _guarded(route: BaseRoute) -> BaseRoute:
    """The same route behind the check of what it needs; the routers' own belong to every application."""
    assert isinstance(route, Route)
    guarded = copy.copy(route)
    # An encoded line end is a character like others: a name may hold it, and at the end of a path it is not left out.
    guarded.path_regex = re.compile(route.path_regex.pattern.removesuffix("$") + r"\Z", re.DOTALL)
    if route.path in OPEN_PATHS:
        return guarded
    (method,) = (route.methods or set()) - {"HEAD"}
    guarded.app = Guard(route.app, needed(f"{method} {route.path_format}"))
    return guarded


async def _openapi(request: Request) -> Response:
    return Response(orjson.dumps(request.app.openapi()), media_type=Form.JSON)


async def _docs(request: Request) -> Response:
    page = docs_html(request.app.openapi())
    return Response(page, headers={"Content-Security-Policy": POLICY}, media_type="text/html")


async def _http_error(request: Request, error: Exception) -> Response:
    """What the router finds wrong: an unknown path, or a method that the path does not take."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = ", ".join(_methods(request))
        raise Problem(
            "method-not-allowed", f"This path takes {allowed}.", headers={"Allow": allowed}, allow=allowed
        ) from None
    raise Problem("not-found", "There is nothing at this path.") from None


def _methods(request: Request) -> list[str]:
    """Every method that some route takes at the path of a request, of those that describe it the most closely."""
    routes = request.app.router.routes
    fitting = [
        route for route in routes if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
    ]
    exact = [route for route in fitting if route.path == request.scope["path"]]
    closest = max((len(route.path) for route in fitting), default=0)
    nearest = exact or [route for route in fitting if len(route.path) == closest]
    found = {method for route in nearest for method in route.methods or ()}
    if "GET" in found:
        found.add("HEAD")
    return sorted(found)
