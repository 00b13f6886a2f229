"""Local discovery with the deployed one (npm ssb-local), in network namespaces of their own."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.interop.packages import PEERS
from tests.support import builders
from tests.support.namespaces import Namespace, cable
from tests.support.processes import NodeProcess, read_line

HEARD_SECONDS = 30.0


def neighbour(end: Namespace, peer: str, address: str) -> "subprocess.Popen[bytes]":
    node = shutil.which("node")
    assert node is not None
    return subprocess.Popen(
        [*end.inside, node, "--no-deprecation", str(PEERS / "neighbour.js"), peer, address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def line(process: "subprocess.Popen[bytes]") -> object:
    assert process.stdout is not None
    found: object = json.loads(read_line(process.stdout.fileno(), HEARD_SECONDS))
    return found


@pytest.mark.usefixtures("javascript")
def test_we_and_ssb_local_hear_each_other(tmp_path: Path) -> None:
    friend = builders.keypair("friend")
    key = base64.b64encode(friend.public).decode()
    with cable() as ends:
        ends[1].route()
        theirs = f"net:{ends[1].host}:8008~shs:{key}"
        with (
            NodeProcess(tmp_path / "n", host="0.0.0.0", lan=True, inside=ends[0].inside) as node,
            neighbour(ends[1], friend.id, theirs) as other,
        ):
            try:
                assert line(other) == {"event": "ready"}
                ours = node.id[1:45]
                expected = [{"heard": f"net:{ends[0].host}:{node.port}~shs:{ours}"}, {"caller": ends[0].host}]
                told: list[object] = []
                while not all(each in told for each in expected):
                    told.append(line(other))
                assert all(each in expected for each in told), told
            finally:
                other.kill()
