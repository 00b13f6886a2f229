"""Any muxrpc method of this node by its old name, for programs that know those and speak HTTP."""

import re
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.bodies import read_arguments
from api.errors import Problem
from api.negotiation import Form
from api.openapi import describe
from api.parameters import Parameter, Reading, Unfit
from api.rpc_answers import BYTES, RpcAnswer
from api.scopes import TokenScope, require
from api.services import services_of
from api.uploads import file_in
from feeds.canonical_json import parse
from feeds.errors import InvalidJson
from feeds.message import JsonValue
from replication.errors import RemoteVisible
from replication.rpc.calls import Kind

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/rpc", tags=["rpc"])

LONGEST_NAME: Final = 256


def _arguments() -> Reading[list[JsonValue]]:
    def read(given: str) -> list[JsonValue]:
        try:
            value = parse(given.encode("utf-8", "surrogatepass"))
        except InvalidJson as error:
            raise Unfit(f"must be a JSON array; it is not JSON: {error}") from None
        if not isinstance(value, list):
            raise Unfit("must be a JSON array")
        return value

    return Reading(read, {"type": "string", "examples": ["[]"]})


ARGS: Final = Parameter("args", _arguments(), "Arguments of a method that takes the body itself, as a JSON array")
METHOD: Final[dict[str, Any]] = {
    "name": "method",
    "in": "path",
    "required": True,
    "description": "Name of the method, its parts joined with dots: `blobs.has`; slashes do as well",
    "schema": {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9]*([./][A-Za-z][A-Za-z0-9]*)*$", "maxLength": 256},
}
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": False,
        "content": {
            Form.JSON: {"schema": {"oneOf": [{"type": "array", "items": {}}, {"type": "object"}]}},
            BYTES: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "What the method answers; items of a stream a line each",
        "content": {
            Form.JSON: {"schema": {}},
            Form.NDJSON: {"schema": {"type": "string"}},
            BYTES: {"schema": {"type": "string", "format": "binary"}},
        },
    },
    204: {"description": "The method has taken the body"},
}


@router.post(
    "/{method:path}",
    summary="Call a muxrpc method of this node",
    responses=_ANSWERS,
    openapi_extra={**describe(ARGS, path=METHOD), **_BODY},
)
async def call(request: Request) -> Response:
    require(request, TokenScope.PRIVATE)  # what is private, the methods give to the node's own user
    services = services_of(request)
    spelled = request.path_params["method"]
    name = tuple(re.split("[./]", spelled))
    try:
        if not all(name) or len(spelled) > LONGEST_NAME:
            raise RemoteVisible("no name")
        kind = services.rpc.kind(name)
    except RemoteVisible:
        raise Problem("method-not-found", "This node has no such method; `manifest` lists those it has.") from None
    match kind:
        case Kind.DUPLEX:
            detail = f"{'.'.join(name)} talks both ways at once, which HTTP cannot; call it over the unix socket."
            raise Problem("method-is-duplex", detail)
        case Kind.SINK:
            args = ARGS.of(request) or []
            body = file_in(request, services.settings, services.blobs.limits.max_size)
            return RpcAnswer(request.app, services, name, kind, args, body=body)
        case _:
            args = await read_arguments(request, services.settings)
            raw = BYTES in request.headers.get("accept", "").lower()
            return RpcAnswer(request.app, services, name, kind, args, raw=raw)
