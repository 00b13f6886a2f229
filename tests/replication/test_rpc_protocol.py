"""The muxrpc machine: recorded conversations and traces, ends answered once, and nothing in a body that stops it."""

import base64
import itertools
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import RemoteCallError, RpcProtocolError
from replication.limits import Limits
from replication.rpc.bodies import Body, BodyType
from replication.rpc.calls import Kind, Request
from replication.rpc.packets import END, GOODBYE, NUMBER_MAX, STREAM, FrameDecoder
from replication.rpc.protocol import Ended, Event, Goodbye, Items, Reply, RpcProtocol, error_of
from tests.support import vectors
from tests.support.wires import cuts, pieces, raw_frame

CONVERSATIONS = {entry["label"]: entry for entry in vectors.entries("muxrpc-conversations.json")}
TRACES = sorted((Path(__file__).resolve().parents[3] / "shared" / "traces").glob("*.jsonl"))
TYPES = {"binary": BodyType.BINARY, "utf8": BodyType.TEXT, "json": BodyType.JSON}
KINDS = {"hi": Kind.ASYNC, "fail": Kind.ASYNC, "syn": Kind.SYNC, "deep": Kind.ASYNC}
KINDS |= {"src": Kind.SOURCE, "srcErr": Kind.SOURCE, "snk": Kind.SINK, "dup": Kind.DUPLEX}


def parsed(data: bytes) -> list[tuple[int, int, Any]]:
    """(flags, number, decoded body) of each frame, with goodbyes as (0, 0, None); a request without its type."""
    reader = FrameDecoder(lambda _flags, _number: 1 << 30, 1 << 30)
    found = []
    for run in reader.decode(data):
        for body in run.bodies:
            value = Body(BodyType(run.flags & 3), body).value()
            if isinstance(value, dict) and "stack" in value:
                value["stack"] = "(implementation specific)"
            if isinstance(value, dict) and value.get("type") in ("async", "sync"):
                del value["type"]
            found.append((run.flags, run.number, value))
    return found + [(0, 0, None)] * reader.goodbye


def vector_frames(entry: dict[str, Any], side: str) -> tuple[bytes, list[tuple[int, int, Any]]]:
    """What one side sent in a recorded conversation: as bytes, and as ``parsed`` gives it."""
    data, expected = b"", []
    for each in entry["frames"]:
        if each["from"] != side:
            continue
        kind, body = TYPES[each["type"]], each["body"]
        if kind is BodyType.BINARY:
            raw, value = bytes.fromhex(body["hex"]), bytes.fromhex(body["hex"])
        else:
            raw, value = body.encode() if kind is BodyType.TEXT else json.dumps(body).encode(), body
        flags = int(each["header_hex"], 16)
        data += raw_frame(flags, each["req"], raw)
        expected.append((flags, each["req"], value))
    return data, expected


def as_client(label: str, machine: RpcProtocol) -> bytes:
    """Do what the recorded client did."""
    request = CONVERSATIONS[label]["frames"][0]["body"]
    kind = KINDS[request["name"][-1]]
    call, sent = machine.request(tuple(request["name"]), request["args"], kind)
    if label == "sink":
        sent += machine.items(call, BodyType.JSON, [b"1", b"2"]) + machine.end(call)
    if label == "duplex":
        sent += machine.items(call, BodyType.TEXT, [b"a", b"b"]) + machine.end(call)
    return sent


def as_server(machine: RpcProtocol, event: Event) -> bytes:
    """Answer as the recorded server's methods did."""
    if isinstance(event, Items) and event.kind is BodyType.TEXT:
        return machine.items(
            event.call, BodyType.JSON, [json.dumps(["echo", b.decode()]).encode() for b in event.bodies]
        )
    if isinstance(event, Ended):
        return machine.end(event.call)
    if not isinstance(event, Request):
        return b""
    answers: dict[str, Any] = {"hi": {"got": "x"}, "syn": 42, "deep": [1, {"b": 2}]}
    match event.name[-1]:
        case "fail":
            return machine.reply_error(event.call, "bad thing")
        case "srcErr":
            return machine.end(event.call, "src bad")
        case "src":
            call = event.call
            first = machine.items(call, BodyType.JSON, [b"1"]) + machine.items(call, BodyType.TEXT, [b"two"])
            rest = machine.items(call, BodyType.JSON, [b'{"three":3}']) + machine.items(
                call, BodyType.BINARY, [b"four"]
            )
            return first + rest + machine.end(call)
        case name if name in answers:
            return machine.reply(event.call, Body(BodyType.JSON, orjson.dumps(answers[name])))
    return b""


