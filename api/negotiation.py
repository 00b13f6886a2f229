"""Which form of an answer a client wants: `Accept` (RFC 9110, 12.5.1), reduced to the three forms there are."""

from enum import StrEnum
from typing import Final

from api.errors import Problem

__all__ = ["Form", "form"]


class Form(StrEnum):
    """Media types of answers."""

    JSON = "application/json"
    NDJSON = "application/x-ndjson"
    MSGPACK = "application/msgpack"


_SPELLINGS: Final = {
    "application/json": Form.JSON,
    "application/x-ndjson": Form.NDJSON,
    "application/ndjson": Form.NDJSON,
    "application/jsonl": Form.NDJSON,
    "application/msgpack": Form.MSGPACK,
    "application/x-msgpack": Form.MSGPACK,
    "application/vnd.msgpack": Form.MSGPACK,
    "application/*": Form.JSON,
    "*/*": Form.JSON,
}


def form(accept: str | None, offered: tuple[Form, ...]) -> Form:
    """The best of the `offered` forms. JSON where nothing is said; among equals the one named first.

    Raises Problem not-acceptable when the header rules all of them out.
    """
    if not accept or accept == "*/*" or accept == Form.JSON:
        return Form.JSON
    best: Form | None = None
    best_quality = 0.0
    for entry in accept.split(","):
        name, *parameters = (part.strip().lower() for part in entry.split(";"))
        wanted = _SPELLINGS.get(name)
        quality = _quality(parameters)
        if wanted in offered and quality > best_quality:
            best, best_quality = wanted, quality
    if best is None:
        raise Problem("not-acceptable", f"This answer comes as {' or '.join(offered)}.")
    return best


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0
