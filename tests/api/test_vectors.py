"""The published sets of test vectors, as somebody meets them who only has the HTTP API."""

import asyncio
import base64
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from feeds.keys import Keypair
from feeds.refs import is_blob, is_feed, is_message
from node import config
from node.sbot import Sbot
from tests.support import builders, vectors
from tests.support.api import Api, open_api

IN_MODULE = pytest.mark.asyncio(loop_scope="module")


async def get(api: Api, path: str, **params: str) -> Any:
    answer = await api.client.get(path, params=params)
    assert answer.status_code == 200, (path, params, answer.text)
    return answer.json()


async def ids(api: Api, path: str, **params: str) -> list[str]:
    return [item["id"] for item in (await get(api, path, limit="500", **params))["items"]]


async def keys(api: Api, path: str, **params: str) -> list[str]:
    return [item["key"] for item in (await get(api, path, limit="500", **params))["items"]]


# --- channels ---------------------------------------------------------------------------------------------------------


async def test_channels_go_by_one_spelling(api: Api) -> None:
    """Each spelling finds what any other with the same normal form was given, in both places that ask for a channel."""
    entries = vectors.entries("channels.json")
    feed = builders.Feed(builders.keypair("writer"))
    texts = [feed.append({"type": "post", "text": "x", "channel": entry["input"]}) for entry in entries]
    await api.receive(*texts)
    by_name: dict[str | None, set[str]] = {}
    for entry, id in zip(entries, feed.ids, strict=True):
        by_name.setdefault(entry["output"], set()).add(id)
    for entry in entries:
        expected = by_name[entry["output"]] if entry["output"] is not None else set()
        for spelling in filter(None, (entry["input"], entry["output"])):
            assert set(await keys(api, "/v1/messages", channel=spelling)) == expected, spelling
            assert set(await keys(api, f"/v1/timelines/channels/{quote(spelling, safe='')}")) == expected, spelling
    listed = (await get(api, "/v1/channels", limit="500"))["items"]
    assert {one["name"]: one["messages"] for one in listed} == {
        name: len(messages) for name, messages in by_name.items() if name is not None
    }


# --- follow graph -----------------------------------------------------------------------------------------------------

GRAPHS = vectors.entries("follow-graph.json")


@pytest.mark.parametrize("number", range(len(GRAPHS)))
async def test_the_graph_of_contacts(tmp_path: Path, number: int) -> None:
    """Who follows and blocks whom, of every feed of a set; our own contacts are published over HTTP too."""
    entry = GRAPHS[number]
    names = {name for contact in entry["contacts"] for name in (contact["author"], contact["content"]["contact"])}
    feeds = {name: builders.Feed(builders.keypair(name)) for name in sorted(names | {entry["me"]})}
    async with open_api(tmp_path, own=builders.keypair(entry["me"])) as api:
        for contact in entry["contacts"]:
            content = {**contact["content"], "contact": feeds[contact["content"]["contact"]].id}
            if contact["author"] == entry["me"]:
                answer = await api.client.post("/v1/messages", json={"content": content})
                assert answer.status_code == 201
            else:
                await api.receive(feeds[contact["author"]].append(content))
        edges = {
            (feeds[author].id, feeds[other].id): value
            for author, others in entry["graph"].items()
            for other, value in others.items()
        }
        for feed in feeds.values():
            path = f"/v1/profiles/{quote(feed.id, safe='')}"
            assert set(await ids(api, f"{path}/follows")) == {
                to for (by, to), edge in edges.items() if (by, edge) == (feed.id, 1)
            }
            assert set(await ids(api, f"{path}/blocks")) == {
                to for (by, to), edge in edges.items() if (by, edge) == (feed.id, -1)
            }
            assert set(await ids(api, f"{path}/followers")) == {
                by for (by, to), edge in edges.items() if (to, edge) == (feed.id, 1)
            }
            seen = await get(api, path)
            ours, theirs = edges.get((api.store.own.id, feed.id)), edges.get((feed.id, api.store.own.id))
            assert (seen["following"], seen["blocking"], seen["follows_us"]) == (ours == 1, ours == -1, theirs == 1)


LARGE = sorted(range(len(GRAPHS)), key=lambda number: len(GRAPHS[number]["hops"]))[-4:]


@pytest.mark.parametrize("number", LARGE)
async def test_hops_from_us(tmp_path: Path, number: int) -> None:
    """The distances of `friends.hops`, asked of a whole node over HTTP, in the graphs that reach the furthest."""
    entry = GRAPHS[number]
    flags = {"path": str(tmp_path), "host": "127.0.0.1", "port": "0", "http_port": "0", "lan": "false"}
    async with Sbot.open(config.load({**flags, "hops": str(entry["max_hops"])}, {})) as sbot:
        names = {name for contact in entry["contacts"] for name in (contact["author"], contact["content"]["contact"])}
        feeds = {name: builders.Feed(builders.keypair(name)) for name in names - {entry["me"]}}
        called = {entry["me"]: sbot.id, **{name: feed.id for name, feed in feeds.items()}}
        token = {"Authorization": f"Bearer {sbot.directory.http_token()}"}
        async with httpx.AsyncClient(base_url=sbot.http.url, headers=token) as client:
            for contact in entry["contacts"]:
                content = {**contact["content"], "contact": called[contact["content"]["contact"]]}
                if contact["author"] == entry["me"]:
                    assert (await client.post("/v1/messages", json={"content": content})).status_code == 201
                else:
                    await sbot.store.ingest.add([feeds[contact["author"]].append(content)], source="test")
            expected = {called[name]: hops for name, hops in entry["hops"].items()}
            for _ in range(200):  # distances follow the graph after a moment
                found = (await client.post("/v1/rpc/friends.hops", json=[])).json()
                if found == expected:
                    break
                await asyncio.sleep(0.05)
            assert found == expected


