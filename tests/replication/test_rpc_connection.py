"""A muxrpc connection at work: all kinds of call both ways, refusals, back-pressure, patience, and hostile peers."""

import asyncio
import logging
import struct
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from feeds.errors import InvalidJson
from replication.errors import ConnectionClosed, RemoteCallError, RemoteVisible, RpcProtocolError, StreamEnded
from replication.limits import Limits
from replication.memory_stream import memory_pair
from replication.rpc.bodies import Body, BodyType, RawJson
from replication.rpc.calls import Kind
from replication.rpc.connection import Duplex, RpcConnection, Sink, Source
from replication.rpc.methods import Caller, Method, MethodTable, Pool, Who
from replication.rpc.packets import GOODBYE
from tests.support.wires import ALICE, BOB, RawFrame, RawPeer, raw_frame, raw_peer, rpc_pair

Args = list[Any]
MESSAGE = b'{"content":"' + b"x" * 680 + b'"}'


def table(*methods: Method) -> MethodTable:
    return MethodTable(methods)


def method(
    name: str, kind: Kind, handler: Callable[..., Awaitable[Any]], who: Who = Who.ANON, **options: Any
) -> Method:
    return Method(tuple(name.split(".")), kind, who, handler, **options)


async def echo(_caller: Caller, args: Args) -> Any:
    return args[0] if args else None


async def whoami(caller: Caller, _args: Args) -> Any:
    return {"id": caller.id, "local": caller.local}


async def refuse(_caller: Caller, _args: Args) -> Any:
    raise RemoteVisible("not today")


async def broken(_caller: Caller, _args: Args) -> Any:
    raise KeyError("/home/alice/.ssb/secret")


async def forever(_caller: Caller, _args: Args) -> Any:
    await asyncio.Event().wait()


async def count(_caller: Caller, args: Args, out: Sink) -> None:
    for number in range(args[0]):
        await out.send_value(number)


async def stream_of_messages(_caller: Caller, args: Args, out: Sink) -> None:
    left = args[0]
    while left > 0:
        await out.send([MESSAGE] * min(left, 300))
        left -= 300


async def broken_source(_caller: Caller, _args: Args, out: Sink) -> None:
    await out.send_value(1)
    raise KeyError("/home/alice/.ssb/secret")


async def duplex_echo(_caller: Caller, _args: Args, both: Duplex) -> None:
    while batch := await both.read_batch():
        for body in batch:
            await both.send([body.data], body.kind)


ECHO = method("echo", Kind.ASYNC, echo)
EVERYTHING = table(
    ECHO,
    method("whoami", Kind.SYNC, whoami),
    method("secret.thing", Kind.ASYNC, echo, Who.LOCAL),
    method("refuse", Kind.ASYNC, refuse),
    method("broken", Kind.ASYNC, broken),
    method("forever", Kind.ASYNC, forever),
    method("count", Kind.SOURCE, count),
    method("messages", Kind.SOURCE, stream_of_messages),
    method("fails.halfway", Kind.SOURCE, broken_source),
    method("both", Kind.DUPLEX, duplex_echo),
)