def converse(label: str) -> tuple[bytes, bytes, list[Event]]:
    """Both of our machines having a recorded conversation: client's bytes, server's bytes, client's events."""
    client, server = RpcProtocol(), RpcProtocol()
    to_server = by_client = as_client(label, client)
    by_server, seen = b"", []
    while to_server:
        to_client = b"".join([as_server(server, event) for event in server.receive(to_server)])
        to_client = to_client + server.take_output()
        by_server += to_client
        seen += client.receive(to_client)
        to_server = client.take_output()
        by_client += to_server
    assert not client._calls
    assert not server._calls
    return by_client, by_server, seen


@pytest.mark.parametrize("label", list(CONVERSATIONS))
def test_our_two_machines_say_what_the_recorded_ones_said(label: str) -> None:
    by_client, by_server, _ = converse(label)
    entry = CONVERSATIONS[label]
    assert parsed(by_server) == vector_frames(entry, "server")[1]
    expected = vector_frames(entry, "client")[1]
    for request in expected[:1]:
        request[2].pop("type", None) if request[2].get("type") in ("async", "sync") else None
    assert parsed(by_client) == expected


@pytest.mark.parametrize("label", list(CONVERSATIONS))
def test_our_client_understands_the_recorded_server(label: str) -> None:
    entry, client = CONVERSATIONS[label], RpcProtocol()
    as_client(label, client)
    data, _ = vector_frames(entry, "server")
    values: list[Any] = []
    error = ""
    for event in client.receive(data):
        match event:
            case Reply(_, Body() as body):
                values.append(body.value())
            case Reply(_, RemoteCallError() as refused):
                error = refused.message
            case Items(_, kind, bodies):
                values += [Body(kind, each).value() for each in bodies]
            case Ended(_, refused):
                error = refused.message if refused is not None else ""
    assert not client._calls
    result = entry["client_result"]
    if label in ("source to end", "source aborted by reader after 2", "duplex"):
        values = [{"hex": value.hex()} if isinstance(value, bytes) else value for value in values]
        assert values[: len(result)] == result
    elif isinstance(result, dict) and "error" in result:
        assert error == result["error"]
    elif label != "sink":
        assert values == [result]


@pytest.mark.parametrize("label", list(CONVERSATIONS))
@given(st.data())
def test_any_chunking_gives_the_same_events(label: str, data: st.DataObject) -> None:
    sent, _ = vector_frames(CONVERSATIONS[label], "client")
    whole, parts = RpcProtocol(), RpcProtocol()
    expected = flat(whole.receive(sent + GOODBYE))
    found = [flat(parts.receive(piece)) for piece in pieces(sent + GOODBYE, data.draw(cuts(len(sent) + 9)))]
    assert list(itertools.chain.from_iterable(found)) == expected
    assert whole.take_output() == parts.take_output()


def request(call: int, name: tuple[str, ...], args: list[Any], kind: Kind | None, stream: bool) -> Request:
    """A request event without its size, which ``received`` leaves out."""
    return Request(call, name, args, kind, stream, 0)


def received(machine: RpcProtocol, data: bytes) -> list[Event]:
    """The events of ``data``, requests with size 0."""
    return [event._replace(size=0) if isinstance(event, Request) else event for event in machine.receive(data)]


def flat(events: Iterable[Event]) -> list[Any]:
    """Events with batches taken apart and errors by their text, so that they can be compared."""
    found: list[Any] = []
    for event in events:
        match event:
            case Items(call, kind, bodies):
                found += [(call, kind, body) for body in bodies]
            case Ended(call, error):
                found.append((call, error and error.message))
            case _:
                found.append(event)
    return found


# traces of real peers


