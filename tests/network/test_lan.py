"""Nodes in network namespaces of their own, joined by a cable: they meet without being told where the other is."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.namespaces import Namespace, cable
from tests.support.processes import NodeProcess, wait_until

MEET_SECONDS = 30.0


@contextmanager
def nodes(folder: Path, ends: tuple[Namespace, Namespace], *, host: str = "::") -> Iterator[list[NodeProcess]]:
    both = [NodeProcess(folder / end.name, host=host, lan=True, inside=end.inside) for end in ends]
    try:
        for node in both:
            node.launch()
        for node in both:
            node.await_ready()
        yield both
    finally:
        for node in both:
            node.kill()


def clock(node: NodeProcess) -> dict[str, Any]:
    found: dict[str, Any] = node.ok("getVectorClock")
    return found


def meet(one: NodeProcess, other: NodeProcess) -> None:
    """Whom one follows is on the wire as soon as the two have found each other."""
    one.ok("publish", "--type", "contact", "--contact", other.id, "--following")
    other.ok("publish", "--type", "contact", "--contact", one.id, "--following")
    one.ok("publish", "--type", "post", "--text", "Is anybody here?")
    wait_until(lambda: clock(other).get(one.id) == 2, MEET_SECONDS, "the post of a neighbour", pause=0.3)


@pytest.mark.parametrize(("ipv4", "host"), [(True, "0.0.0.0"), (False, "::")])
def test_two_nodes_meet_on_a_local_network(tmp_path: Path, ipv4: bool, host: str) -> None:
    with cable(ipv4=ipv4) as ends, nodes(tmp_path, ends, host=host) as (one, other):
        meet(one, other)
        peers = json.loads(one.sbot("gossip.peers").out or b"[]")
        found = [str(peer["address"]) for peer in peers if peer["key"] == other.id]
        assert found, (peers, one.log)
        near = [ends[1].host] if host == "0.0.0.0" else [ends[1].host, "fe80"]
        assert all(any(each and each in address for each in near) for address in found), found


def test_a_cable_plugged_in_later_is_noticed(tmp_path: Path) -> None:
    with cable() as ends:
        ends[0].link("down")
        with nodes(tmp_path, ends) as (one, other):
            ends[0].link("up")
            meet(one, other)


def test_without_lan_a_node_neither_tells_nor_listens(tmp_path: Path) -> None:
    with cable() as ends, NodeProcess(tmp_path / "n", host="::", inside=ends[0].inside) as node:
        for table in ("udp", "udp6"):
            sockets = Path(f"/proc/{node.pid}/net/{table}").read_text().splitlines()[1:]
            assert sockets == []
        sent = subprocess.run(
            [*ends[0].inside, "cat", "/proc/net/snmp"], capture_output=True, text=True, timeout=10, check=True
        )
        names, numbers = (line.split() for line in sent.stdout.splitlines() if line.startswith("Udp:"))
        assert dict(zip(names, numbers, strict=True))["OutDatagrams"] == "0"