async def settled(condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - conditions of many kinds, none of which has an event
            await asyncio.sleep(0.001)


# calls


async def test_async_and_sync_calls_both_ways_at_once() -> None:
    async with rpc_pair(EVERYTHING, EVERYTHING) as (alice, bob):
        answers = await asyncio.gather(
            *(alice.call("echo", [number]) for number in range(50)),
            *(bob.call("echo", [{"n": number}]) for number in range(50)),
            alice.call("whoami", kind=Kind.SYNC),
            bob.call(("whoami",)),
        )
        assert answers[:100] == [*range(50), *({"n": number} for number in range(50))]
        assert answers[100:] == [{"id": ALICE.id, "local": False}, {"id": BOB.id, "local": False}]
        assert not alice._replies
        assert not alice._protocol._calls
        assert not bob._server._handlers


@pytest.mark.parametrize("value", [None, 0, "", "text", [], {"a": [1.5, None]}, "\ud800", 1e25])
async def test_values_arrive_as_they_are(value: Any) -> None:
    async with rpc_pair(None, EVERYTHING) as (alice, _):
        assert await alice.call("echo", [value]) == value


async def test_answers_may_be_bytes_or_ready_json() -> None:
    async def raw(_caller: Caller, _args: Args) -> Any:
        return RawJson(b'{"b":1,"a":1e21}')

    async def binary(_caller: Caller, _args: Args) -> Any:
        return b"\x00\x01"

    methods = table(method("raw", Kind.ASYNC, raw), method("binary", Kind.ASYNC, binary))
    async with raw_peer(methods) as (peer, _):
        peer.call(1, ["raw"])
        assert (await peer.frame()).body == b'{"b":1,"a":1e21}'
    async with rpc_pair(None, methods) as (alice, _):
        assert await alice.call("binary") == b"\x00\x01"


async def test_unknown_and_forbidden_methods_are_refused_in_the_words_peers_compare() -> None:
    async with raw_peer(EVERYTHING) as (peer, _):
        peer.call(1, ["ebt", "replicate"], [{"version": 3}], "duplex")
        peer.call(2, ["room", "metadata"])
        peer.call(3, ["secret", "thing"])
        peer.call(4, ["blobs", "createWants"], [], "source")
        frames = [await peer.frame() for _ in range(4)]
    assert [(frame.flags, frame.number) for frame in frames] == [(0x0E, -1), (0x06, -2), (0x06, -3), (0x0E, -4)]
    assert frames[0].json == {
        "message": "method:ebt,replicate is not in list of allowed methods",
        "name": "Error",
        "stack": "",
    }
    assert frames[2].json["message"] == "method:secret,thing is not in list of allowed methods"


async def test_the_nodes_own_user_may_call_everything() -> None:
    async with rpc_pair(None, EVERYTHING, local=True) as (alice, _):
        assert await alice.call("secret.thing", [1]) == 1
        assert await alice.call("whoami") == {"id": ALICE.id, "local": True}


async def test_a_handlers_refusal_is_shown_and_its_accident_is_not(caplog: pytest.LogCaptureFixture) -> None:
    async with raw_peer(EVERYTHING) as (peer, _):
        peer.call(1, ["refuse"])
        assert (await peer.frame()).json["message"] == "not today"
        peer.call(2, ["broken"])
        accident = await peer.frame()
        peer.call(3, ["fails", "halfway"], [], "source")
        await peer.frame()
        end = await peer.frame()
    for frame in (accident, end):
        assert frame.json == {"message": "internal error", "name": "Error", "stack": ""}
        assert b"alice" not in frame.body
        assert b"Traceback" not in frame.body
    assert "KeyError" in caplog.text


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        (None, "count", "count is source, not async"),
        ("source", "echo", "echo is async, not source"),
        ("duplex", "count", "count is source, not duplex"),
        ("sink", "both", "both is duplex, not sink"),
    ],
)
async def test_a_method_called_the_wrong_way_is_refused(kind: str | None, name: str, says: str) -> None:
    async with raw_peer(EVERYTHING) as (peer, _):
        peer.call(1, [name], [1], kind)
        frame = await peer.frame()
        assert frame.flags == (0x06 if kind is None else 0x0E)
        assert says in frame.json["message"]


async def test_an_answer_that_comes_too_late_is_ignored() -> None:
    async with rpc_pair(None, EVERYTHING) as (alice, _):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await alice.call("forever")
        assert not alice._replies
        assert not alice._protocol._calls
        assert await alice.call("echo", [1]) == 1


async def test_an_answer_that_is_not_json_fails_the_call_only() -> None:
    near, far = memory_pair()
    alice = RpcConnection(near, MethodTable(), remote_id=BOB.id)
    running, peer = asyncio.create_task(alice.run()), RawPeer(far)
    calling = asyncio.create_task(alice.call("x"))
    assert (await peer.frame()).number == 1
    peer.send(0x02, -1, b"{{")
    with pytest.raises(RpcProtocolError, match="not JSON"):
        await calling
    calling = asyncio.create_task(alice.call("x"))
    await peer.frame()
    peer.send(0x02, -2, b"2")
    assert await calling == 2
    await alice.close()
    await running


# streams


async def test_a_source_is_read_to_its_end_in_batches_and_by_item() -> None:
    async with rpc_pair(None, EVERYTHING) as (alice, bob):
        assert [value async for value in alice.source("count", [5])] == [0, 1, 2, 3, 4]
        source, batches = alice.source("messages", [1000]), []
        while batch := await source.read_batch():
            batches.append(batch)
        assert await source.read_batch() == []
        assert [body for batch in batches for body in batch] == [Body(BodyType.JSON, MESSAGE)] * 1000
        assert len(batches) < 100
        await settled(lambda: not (alice._streams or bob._streams or alice._protocol._calls or bob._protocol._calls))


