"""The views of threads, timelines, votes and channels against plain models, kept up to date and made anew in chunks."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feeds import indexer as indexer_module
from feeds.thread_reading import list_threads, read_thread
from feeds.views import channels, timeline, votes
from feeds.views.placing import Spot
from tests.feeds.test_indexer import Newer, shown
from tests.support.builders import Feed, keypair, message_id
from tests.support.stores import VIEWS, Store, open_store

NOW = 1_600_000_000_000

# A message: author, kind, which earlier message it points to (or one that nobody has), claimed time, value.
MESSAGES = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["post", "reply", "vote", "channel", "tag"]),
        st.integers(0, 12),
        st.sampled_from([-5, 0, 10, 11, 12.5, NOW * 3]),
        st.sampled_from([1, 0, -1]),
    ),
    max_size=25,
)


class World:
    """The messages as written, and what a reader should find."""

    def __init__(self, plan: list[tuple[int, str, int, float, int]]) -> None:
        self.feeds = [Feed(keypair(f"author {number}")) for number in range(3)]
        self.texts: list[bytes] = []
        self.written: list[tuple[str, str, dict[str, Any], float]] = []
        for author, kind, target, time, value in plan:
            link = self.written[target][0] if target < len(self.written) else message_id(target)
            content = _content(kind, link, value, target)
            feed = self.feeds[author]
            self.texts.append(feed.append(content, timestamp=time))
            self.written.append((feed.ids[-1], feed.id, content, time))

    def posts(self) -> list[str]:
        """Ids of posts, newest first."""
        places = [
            (max(0, int(min(time, NOW * 2))), at)
            for at, (_, _, content, time) in enumerate(self.written)
            if content["type"] == "post"
        ]
        return [self.written[at][0] for _, at in sorted(places, reverse=True)]

    def replies(self, root: str) -> set[str]:
        return {id for id, _, content, _ in self.written if content.get("root") == root}

    def votes(self, link: str) -> dict[str, int]:
        last = {
            author: content["vote"]["value"]
            for _, author, content, _ in self.written
            if content["type"] == "vote" and content["vote"]["link"] == link
        }
        return {author: value for author, value in last.items() if value}


def _content(kind: str, link: str, value: int, number: int) -> dict[str, Any]:
    match kind:
        case "reply":
            return {"type": "post", "text": "x", "root": link, "branch": link}
        case "vote":
            return {"type": "vote", "vote": {"link": link, "value": value, "expression": "x"}}
        case "channel":
            return {"type": "channel", "channel": f"c{number % 2}", "subscribed": value > 0}
        case "tag":
            return {"type": "post", "text": f"#C{number % 2}"}
    return {"type": "post", "text": "x"}


async def read_and_compare(store: Store, world: World) -> None:
    def ids(spots: list[Spot]) -> list[str]:
        return [world.written[spot.position - 1][0] for spot in spots]

    def check(connection: Any) -> None:
        assert ids(timeline.page(connection, None, 100).spots) == world.posts()
        assert ids(timeline.page(connection, None, 100, descending=False).spots) == world.posts()[::-1]
        known = [id for id, *_ in world.written] + [message_id(number) for number in range(13)]
        roots = {content["root"] for _, _, content, _ in world.written if "root" in content}
        starts = {id for id, _, content, _ in world.written if content["type"] == "post" and "root" not in content}
        listed = list_threads(connection, None, 100, last_position=1 << 60)
        assert sorted(thread.id for thread in listed.threads) == sorted(roots | starts)
        assert [thread.time for thread in listed.threads] == sorted((t.time for t in listed.threads), reverse=True)
        for thread in listed.threads:
            assert thread.replies == len(world.replies(thread.id))
        for id in known:
            whole = read_thread(connection, id)
            found = set() if whole is None else {turn.entry.id for turn in whole.turns} - {id}
            assert found == world.replies(id)
            assert {vote.author: vote.value for vote in votes.votes_of(connection, id)} == world.votes(id)
        for number in range(2):
            tagged = {id for id, _, content, _ in world.written if content.get("text") == f"#C{number}"}
            assert set(ids(channels.spots_in(connection, f"C{number}", None, 100))) == tagged
        for feed in world.feeds:
            last = {c["channel"]: c["subscribed"] for _, a, c, _ in world.written if a == feed.id and "subscribed" in c}
            assert channels.subscriptions(connection, feed.id) == {name for name, wanted in last.items() if wanted}

    await store.database.read(check)


def clock() -> Callable[[], float]:
    return lambda: NOW * 2 / 1000


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(MESSAGES, st.integers(1, 7))
async def test_views_hold_what_was_written_also_when_made_anew(
    monkeypatch: pytest.MonkeyPatch, plan: list[tuple[int, str, int, float, int]], chunk: int
) -> None:
    monkeypatch.setattr(indexer_module, "CHUNK", chunk)
    monkeypatch.setattr("feeds.tiered_index.STEP", 4)
    world = World(plan)
    with TemporaryDirectory() as name:
        folder = Path(name)
        async with open_store(folder, now=clock()) as store:
            for text in world.texts:
                await store.ingest.add([text], source="test")
            await read_and_compare(store, world)
            before = shown(store)
        async with open_store(folder, now=clock(), views=[Newer(view) for view in VIEWS]) as store:
            assert shown(store) == before
            await read_and_compare(store, world)
