"""GET /metrics: the format, and that the figures are those of the node."""

import re

from api.exposition import counter, exposition, gauge
from tests.api.test_access import code
from tests.support.api import Api, peer_info
from tests.support.builders import Feed, keypair

LINE = re.compile(r'([a-z][a-z0-9_]*)(?:\{([a-z]+)="((?:[^"\\]|\\.)*)"\})? (-?[0-9][0-9.e+-]*)')


def read(text: str) -> dict[str, float]:
    """Values by name and label; checks that each is announced once, with its kind, before its values."""
    found: dict[str, float] = {}
    kinds: dict[str, str] = {}
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in kinds
            assert (kind == "counter") == name.endswith("_total")
            kinds[name] = kind
        elif not line.startswith("# HELP "):
            match = LINE.fullmatch(line)
            assert match is not None, line
            assert match[1] in kinds
            found[match[1] + (f" {match[3]}" if match[2] else "")] = float(match[4])
    return found


def test_the_format() -> None:
    text = exposition([gauge("a", "What.", 1.5), counter("b_total", "How.", {'x"\\\n': 2, "y": 0}, "l")])
    assert text == (
        "# HELP a What.\n# TYPE a gauge\na 1.5\n"
        '# HELP b_total How.\n# TYPE b_total counter\nb_total{l="x\\"\\\\\\n"} 2\nb_total{l="y"} 0\n'
    )
    assert exposition([]) == ""
    assert len(read(text)) == 3


async def test_the_figures(api: Api) -> None:
    before = read((await api.client.get("/metrics")).text)
    await api.publish("a", "b")
    feed = Feed(keypair("friend"))
    texts = [feed.append({"type": "post", "text": str(n)}) for n in range(3)]
    await api.store.ingest.add([*texts, texts[0], b"nonsense"], source="test")
    api.peers.known.append(peer_info(feed.id))
    await api.client.post("/v1/blobs", content=b"12345")
    await api.client.get("/v1/nothing")
    answer = await api.client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    after = read(answer.text)
    assert before.keys() == after.keys()
    expected = {
        "sbot_log_position": 5,
        "sbot_messages": 5,
        "sbot_feeds": 2,
        "sbot_own_sequence": 2,
        "sbot_own_feed open": 1,
        "sbot_own_feed forked": 0,
        "sbot_index_behind_max": 0,
        "sbot_delivered_total added": 3,
        "sbot_delivered_total duplicate": 1,
        "sbot_delivered_total invalid": 1,
        "sbot_delivered_total fork": 0,
        "sbot_peers outgoing": 1,
        "sbot_peers incoming": 0,
        "sbot_peer_bytes_total in": 3,
        "sbot_peer_bytes_total out": 4,
        "sbot_callers_refused_total": 2,
        "sbot_limit_breaches_total calls_per_second": 5,
        "sbot_blobs": 1,
        "sbot_blob_bytes": 5,
        "sbot_http_answers_total 2xx": 2,
        "sbot_http_answers_total 4xx": 1,
        "sbot_http_answers_total 5xx": 0,
        "sbot_event_streams": 0,
        "sbot_info 1.2.3": 1,
    }
    assert {name: after[name] for name in expected} == expected
    assert after["process_resident_memory_bytes"] > 1_000_000
    assert after["sbot_database_bytes"] > 0


async def test_what_held_a_client_back_is_counted_with_what_held_peers_back(api: Api) -> None:
    answer = await api.client.post(
        "/v1/messages", content=b"x" * (1024 * 1024 + 1), headers={"Content-Type": "application/json"}
    )
    assert code(answer) == "body-too-large"
    status = (await api.client.get("/v1/status")).json()
    assert status["limits"] == {"refused": 2, "breaches": {"calls_per_second": 5, "http_body": 1}}
    assert read((await api.client.get("/metrics")).text)["sbot_limit_breaches_total http_body"] == 1


async def test_figures_are_not_for_everybody(api: Api) -> None:
    async with api.stranger() as stranger:
        assert code(await stranger.get("/metrics")) == "unauthorized"