async def test_a_sources_error_comes_after_its_items() -> None:
    async with rpc_pair(None, EVERYTHING) as (alice, _):
        source = alice.source("fails.halfway")
        await asyncio.sleep(0.01)
        assert [body.data for body in await source.read_batch()] == [b"1"]
        with pytest.raises(RemoteCallError, match="internal error"):
            await source.read_batch()
        unknown = alice.source("nothing.here")
        with pytest.raises(RemoteCallError, match="method:nothing,here is not in list"):
            [value async for value in unknown]


async def test_a_reader_that_stops_stops_the_source() -> None:
    stopped = asyncio.Event()

    async def endless(_caller: Caller, _args: Args, out: Sink) -> None:
        try:
            while True:
                await out.send([MESSAGE] * 10)
                await asyncio.sleep(0)
        finally:
            stopped.set()

    async with rpc_pair(None, table(method("endless", Kind.SOURCE, endless))) as (alice, bob):
        source = alice.source("endless")
        await source.read_batch()
        await source.cancel()
        await source.cancel()
        async with asyncio.timeout(2):
            await stopped.wait()
        assert await source.read_batch() == []
        await settled(lambda: not (alice._streams or bob._streams or alice._protocol._calls or bob._protocol._calls))
        assert alice._queued == 0


async def test_a_source_that_is_aborted_in_its_first_moment_is_ended_too() -> None:
    async with raw_peer(EVERYTHING) as (peer, connection):
        request = raw_frame(0x0A, 1, {"name": ["count"], "args": [3]})
        peer.stream.write(request + raw_frame(0x0E, 1, b"true"))
        ends: list[RawFrame] = []
        while not ends or not ends[-1].flags & 0x04:
            ends.append(await peer.frame())
        assert (ends[-1].flags, ends[-1].number, ends[-1].body) == (0x0E, -1, b"true")
        await settled(lambda: not connection._protocol._calls)


async def test_a_sink_gets_everything_and_tells_how_it_went() -> None:
    got: list[Any] = []

    async def collect(_caller: Caller, _args: Args, items: Source) -> None:
        async for value in items:
            got.append(value)

    async def picky(_caller: Caller, _args: Args, items: Source) -> None:
        await items.read_batch()
        raise RemoteVisible("too salty")

    methods = table(method("collect", Kind.SINK, collect), method("picky", Kind.SINK, picky))
    async with rpc_pair(None, methods) as (alice, bob):
        sink = alice.sink("collect")
        await sink.send([b"1", b"2"])
        await sink.send_value({"three": 3})
        await sink.send_value(b"four")
        await sink.end()
        await sink.finished()
        assert got == [1, 2, {"three": 3}, b"four"]
        sink = alice.sink("picky")
        await sink.send([b"1"])
        with pytest.raises(RemoteCallError, match="too salty"):
            await sink.finished()
        with pytest.raises(RemoteCallError, match="too salty"):
            await sink.send([b"2"])
        await settled(lambda: not (alice._streams or bob._streams or alice._protocol._calls or bob._protocol._calls))


async def test_a_duplex_ends_each_direction_on_its_own() -> None:
    async def ask_then_answer(_caller: Caller, _args: Args, both: Duplex) -> None:
        asked = [value async for value in both]
        for value in asked:
            await both.send_value(f"got {value!r}")

    async with rpc_pair(None, table(method("both", Kind.DUPLEX, ask_then_answer))) as (alice, bob):
        both = alice.duplex("both")
        await both.send_value("a")
        await both.send_value("b")
        await both.end()
        with pytest.raises(StreamEnded):
            await both.send_value("c")
        assert [value async for value in both] == ["got 'a'", "got 'b'"]
        await settled(lambda: not (alice._streams or bob._streams or alice._protocol._calls or bob._protocol._calls))


async def test_an_error_ends_both_directions_of_a_duplex() -> None:
    seen: list[Exception] = []

    async def listen(_caller: Caller, _args: Args, both: Duplex) -> None:
        try:
            await both.read_batch()
        except RemoteCallError as error:
            seen.append(error)
        with pytest.raises(RemoteCallError):
            await both.send_value(1)

    async with rpc_pair(None, table(method("both", Kind.DUPLEX, listen))) as (alice, bob):
        both = alice.duplex("both")
        await settled(lambda: bool(bob._server._handlers))
        await both.end("I am leaving")
        assert await both.read_batch() == []
        await settled(lambda: bool(seen))
        assert str(seen[0]) == "I am leaving"
        await settled(lambda: not (alice._streams or bob._streams or alice._protocol._calls or bob._protocol._calls))


