"""How long reading takes: in process and over HTTP (a socket, one request after another), beside the JavaScript peers.

Queries are those of which the peers were measured on data of the same size, in process and warm; they have no HTTP. Of
each the median, the best and the first (cold) run, in milliseconds, and how many rows came. In process means up to the
bytes of the messages in the answer; over HTTP up to the last byte of the body.

    python -m tests.benchmarks.reads [--messages 100000] [--feeds 1000] [--rounds 100]
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from api.selection import has_link
from feeds.log import Entry, entries_at
from feeds.search_words import parse_query
from feeds.thread_reading import read_thread
from feeds.views import links, search
from feeds.views.votes import votes_of
from node import keyfile
from node.directory import DataDirectory
from node.store import Store, open_store
from tests.benchmarks import nodes

WORDS = "café who"
THREAD_ROWS = 8

JAVASCRIPT: dict[str, dict[str, float]] = {
    "latest_100_posts": {"ssb_server": 2.2, "ssb_db2": 6.0},
    "thread": {"ssb_server": 1.3, "ssb_db2": 0.68},
    "feed_last_50": {"ssb_server": 6.5, "ssb_db2": 1.6},
    "votes": {"ssb_server": 0.49, "ssb_db2": 0.28},
    "mentions_50": {"ssb_server": 0.79},
    "by_id": {"ssb_server": 0.25, "ssb_db2": 0.11},
}
"""Warm medians in milliseconds on 100 000 messages of 1 000 feeds; ssb-db2 did not finish mentions in 75 s."""

Read = Callable[[Store], Awaitable[int]]


class Query(NamedTuple):
    """One kind of reading; `read` answers how many rows came, and checks nothing."""

    name: str
    read: Read
    path: str


class Targets(NamedTuple):
    """What to ask for, chosen from the data."""

    message: str
    thread: str
    voted: str
    feed: str
    mentioned: str
    day: tuple[int, int]


def choose(texts: Sequence[bytes]) -> Targets:
    """A thread of about eight rows, the message with the most votes, the feed with the most mentions."""
    values = [json.loads(text) for text in texts]
    contents = [value["content"] for value in values if isinstance(value["content"], dict)]
    replies = Counter(content["root"] for content in contents if "root" in content)
    voted = Counter(content["vote"]["link"] for content in contents if content["type"] == "vote")
    mentioned = Counter(link["link"] for content in contents for link in content.get("mentions", ()))
    times = sorted(value["timestamp"] for value in values)
    thread = min(replies, key=lambda root: abs(replies[root] + 1 - THREAD_ROWS))
    middle = len(times) // 2
    return Targets(
        message=voted.most_common(50)[-1][0],
        thread=thread,
        voted=voted.most_common(1)[0][0],
        feed=values[middle]["author"],
        mentioned=mentioned.most_common(1)[0][0],
        day=(int(times[middle]), int(times[middle + len(times) // 1000])),
    )


def queries(targets: Targets) -> list[Query]:
    message, thread, voted, feed, mentioned, (since, until) = targets
    words = parse_query(WORDS)
    assert words is not None

    async def latest_posts(store: Store) -> int:
        return answered(await store.log.entries_after(0, 100, type="post", descending=True))

    async def whole_thread(store: Store) -> int:
        found = await store.database.read(lambda connection: read_thread(connection, thread))
        return 0 if found is None else answered([turn.entry for turn in found.turns])

    async def feed_end(store: Store) -> int:
        return answered(await store.log.entries_after(0, 50, author=feed, descending=True))

    async def all_votes(store: Store) -> int:
        return len(await store.database.read(lambda connection: votes_of(connection, voted)))

    async def mentions(store: Store) -> int:
        def read(connection: Any) -> list[Entry]:
            found = links.backlinks(connection, mentioned, rel="mentions", limit=50, descending=True)
            entries = entries_at(connection, list(dict.fromkeys(link.position for link in found)))
            return [entry for entry in entries if has_link(entry.text, mentioned, "mentions")]

        return answered(await store.database.read(read))

    async def by_id(store: Store) -> int:
        found = await store.log.get(message)
        return 0 if found is None else answered([found])

    async def searched(store: Store) -> int:
        def read(connection: Any) -> list[Entry]:
            hits = search.hits(connection, words, after=1 << 62, limit=100)
            return entries_at(connection, hits.positions[:50])

        return answered([entry for entry in await store.database.read(read) if words.fits(content(entry))])

    async def claimed(store: Store) -> int:
        entries, _ = await store.log.claimed_within(since, until, after=0, limit=50)
        return answered(entries)

    def at(path: str, **parameters: object) -> str:
        return f"/v1/{path}?{urlencode(parameters)}" if parameters else f"/v1/{path}"

    newest = {"order": "desc"}
    return [
        Query("latest_100_posts", latest_posts, at("messages", type="post", limit=100, **newest)),
        Query("thread", whole_thread, at(f"threads/{quote(thread, safe='')}")),
        Query("feed_last_50", feed_end, at("messages", author=feed, limit=50, **newest)),
        Query("votes", all_votes, at(f"messages/{quote(voted, safe='')}/votes", limit=500)),
        Query("mentions_50", mentions, at("messages", mentions=mentioned, limit=50, **newest)),
        Query("by_id", by_id, at(f"messages/{quote(message, safe='')}")),
        Query("search_50", searched, at("search", q=WORDS, limit=50)),
        Query("claimed_in_a_thousandth_of_the_time", claimed, at("messages", since=since, until=until)),
    ]


def answered(entries: Sequence[Entry]) -> int:
    """Rows, made into what an answer holds."""
    return len([entry.as_kvt() for entry in entries])


def content(entry: Entry) -> Any:
    return json.loads(entry.text)["content"]


def figures(seconds: Sequence[float], **more: object) -> dict[str, object]:
    return {
        "ms": round(statistics.median(seconds[1:]) * 1000, 3),
        "best_ms": round(min(seconds[1:]) * 1000, 3),
        "cold_ms": round(seconds[0] * 1000, 3),
        **more,
    }


async def in_process(folder: Path, asked: Sequence[Query], rounds: int) -> dict[str, dict[str, object]]:
    directory = DataDirectory(folder / "data")
    keypair = keyfile.load_or_create(directory.secret)
    measured = {}
    async with open_store(directory.database, keypair, hmac_key=None, now=time.time) as store:
        for query in asked:
            seconds, rows = [], 0
            for _ in range(rounds + 1):
                begun = time.perf_counter()
                rows = await query.read(store)
                seconds.append(time.perf_counter() - begun)
            measured[query.name] = figures(seconds, rows=rows)
    return measured


async def over_http(folder: Path, asked: Sequence[Query], rounds: int) -> dict[str, dict[str, object]]:
    measured = {}
    async with nodes.running(folder) as node:
        await nodes.settled(node)
        port = urlsplit(node.http_address).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
        for query in asked:
            head = f"GET {query.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {node.token}\r\n\r\n"
            seconds, body = [], b""
            for _ in range(rounds + 1):
                begun = time.perf_counter()
                writer.write(head.encode())
                body = await answer(reader)
                seconds.append(time.perf_counter() - begun)
            measured[query.name] = figures(seconds, bytes=len(body))
        writer.close()
        await writer.wait_closed()
    return measured


async def answer(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200"):
        raise SystemExit(head.decode())
    return await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]))


async def settle(folder: Path) -> None:
    """Bring every view to the end of the log."""
    directory = DataDirectory(folder / "data")
    keypair = keyfile.load_or_create(directory.secret)
    async with open_store(directory.database, keypair, hmac_key=None, now=time.time) as store:
        await store.indexer.catch_up()


async def run(messages: int, feeds: int, rounds: int) -> dict[str, object]:
    texts = nodes.messages(messages, feeds)
    asked = queries(choose(texts))
    with tempfile.TemporaryDirectory(prefix="pysbot-bench-") as root:
        folder = Path(root, "node")
        await nodes.fill(folder, texts)
        await settle(folder)
        here = await in_process(folder, asked, rounds)
        there = await over_http(folder, asked, rounds)
    table = {
        query.name: {
            "in_process": here[query.name],
            "http": there[query.name],
            "javascript_in_process_ms": JAVASCRIPT.get(query.name, {}),
        }
        for query in asked
    }
    return {"benchmark": "reads", "messages": messages, "feeds": feeds, "rounds": rounds, "queries": table}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--feeds", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=100)
    wanted = parser.parse_args()
    print(json.dumps(asyncio.run(run(wanted.messages, wanted.feeds, wanted.rounds))))


if __name__ == "__main__":
    main()