# --- references -------------------------------------------------------------------------------------------------------


@IN_MODULE
async def test_references(shared: Api) -> None:
    """What ssb-ref calls an id is one, with the exception of feeds that end as messages do; no text is refused."""
    told = 0
    for entry in vectors.entries("ssb-ref.json"):
        text, names = entry["input"], set(entry["true_predicates"])
        found = await get(shared, "/v1/resolve", ref=text)
        kind = "feed" if is_feed(text) else "message" if is_message(text) else "blob" if is_blob(text) else None
        assert (kind is not None) == bool(
            (names & {"isFeed", "isMsg", "isBlob"} and not text.startswith("@")) or is_feed(text)
        )
        if kind is not None:
            assert (found["kind"], found["id"]) == (kind, text)
        elif found["kind"] in ("address", "invite") and not text.startswith("unix:"):
            invite, address = entry["parseInvite"] or {}, entry["parseAddress"] or {}
            known = {entry["getKeyFromAddress"], invite.get("key"), address.get("key"), entry["extract"]} - {None}
            assert found["id"] in known, text
            told += 1
        seed = text.rpartition("~" if "~shs" not in text else ":")[2]
        if entry["parseInvite"] and len(seed) == 44 and f"@{seed}.ed25519" != found["id"]:
            assert seed not in str(found)
    assert told > 20


KINDS = {
    "isFeedSSBURI": {"feed"},
    "isMessageSSBURI": {"message"},
    "isClassicBlobSSBURI": {"blob"},
    "isAddressSSBURI": {"address", "invite", "unknown-uri"},
    "isEncryptionKeySSBURI": {"encryption-key"},
    "isIdentitySSBURI": {"identity"},
    "isExperimentalSSBURI": {"alias", "room-invite", "sign-in", "unknown-uri"},
}
CONVERSIONS = ("toFeedSigil", "toMessageSigil", "toBlobSigil")


@IN_MODULE
async def test_uris(shared: Api) -> None:
    """Kinds as ssb-uri2 has them, and the same ids: by the sigil where there is one, else as a URI."""
    read = 0
    for entry in vectors.entries("ssb-uri.json"):
        if entry["kind"] == "from":
            found = await get(shared, "/v1/resolve", ref=entry["input"])
            assert found["uri"] == entry["output"] or not entry["fn"].endswith("Sigil"), entry
            continue
        found = await get(shared, "/v1/resolve", ref=entry["uri"])
        for predicate, kinds in KINDS.items():
            if predicate in entry["true_predicates"]:
                assert found["kind"] in kinds, entry
        sigil = next(filter(None, (entry[name] for name in CONVERSIONS)), None)
        if sigil is not None and (is_feed(sigil) or is_message(sigil) or is_blob(sigil)):
            assert found["id"] == sigil, entry
            read += 1
        if found["kind"] in ("feed", "message", "blob") and found["uri"] is not None:
            again = await get(shared, "/v1/resolve", ref=found["uri"])
            assert (again["kind"], again["id"]) == (found["kind"], found["id"])
    assert read > 20


# --- private box ------------------------------------------------------------------------------------------------------

BOXES = vectors.entries("private-box.json")
READERS = list(dict.fromkeys(entry["reader"]["private"] for entry in BOXES))


@pytest.mark.parametrize("number", range(len(READERS)))
async def test_private_boxes(tmp_path: Path, number: int) -> None:
    """As a message to the node whose key the set names: in plain if it opens, and only where that is asked for."""
    secret = base64.b64decode(READERS[number].removesuffix(".ed25519"))
    writer = builders.Feed(builders.keypair("writer"))
    boxes = [entry for entry in BOXES if entry["reader"]["private"] == READERS[number]]
    async with open_api(tmp_path, own=Keypair.generate(secret[:32])) as api:
        assert api.store.own.id == boxes[0]["reader"]["id"]
        for entry in boxes:
            await api.receive(writer.append(entry["ciphertext"].removesuffix(".box") + ".box"))
            path = f"/v1/messages/{quote(writer.ids[-1], safe='')}"
            assert (await get(api, path))["value"]["content"] == entry["ciphertext"].removesuffix(".box") + ".box"
            found = await get(api, path, private="1")
            if entry["unbox_json"] is not None:
                assert found["value"]["content"] == entry["unbox_json"]
                assert found["meta"] == {"private": True}
            else:
                assert found["value"]["content"] == entry["ciphertext"].removesuffix(".box") + ".box"
                assert "meta" not in found
        plain = [id for id, entry in zip(writer.ids, boxes, strict=True) if entry["unbox_json"] is not None]
        assert await keys(api, "/v1/messages", private="1") == plain
        assert len(await keys(api, "/v1/messages", author=writer.id)) == len(boxes)
