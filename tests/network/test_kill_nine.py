"""kill -9 in the middle of a sync, twenty times: what was acknowledged stays, what was not comes again."""

import contextlib
import http.client
import json
import random
import sqlite3
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from node import keyfile
from tests.support.builders import generate
from tests.support.filling import fill
from tests.support.processes import NodeProcess, run, wait_until

KILLS = 20
MESSAGES = 24_000
AUTHORS = 24
SEED = 20
RESTART_SECONDS = 5.0
"""From exec to the ready line (safety.md)."""
SYNC_SECONDS = 60.0


@dataclass
class Publisher:
    """Publishes over HTTP as fast as it is answered, and keeps the ids of what was acknowledged."""

    node: NodeProcess
    acknowledged: list[str] = field(default_factory=list)
    position: int = 0
    """The highest receive position the node has told; all before it was committed."""

    def until_cut_off(self) -> None:
        host = self.node.http.removeprefix("http://")
        headers = {"Authorization": f"Bearer {self.node.token}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection(host, timeout=20)
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError), contextlib.closing(connection):
            while True:
                text = f"message {len(self.acknowledged)}"
                body = json.dumps({"content": {"type": "post", "text": text}})
                connection.request("POST", "/v1/messages", body, headers)
                answer = connection.getresponse()
                message = json.loads(answer.read())
                assert answer.status == 201, message
                self.acknowledged.append(message["key"])
                connection.request("GET", "/v1/status", headers=headers)
                self.position = json.loads(connection.getresponse().read())["log"]["position"]
                time.sleep(0.005)


def position(node: NodeProcess) -> int:
    return int(node.get("/v1/status")[1]["log"]["position"])


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_twenty_kills_in_mid_sync_lose_nothing_acknowledged(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    victim = NodeProcess(tmp_path / "victim", hops=2)
    source = NodeProcess(tmp_path / "source", hops=2)
    victim_id = fill(victim.directory, [])
    source_id = fill(source.directory, generate(MESSAGES, AUTHORS, SEED), follow=[victim_id])
    assert fill(victim.directory, [], follow=[source_id]) == victim_id
    publisher = Publisher(victim)
    in_mid_sync = 0
    with source, victim:
        total = position(source)
        victim.ok("connect", source.address)
        for kill in range(KILLS):
            publishing = threading.Thread(target=publisher.until_cut_off)
            publishing.start()
            time.sleep(rng.uniform(0.01, 0.15))
            hit = source if kill % 5 == 4 else victim
            hit.kill()
            began = time.monotonic()
            hit.start()
            assert time.monotonic() - began < RESTART_SECONDS
            if hit is source:
                time.sleep(rng.uniform(0.01, 0.15))
                victim.kill()
                victim.start()
            publishing.join(20)
            assert not publishing.is_alive()
            held = position(victim)
            assert held >= publisher.position, "a position that was told is gone"
            in_mid_sync += held < total
        assert in_mid_sync >= KILLS // 2, "the sync was over too early for this test to mean anything"
        assert len(publisher.acknowledged) >= KILLS

        wanted = source.clock() | {victim_id: victim.clock()[victim_id]}
        wait_until(lambda: victim.clock() == wanted, SYNC_SECONDS, "the victim has all that the source has", 0.5)
        wait_until(lambda: source.clock() == wanted, SYNC_SECONDS, "the source has all of the victim", 0.5)
        own = {value["key"] for value in victim.sbot("hist").values}
        assert own >= set(publisher.acknowledged)
        log = victim.sbot("log", seconds=60).out
        assert victim.sbot("hist", "--keys", "false").out == source.sbot("hist", victim_id, "--keys", "false").out
        assert victim.terminate() == 0
        assert source.terminate() == 0
    verdict = run("verify", stdin=log, seconds=90)
    assert verdict.code == 0
    assert verdict.out.count(b"\n") == sum(wanted.values())
    for node in (victim, source):
        with contextlib.closing(sqlite3.connect(node.directory / "sbot.db")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert keyfile.load(node.directory / "secret") is not None
        assert "Traceback" not in node.log
