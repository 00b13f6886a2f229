"""Five processes of our own in a chain and in a star: everything reaches everybody, and nothing whom it must not."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.processes import NodeProcess, wait_until

COUNT = 5
CONVERGED_SECONDS = 30.0
LIVE_SECONDS = 5.0

Nodes = list[NodeProcess]


@pytest.fixture(name="nodes")
def _nodes(tmp_path: Path) -> Iterator[Nodes]:
    """Five fresh nodes that do not know each other."""
    nodes = [NodeProcess(tmp_path / f"node-{number}", hops=COUNT) for number in range(COUNT)]
    with ExitStack() as stack:
        for node in nodes:
            stack.callback(node.kill)
            node.launch()
        for node in nodes:
            node.await_ready()
        yield nodes


def befriend(one: NodeProcess, other: NodeProcess) -> None:
    one.ok("follow", other.id)
    other.ok("follow", one.id)


def everything(nodes: Nodes) -> dict[str, int]:
    """The last sequence of each node's own feed, by what its owner says."""
    return {node.id: node.clock()[node.id] for node in nodes}


def await_same_clock(nodes: Nodes, seconds: float) -> None:
    wanted = everything(nodes)
    wait_until(lambda: all(node.clock() == wanted for node in nodes), seconds, "the same clock everywhere")


def posts(node: NodeProcess) -> dict[str, bytes]:
    """Stored text of each post by its id."""
    done = node.sbot("messagesByType", "post")
    assert done.code == 0
    lines = [line for line in done.out.split(b"\n") if line]
    return {value["key"]: line[: line.rindex(b',"timestamp":')] for value, line in zip(done.values, lines, strict=True)}


def check(nodes: Nodes, newcomer: NodeProcess) -> None:
    """Old messages, live messages, equal bytes, valid chains."""
    await_same_clock(nodes, CONVERGED_SECONDS)
    newcomer.post("live \u2028 日本 🐚")
    await_same_clock(nodes, LIVE_SECONDS)
    first = posts(nodes[0])
    assert len(first) == COUNT + 1
    assert all(posts(node) == first for node in nodes[1:])
    for node in nodes:
        verdict = node.sbot("verify", "-", stdin=node.sbot("log").out)
        assert verdict.code == 0
        assert len(verdict.values) == sum(node.clock().values())


def test_a_chain_carries_messages_from_end_to_end(nodes: Nodes) -> None:
    for left, right in pairwise(nodes):
        befriend(left, right)
        left.ok("connect", right.address)
    for node in nodes:
        node.post(f"from {node.id}")
    check(nodes, nodes[-1])
    hops = nodes[0].ok("friends.hops", "--max", "4")
    assert [hops[node.id] for node in nodes] == [0, 1, 2, 3, 4]


def test_a_star_carries_messages_through_its_centre(nodes: Nodes) -> None:
    centre, *leaves = nodes
    for node in nodes:
        node.post(f"from {node.id}")
    for leaf in leaves:
        befriend(centre, leaf)
        leaf.ok("connect", centre.address)
    check(nodes, leaves[0])
    hops = leaves[0].ok("friends.hops")
    assert [hops[node.id] for node in nodes] == [1, 0, 2, 2, 2]


def test_a_blocked_peer_gets_nothing_directly_or_through_others(nodes: Nodes) -> None:
    owner, friend, blocked, *_ = nodes
    befriend(owner, friend)
    befriend(friend, blocked)
    blocked.ok("follow", owner.id)
    owner.ok("block", blocked.id)
    owner.post("not for everybody")
    friend.ok("connect", owner.address)
    await_clock = {node.id: node.clock()[node.id] for node in (owner, friend)}
    wait_until(lambda: friend.clock().items() >= await_clock.items(), CONVERGED_SECONDS, "the friend has it all")
    # Directly: the owner hangs up in the handshake.
    refused = blocked.sbot("connect", owner.address)
    assert refused.code == 1
    assert "Traceback" not in refused.err
    # Through the friend, who may give the friend's own feed but not the owner's.
    blocked.ok("connect", friend.address)
    wait_until(lambda: friend.id in blocked.clock(), CONVERGED_SECONDS, "the friend's own feed arrives")
    friend.post("a later one")
    wait_until(lambda: blocked.clock()[friend.id] == friend.clock()[friend.id], LIVE_SECONDS, "live messages arrive")
    assert owner.id not in blocked.clock()
    assert blocked.id not in owner.clock()
    # Blocked in the middle of a session: what comes after it does not arrive.
    friend.ok("block", blocked.id)
    before = blocked.clock()
    friend.post("after the block")
    wait_until(lambda: friend.id not in blocked.connected(), LIVE_SECONDS, "the friend hangs up")
    assert blocked.clock() == before
