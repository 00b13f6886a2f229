"""The OpenAPI document: what routes say of themselves, and what is true of all of them.

Routes read requests and write answers themselves, so they describe both with `describe` and `also`; problems, the token
and the open paths are the same everywhere and are added here.
"""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from api.errors import KINDS, MEDIA_TYPE
from api.models import ProblemDetails
from api.negotiation import Form
from api.parameters import Parameter
from api.scopes import OPEN_PATHS, needed

__all__ = ["also", "describe", "listing", "openapi_document"]

Responses = dict[int | str, dict[str, Any]]

_DESCRIPTION: Final = """\
The local API of a Secure Scuttlebutt node. Send the content of the file `http-token` as `Authorization: Bearer …`.
Ids in paths may be percent-encoded sigil ids, ssb: URIs or bare URL-safe base64."""


def describe(
    *parameters: Parameter[Any], path: Mapping[str, Any] | None = None, body: type[BaseModel] | None = None
) -> dict[str, Any]:
    """`openapi_extra` of a route: what it reads from the path, the query, headers and the body."""
    described = [parameter.described() for parameter in parameters]
    extra: dict[str, Any] = {"parameters": described if path is None else [dict(path), *described]}
    if body is not None:
        extra["requestBody"] = {"required": True, "content": {Form.JSON: {"schema": _schema(body)}}}
    return extra


def _schema(model: type[BaseModel]) -> Any:
    schema = model.model_json_schema()
    for definition in schema.pop("$defs", {}).values():
        schema = _inlined(schema, definition)
    return schema


def _inlined(schema: Any, definition: dict[str, Any]) -> Any:
    """A schema with a definition of its own put where it is referred to: bodies are too small to share any."""
    if isinstance(schema, dict):
        if schema.get("$ref") == f"#/$defs/{definition['title']}":
            return definition
        return {name: _inlined(member, definition) for name, member in schema.items()}
    return [_inlined(item, definition) for item in schema] if isinstance(schema, list) else schema


def also(status: int, model: type[BaseModel], description: str, *forms: Form) -> Responses:
    """`responses` entry: an answer of this shape, as JSON and as the other `forms`."""
    return {status: {"model": model, "description": description, "content": {str(form): {} for form in forms}}}


def listing(model: type[BaseModel], description: str) -> Responses:
    """`responses` entry of a list: a page as JSON or msgpack, or all of it as NDJSON."""
    return also(200, model, description, Form.NDJSON, Form.MSGPACK)


def openapi_document(app: FastAPI, version: str) -> dict[str, Any]:
    """The whole document."""
    document = get_openapi(
        title="pysbot",
        version=version,
        summary="A Secure Scuttlebutt node",
        description=_DESCRIPTION,
        routes=app.routes,
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = _problem_schema()
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}]
    for path, item in document["paths"].items():
        for method, operation in item.items():
            _complete(operation)
            route = f"{method.upper()} {path}"
            operation["security"] = [] if path in OPEN_PATHS else [{"token": [str(needed(route))]}]
    return document


def _problem_schema() -> dict[str, Any]:
    schema = ProblemDetails.model_json_schema()
    schema["properties"]["code"]["enum"] = sorted(KINDS)
    return schema


def _complete(operation: dict[str, Any]) -> None:
    """Problems instead of FastAPI's own validation errors."""
    responses = operation["responses"]
    responses.pop("422", None)
    responses["default"] = {
        "description": "A problem",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
