"""Who may call what, and in which words the others are refused (protocol.md section 19)."""

from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from replication.errors import RemoteCallError
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import Caller, Kind, MethodTable
from tests.support.peers import open_node, program, stranger

ANON = {
    "manifest": "sync",
    "whoami": "sync",
    "createHistoryStream": "source",
    "ebt": {"replicate": "duplex", "replicateFormat": "duplex", "clock": "async"},
    "partialReplication": {"getSubset": "source", "getTangle": "source"},
    "gossip": {"ping": "duplex"},
    "conn": {"ping": "duplex", "dialBack": "async"},
    "httpAuth": {"requestSolution": "async", "sendSolution": "async", "invalidateAllSolutions": "async"},
}

LOCAL = (
    *("get", "publish", "createLogStream", "createFeedStream", "createUserStream", "messagesByType", "getLatest"),
    *("latest", "latestSequence", "getVectorClock", "links", "status", "version", "address"),
)


def kinds(table: MethodTable, connection: RpcConnection, *, local: bool) -> dict[str, str]:
    """Dotted names and kinds of what a caller may use."""
    found: dict[str, str] = {}

    def walk(tree: dict[str, Any], path: str) -> None:
        for name, below in tree.items():
            if isinstance(below, dict):
                walk(below, f"{path}{name}.")
            else:
                found[path + name] = below

    walk(table.manifest(Caller(None, local, connection)), "")
    return found


async def refusal_of(call: Awaitable[object]) -> str | None:
    """The text of the error that a call brings, None if it brings none."""
    try:
        await call
    except RemoteCallError as error:
        return error.message
    return None


async def test_the_manifest_tells_each_caller_what_it_may_use(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, stranger(a) as peer, program(a) as own:
        told = await peer.call("manifest", kind=Kind.SYNC)
        assert isinstance(told, dict)
        assert {name: told.get(name) for name in ANON} == ANON
        assert not set(told) & {*LOCAL, "friends", "replicate"}
        whole = await own.call("manifest")
        assert isinstance(whole, dict)
        for name in LOCAL:
            assert name in whole
        assert {"peers", "connect", "add", "disconnect", "ping"} <= set(whole["gossip"])  # type: ignore[arg-type]
        assert {"hops", "isFollowing", "isBlocking", "follow", "block", "stream"} <= set(whole["friends"])  # type: ignore[arg-type]
        assert {"upto", "request"} <= set(whole["replicate"])  # type: ignore[arg-type]
        assert {"peerStatus", "request", "replicate", "clock"} <= set(whole["ebt"])  # type: ignore[arg-type]


async def test_every_local_method_is_refused_to_a_peer_in_the_words_that_peers_compare(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, stranger(a) as peer:
        allowed = kinds(a.table, peer, local=False)
        refused = {name: kind for name, kind in kinds(a.table, peer, local=True).items() if name not in allowed}
        assert len(refused) > 30
        for name, kind in refused.items():
            expected = f"method:{name.replace('.', ',')} is not in list of allowed methods"
            call = (
                peer.call(name, [a.id], kind=Kind(kind))
                if kind in ("async", "sync")
                else peer.source(name).read_batch()
            )
            with pytest.raises(RemoteCallError) as error:
                await call
            assert error.value.message == expected


@pytest.mark.parametrize("name", ["ooo.stream", "nonsense", "ebt.nonsense", "a.b.c.d"])
async def test_what_we_do_not_have_is_refused_in_the_same_words(tmp_path: Path, name: str) -> None:
    async with open_node(tmp_path, "a") as a, stranger(a) as peer:
        for call in (peer.call(name), peer.source(name).read_batch(), peer.duplex(name).read_batch()):
            with pytest.raises(RemoteCallError) as error:
                await call
            assert error.value.message == f"method:{name.replace('.', ',')} is not in list of allowed methods"
        assert await peer.call("whoami") == {"id": a.id}


@pytest.mark.parametrize(
    "args", [[], [None], [True], [7], [""], ["x"], [[]], [{}], [{"id": 1}], [{"id": None, "type": []}], [[[]], {}]]
)
async def test_no_arguments_however_odd_bring_more_than_an_error(
    tmp_path: Path, args: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        await a.post()
        for name, kind in kinds(a.table, own, local=True).items():
            if kind in ("source", "duplex") or name == "publish":
                continue
            assert await refusal_of(own.call(name, args)) != "internal error", name
        streams = ("createLogStream", "createFeedStream", "messagesByType", "createUserStream", "links", "latest")
        for name in (
            *streams,
            "partialReplication.getSubset",
            "partialReplication.getTangle",
            "friends.createFriendStream",
        ):
            assert await refusal_of(own.source(name, args).read_batch()) != "internal error", name
        assert await own.call("whoami") == {"id": a.id}
    assert not [record for record in caplog.records if record.exc_info]


async def test_identity_of_the_node(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        await a.post()
        assert await own.call("address") == a.address
        assert await own.call("multiserver.address") == a.address
        assert await own.call("version") == "0.0.test"
        status = await own.call("status")
        assert isinstance(status, dict)
        assert (status["id"], status["state"], status["sequence"]) == (a.id, "open", 1)
        assert status["log"] == {"position": 1, "feeds": 1}
        assert status["peers"] == {"connected": 0, "known": 0}
        assert await own.call("progress") == {"ebt": {"start": 0, "current": 1, "target": 1}}
