"""Random deliveries, forks, damage, publishing and restarts against a model of a few lines."""

import asyncio
import contextlib
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from feeds.errors import ForkedFeed
from feeds.formats.registry import CLASSIC
from tests.feeds.test_ingest import branch, check_whole, kinds, tampered
from tests.support.builders import Feed, chain, keypair
from tests.support.stores import Store, open_store

LENGTH = 7


def _own_chain() -> Feed:
    """What our own key wrote on another machine."""
    feed = Feed(keypair("own"))
    for at in range(LENGTH):
        feed.append({"type": "post", "text": f"elsewhere {at}"})
    return feed


MAIN = [chain("a", LENGTH), chain("b", LENGTH), _own_chain()]


def _branches(feed: Feed, after: int) -> list[bytes]:
    """The same feed with another continuation from a place on."""
    other = branch(feed, after)
    for at in range(after, LENGTH):
        other.append({"type": "post", "text": f"other {at}"})
    return feed.texts[:after] + other.texts


LINES = [[feed.texts, _branches(feed, 2), _branches(feed, 4)] for feed in MAIN]

one_text = st.tuples(
    st.integers(0, 2),  # which feed
    st.sampled_from([0, 0, 0, 0, 1, 2]),  # which of its branches
    st.integers(1, LENGTH),
    st.sampled_from([False] * 6 + [True]),  # damaged
)
stretch = st.tuples(st.integers(0, 2), st.sampled_from([0, 0, 0, 1]), st.integers(1, LENGTH), st.integers(1, LENGTH))
deliveries = st.lists(one_text, max_size=8).flatmap(
    lambda single: st.lists(stretch, max_size=3).map(
        lambda runs: single + [(feed, line, at, False) for feed, line, low, high in runs for at in range(low, high + 1)]
    )
)


class ModelFeed:
    """What should be held of one feed."""

    def __init__(self) -> None:
        self.texts: list[bytes] = []
        self.forked = False

    def deliver(self, items: list[tuple[int, int, bytes, bool]]) -> tuple[int, int, list[tuple[int, str]]]:
        """(sequence, index, text, damaged), judged in order of sequence: added, duplicates, rejections."""
        added = duplicates = 0
        rejected: list[tuple[int, str]] = []
        was_forked = self.forked
        for sequence, index, text, damaged in sorted(items):
            if sequence <= len(self.texts):
                if text == self.texts[sequence - 1]:
                    duplicates += 1
                    continue
                kind = "invalid" if damaged else "fork"
            elif was_forked:
                kind = "fork"
            elif sequence > len(self.texts) + 1:
                kind = "gap"
            elif damaged:
                kind = "invalid"
            elif CLASSIC.prepare(text).previous != self.tip_id():
                kind = "fork"
            else:
                self.texts.append(text)
                added += 1
                continue
            rejected.append((index, kind))
            self.forked = self.forked or (kind == "fork" and not was_forked)
        return added, duplicates, rejected

    def tip_id(self) -> str | None:
        return CLASSIC.prepare(self.texts[-1]).id if self.texts else None


class IngestMachine(RuleBasedStateMachine):
    """The store on one side, the model on the other."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory(prefix="ingest-model-")
        self.model = {feed.id: ModelFeed() for feed in MAIN}
        self.store: Store
        self.stack: AsyncExitStack
        self.runner.run(self._open())

    async def _open(self) -> None:
        self.stack = AsyncExitStack()
        self.store = await self.stack.enter_async_context(open_store(Path(self.folder.name), workers=1))

    def teardown(self) -> None:
        self.runner.run(check_whole(self.store))
        self.runner.run(self.stack.aclose())
        self.runner.close()
        self.folder.cleanup()

    @rule(picks=deliveries)
    def deliver(self, picks: list[tuple[int, int, int, bool]]) -> None:
        texts: list[bytes] = []
        by_feed: dict[str, list[tuple[int, int, bytes, bool]]] = {}
        for index, (feed, line, sequence, damaged) in enumerate(picks):
            text = LINES[feed][line][sequence - 1]
            text = tampered(text) if damaged else text
            by_feed.setdefault(MAIN[feed].id, []).append((sequence, index, text, damaged))
            texts.append(text)
        report = self.runner.run(self.store.ingest.add(texts, source="peer"))
        expected = [self.model[feed].deliver(items) for feed, items in by_feed.items()]
        assert report.added == sum(added for added, _, _ in expected)
        assert report.duplicates == sum(duplicates for _, duplicates, _ in expected)
        assert kinds(report) == sorted(rejection for _, _, rejected in expected for rejection in rejected)

    @rule()
    def publish(self) -> None:
        own = self.model[self.store.own.id]
        entry: Any = None
        with contextlib.suppress(ForkedFeed):
            entry = self.runner.run(self.store.ingest.publish({"type": "post", "text": "published"}))
        assert (entry is None) == own.forked
        if entry is not None:
            own.texts.append(entry.text)
            assert entry.sequence == len(own.texts)

    @rule()
    def restart(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.run(self._open())

    @invariant()
    def agree(self) -> None:
        log = self.store.log
        assert log.clock() == {feed: len(model.texts) for feed, model in self.model.items() if model.texts}
        for feed, model in self.model.items():
            assert (log.feed_state(feed) == "forked") == model.forked
            assert self.runner.run(log.range(feed, 0, 99)) == model.texts
        forked = {fork.author for fork in self.runner.run(log.forks())}
        assert forked == {feed for feed, model in self.model.items() if model.forked}


TestIngestModel = IngestMachine.TestCase
TestIngestModel.settings = settings(
    max_examples=30, stateful_step_count=12, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
