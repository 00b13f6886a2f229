"""Webhooks: messages that a filter wants, posted to a web address, each at least once.

Each follows the log by a cursor of its own, like an event stream. The cursor is kept in SQLite and moves only after the
other side has acknowledged a batch with a status of 2xx; so whatever happens to either side, nothing is left out, and a
batch may come twice. Private messages are never decrypted for this.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import orjson

from api import webhook_store
from api.errors import Problem
from api.webhook_filter import WebhookFilter
from api.webhook_schedule import FRESH, Patience, failed, seconds_left
from api.webhook_sender import DeliveryFailed, Sender
from api.webhook_store import Webhook
from feeds.database import Database
from feeds.errors import StoreError
from feeds.live import Live
from feeds.log import Log

__all__ = ["MAX_WEBHOOKS", "Webhooks"]

logger = logging.getLogger(__name__)

MAX_WEBHOOKS: Final = 100
AT_ONCE: Final = 4
"""Deliveries under way at the same time."""
TIMEOUT: Final = 30.0
"""Seconds for one delivery."""
BATCH: Final = 100
BATCH_BYTES: Final = 1 << 20
CHUNK: Final = 200
SCANNED: Final = 5000
"""Messages looked at to fill a batch that has one; and those passed over before the cursor is written down."""
RETRY_STORE: Final = 30.0


class _Batch(NamedTuple):
    items: list[bytes]
    cursor: int


@dataclass(slots=True, eq=False)
class _Follower:
    hook: Webhook
    saved: int
    """The cursor as it stands in the database."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None