@pytest.mark.skipif(not TRACES, reason="../shared/traces is not here")
@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_a_real_peers_session_is_followed_to_its_end(path: Path) -> None:
    """Play the traced side's own frames through our machine, feed it the other's, and nothing is left over."""
    machine, requests, items = RpcProtocol(max_json_of=lambda _name: 4 << 20), 0, 0
    for line in path.read_text().split("\n"):
        row = json.loads(line) if line else {"d": ""}
        if row["d"] == "in":
            for event in machine.receive(GOODBYE if row.get("goodbye") else traced_frame(row)):
                requests += isinstance(event, Request)
                items += isinstance(event, Items)
            machine.take_output()
        elif row["d"] == "out" and not row.get("goodbye"):
            play(machine, row)
    assert requests >= 1
    assert items >= 1


def traced_frame(row: dict[str, Any]) -> bytes:
    kind = TYPES[row["type"]]
    body = row["body"]
    if kind is BodyType.BINARY:
        raw = base64.b64decode(body)
    else:
        raw = body.encode() if kind is BodyType.TEXT else json.dumps(body).encode()
    return raw_frame(STREAM * row["stream"] | END * row["end"] | kind, row["req"], raw)


def play(machine: RpcProtocol, row: dict[str, Any]) -> None:
    """What the traced side sent, done through the machine; the numbers must come out the same."""
    number, body = row["req"], row["body"]
    if number > 0 and isinstance(body, dict) and "name" in body and not row["end"]:
        call, _ = machine.request(tuple(body["name"]), body["args"], Kind(body.get("type", "async")))
        assert call == number
    elif row["end"] and row["stream"]:
        machine.end(number)
    elif row["end"]:
        assert machine.reply_error(number, "x")
    elif row["stream"]:
        assert machine.items(number, BodyType.JSON, [b"1"])
    else:
        assert machine.reply(number, Body(BodyType.JSON, b"1"))


# requests


def request_frame(number: int, body: Any, flags: int = 0x02) -> bytes:
    return raw_frame(flags, number, body)


@pytest.mark.parametrize(
    ("body", "flags", "expected"),
    [
        ({"name": ["a", "b"], "args": [1], "type": "async"}, 0x02, request(-1, ("a", "b"), [1], Kind.ASYNC, False)),
        ({"name": ["whoami"], "args": []}, 0x02, request(-1, ("whoami",), [], None, False)),
        ({"name": "manifest", "args": [], "type": "sync"}, 0x02, request(-1, ("manifest",), [], Kind.SYNC, False)),
        ({"name": ["x"]}, 0x02, request(-1, ("x",), [], None, False)),
        ({"name": ["x"], "args": None}, 0x0A, request(-1, ("x",), [], None, True)),
        ({"name": ["x"], "args": [{}], "type": "duplex"}, 0x0A, request(-1, ("x",), [{}], Kind.DUPLEX, True)),
    ],
)
def test_requests_in_all_their_spellings(body: Any, flags: int, expected: Request) -> None:
    assert received(RpcProtocol(), request_frame(1, body, flags)) == [expected]


BAD_REQUESTS: list[Any] = [
    b"{{{",
    b"null",
    b"1",
    b'"x"',
    b"[]",
    b"{}",
    b"\xff",
    b"[" * 1000,
    {"name": None},
    {"name": []},
    {"name": [1]},
    {"name": ["a", None]},
    {"name": [""]},
    {"name": ["x" * 300]},
    {"name": ["x"] * 17},
    {"name": {"a": 1}},
    {"name": ["x"], "args": {}},
    {"name": ["x"], "args": "x"},
    {"name": ["x"], "args": [], "type": "stream"},
    {"name": ["x"], "args": [], "type": 7},
    {"name": ["x"], "args": [], "type": ["async"]},
]


@pytest.mark.parametrize("body", BAD_REQUESTS, ids=lambda body: str(body)[:30])
@pytest.mark.parametrize("flags", [0x02, 0x0A])
def test_a_request_that_cannot_be_read_is_answered_with_an_error(body: Any, flags: int) -> None:
    machine = RpcProtocol()
    assert machine.receive(request_frame(1, body, flags)) == []
    ((answer_flags, number, value),) = parsed(machine.take_output())
    assert (answer_flags, number) == ((0x0E, -1) if flags & STREAM else (0x06, -1))
    assert value["name"] == "Error"
    assert "request" in value["message"]
    assert received(machine, request_frame(2, {"name": ["still", "there"]})) == [
        request(-2, ("still", "there"), [], None, False)
    ]


