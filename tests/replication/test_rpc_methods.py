"""The method table: who may call what, the manifest of each caller, and the literal refusal."""

from typing import cast

import pytest

from replication.errors import RemoteVisible
from replication.rpc.calls import Kind
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import Caller, Method, MethodTable, Pool, Who, refusal
from replication.rpc.rate import TokenBucket
from tests.support.wires import ALICE


async def handler(_caller: Caller, _args: list[object]) -> None:
    """Never called here."""


METHODS = [
    Method(("manifest",), Kind.SYNC, Who.ANON, handler),
    Method(("blobs", "get"), Kind.SOURCE, Who.ANON, handler),
    Method(("blobs", "add"), Kind.SINK, Who.LOCAL, handler),
    Method(("ebt", "replicate"), Kind.DUPLEX, Who.ANON, handler, max_json=4 << 20),
    Method(("invite", "use"), Kind.ASYNC, Who.INVITE, handler),
    Method(("room", "attendants"), Kind.SOURCE, Who.MEMBER, handler),
    Method(("publish",), Kind.ASYNC, Who.LOCAL, handler),
]


def caller(*rights: Who, local: bool = False) -> Caller:
    return Caller(ALICE.id, local, cast(RpcConnection, None), frozenset(rights))


def allowed(who: Caller) -> set[str]:
    """The names that a caller can reach; every other one must be refused in the right words."""
    table, found = MethodTable(METHODS), set()
    for method in METHODS:
        if who.may(method.who):
            assert table.find(method.name, who) is method
            found.add(".".join(method.name))
        else:
            with pytest.raises(RemoteVisible, match=refusal(method.name)):
                table.find(method.name, who)
    return found


def test_who_may_call_what() -> None:
    assert allowed(caller(Who.ANON)) == {"manifest", "blobs.get", "ebt.replicate"}
    assert allowed(caller(Who.ANON, Who.MEMBER)) == {"manifest", "blobs.get", "ebt.replicate", "room.attendants"}
    assert allowed(caller(Who.INVITE)) == {"invite.use"}
    assert allowed(caller()) == set()
    assert allowed(caller(local=True)) == {".".join(method.name) for method in METHODS}


def test_the_refusal_is_literally_what_peers_compare() -> None:
    with pytest.raises(RemoteVisible) as caught:
        MethodTable().find(("ebt", "replicate"), caller(Who.ANON))
    assert str(caught.value) == "method:ebt,replicate is not in list of allowed methods"
    assert refusal(("whoami",)) == "method:whoami is not in list of allowed methods"


def test_the_manifest_shows_what_the_caller_may_use() -> None:
    table = MethodTable(METHODS)
    assert table.manifest(caller(Who.ANON)) == {
        "manifest": "sync",
        "blobs": {"get": "source"},
        "ebt": {"replicate": "duplex"},
    }
    assert table.manifest(caller(local=True))["blobs"] == {"get": "source", "add": "sink"}
    assert table.manifest(caller()) == {}


def test_a_name_is_given_once_and_is_a_method_or_a_group() -> None:
    table = MethodTable(METHODS)
    for name in (("manifest",), ("blobs",), ("publish", "now")):
        with pytest.raises(ValueError, match="already"):
            table.add(Method(name, Kind.ASYNC, Who.ANON, handler))


def test_some_streams_may_carry_larger_json() -> None:
    table = MethodTable(METHODS)
    assert table.max_json(("ebt", "replicate")) == 4 << 20
    assert table.max_json(("blobs", "get")) is None
    assert table.max_json(("unknown",)) is None
    assert METHODS[0].pool is Pool.STREAMS


def test_tokens_flow_in_at_their_rate_up_to_the_burst() -> None:
    bucket = TokenBucket(10.0, 3, now=100.0)
    assert [bucket.take(100.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert bucket.take(100.0) == pytest.approx(0.1)
    assert bucket.take(100.1) == pytest.approx(0.1)
    assert bucket.take(1000.0) == 0.0
    assert [bucket.take(1000.0) > 0 for _ in range(3)] == [False, False, True]
    assert bucket.take(900.0) > 0  # a clock that jumps back gives nothing
