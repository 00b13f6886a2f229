"""muxrpc as a pure machine: bytes in, events out, and the bytes to send for what we do (section 6).

Each side numbers its own calls from 1; answers carry the negated number. Here a call is named by the
number **we** send: positive for our calls, negative for the peer's.

===========================  ==========================================================================
an async call                one request, one answer (a value, or an error with END)
a stream                     frames with STREAM; each side ends it once, with END and ``true`` or an error
who answers an end at once   the reader of a source (ours or theirs), the caller of a sink; everyone, if
                             the end is an error. Otherwise the other direction goes on until we end it
after both ends              the number is forgotten; frames for unknown numbers are ignored
===========================  ==========================================================================

Nothing a peer sends in a body stops the machine: a request that cannot be understood is answered with
an error. Only frames that break a size limit raise ``RpcProtocolError``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from feeds.errors import InvalidJson
from feeds.message import JsonValue
from replication.errors import RemoteCallError
from replication.limits import DEFAULT_LIMITS, Limits
from replication.rpc.bodies import Body, BodyType, encode_json
from replication.rpc.calls import BadRequest, Kind, Name, Request, parse_request
from replication.rpc.packets import END, GOODBYE, NUMBER_MAX, STREAM, TYPE_MASK, FrameDecoder, Run, frame, frames

_CLEAN = Body(BodyType.JSON, b"true")
_REMEMBERED_ENDS = 4096
_ERROR_NAME = 256
_ERROR_TEXT = 1000


class Reply(NamedTuple):
    """The answer to an async call of ours."""

    call: int
    answer: Body | RemoteCallError


class Items(NamedTuple):
    """Items of a stream, in order."""

    call: int
    kind: BodyType
    bodies: list[bytes]


class Ended(NamedTuple):
    """The peer has ended its direction of a stream; after an error both are over."""

    call: int
    error: RemoteCallError | None


class Goodbye(NamedTuple):
    """The peer says that nothing more will come."""


Event = Request | Reply | Items | Ended | Goodbye


@dataclass(slots=True)
class _Call:
    kind: Kind
    max_json: int
    we_ended: bool = False
    they_ended: bool = False
    deaf: bool = False
    """Items are of no interest any more: we have ended both directions."""

    def answers_end_at_once(self, call: int) -> bool:
        return self.kind is Kind.SOURCE or (self.kind is Kind.SINK and call > 0)


class RpcProtocol:
    """One connection's calls in both directions. ``max_json_of(name)`` may allow a method larger JSON items."""

    def __init__(
        self, *, limits: Limits = DEFAULT_LIMITS, max_json_of: Callable[[Name], int | None] = lambda _name: None
    ) -> None:
        self._limits = limits
        self._max_json_of = max_json_of
        self._decoder = FrameDecoder(self._limit_of, min(limits.json_frame, limits.binary_frame))
        self._calls: dict[int, _Call] = {}
        self._ending: dict[int, None] = {}
        self._last_number = 0
        self._highest_request = 0
        self._output: list[bytes] = []
        self._said_goodbye = False
        self.refused = 0
        """Requests that could not be read and were answered with an error, so far."""

    @property
    def partial(self) -> bool:
        """Whether a frame has begun and is not complete."""
        return self._decoder.partial

    @property
    def buffered(self) -> int:
        """Bytes held of an incomplete frame."""
        return self._decoder.buffered

    def is_open(self, call: int) -> bool:
        """Whether either side may still send something under this number."""
        return call in self._calls

    # receiving

    def receive(self, data: bytes) -> list[Event]:
        """What ``data`` means. Raises ``RpcProtocolError`` if the frames cannot be followed any further.

        Some events are answered by the machine itself: send ``take_output()`` afterwards.
        """
        events: list[Event] = []
        for run in self._decoder.decode(data):
            call = -run.number
            known = self._calls.get(call)
            if known is not None:
                self._continue(call, known, run, events)
            elif run.number > 0:
                self._begin(call, run, events)
        if self._decoder.goodbye:
            events.append(Goodbye())
        return events

    def take_output(self) -> bytes:
        """Frames that answer what was received."""
        if not self._output:
            return b""
        output = b"".join(self._output)
        self._output.clear()
        return output

    def _continue(self, call: int, known: _Call, run: Run, events: list[Event]) -> None:
        """Frames of a call that is open."""
        flags, kind = run.flags, run.flags & TYPE_MASK
        if not known.kind.is_stream:
            if call > 0:
                del self._calls[call]
                events.append(Reply(call, _answer(flags, Body(_body_type(kind), run.bodies[0]))))
            return  # the peer repeats a request that is being answered: once is enough
        if flags & END:
            self._take_end(call, known, Body(_body_type(kind), run.bodies[0]), events)
        elif kind > BodyType.JSON:
            self._take_end(call, known, Body(BodyType.JSON, b'"unknown body type"'), events)
        elif flags & STREAM and not known.they_ended and not known.deaf:
            events.append(Items(call, BodyType(kind), run.bodies))

    def _take_end(self, call: int, known: _Call, body: Body, events: list[Event]) -> None:
        if known.they_ended:
            return
        known.they_ended = True
        error = None if body.data == b"true" and body.kind is not BodyType.BINARY else error_of(body)
        if not known.we_ended and (error is not None or known.answers_end_at_once(call)):
            known.we_ended = True
            self._output.append(frame(body, call, STREAM | END))
        events.append(Ended(call, error))
        self._forget_if_over(call, known)

    def _begin(self, call: int, run: Run, events: list[Event]) -> None:
        """Frames with a number of the peer's that is not open: requests, or late frames."""
        fresh = self._is_fresh(run.number)
        for index, body in enumerate(run.bodies):
            if call in self._calls:
                self._continue(call, self._calls[call], run._replace(bodies=run.bodies[index:]), events)
                return
            if run.flags & END:
                return
            try:
                request = parse_request(call, run.flags, body)
            except BadRequest as error:
                if fresh:
                    self._refuse(call, bool(run.flags & STREAM), str(error))
                fresh = False
                continue
            kind = request.kind or (Kind.DUPLEX if request.stream else Kind.ASYNC)
            self._calls[call] = _Call(kind, self._max_json_of(request.name) or self._limits.json_frame)
            events.append(request)

    def _is_fresh(self, number: int) -> bool:
        """Whether this number of the peer's is used for the first time (they may wrap around)."""
        wrapped = self._highest_request > NUMBER_MAX // 2 and number < NUMBER_MAX // 4
        if number <= self._highest_request and not wrapped:
            return False
        self._highest_request = number
        return True

    def _refuse(self, call: int, stream: bool, reason: str) -> None:
        """Answer a request that could not even be read; what follows under its number is ignored."""
        self.refused += 1
        self._output.append(frame(_error_body(reason), call, STREAM | END if stream else END))
        if stream:
            self._calls[call] = _Call(Kind.DUPLEX, self._limits.json_frame, we_ended=True, deaf=True)
            self._remember_end(call)

    # our own calls

    def request(
        self, name: Name, args: Sequence[JsonValue], kind: Kind, *, max_json: int | None = None
    ) -> tuple[int, bytes]:
        """Begin a call; returns its number and the frame to send."""
        call = self._next_number()
        limit = max_json or self._max_json_of(name) or self._limits.json_frame
        self._calls[call] = _Call(kind, limit)
        body = encode_json({"name": list(name), "args": list(args), "type": kind.value})
        return call, frame(Body(BodyType.JSON, body), call, STREAM if kind.is_stream else 0)

    def give_up(self, call: int) -> None:
        """Nobody waits for the answer to this async call of ours any more."""
        known = self._calls.get(call)
        if known is not None and not known.kind.is_stream:
            del self._calls[call]

    # answering, and both directions of streams

    def settle(self, call: int, kind: Kind) -> bool:
        """What kind of method a request turned out to name; False if the peer has taken the call back meanwhile."""
        known = self._calls.get(call)
        if known is None:
            return False
        known.kind = kind
        return True

    def reply(self, call: int, body: Body) -> bytes:
        """Answer an async call of the peer's; empty if it was answered before."""
        return frame(body, call, 0) if self._calls.pop(call, None) is not None else b""

    def reply_error(self, call: int, message: str) -> bytes:
        """Answer an async call of the peer's with an error."""
        return frame(_error_body(message), call, END) if self._calls.pop(call, None) is not None else b""

    def items(self, call: int, kind: BodyType, bodies: Sequence[bytes]) -> bytes:
        """Send items on a stream; empty once we have ended it."""
        known = self._calls.get(call)
        if known is None or known.we_ended:
            return b""
        return frames(bodies, call, STREAM | kind)

    def end(self, call: int, error: str | None = None) -> bytes:
        """End our direction of a stream, or both with an error; empty if we have already."""
        known = self._calls.get(call)
        if known is None or known.we_ended:
            return b""
        known.we_ended = True
        known.deaf = error is not None or known.answers_end_at_once(call)
        self._remember_end(call)
        self._forget_if_over(call, known)
        return frame(_CLEAN if error is None else _error_body(error), call, STREAM | END)

    def goodbye(self) -> bytes:
        """The frame that ends the conversation; only once."""
        if self._said_goodbye:
            return b""
        self._said_goodbye = True
        return GOODBYE

    def _next_number(self) -> int:
        number = self._last_number
        while True:
            number = number % NUMBER_MAX + 1
            if number not in self._calls:
                self._last_number = number
                return number

    def _remember_end(self, call: int) -> None:
        """Wait for the peer's end, but not for more of them than a peer should owe us."""
        self._ending[call] = None
        if len(self._ending) > _REMEMBERED_ENDS:
            oldest = next(iter(self._ending))
            del self._ending[oldest]
            self._calls.pop(oldest, None)

    def _forget_if_over(self, call: int, known: _Call) -> None:
        if known.we_ended and known.they_ended:
            self._calls.pop(call, None)
            self._ending.pop(call, None)

    def _limit_of(self, flags: int, number: int) -> int:
        if flags & TYPE_MASK == BodyType.BINARY:
            return self._limits.binary_frame
        known = self._calls.get(-number)
        return self._limits.json_frame if known is None else known.max_json


def _answer(flags: int, body: Body) -> Body | RemoteCallError:
    return error_of(body) if flags & END else body


def error_of(body: Body) -> RemoteCallError:
    """The error that an END frame carries, whatever the peer put there."""
    try:
        value = body.value()
    except InvalidJson:
        value = "unreadable error"
    name: object = "Error"
    message: object = value
    if isinstance(value, dict):
        name, message = value.get("name", "Error"), value.get("message", "unknown error")
    text = message if isinstance(message, str) else str(message)
    return RemoteCallError(name[:_ERROR_NAME] if isinstance(name, str) else "Error", text[:_ERROR_TEXT])


def _error_body(message: str) -> Body:
    return Body(BodyType.JSON, encode_json({"message": message, "name": "Error", "stack": ""}))


def _body_type(kind: int) -> BodyType:
    return BodyType(kind) if kind <= BodyType.JSON else BodyType.BINARY