@pytest.mark.parametrize("flags", [0x00, 0x01, 0x03, 0x08, 0x09, 0x0B])
def test_a_request_must_be_json(flags: int) -> None:
    machine = RpcProtocol()
    assert machine.receive(raw_frame(flags, 1, b'{"name":["x"]}')) == []
    assert parsed(machine.take_output())[0][2]["message"] == "a request must be JSON"


def test_what_follows_a_refused_stream_request_is_ignored() -> None:
    machine = RpcProtocol()
    machine.receive(request_frame(1, b"null", 0x0A))
    machine.take_output()
    late = request_frame(1, {"name": ["looks", "like a request"], "args": []}, 0x0A)
    assert machine.receive(late + raw_frame(0x08, 1, b"data")) == []
    (event,) = machine.receive(raw_frame(0x0E, 1, b"true"))
    assert event == Ended(-1, None)
    assert machine.take_output() == b""
    assert not machine._calls
    assert machine.receive(raw_frame(0x08, 1, b"very late")) == []
    assert machine.take_output() == b""


def test_frames_for_unknown_numbers_are_ignored() -> None:
    machine = RpcProtocol()
    for number in (-1, -2, -(2**31), 0):
        for flags in range(16):
            assert machine.receive(raw_frame(flags, number, b"true")) == []
    for flags in (0x06, 0x0E, 0x0C, 0x04):
        assert machine.receive(raw_frame(flags, 5, b"true")) == []
    assert machine.take_output() == b""


def test_a_request_and_its_data_and_end_may_come_in_one_piece() -> None:
    machine = RpcProtocol()
    request = request_frame(1, {"name": ["d"], "args": [], "type": "duplex"}, 0x0A)
    events = machine.receive(
        request + raw_frame(0x0A, 1, b"[1]") + raw_frame(0x0A, 1, b"[2]") + raw_frame(0x0E, 1, b"true")
    )
    assert flat(events)[1:] == [(-1, BodyType.JSON, b"[1]"), (-1, BodyType.JSON, b"[2]"), (-1, None)]
    assert machine.take_output() == b""  # a duplex that the peer has ended cleanly is still ours to write to
    assert parsed(machine.items(-1, BodyType.JSON, [b"3"]) + machine.end(-1)) == [(0x0A, -1, 3), (0x0E, -1, True)]
    assert not machine._calls


def test_a_repeated_request_is_answered_once() -> None:
    machine = RpcProtocol()
    request = request_frame(1, {"name": ["x"]})
    assert len(machine.receive(request + request)) == 1
    assert machine.receive(request) == []
    assert machine.reply(-1, Body(BodyType.JSON, b"1"))
    assert machine.reply(-1, Body(BodyType.JSON, b"1")) == b""
    assert machine.reply_error(-1, "x") == b""


# ends


@pytest.mark.parametrize("kind", [Kind.SOURCE, Kind.SINK, Kind.DUPLEX])
@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("error", [None, "broken"])
@pytest.mark.parametrize("who", ["we", "they"])
def test_every_stream_is_ended_exactly_once_by_each_side(kind: Kind, ours: bool, error: str | None, who: str) -> None:
    here, there = RpcProtocol(), RpcProtocol()
    caller, callee = (here, there) if ours else (there, here)
    call, request = caller.request(("x",), [], kind)
    callee.receive(request)
    call_of = {id(caller): call, id(callee): -call}
    first, second = (here, there) if who == "we" else (there, here)
    ends = [first.end(call_of[id(first)], error)]
    assert first.end(call_of[id(first)]) == b""
    (event,) = second.receive(ends[0])
    assert isinstance(event, Ended)
    assert (event.error and event.error.message) == error
    at_once = second.take_output()
    by_itself = error is not None or kind is Kind.SOURCE or (kind is Kind.SINK and second is caller)
    assert bool(at_once) == by_itself
    answer = at_once or second.end(call_of[id(second)])
    assert second.end(call_of[id(second)]) == b""
    assert parsed(answer)[0][0] == 0x0E
    assert isinstance(first.receive(answer)[0], Ended)
    assert first.take_output() == b""
    assert not first._calls
    assert not second._calls
    assert not first._ending
    assert not second._ending


