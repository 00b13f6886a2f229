"""Our own methods called from inside: kinds, a connection each, and what becomes of calls when it ends."""

import asyncio

import pytest

from feeds.message import JsonValue
from replication.errors import RemoteCallError, RemoteVisible
from replication.local_calls import LocalCalls
from replication.rpc.calls import Kind
from replication.rpc.methods import Caller, Method, MethodTable, Who
from replication.rpc.streams import Sink


class Calls:
    """A table of two methods, and who called."""

    def __init__(self) -> None:
        self.callers: list[Caller] = []
        self.ended = 0
        self.table = MethodTable(
            [
                Method(("length",), Kind.ASYNC, Who.LOCAL, self.length),
                Method(("group", "wait"), Kind.SOURCE, Who.LOCAL, self.wait),
            ]
        )

    async def length(self, caller: Caller, args: list[JsonValue]) -> JsonValue:
        self.callers.append(caller)
        return len(str(args[0]))

    async def wait(self, _caller: Caller, _args: list[JsonValue], out: Sink) -> None:
        try:
            await out.send_value(1)
            await asyncio.sleep(3600)
        finally:
            self.ended += 1


async def test_kinds() -> None:
    local = LocalCalls(Calls().table)
    assert local.kind(("length",)) is Kind.ASYNC
    assert local.kind(("group", "wait")) is Kind.SOURCE
    for name in (("group",), ("nothing",), ()):
        with pytest.raises(RemoteVisible):
            local.kind(name)


async def test_values_may_be_large_and_the_caller_is_the_user() -> None:
    calls = Calls()
    async with LocalCalls(calls.table).connected() as connection:
        assert await connection.call("length", ["x" * 5_000_000]) == 5_000_000
        with pytest.raises(RemoteCallError):
            await connection.call("nothing")
    (caller,) = calls.callers
    assert caller.local
    assert caller.id is None


async def test_what_is_under_way_ends_with_the_connection() -> None:
    calls = Calls()
    before = asyncio.all_tasks()
    local = LocalCalls(calls.table)
    async with local.connected() as one, local.connected() as other:
        sources = [connection.source("group.wait") for connection in (one, other)]
        for source in sources:
            assert [body.data for body in await source.read_batch()] == [b"1"]
    assert calls.ended == 2
    assert asyncio.all_tasks() == before


async def test_an_error_inside_ends_it_too() -> None:
    calls = Calls()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - what happens inside is the point
        async with LocalCalls(calls.table).connected() as connection:
            await connection.source("group.wait").read_batch()
            raise ZeroDivisionError
    assert calls.ended == 1
