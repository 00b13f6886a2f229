"""Stores with blobs and bundles, and nothing that connects them."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from feeds.blobs import BLOBS, BlobLimits, Blobs
from feeds.keys import Keypair
from replication.offline import Bundles, ExportOptions, ImportReport
from tests.support.stores import Store, Ticking, open_store


@dataclass(slots=True)
class Island:
    """One store that nobody can reach."""

    store: Store
    blobs: Blobs
    bundles: Bundles

    @property
    def id(self) -> str:
        return self.store.own.id

    async def export(self, options: ExportOptions | None = None) -> bytes:
        """A whole bundle."""
        return b"".join([data async for data in self.bundles.export(options or ExportOptions())])

    async def take_in(self, data: bytes, step: int = 10_000) -> ImportReport:
        """Import bytes in chunks."""
        return await self.bundles.take_in(chunks(data, step))


async def chunks(data: bytes, step: int) -> AsyncIterator[bytes]:
    """Bytes in pieces."""
    for at in range(0, len(data), step):
        yield data[at : at + step]


async def stream(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Pieces, asynchronously."""
    for piece in pieces:
        yield piece


@asynccontextmanager
async def island(folder: Path, own: Keypair, *, processes: bool | None = False) -> AsyncIterator[Island]:
    """Open an island's store."""
    folder.mkdir(exist_ok=True)
    clock = Ticking()
    async with open_store(folder, own=own, components=[BLOBS], processes=processes, workers=1) as store:
        blobs = await Blobs.open(folder / "blobs", store.database, now=clock, limits=BlobLimits(max_size=1_000_000))
        try:
            bundles = Bundles(
                database=store.database,
                log=store.log,
                ingest=store.ingest,
                blobs=blobs,
                graph=store.graph,
                keypair=own,
                now=clock,
            )
            yield Island(store, blobs, bundles)
        finally:
            await blobs.close()