def test_the_caller_of_a_duplex_echoes_an_error_end_as_it_came() -> None:
    machine = RpcProtocol()
    call, _ = machine.request(("ebt", "replicate"), [{"version": 3}], Kind.DUPLEX)
    refusal = {"message": "method:ebt,replicate is not in list of allowed methods", "name": "Error", "stack": "at x"}
    (event,) = machine.receive(raw_frame(0x0E, -call, refusal))
    assert isinstance(event, Ended)
    assert event.error is not None
    assert event.error.message == refusal["message"]
    assert machine.take_output() == raw_frame(0x0E, call, refusal)
    assert machine.items(call, BodyType.JSON, [b"1"]) == b""


def test_items_after_our_end_are_dropped_and_after_theirs_too() -> None:
    machine = RpcProtocol()
    call, _ = machine.request(("s",), [], Kind.SOURCE)
    machine.end(call)
    assert machine.receive(raw_frame(0x0A, -call, b"1")) == []
    assert machine.receive(raw_frame(0x0E, -call, b"true")) == [Ended(call, None)]
    duplex, _ = machine.request(("d",), [], Kind.DUPLEX)
    machine.receive(raw_frame(0x0E, -duplex, b"true"))
    assert machine.receive(raw_frame(0x0A, -duplex, b"1") + raw_frame(0x0E, -duplex, b"true")) == []


def test_ends_that_a_peer_owes_us_do_not_pile_up() -> None:
    machine = RpcProtocol()
    for number in range(1, 20_001):
        machine.receive(request_frame(number, {"name": ["x"], "type": "duplex"}, 0x0A))
        machine.end(-number, "no")
    assert len(machine._calls) == len(machine._ending) <= 4096


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (Body(BodyType.JSON, b'{"message":"m","name":"TypeError"}'), "m"),
        (Body(BodyType.JSON, b'"text"'), "text"),
        (Body(BodyType.TEXT, b"text"), "text"),
        (Body(BodyType.JSON, b"false"), "False"),
        (Body(BodyType.JSON, b"{}"), "unknown error"),
        (Body(BodyType.JSON, b'{"message":{"a":1},"name":5}'), "{'a': 1}"),
        (Body(BodyType.JSON, b"{{"), "unreadable error"),
        (Body(BodyType.BINARY, b"\xff"), "b'\\xff'"),
        (Body(BodyType.JSON, orjson.dumps("x" * 5000)), "x" * 1000),
    ],
)
def test_any_body_of_an_error_becomes_words(body: Body, message: str) -> None:
    assert error_of(body).message == message


# async calls of ours


def test_answers_find_their_calls_in_any_order() -> None:
    machine = RpcProtocol()
    calls = [machine.request(("x",), [index], Kind.ASYNC)[0] for index in range(3)]
    assert calls == [1, 2, 3]
    events = machine.receive(raw_frame(0x02, -3, b"3") + raw_frame(0x01, -1, b"one") + raw_frame(0x06, -2, b'"no"'))
    assert events[:2] == [Reply(3, Body(BodyType.JSON, b"3")), Reply(1, Body(BodyType.TEXT, b"one"))]
    assert isinstance(events[2], Reply)
    assert isinstance(events[2].answer, RemoteCallError)
    assert machine.receive(raw_frame(0x02, -3, b"again")) == []


def test_an_answer_nobody_waits_for_is_ignored() -> None:
    machine = RpcProtocol()
    call, _ = machine.request(("x",), [], Kind.ASYNC)
    machine.give_up(call)
    machine.give_up(call)
    assert machine.receive(raw_frame(0x02, -call, b"1")) == []


def test_numbers_wrap_around_and_skip_those_in_use() -> None:
    machine = RpcProtocol()
    kept, _ = machine.request(("s",), [], Kind.SOURCE)
    machine._last_number = NUMBER_MAX - 1
    assert machine.request(("x",), [], Kind.ASYNC)[0] == NUMBER_MAX
    assert kept == 1
    assert machine.request(("x",), [], Kind.ASYNC)[0] == 2


def test_a_peers_numbers_may_wrap_around() -> None:
    machine = RpcProtocol()
    for number in (1, NUMBER_MAX, 1, 2):
        machine.receive(request_frame(number, b"null"))
        assert parsed(machine.take_output())[0][:2] == (0x06, -number)


# sizes


