"""The store of a data directory that no node has open, for commands that work without one."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

from feeds.blobs import BlobLimits
from node import keyfile
from node.config import Config
from node.directory import DataDirectory
from node.errors import NodeError
from node.lock import DirectoryLock
from node.store import Store, open_store
from replication.offline import Bundles


@contextmanager
def opened_here(config: Config) -> Iterator[tuple[asyncio.Runner, Bundles]]:
    """The store's bundles, and what runs them. Raises NodeError, StoreError."""
    with opened_store(config) as (runner, store):
        yield runner, store.bundles


@contextmanager
def opened_store(config: Config) -> Iterator[tuple[asyncio.Runner, Store]]:
    """The store, and what runs its coroutines. Raises NodeError, StoreError."""
    directory = DataDirectory(config.path)
    keypair = keyfile.load(directory.secret)
    if keypair is None:
        raise NodeError(f"There is no identity in {config.path}; make one with: sbot init (or name another --path).")
    lock = DirectoryLock.acquire(directory.lock)
    try:
        with asyncio.Runner() as runner:
            stack = AsyncExitStack()
            limits = BlobLimits(max_size=config.blob_max_bytes, quota=config.blob_quota_mib * 1024 * 1024)
            opening = open_store(
                directory.database,
                keypair,
                hmac_key=config.hmac_key,
                now=time.time,
                own_pubs=config.own_pubs,
                blob_limits=limits,
            )
            store = runner.run(stack.enter_async_context(opening))
            try:
                yield runner, store
            finally:
                runner.run(stack.aclose())
    finally:
        lock.release()