class Webhooks:
    """All webhooks of one node. Made by `open`; they deliver inside `running`."""

    def __init__(
        self,
        database: Database,
        log: Log,
        live: Live,
        *,
        now: Callable[[], float],
        random: Callable[[], float],
        sender: Sender,
        patience: Patience,
    ) -> None:
        self._database: Final = database
        self._log: Final = log
        self._live: Final = live
        self._now: Final = now
        self._random: Final = random
        self._sender: Final = sender
        self._patience: Final = patience
        self._followers: Final[dict[str, _Follower]] = {}
        self._slots: Final = asyncio.Semaphore(AT_ONCE)
        self._running = False

    @classmethod
    async def open(
        cls,
        database: Database,
        log: Log,
        live: Live,
        *,
        version: str,
        now: Callable[[], float],
        random: Callable[[], float],
        patience: Patience | None = None,
        timeout: float = TIMEOUT,
    ) -> "Webhooks":
        """Load those that were made before. now -- seconds since 1970; random -- 0 to 1; timeout -- of a delivery."""
        sender = Sender(version=version, timeout=timeout, at_once=AT_ONCE)
        hooks = cls(database, log, live, now=now, random=random, sender=sender, patience=patience or Patience())
        for hook in await webhook_store.load(database):
            hooks._followers[hook.id] = _Follower(hook, hook.cursor)
        return hooks

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver until the end."""
        self._running = True
        for one in self._followers.values():
            self._start(one)
        try:
            yield
        finally:
            self._running = False
            tasks = [one.task for one in self._followers.values() if one.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(StoreError):  # what is lost is only looked at again
                for one in self._followers.values():
                    await self._save(one)
            await self._sender.close()

    # What routes ask.

    def all(self) -> list[Webhook]:
        """The oldest first."""
        return [one.hook for one in self._followers.values()]

    def get(self, id: str) -> Webhook | None:
        """One by its id."""
        one = self._followers.get(id)
        return None if one is None else one.hook

    def lag(self, hook: Webhook) -> int:
        """Messages of the log that it has not looked at, wanted or not."""
        return max(0, self._log.position - hook.cursor)

    async def create(self, url: str, wanted: WebhookFilter, *, secret: str | None, since: int | None) -> Webhook:
        """A new one that begins after a position, or with what comes from now on. Raises Problem too-many-webhooks."""
        if len(self._followers) >= MAX_WEBHOOKS:
            raise Problem("too-many-webhooks", f"There are {MAX_WEBHOOKS} webhooks already; delete some.")
        end = self._log.position
        hook = Webhook(
            id=secrets.token_hex(8),
            url=url,
            filter=wanted,
            secret=secrets.token_urlsafe(32) if secret is None else secret,
            created=int(self._now()),
            cursor=end if since is None else min(since, end),
        )
        one = self._followers[hook.id] = _Follower(hook, hook.cursor)
        try:
            await webhook_store.insert(self._database, hook)
        except BaseException:
            del self._followers[hook.id]
            raise
        self._start(one)
        return hook

    async def delete(self, id: str) -> bool:
        """End one; whether there was one."""
        one = self._followers.pop(id, None)
        if one is None:
            return False
        if one.task is not None:
            one.task.cancel()
            await asyncio.gather(one.task, return_exceptions=True)
        await webhook_store.delete(self._database, id)
        return True

    async def resume(self, id: str) -> Webhook | None:
        """Try again at once, whatever failed before."""
        one = self._followers.get(id)
        if one is None:
            return None
        one.hook = replace(one.hook, progress=FRESH)
        await self._save(one)
        one.wake.set()
        return one.hook

    # Delivering.

    def _start(self, one: _Follower) -> None:
        if self._running and one.task is None:
            one.task = asyncio.create_task(self._follow(one), name=f"webhook {one.hook.id}")

    async def _follow(self, one: _Follower) -> None:
        while True:
            try:
                await self._step(one)
            except StoreError as error:
                logger.error("webhook %s waits for the store: %s", one.hook.id, error)
                await asyncio.sleep(RETRY_STORE)

    async def _step(self, one: _Follower) -> None:
        """Whatever is next: wait, or deliver a batch."""
        one.wake.clear()
        progress = one.hook.progress
        if progress.paused:
            await one.wake.wait()
            return
        if left := seconds_left(progress, now=self._now(), patience=self._patience):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await one.wake.wait()
            return
        batch = await self._collect(one)
        if batch is None:
            await self._live.wait_beyond(one.hook.cursor)
            return
        await self._deliver(one, batch)

    async def _collect(self, one: _Follower) -> _Batch | None:
        """The next messages that are wanted; None at the end of the log, where the cursor then stands as well."""
        items: list[bytes] = []
        wanted, size, scanned = one.hook.filter, 0, 0
        position = one.hook.cursor
        while position < (end := self._log.position) and not (items and scanned >= SCANNED):
            entries = await self._log.entries_after(position, CHUNK, author=wanted.author)
            scanned += len(entries)
            for entry in entries:
                if wanted.fits(entry):
                    item = entry.as_kvt()
                    if items and (len(items) == BATCH or size + len(item) > BATCH_BYTES):
                        return _Batch(items, position)
                    items.append(item)
                    size += len(item)
                position = entry.position
            if len(entries) < CHUNK:  # that was all there was, at least up to the end seen before
                position = max(end, position)
            if not items:
                await self._pass_over(one, position)
            await asyncio.sleep(0)
        return _Batch(items, position) if items else None

    async def _pass_over(self, one: _Follower, position: int) -> None:
        """Nobody needs to acknowledge what is not wanted; now and then it is written down."""
        one.hook = replace(one.hook, cursor=position)
        if position - one.saved >= SCANNED:
            await self._save(one)

    async def _deliver(self, one: _Follower, batch: _Batch) -> None:
        hook = one.hook
        body = b'{"webhook":%b,"cursor":%d,"items":[%b]}' % (
            orjson.dumps(hook.id),
            batch.cursor,
            b",".join(batch.items),
        )
        try:
            async with self._slots:
                await self._sender.post(hook.url, body, secret=hook.secret, webhook=hook.id)
        except DeliveryFailed as error:
            progress = failed(
                one.hook.progress,
                str(error),
                now=self._now(),
                chance=self._random(),
                patience=self._patience,
                gone=error.gone,
            )
            if progress.paused:
                logger.warning("webhook %s is paused after %d failures: %s", hook.id, progress.failures, error)
            one.hook = replace(one.hook, progress=progress)
        else:
            one.hook = replace(one.hook, cursor=batch.cursor, progress=FRESH, delivered=self._now())
        await self._save(one)

    async def _save(self, one: _Follower) -> None:
        await webhook_store.save(self._database, one.hook)
        one.saved = one.hook.cursor