def test_sizes_depend_on_type_and_method() -> None:
    limits = Limits(json_frame=1000, binary_frame=3000)

    def machine() -> RpcProtocol:
        made = RpcProtocol(limits=limits, max_json_of=lambda name: 5000 if name == ("big",) else None)
        made.receive(request_frame(1, {"name": ["big"], "type": "duplex"}, 0x0A))
        made.receive(request_frame(2, {"name": ["small"], "type": "duplex"}, 0x0A))
        return made

    assert machine().receive(raw_frame(0x0A, 1, b"1" * 5000))
    assert machine().receive(raw_frame(0x0A, 2, b"1" * 1000))
    assert machine().receive(raw_frame(0x08, 2, b"1" * 3000))
    for number, flags, size in ((1, 0x0A, 5001), (2, 0x0A, 1001), (2, 0x08, 3001), (3, 0x02, 1001), (-1, 0x02, 1001)):
        with pytest.raises(RpcProtocolError):
            machine().receive(raw_frame(flags, number, b"1" * size))


def test_a_larger_answer_can_be_allowed_for_one_call() -> None:
    machine = RpcProtocol(limits=Limits(json_frame=1000))
    call, _ = machine.request(("x",), [], Kind.ASYNC, max_json=5000)
    assert machine.receive(raw_frame(0x02, -call, b"1" * 5000))


def test_the_goodbye_is_said_once_and_nothing_is_read_after_the_peers() -> None:
    machine = RpcProtocol()
    assert machine.goodbye() == GOODBYE
    assert machine.goodbye() == b""
    assert machine.receive(GOODBYE + request_frame(1, {"name": ["x"]})) == [Goodbye()]


# floods of nonsense


def hand_made_frames() -> Iterable[bytes]:
    bodies = [body if isinstance(body, bytes) else orjson.dumps(body) for body in BAD_REQUESTS]
    bodies += [b"true", b"false", b'{"name":["x"],"args":[]}', b'{"name":["x"],"type":"source"}', b"\x00", b" "]
    bodies += [b'{"name":["x"],"type":"duplex"}', b'{"message":"x"}']
    for body, flags, number in itertools.product(bodies, range(16), (-2, -1, 0, 1, 2, 3, 2**31 - 1, -(2**31))):
        yield raw_frame(flags, number, body)


def test_thousands_of_hand_made_frames_do_not_stop_the_machine() -> None:
    order = list(hand_made_frames())
    assert len(order) > 3500
    for seed in range(3):
        random.Random(seed).shuffle(order)
        machine = RpcProtocol()
        call, _ = machine.request(("d",), [], Kind.DUPLEX)
        machine.request(("a",), [], Kind.ASYNC)
        for data in order:
            for event in machine.receive(data):
                if isinstance(event, Request):
                    (machine.end if event.stream else machine.reply_error)(event.call, "no")
        machine.take_output()
        assert machine.end(call) == b""
        fresh = machine._highest_request // 2 + 17
        assert received(machine, request_frame(fresh, {"name": ["honest"]})) == [
            request(-fresh, ("honest",), [], None, False)
        ]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 255),
            st.sampled_from([-2, -1, 0, 1, 2, 3, 7]),
            st.binary(min_size=1, max_size=20) | st.sampled_from([b"true", b'{"name":["x"],"args":[]}', b"null"]),
        ),
        max_size=40,
    ),
    st.data(),
)
def test_fuzzed_frames_raise_nothing_and_give_the_same_with_any_chunking(
    sent: list[tuple[int, int, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(raw_frame(*each) for each in sent)
    outcomes = []
    for each in ([stream], list(pieces(stream, data.draw(cuts(len(stream)))))):
        machine = RpcProtocol()
        machine.request(("d",), [], Kind.DUPLEX)
        machine.request(("a",), [], Kind.ASYNC)
        events = [flat([replaced(event)]) for piece in each for event in machine.receive(piece)]
        outcomes.append((list(itertools.chain.from_iterable(events)), machine.take_output()))
    assert outcomes[0] == outcomes[1]


def replaced(event: Event) -> Event:
    """Errors compare by identity; compare their words."""
    if isinstance(event, Reply) and isinstance(event.answer, RemoteCallError):
        return Reply(event.call, Body(BodyType.TEXT, event.answer.message.encode("utf-8", "backslashreplace")))
    return event
