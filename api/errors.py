"""What the HTTP API answers when something is wrong: one table of problems, one table from exceptions to problems.

Every error leaves as `application/problem+json` (RFC 9457) with a stable `code`; docs/http-api.md lists the codes and a
test compares the two. Whatever is in neither table is a bug of ours: a fixed text for the caller, the rest for the log.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from starlette.responses import Response

from feeds.errors import (
    Busy,
    FeedLocked,
    ForkedFeed,
    InvalidJson,
    InvalidMessage,
    InvalidRef,
    InvalidRule,
    NotFound,
    SequenceMismatch,
    StoreError,
    TooLarge,
    UnknownFormat,
    WrongBlob,
)
from replication.errors import (
    DialFailed,
    DialTimeout,
    InvalidAddress,
    InvalidAlias,
    InvalidInvite,
    InviteRefused,
    NoPublicAddress,
    RoomFailed,
    TooManyInvites,
)

__all__ = ["KINDS", "TABLE", "Kind", "Problem", "ProblemResponse", "problem_of"]

MEDIA_TYPE: Final = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: its status and the title, which is the same for each occurrence."""

    status: int
    title: str


KINDS: Final[Mapping[str, Kind]] = {
    "invalid-request": Kind(400, "This is no HTTP request"),
    "invalid-json": Kind(400, "The body is not JSON"),
    "invalid-id": Kind(400, "Not an id"),
    "invalid-address": Kind(400, "Not a peer address"),
    "invalid-invite": Kind(400, "Not an invite"),
    "invalid-parameter": Kind(400, "A parameter is wrong"),
    "invalid-cursor": Kind(400, "Not a cursor of this list"),
    "invalid-header": Kind(400, "A header is wrong"),
    "unauthorized": Kind(401, "The access token is missing or wrong"),
    "insufficient-scope": Kind(403, "The token does not allow this"),
    "host-not-allowed": Kind(403, "The Host is not one of this node's names"),
    "origin-not-allowed": Kind(403, "Pages of other origins may not write here"),
    "sign-in-refused": Kind(403, "The other node did not sign"),
    "not-found": Kind(404, "Nothing here"),
    "message-not-found": Kind(404, "This node does not have the message"),
    "feed-not-found": Kind(404, "This node does not know the feed"),
    "blob-missing": Kind(404, "This node does not have the blob"),
    "room-not-found": Kind(404, "No such room"),
    "peer-not-found": Kind(404, "Not connected to this peer"),
    "sign-in-not-found": Kind(404, "No such challenge or session"),
    "method-not-found": Kind(404, "No such method"),
    "token-not-found": Kind(404, "No such token"),
    "invite-not-found": Kind(404, "No such invite"),
    "webhook-not-found": Kind(404, "No such webhook"),
    "method-not-allowed": Kind(405, "This path does not take the method"),
    "not-acceptable": Kind(406, "No answer in an accepted form"),
    "body-timeout": Kind(408, "The body took too long to arrive"),
    "own-feed": Kind(409, "Not with our own feed"),
    "no-public-address": Kind(409, "Nobody knows how to reach this node"),
    "too-many-invites": Kind(409, "There are too many invites"),
    "too-many-tokens": Kind(409, "There are too many tokens"),
    "busy": Kind(409, "Not at present"),
    "backup-running": Kind(409, "A backup is being written"),
    "too-many-webhooks": Kind(409, "There are too many webhooks"),
    "message-deleted": Kind(410, "The message was deleted on this node"),
    "feed-deleted": Kind(410, "The feed was deleted on this node"),
    "sequence-mismatch": Kind(412, "The feed has moved on"),
    "body-too-large": Kind(413, "The body is too large"),
    "message-too-large": Kind(413, "The message would be too large"),
    "blob-too-large": Kind(413, "The blob is too large"),
    "unsupported-media-type": Kind(415, "The body is of a type that is not taken here"),
    "range-not-satisfiable": Kind(416, "The range lies outside the blob"),
    "invalid-body": Kind(422, "The body does not fit"),
    "invalid-message": Kind(422, "Not a message that may be published"),
    "unbox-failed": Kind(422, "The released key is not this message's"),
    "blob-mismatch": Kind(422, "The bytes are those of another blob"),
    "method-is-duplex": Kind(422, "The method cannot be called over HTTP"),
    "alias-unusable": Kind(422, "The alias cannot be used"),
    "invite-refused": Kind(422, "The other node does not take the invite"),
    "rpc-failed": Kind(422, "The method answered with an error"),
    "idempotency-key-reused": Kind(422, "The Idempotency-Key was used for another body"),
    "feed-locked": Kind(423, "This node's feed is locked"),
    "feed-forked": Kind(423, "This node's feed is forked"),
    "too-many-streams": Kind(429, "Too many streams are open"),
    "internal-error": Kind(500, "The node failed"),
    "handshake-failed": Kind(502, "No connection to the peer came about"),
    "sign-in-failed": Kind(502, "The other node did not answer as it should"),
    "room-failed": Kind(502, "The room did not do it"),
    "store-failed": Kind(503, "The node's store failed"),
    "stopping": Kind(503, "The node is stopping"),
    "dial-timeout": Kind(504, "The peer did not answer in time"),
}