async def test_an_unread_duplex_does_not_hold_up_the_rest_once_it_is_cancelled() -> None:
    async def talk(_caller: Caller, _args: Args, both: Duplex) -> None:
        while True:
            await both.send([MESSAGE] * 100)
            await asyncio.sleep(0)

    limits = Limits(stream_queue=50_000, outbound_high=50_000, outbound_low=10_000)
    methods = table(method("talk", Kind.DUPLEX, talk), ECHO)
    async with rpc_pair(None, methods, limits=limits) as (alice, _):
        both = alice.duplex("talk")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await alice.call("echo", [1])
        await both.cancel()
        async with asyncio.timeout(2):
            assert await alice.call("echo", [2]) == 2


async def test_only_one_task_may_read_a_stream() -> None:
    async with rpc_pair(None, EVERYTHING) as (alice, _):
        both = alice.duplex("both")
        reading = asyncio.create_task(both.read_batch())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="one task"):
            await both.read_batch()
        await both.send_value(1)
        assert await reading == [Body(BodyType.JSON, b"1")]


async def test_items_that_are_not_json_fail_only_their_reader() -> None:
    errors: list[str] = []

    async def collect(_caller: Caller, _args: Args, items: Source) -> None:
        try:
            async for _ in items:
                pass
        except InvalidJson as error:
            errors.append(str(error))
            raise RemoteVisible("items must be JSON") from None

    async with raw_peer(table(method("collect", Kind.SINK, collect), ECHO)) as (peer, _):
        peer.call(1, ["collect"], [], "sink")
        peer.send(0x0A, 1, b"{{")
        assert (await peer.frame()).json["message"] == "items must be JSON"
        peer.call(2, ["echo"], [2])
        assert (await peer.frame()).json == 2
    assert len(errors) == 1


async def test_an_empty_item_is_not_sent() -> None:
    async with rpc_pair(None, EVERYTHING) as (alice, _):
        both = alice.duplex("both")
        with pytest.raises(ValueError, match="empty"):
            await both.send([b""], BodyType.BINARY)
        await both.send_value("")
        assert await both.read_batch() == [Body(BodyType.JSON, b'""')]


# ends of the connection


async def test_a_goodbye_ends_everything_in_order() -> None:
    async with rpc_pair(EVERYTHING, EVERYTHING) as (alice, bob):
        pending = asyncio.create_task(alice.call("forever"))
        both = alice.duplex("both")
        reading = asyncio.create_task(both.read_batch())
        await settled(lambda: len(bob._server._handlers) == 2)
        await bob.close()
        async with asyncio.timeout(2):
            await asyncio.gather(alice.closed.wait(), bob.closed.wait())
        for waiting in (pending, reading):
            with pytest.raises(ConnectionClosed):
                await waiting
        with pytest.raises(ConnectionClosed):
            await both.send_value(1)
        with pytest.raises(ConnectionClosed):
            await alice.call("echo", [1])
        with pytest.raises(ConnectionClosed):
            alice.source("count", [1])
        assert alice.error is None
        assert bob.error is None
        assert not bob._server._handlers
        await both.cancel()


async def test_the_goodbye_is_on_the_wire() -> None:
    async with raw_peer(EVERYTHING) as (peer, connection):
        peer.call(1, ["echo"], [1])
        await peer.frame()
        await connection.close()
        last = await peer.frame()
        assert (last.flags, last.number, last.body) == (0, 0, b"")


async def test_a_peers_goodbye_is_answered() -> None:
    async with raw_peer(EVERYTHING) as (peer, connection):
        peer.stream.write(GOODBYE)
        last = await peer.frame()
        assert (last.flags, last.number, last.body) == (0, 0, b"")
        await connection.closed.wait()
        assert connection.error is None


async def test_a_cut_fails_what_is_pending_and_stops_the_handlers() -> None:
    stopped: list[str] = []

    async def wait(_caller: Caller, _args: Args, _both: Duplex) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append("stopped")

    async with raw_peer(table(method("wait", Kind.DUPLEX, wait))) as (peer, connection):
        peer.call(1, ["wait"], [], "duplex")
        await settled(lambda: bool(connection._server._handlers))
        pending = asyncio.create_task(connection.call("x"))
        await asyncio.sleep(0)
        peer.stream.abort()
        async with asyncio.timeout(2):
            await connection.closed.wait()
        with pytest.raises(ConnectionClosed, match="cut"):
            await pending
        assert isinstance(connection.error, ConnectionClosed)
    assert stopped == ["stopped"]


