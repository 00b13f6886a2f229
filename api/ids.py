"""Ids in requests: three spellings in, the canonical one inside.

`@…=.ed25519` (percent-encoded in a path), any `ssb:` URI, and the bare URL-safe base64 of the 32 bytes. A parameter of
kind `path` hands over everything to the end of the path, so that a `/` inside an id survives however it was encoded.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote

from starlette.requests import Request

from api.errors import Problem
from feeds.errors import InvalidRef
from feeds.refs import BlobRef, FeedRef, MessageRef

__all__ = [
    "ANY_PATH",
    "BLOB_PATH",
    "FEED_PATH",
    "MESSAGE_PATH",
    "any_id",
    "feed_id",
    "feed_in",
    "message_id",
    "message_in",
    "message_path",
]

_DATA: Final = "[A-Za-z0-9%s]{42}[AEIMQUYcgkosw048]="
_SPELLED: Final = "^(?:%s%s[.]%s|%s?|ssb:(?://)?%s[/:][a-z0-9-]+[/:]%s)$"


def _described(kind: str, sigil: str, suffix: str, example: str) -> Mapping[str, Any]:
    """The entry of a path parameter in the OpenAPI document; the functions below are what reads it."""
    safe, plain = _DATA % "_-", _DATA % "+/"
    return {
        "name": "id",
        "in": "path",
        "required": True,
        "description": f"{kind.capitalize()} id: percent-encoded, as an ssb: URI, or as bare URL-safe base64",
        "schema": {
            "type": "string",
            "pattern": _SPELLED % (sigil, plain, suffix, safe, kind, safe),
            "examples": [f"{sigil}{example}.{suffix}"],
        },
    }


MESSAGE_PATH: Final = _described("message", "%", "sha256", "g3hPVPDEO1Aj/uPl0+J2NlhFB2bbFLIHlty+YuqFZ3w=")
FEED_PATH: Final = _described("feed", "@", "ed25519", "6CAxOI3f+LUOVrbAl0IemqiS7ATpQvr9Mdw9LC4+Uv0=")

BLOB_PATH: Final = _described("blob", "&", "sha256", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")

ANY_PATH: Final[Mapping[str, Any]] = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "Id of a feed, message or blob: percent-encoded, as an ssb: URI, or, of what is here, as bare "
    "URL-safe base64",
    "schema": {
        "type": "string",
        "pattern": f"^(?:@{_DATA % '+/'}[.]ed25519|[%&]{_DATA % '+/'}[.]sha256|"
        f"{_DATA % '_-'}?|ssb:(?://)?(?:feed|message|blob)[/:][a-z0-9-]+[/:]{_DATA % '_-'})$",
        "examples": ["@6CAxOI3f+LUOVrbAl0IemqiS7ATpQvr9Mdw9LC4+Uv0=.ed25519"],
    },
}

_SUBPATH: Final = re.compile(r"(.+)/[a-z-]+")


def message_id(text: str) -> str:
    """Canonical message id; Problem invalid-id for anything else."""
    try:
        return str(MessageRef.parse(_plus(text)))
    except InvalidRef as error:
        raise _refusal("message", text, error) from None


def feed_id(text: str) -> str:
    """Canonical feed id; Problem invalid-id for anything else."""
    try:
        return str(FeedRef.parse(_plus(text)))
    except InvalidRef as error:
        raise _refusal("feed", text, error) from None


def any_id(text: str) -> str:
    """Canonical id of a feed, message or blob, in a sigil or ssb: spelling; Problem invalid-id for anything else."""
    spelled = _plus(text)
    for kind in (FeedRef, MessageRef, BlobRef):
        if spelled.startswith(("@", "%", "&", "ssb:")):
            with suppress(InvalidRef):
                return str(kind.parse(spelled))
    raise Problem("invalid-id", "This is no id of a feed, message or blob.")


def blob_id(text: str) -> str:
    """Canonical blob id; Problem invalid-id for anything else."""
    try:
        return str(BlobRef.parse(_plus(text)))
    except InvalidRef as error:
        raise _refusal("blob", text, error) from None


def message_path(message: str) -> str:
    """Where a message is to be found."""
    return f"/v1/messages/{quote(message, safe='')}"


def message_in(request: Request) -> str:
    """The message id in a request's path, without the query of a link (`%….sha256?unbox=…`)."""
    return message_id(request.path_params["id"].partition("?")[0])


def blob_path(blob: str) -> str:
    """Where a blob is to be found."""
    return f"/v1/blobs/{quote(blob, safe='')}"


def blob_in(request: Request) -> str:
    """The blob id in a request's path."""
    return blob_id(request.path_params["id"])


def feed_in(request: Request) -> str:
    """The feed id in a request's path."""
    return feed_id(request.path_params["id"])


def _plus(text: str) -> str:
    """Undo what query strings do to an unencoded `+`; no id contains a blank."""
    return text.replace(" ", "+")


def _refusal(what: str, text: str, error: InvalidRef) -> Problem:
    """A path such as /v1/messages/<id>/nonsense is an unknown path, not a wrong id."""
    below = _SUBPATH.fullmatch(text)
    if below is not None and _is_id(below[1]):
        return Problem("not-found", "There is nothing at this path.")
    return Problem("invalid-id", f"This is no {what} id in any of its spellings: {error}")


def _is_id(text: str) -> bool:
    for kind in (MessageRef, FeedRef, BlobRef):
        try:
            kind.parse(text)
        except InvalidRef:
            continue
        return True
    return False