class Problem(Exception):
    """Raise it anywhere in a route; it becomes the answer. `members` are added to the problem's JSON object.

    headers -- of the answer; several values of one name are a header each.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str | Sequence[str]] | None = None,
        **members: object,
    ) -> None:
        super().__init__(detail)
        self.code: Final = code
        self.detail: Final = detail
        self.headers: Final = dict(headers or {})
        self.members: Final = members

    @property
    def kind(self) -> Kind:
        return KINDS[self.code]

    def body(self, instance: str) -> bytes:
        """The problem's JSON; `instance` is the path that was asked for, as it was written."""
        fields: dict[str, object] = {
            "type": f"/docs#{self.code}",
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "instance": instance,
            "code": self.code,
        }
        try:
            return orjson.dumps(fields | self.members)
        except TypeError:  # what a client sent may come back in a reason, lone surrogates included
            return json.dumps(fields | self.members).encode()


class ProblemResponse(Response):
    """A problem as an answer."""

    media_type = MEDIA_TYPE

    def __init__(self, problem: Problem, instance: str) -> None:
        super().__init__(problem.body(instance), status_code=problem.kind.status)
        for name, values in problem.headers.items():
            for value in (values,) if isinstance(values, str) else values:
                self.headers.append(name, value)


# --- from exceptions to problems --------------------------------------------------------------------------------------


def _json(error: InvalidJson) -> Problem:
    return Problem("invalid-json", f"The body is not JSON: {error.reason}.", offset=error.offset)


def _ref(error: InvalidRef) -> Problem:
    return Problem("invalid-id", str(error))


def _busy(error: Busy) -> Problem:
    return Problem("busy", f"{error}.")


def _rule(error: InvalidRule) -> Problem:
    return Problem("invalid-body", f"{error}.", errors=[{"pointer": "#/rules", "detail": str(error)}])


def _message(error: InvalidMessage) -> Problem:
    return Problem("invalid-message", str(error), field=error.field)


def _large(error: TooLarge) -> Problem:
    return Problem("message-too-large", str(error), size=error.size, limit=error.limit, unit=error.what)


def _locked(error: FeedLocked) -> Problem:
    code = f"feed-{error.state}"
    return Problem(code, str(error), state=error.state, reason=error.reason, way_out=error.way_out)


def _moved(error: SequenceMismatch) -> Problem:
    return Problem("sequence-mismatch", str(error), expected=error.expected, sequence=error.actual)


def _missing(error: NotFound) -> Problem:
    return Problem("not-found", str(error))


def _blob(error: WrongBlob) -> Problem:
    return Problem("blob-mismatch", str(error), expected=error.expected, found=error.found)


def _format(error: UnknownFormat) -> Problem:
    return Problem("invalid-id", str(error))


def _store(_error: StoreError) -> Problem:
    # Its text is for whoever runs the node and may name files; the log has it.
    return Problem("store-failed", "The store could not be read or written. The node's log says why.")


def _address(error: InvalidAddress) -> Problem:
    return Problem("invalid-address", str(error))


def _invite(error: InvalidInvite) -> Problem:
    return Problem("invalid-invite", str(error))


def _hidden(error: NoPublicAddress) -> Problem:
    return Problem("no-public-address", str(error))


def _invites(error: TooManyInvites) -> Problem:
    return Problem("too-many-invites", str(error))


def _refused(error: InviteRefused) -> Problem:
    return Problem("invite-refused", str(error))


def _alias(error: InvalidAlias) -> Problem:
    return Problem("alias-unusable", str(error))


def _room(error: RoomFailed) -> Problem:
    return Problem("room-failed", str(error))


def _dial(error: DialFailed) -> Problem:
    return Problem("handshake-failed", str(error), step=error.step, reason=error.reason)


def _dial_timeout(error: DialTimeout) -> Problem:
    return Problem("dial-timeout", str(error), step=error.step, reason=error.reason)


TABLE: Final[Mapping[type[Exception], Callable[..., Problem]]] = {
    InvalidJson: _json,
    InvalidRef: _ref,
    InvalidRule: _rule,
    Busy: _busy,
    InvalidMessage: _message,
    TooLarge: _large,
    FeedLocked: _locked,
    ForkedFeed: _locked,
    SequenceMismatch: _moved,
    NotFound: _missing,
    UnknownFormat: _format,
    WrongBlob: _blob,
    StoreError: _store,
    InvalidAddress: _address,
    InvalidInvite: _invite,
    NoPublicAddress: _hidden,
    TooManyInvites: _invites,
    InviteRefused: _refused,
    InvalidAlias: _alias,
    RoomFailed: _room,
    DialFailed: _dial,
    DialTimeout: _dial_timeout,
}


def problem_of(error: Exception) -> Problem | None:
    """The problem that a domain exception means; the nearest class in its ancestry counts. None: not one of ours."""
    if isinstance(error, Problem):
        return error
    for ancestor in type(error).__mro__:
        if ancestor in TABLE:
            return TABLE[ancestor](error)
    return None