async def test_cancelling_run_says_goodbye() -> None:
    near, far = memory_pair()
    connection = RpcConnection(near, EVERYTHING, remote_id=ALICE.id)
    running, peer = asyncio.create_task(connection.run()), RawPeer(far)
    peer.call(1, ["forever"])
    await settled(lambda: bool(connection._server._handlers))
    running.cancel()
    assert (await peer.frame()).body == b""
    with pytest.raises(asyncio.CancelledError):
        await running
    assert connection.closed.is_set()
    assert not connection._server._handlers


async def test_broken_framing_ends_the_connection_at_once() -> None:
    async with raw_peer(EVERYTHING) as (peer, connection):
        peer.stream.write(struct.pack(">BIi", 0x02, 2**31, 1))
        async with asyncio.timeout(2):
            await connection.closed.wait()
        assert isinstance(connection.error, RpcProtocolError)
        assert connection.breaches == {"json_frame": 1}
        with pytest.raises(ConnectionClosed):
            await peer.frame()


# patience


async def test_a_half_frame_is_given_up_and_a_slow_whole_one_is_not() -> None:
    limits = Limits(half_frame_timeout=0.2)
    async with raw_peer(EVERYTHING, limits=limits) as (peer, connection):
        for byte in raw_frame(0x02, 1, {"name": ["echo"], "args": [1]})[:-1]:
            peer.stream.write(bytes([byte]))
            await asyncio.sleep(0.002)
        peer.stream.write(b"}")
        assert (await peer.frame()).json == 1
        await asyncio.sleep(0.4)
        assert not connection.closed.is_set()
        peer.stream.write(b"\x02\x00\x00")
        async with asyncio.timeout(2):
            await connection.closed.wait()
        assert "not completed" in str(connection.error)
        assert connection.breaches == {"half_frame_timeout": 1}


async def test_steady_traffic_that_is_always_cut_in_the_middle_of_a_frame_is_fine() -> None:
    limits = Limits(half_frame_timeout=0.2, calls_per_second=1e6)
    async with raw_peer(EVERYTHING, limits=limits) as (peer, connection):
        rest = b""
        for number in range(1, 60):
            data = rest + raw_frame(0x02, number, {"name": ["echo"], "args": [number]})
            peer.stream.write(data[:-5])
            rest = data[-5:]
            await asyncio.sleep(0.01)
        assert not connection.closed.is_set()


async def test_a_silent_link_is_given_up() -> None:
    async with raw_peer(EVERYTHING, limits=Limits(silence_timeout=0.2)) as (peer, connection):
        for number in range(1, 5):
            await asyncio.sleep(0.08)
            peer.call(number, ["echo"], [1])
        assert not connection.closed.is_set()
        async with asyncio.timeout(2):
            await connection.closed.wait()
        assert "nothing was heard" in str(connection.error)
        assert connection.breaches == {"silence_timeout": 1}


# back-pressure and bounds


async def test_a_reader_that_is_behind_stops_the_reading_of_the_socket() -> None:
    limits = Limits(stream_queue=100_000, outbound_high=100_000, outbound_low=10_000)
    async with rpc_pair(None, EVERYTHING, limits=limits) as (alice, _):
        source = alice.source("messages", [3000])
        await asyncio.sleep(0.1)
        assert 100_000 < source.waiting < 600_000
        stopped_at = source.waiting
        await asyncio.sleep(0.05)
        assert source.waiting == stopped_at
        got = 0
        while batch := await source.read_batch():
            got += len(batch)
        assert got == 3000
        assert alice._queued == 0


async def test_all_streams_of_a_peer_together_are_bounded() -> None:
    limits = Limits(stream_queue=1 << 30, peer_buffers=200_000, outbound_high=50_000, outbound_low=10_000)
    async with rpc_pair(None, EVERYTHING, limits=limits) as (alice, _):
        sources = [alice.source("messages", [3000]) for _ in range(5)]
        await asyncio.sleep(0.1)
        assert 200_000 < sum(source.waiting for source in sources) < 700_000
        assert sum(await asyncio.gather(*(length(source) for source in sources))) == 15_000


