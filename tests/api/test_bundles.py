"""Bundles over HTTP: made as a stream, looked at, taken in."""

import pytest

from tests.support import builders
from tests.support.api import Api


async def test_a_bundle_goes_out_and_comes_back(api: Api) -> None:
    feed = builders.chain("other", 30)
    await api.store.ingest.add(feed.texts, source="test")
    clock = (await api.client.get("/v1/bundles/clock")).json()
    assert clock == {"id": api.store.own.id, "clock": {feed.id: 30}, "blobs": [], "wants": []}
    answer = await api.client.post("/v1/bundles/export", json={})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    contents = (await api.client.post("/v1/bundles/inspect", content=answer.content)).json()
    assert (contents["messages"], contents["signed"], contents["slices"]) == (30, True, {feed.id: [1, 30]})
    report = (await api.client.post("/v1/bundles/import", content=answer.content)).json()
    assert (report["duplicates"], report["problem"]) == (30, None)
    cut = (await api.client.post("/v1/bundles/import", content=answer.content[:-9])).json()
    assert cut["complete"] is False
    assert "cut off" in cut["problem"]
    nothing = await api.client.post("/v1/bundles/export", json={"for": clock})
    assert (await api.client.post("/v1/bundles/inspect", content=nothing.content)).json()["messages"] == 0
    lines = await api.client.post("/v1/bundles/export", json={"format": "jsonl"})
    assert lines.text.count("\n") == 30
    more = builders.chain("more", 3)
    report = (await api.client.post("/v1/bundles/import", content=b"\n".join(more.texts))).json()
    assert (report["format"], report["added"]) == ("jsonl", 3)


@pytest.mark.parametrize(
    "body",
    [
        {"x": 1},
        {"for": []},
        {"for": {"clock": {"x": 1}}},
        {"feeds": "x"},
        {"feeds": ["x"]},
        {"hops": -1},
        {"hops": 1.5},
        {"max_bytes": 1},
        {"part": 0},
        {"blobs": "no"},
        {"format": "zip"},
        {"series": "x" * 65},
    ],
)
async def test_wrong_orders_are_refused(api: Api, body: dict[str, object]) -> None:
    answer = await api.client.post("/v1/bundles/export", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-body")


async def test_a_damaged_file_is_read_to_its_end_and_told(api: Api) -> None:
    whole = (await api.client.post("/v1/bundles/export", json={"packed": False})).content
    for path in ("/v1/bundles/import", "/v1/bundles/inspect"):
        answer = await api.client.post(path, content=whole + bytes(3_000_000))
        assert answer.status_code == 200
        assert answer.json()["complete"] is False
        assert "after the end" in answer.json()["problem"]
        answer = await api.client.post(path, content=b"")
        assert answer.json()["problem"]
