"""The page at /docs: the OpenAPI document and the problem codes as plain HTML, no scripts, nothing from elsewhere."""

import base64
import hashlib
import html
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from api.errors import KINDS

__all__ = ["POLICY", "render"]

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc }
details { border: 1px solid #ddd; border-radius: 4px; margin: .5rem 0; padding: .4rem .8rem }
summary { cursor: pointer }
summary b { display: inline-block; min-width: 4rem }
code { font-family: ui-monospace, monospace; font-size: .92em }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0 }
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""Content-Security-Policy of the page: its one style sheet and nothing else."""

_backticked: Final = re.compile(r"`([^`]+)`").sub


def render(document: Mapping[str, Any]) -> bytes:
    """The page of an OpenAPI document."""
    info = document["info"]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{_text(info['title'])} API</title>",
        f"<style>{_STYLE}</style>",
        f"<h1>{_text(info['title'])} {_text(info['version'])}</h1>",
        f"<p>{_with_code(info.get('description', ''))}</p>",
        "<p>For programs: <a href=/openapi.json>openapi.json</a></p>",
        *_operations(document),
        "<h2>Shapes</h2>",
        *_schemas(document),
        "<h2>Problems</h2><table><tr><th>code<th>status<th>title</tr>",
        *(
            f"<tr id={code}><td><code>{code}</code><td>{kind.status}<td>{_text(kind.title)}</tr>"
            for code, kind in KINDS.items()
        ),
        "</table></html>\n",
    ]
    return "\n".join(parts).encode()


def _operations(document: Mapping[str, Any]) -> Iterator[str]:
    by_tag: dict[str, list[str]] = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            by_tag.setdefault(operation.get("tags", [""])[0], []).append(_operation(method, path, operation))
    for tag, operations in by_tag.items():
        yield f"<h2>{_text(tag)}</h2>"
        yield from operations


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parts = [
        f"<summary><b>{method.upper()}</b> <code>{_text(path)}</code> {_text(operation.get('summary', ''))}</summary>"
    ]
    if parameters := operation.get("parameters"):
        rows = "".join(_parameter(parameter) for parameter in parameters)
        parts.append(f"<table><tr><th>parameter<th>in<th>type<th>meaning</tr>{rows}</table>")
    if request := operation.get("requestBody"):
        names = [_type_name(media.get("schema", {})) for media in request["content"].values()]
        parts.append(f"<p>Body: {', '.join(names)}</p>")
    rows = "".join(_response(status, response) for status, response in operation["responses"].items())
    parts.append(f"<table><tr><th>answer<th>form<th>meaning</tr>{rows}</table>")
    return f"<details>{''.join(parts)}</details>"


def _parameter(parameter: Mapping[str, Any]) -> str:
    schema = parameter.get("schema", {})
    meaning = parameter.get("description") or schema.get("description", "")
    cells = (f"<code>{_text(parameter['name'])}</code>", _text(parameter["in"]), _type_name(schema), _text(meaning))
    return "<tr><td>" + "<td>".join(cells) + "</tr>"


def _response(status: str, response: Mapping[str, Any]) -> str:
    forms = "<br>".join(
        f"<code>{_text(form)}</code> {_type_name(media.get('schema', {}))}"
        for form, media in response.get("content", {}).items()
    )
    return f"<tr><td>{_text(status)}<td>{forms}<td>{_text(response.get('description', ''))}</tr>"


def _schemas(document: Mapping[str, Any]) -> Iterator[str]:
    for name, schema in sorted(document["components"]["schemas"].items()):
        rows = "".join(
            f"<tr><td><code>{_text(member)}</code><td>{_type_name(form)}<td>{_text(form.get('description', ''))}</tr>"
            for member, form in schema.get("properties", {}).items()
        )
        title = f"<code>{_text(name)}</code> {_text(schema.get('description', ''))}"
        table = f"<table><tr><th>member<th>type<th>meaning</tr>{rows}</table>"
        yield f"<details id=shape-{_text(name)}><summary>{title}</summary>{table}</details>"


def _type_name(schema: Mapping[str, Any]) -> str:
    """A schema in a few words, with a link where it has a name."""
    if "$ref" in schema:
        name = _text(schema["$ref"].rpartition("/")[2])
        return f"<a href=#shape-{name}>{name}</a>"
    if "anyOf" in schema:
        return " or ".join(_type_name(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(f"<code>{_text(str(value))}</code>" for value in schema["enum"])
    if "const" in schema:
        return f"<code>{_text(str(schema['const']))}</code>"
    if schema.get("type") == "array":
        return f"list of {_type_name(schema.get('items', {}))}"
    if "properties" in schema:
        members = ", ".join(
            f"<code>{_text(name)}</code>: {_type_name(form)}" for name, form in schema["properties"].items()
        )
        return f"object ({members})"
    return _text(str(schema.get("type", "")))


def _text(value: str) -> str:
    return html.escape(value)


def _with_code(value: str) -> str:
    """A text in which something stands between backticks."""
    return _backticked(r"<code>\1</code>", _text(value))