async def length(source: Source) -> int:
    total = 0
    while batch := await source.read_batch():
        total += len(batch)
    return total


async def test_a_connection_with_a_full_queue_can_still_be_closed() -> None:
    limits = Limits(stream_queue=10_000)
    async with rpc_pair(None, EVERYTHING, limits=limits) as (alice, _):
        source = alice.source("messages", [3000])
        await settled(lambda: not alice._room.is_set())
        async with asyncio.timeout(2):
            await alice.close()
            await alice.closed.wait()
        assert source.waiting > 0


async def test_open_streams_are_bounded_and_history_streams_have_their_own_bound() -> None:
    async def wait(_caller: Caller, _args: Args, _out: Sink) -> None:
        await asyncio.Event().wait()

    methods = table(
        method("plain", Kind.SOURCE, wait),
        method("history", Kind.SOURCE, wait, pool=Pool.HISTORY),
        ECHO,
    )
    limits = Limits(open_streams=3, history_streams=5)
    async with rpc_pair(None, methods, limits=limits) as (alice, bob):
        plain = [alice.source("plain") for _ in range(4)]
        history = [alice.source("history") for _ in range(6)]
        for last in (plain.pop(), history.pop()):
            with pytest.raises(RemoteCallError, match="too many"):
                await last.read_batch()
        assert bob.breaches == {"open_streams": 1, "history_streams": 1}
        assert await alice.call("echo", [1]) == 1
        await plain[0].cancel()
        await settled(lambda: bob._server._open[Pool.STREAMS] == 2)
        again = alice.source("plain")
        await settled(lambda: bob._server._open[Pool.STREAMS] == 3)
        assert not again.remote_ended


async def test_many_history_streams_leave_room_for_calls() -> None:
    async def wait(_caller: Caller, _args: Args, _out: Sink) -> None:
        await asyncio.Event().wait()

    methods = table(method("history", Kind.SOURCE, wait, pool=Pool.HISTORY), ECHO)
    limits = Limits(calls_in_flight=10, call_burst=10_000)
    async with rpc_pair(None, methods, limits=limits) as (alice, bob):
        streams = [alice.source("history") for _ in range(2000)]
        await settled(lambda: len(bob._server._handlers) == 2000)
        assert await alice.call("echo", [1]) == 1
        assert not any(stream.remote_ended for stream in streams)


async def test_a_call_made_while_the_connection_ends_fails() -> None:
    async def slow_to_stop(_caller: Caller, _args: Args) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)

    async with raw_peer(table(method("slow", Kind.ASYNC, slow_to_stop))) as (peer, connection):
        peer.call(1, ["slow"])
        await settled(lambda: bool(connection._server._handlers))
        peer.stream.write(GOODBYE)
        await asyncio.sleep(0.02)
        assert not connection.closed.is_set()
        with pytest.raises(ConnectionClosed):
            await connection.call("x")
        await connection.closed.wait()


async def test_calls_in_flight_are_bounded() -> None:
    limits = Limits(calls_in_flight=10)
    async with rpc_pair(None, EVERYTHING, limits=limits) as (alice, bob):
        waiting = [asyncio.create_task(alice.call("forever")) for _ in range(10)]
        await settled(lambda: len(bob._server._handlers) == 10)
        with pytest.raises(RemoteCallError, match="too many"):
            await alice.call("echo", [1])
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_who_calls_too_often_is_read_more_slowly_and_others_are_not() -> None:
    limits = Limits(calls_per_second=200.0, call_burst=20)
    async with raw_peer(EVERYTHING, limits=limits) as (flooder, connection):
        async with rpc_pair(None, EVERYTHING, limits=limits) as (alice, _):
            began = asyncio.get_running_loop().time()
            for number in range(1, 101):
                flooder.call(number, ["echo"], [number])
            async with asyncio.timeout(1):
                assert await alice.call("echo", ["honest"]) == "honest"
            for number in range(1, 101):
                assert (await flooder.frame()).json == number
            assert asyncio.get_running_loop().time() - began > 0.3
        assert connection.breaches["calls_per_second"] > 50


