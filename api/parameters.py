"""Parameters of requests: read and checked here, described for the OpenAPI document beside it.

FastAPI could do both from annotations, but solving seven of them takes longer than reading a page of messages does.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar

from starlette.requests import Request

from api.errors import Problem

__all__ = ["Parameter", "Reading", "Unfit", "choice", "flag", "listed", "text", "whole"]

T = TypeVar("T")

_is_whole: Final = re.compile(r"-?[0-9]{1,16}").fullmatch
_FLAGS: Final = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


class Unfit(ValueError):
    """A value is not what the parameter takes; the text says what would be."""


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """How a value is read from its text, and the schema that says the same."""

    read: Callable[[str], T]
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Parameter(Generic[T]):
    """One optional parameter of the query, or a header."""

    name: str
    reading: Reading[T]
    description: str
    place: Literal["query", "header"] = "query"

    def of(self, request: Request) -> T | None:
        """Its value in a request; None when it is not given. Raises Problem invalid-parameter or invalid-header."""
        source: Mapping[str, str] = request.query_params if self.place == "query" else request.headers
        given = source.get(self.name)
        if given is None:
            return None
        try:
            return self.reading.read(given)
        except Unfit as error:
            raise self.refusal(str(error)) from None

    def refusal(self, reason: str) -> Problem:
        """The problem of a value that does not fit."""
        if self.place == "header":
            return Problem("invalid-header", f"{self.name} {reason}.", header=self.name)
        errors = [{"parameter": self.name, "detail": reason}]
        return Problem("invalid-parameter", f"{self.name} {reason}.", errors=errors)

    def described(self) -> dict[str, Any]:
        """Its entry in the OpenAPI document."""
        return {
            "name": self.name,
            "in": self.place,
            "required": False,
            "description": self.description,
            "schema": dict(self.reading.schema),
        }


def whole(lowest: int, highest: int) -> Reading[int]:
    """A whole number within bounds."""

    def read(given: str) -> int:
        if _is_whole(given) is None or not lowest <= int(given) <= highest:
            raise Unfit(f"must be a whole number from {lowest} to {highest}")
        return int(given)

    return Reading(read, {"type": "integer", "minimum": lowest, "maximum": highest})


def text(longest: int) -> Reading[str]:
    """Any text up to a length."""

    def read(given: str) -> str:
        if len(given) > longest:
            raise Unfit(f"must have at most {longest} characters")
        return given

    return Reading(read, {"type": "string", "maxLength": longest})


def choice(*words: str) -> Reading[str]:
    """One of some words."""

    def read(given: str) -> str:
        if given not in words:
            raise Unfit(f"must be {' or '.join(words)}")
        return given

    return Reading(read, {"type": "string", "enum": list(words)})


def flag() -> Reading[bool]:
    """Yes or no, as 1 or 0 and in words."""

    def read(given: str) -> bool:
        if given.lower() not in _FLAGS:
            raise Unfit("must be 1 or 0")
        return _FLAGS[given.lower()]

    return Reading(read, {"type": "boolean"})


def listed(parameter: Parameter[str], request: Request) -> list[str]:
    """All values of a list in the query: separated by commas, or the parameter repeated."""
    values = request.query_params.getlist(parameter.name)
    return [part.strip() for value in values for part in value.split(",") if part.strip()]