async def test_a_peer_that_never_reads_its_answers_is_not_served_on() -> None:
    served: list[int] = []

    async def big(_caller: Caller, args: Args) -> Any:
        served.append(args[0])
        return "x" * 50_000

    limits = Limits(outbound_high=100_000, outbound_low=10_000, calls_per_second=1e9, call_burst=10**9)
    async with raw_peer(table(method("big", Kind.ASYNC, big)), limits=limits) as (peer, _):
        for number in range(1, 501):
            peer.call(number, ["big"], [number])
        await asyncio.sleep(0.2)
        assert len(served) < 10
        for _ in range(500):
            assert len((await peer.frame()).body) > 50_000
        assert len(served) == 500


async def test_calls_that_wait_hold_little_of_what_they_brought() -> None:
    limits = Limits(calls_per_second=1e9, call_burst=10**9)
    async with raw_peer(EVERYTHING, limits=limits) as (peer, connection):
        for number in range(1, 101):
            peer.call(number, ["forever"], ["x" * 60_000])
        for _ in range(100 - (1 << 20) // 60_040):
            assert (await peer.frame()).json["message"] == "too many calls at once"
        assert connection._server._in_flight <= 1 << 20


async def test_a_stream_that_is_opened_and_given_up_in_one_breath() -> None:
    async with raw_peer(EVERYTHING) as (peer, connection):
        peer.stream.write(raw_frame(0x0A, 1, {"name": ["both"], "type": "duplex"}) + raw_frame(0x0E, 1, b'"oops"'))
        end = await peer.frame()
        assert (end.flags, end.number, end.json) == (0x0E, -1, "oops")
        peer.call(2, ["echo"], [2])
        assert (await peer.frame()).json == 2
        assert not connection._protocol._calls


# hostile peers


async def memory_grown_by(work: Callable[[], Awaitable[None]]) -> int:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    await work()
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("number", [1, -1, 0, 2**31 - 1])
async def test_huge_announced_frames_take_no_memory(number: int) -> None:
    async def announce() -> None:
        for size in (2**31, 2**32 - 1, 64 * 1024 + 1):
            async with raw_peer(EVERYTHING) as (peer, connection):
                peer.stream.write(struct.pack(">BIi", 0x02, size, number) + b"x" * 50_000)
                await connection.closed.wait()
                assert isinstance(connection.error, RpcProtocolError)

    assert await memory_grown_by(announce) < 2_000_000


async def test_floods_of_nonsense_leave_an_honest_call_quick_and_memory_small(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    nonsense = b"".join(
        raw_frame(flags, number, body)
        for number in (1, 2, 3, -1, 0, 77)
        for flags in range(16)
        for body in (b"null", b"[]", b"{{", b'{"name":5}', b"true", b'{"name":["x"],"type":"duplex"}')
    )

    async def flood() -> None:
        async with raw_peer(EVERYTHING) as (peer, connection), rpc_pair(None, EVERYTHING) as (alice, _):
            reading = asyncio.create_task(drop_everything(peer))
            for _ in range(20):
                peer.stream.write(nonsense)
                await peer.stream.drain()
                async with asyncio.timeout(1):
                    assert await alice.call("echo", [1]) == 1
            assert not connection.closed.is_set()
            peer.stream.abort()
            await asyncio.gather(reading, return_exceptions=True)

    assert await memory_grown_by(flood) < 16_000_000
    assert not caplog.records


async def drop_everything(peer: RawPeer) -> None:
    while await peer.stream.read():
        pass


async def test_a_flood_of_calls_is_bounded_and_answered() -> None:
    async def flood() -> None:
        limits = Limits(calls_per_second=1e9, call_burst=10**9)
        async with raw_peer(EVERYTHING, limits=limits) as (peer, connection):
            calls = b"".join(raw_frame(0x02, number, {"name": ["forever"]}) for number in range(1, 6_001))
            peer.stream.write(calls)
            refused = 0
            while refused < 5_000:
                frame = await peer.frame()
                refused += frame.json["message"] == "too many calls at once"
            assert len(connection._server._handlers) <= 1000

    assert await memory_grown_by(flood) < 24_000_000


async def test_streams_opened_and_never_ended_are_bounded() -> None:
    limits = Limits(calls_per_second=1e9, call_burst=10**9)
    async with raw_peer(EVERYTHING, limits=limits) as (peer, connection):
        for number in range(1, 6001):
            peer.call(number, ["both"], [], "duplex")
        for _ in range(6000 - limits.open_streams):
            assert (await peer.frame()).flags == 0x0E
        assert len(connection._streams) == limits.open_streams
        assert len(connection._protocol._calls) <= 4096 + limits.open_streams
