"""The blob store: what is visible is whole, what is not committed leaves nothing, only foreign blobs are evicted."""

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from sqlite3 import Connection
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.blobs import BLOBS, EMPTY, PIECE, BlobLimits, Blobs
from feeds.database import Database
from feeds.errors import InvalidRef, NotFound, StoreError, TooLarge, WrongBlob
from tests.support.stores import Ticking


def blob_id(data: bytes) -> str:
    return f"&{base64.b64encode(hashlib.sha256(data).digest()).decode()}.sha256"


def files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "blobs").rglob("*") if path.is_file())


def check_files(folder: Path, blobs: Blobs) -> None:
    """Every file is what its name says and has an entry, and nothing else lies about."""
    found = files(folder)
    for path in found:
        data = path.read_bytes()
        assert path.parent.name + path.name == hashlib.sha256(data).hexdigest()
        assert blobs.size(blob_id(data)) == len(data)
    totals = blobs.totals()
    assert (totals.blobs, totals.bytes) == (len(found), sum(path.stat().st_size for path in found))


@asynccontextmanager
async def opened(
    folder: Path,
    *,
    limits: BlobLimits | None = None,
    is_ours: Callable[[Connection, str], bool] = lambda _connection, _blob: False,
    now: Callable[[], float] | None = None,
) -> AsyncIterator[Blobs]:
    database = await Database.open(folder / "sbot.db", [BLOBS])
    blobs = await Blobs.open(folder / "blobs", database, now=now or Ticking(), limits=limits, is_ours=is_ours)
    try:
        await blobs.mended()
        yield blobs
    finally:
        await blobs.close()
        await database.close()


async def content(blobs: Blobs, blob: str) -> bytes:
    async with blobs.reading(blob) as reader:
        return b"".join([piece async for batch in reader.batches() for piece in batch])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.one_of(st.integers(0, 40), st.integers(0, 150_000)), max_size=8),
    st.integers(0, 700_000),
    st.integers(0, 700_000),
)
def test_any_cut_of_the_bytes_gives_the_same_blob(sizes: list[int], start: int, end: int) -> None:
    pieces = [bytes([number + 65]) * size for number, size in enumerate(sizes)]

    async def check(folder: Path) -> None:
        whole = b"".join(pieces)
        async with opened(folder) as blobs:
            async with blobs.adding() as writer:
                for piece in pieces:
                    await writer.write(piece)
                info = await writer.commit()
            assert (info.id, info.size) == (blob_id(whole), len(whole))
            assert await content(blobs, info.id) == whole
            async with blobs.reading(info.id) as reader:
                batches = [batch async for batch in reader.batches(start, end)]
                assert all(0 < len(piece) <= PIECE for batch in batches for piece in batch)
                assert b"".join(b"".join(batch) for batch in batches) == whole[start:end]
                assert await reader.read(start, end) == whole[start : start + end]
            check_files(folder, blobs)

    with TemporaryDirectory() as folder:
        asyncio.run(check(Path(folder)))


async def test_blobs_survive_a_restart_and_lie_where_the_old_sbot_kept_them(tmp_path: Path) -> None:
    async with opened(tmp_path) as blobs:
        info = await blobs.add(b"hello")
        assert blobs.has(info.id)
        assert info.own
    name = hashlib.sha256(b"hello").hexdigest()
    assert files(tmp_path) == [tmp_path / "blobs" / "sha256" / name[:2] / name[2:]]
    assert files(tmp_path)[0].stat().st_mode & 0o777 == 0o600
    async with opened(tmp_path) as blobs:
        assert blobs.info(info.id) == info
        assert await content(blobs, info.id) == b"hello"
        assert await blobs.page() == [info]


async def test_the_empty_blob_is_always_there(tmp_path: Path) -> None:
    async with opened(tmp_path) as blobs:
        assert blobs.size(EMPTY) == 0
        assert (await blobs.add(b"")).id == EMPTY == blob_id(b"")
        assert await content(blobs, EMPTY) == b""
        assert (await blobs.want(EMPTY)) is not None
        assert await blobs.page() == [] == await blobs.wants()
        assert await blobs.remove(EMPTY) is False
        with pytest.raises(WrongBlob):
            await blobs.add(b"", expected=blob_id(b"x"))
        assert files(tmp_path) == []


async def test_too_much_is_refused_while_it_streams_in(tmp_path: Path) -> None:
    async with opened(tmp_path, limits=BlobLimits(max_size=300_000)) as blobs:
        assert (await blobs.add(b"x" * 300_000)).size == 300_000
        async with blobs.adding() as writer:
            await writer.write(b"y" * 300_000)
            assert len(files(tmp_path)) == 2
            with pytest.raises(TooLarge) as caught:
                await writer.write(b"y")
            assert (caught.value.size, caught.value.limit, caught.value.what) == (300_001, 300_000, "bytes")
        with pytest.raises(TooLarge):
            async with blobs.adding(limit=10) as writer:
                await writer.write(b"y" * 11)
        check_files(tmp_path, blobs)


async def test_bytes_of_another_blob_leave_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as blobs:
        with pytest.raises(WrongBlob) as caught:
            await blobs.add(b"x" * 500_000, own=False, expected=blob_id(b"wanted"))
        assert (caught.value.expected, caught.value.found) == (blob_id(b"wanted"), blob_id(b"x" * 500_000))
        assert files(tmp_path) == []
        assert (await blobs.add(b"wanted", own=False, expected=blob_id(b"wanted"))).own is False


async def fail_in_the_middle(blobs: Blobs) -> None:
    async with blobs.adding() as writer:
        await writer.write(b"x" * 500_000)
        raise ZeroDivisionError


async def test_what_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as blobs:
        async with blobs.adding() as writer:
            await writer.write(b"x" * 500_000)
        with pytest.raises(ZeroDivisionError):
            await fail_in_the_middle(blobs)
        check_files(tmp_path, blobs)
        assert blobs.totals().blobs == 0


@pytest.mark.parametrize("steps", range(12))
async def test_a_cancelled_add_is_whole_or_not_there(tmp_path: Path, steps: int) -> None:
    async with opened(tmp_path) as blobs:
        adding = asyncio.create_task(blobs.add(b"x" * 400_000))
        for _ in range(steps):
            await asyncio.sleep(0.0005 if steps % 2 else 0)
        adding.cancel()
        await asyncio.gather(adding, return_exceptions=True)
    async with opened(tmp_path) as blobs:
        check_files(tmp_path, blobs)


async def test_the_same_blob_added_at_once_is_one(tmp_path: Path) -> None:
    async with opened(tmp_path) as blobs:
        infos = await asyncio.gather(*(blobs.add(b"z" * 300_000, own=number == 3) for number in range(6)))
        assert len({info.number for info in infos}) == 1
        found = blobs.info(infos[0].id)
        assert found is not None
        assert found.own
        check_files(tmp_path, blobs)


async def test_adding_and_removing_at_once_never_leaves_half(tmp_path: Path) -> None:
    async with opened(tmp_path) as blobs:
        for _ in range(10):
            await asyncio.gather(blobs.add(b"a"), blobs.remove(blob_id(b"a")), blobs.add(b"a"), return_exceptions=False)
            check_files(tmp_path, blobs)
        assert await blobs.remove(blob_id(b"a")) in (True, False)
        check_files(tmp_path, blobs)
        assert files(tmp_path) == []


async def test_a_blob_removed_while_it_is_read_is_read_to_its_end(tmp_path: Path) -> None:
    async with opened(tmp_path) as blobs:
        info = await blobs.add(b"q" * 600_000)
        async with blobs.reading(info.id) as reader:
            batches = reader.batches()
            first = await anext(batches)
            assert await blobs.remove(info.id)
            rest = [piece async for batch in batches for piece in batch]
        assert b"".join([*first, *rest]) == b"q" * 600_000
        with pytest.raises(NotFound):
            await content(blobs, info.id)
        assert await blobs.remove(info.id) is False


@pytest.mark.parametrize(
    "hostile",
    [
        "",
        "&",
        "../../etc/passwd",
        "&../../../../../../../../../etc/passwd\0aaaaaaaaaaaaaaaaaa=.sha256",
        "%" + EMPTY[1:],
        "&" + "/" * 43 + "=.sha256",
        "&" + "." * 43 + "=.sha256",
        EMPTY + "/../x",
        EMPTY + "\n",
        "&" + "A" * 5000,
    ],
)
async def test_ids_that_are_none_touch_nothing(tmp_path: Path, hostile: str) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    async with opened(tmp_path) as blobs:
        for ask in (blobs.info, blobs.has, blobs.wanted):
            with pytest.raises(InvalidRef):
                ask(hostile)
        for act in (blobs.want, blobs.remove, blobs.pin, blobs.push):
            with pytest.raises(InvalidRef):
                await act(hostile)
        with pytest.raises(InvalidRef):
            await blobs.add(b"x", expected=hostile)
        assert files(tmp_path) == []


async def test_a_link_in_the_place_of_a_blob_is_not_followed(tmp_path: Path) -> None:
    async with opened(tmp_path) as blobs:
        info = await blobs.add(b"12345")
        (path,) = files(tmp_path)
        path.unlink()
        (tmp_path / "outside").write_bytes(b"67890")
        path.symlink_to(tmp_path / "outside")
        with pytest.raises(StoreError):
            await content(blobs, info.id)


async def test_a_damaged_file_is_forgotten_and_can_be_added_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as blobs:
        info = await blobs.add(b"12345")
        (path,) = files(tmp_path)
        path.write_bytes(b"123")
        assert (await blobs.add(b"12345")).id == info.id
        assert path.read_bytes() == b"12345"
        path.write_bytes(b"")
        with pytest.raises(NotFound):
            await content(blobs, info.id)
        assert not blobs.has(info.id)
        assert files(tmp_path) == []
        again = await blobs.add(b"12345")
        path.unlink()
    async with opened(tmp_path) as blobs:
        assert not blobs.has(again.id)
        assert again.number > info.number


async def test_what_a_crash_left_is_put_in_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(tmp_path) as blobs:
        await blobs.add(b"kept")
    names = tmp_path / "blobs" / "sha256"
    (tmp_path / "blobs" / "tmp" / "draft").write_bytes(b"half")
    whole = hashlib.sha256(b"placed, not entered").hexdigest()
    (names / whole[:2]).mkdir(exist_ok=True)
    (names / whole[:2] / whole[2:]).write_bytes(b"placed, not entered")
    (names / "ab").mkdir(exist_ok=True)
    (names / "ab" / ("c" * 62)).write_bytes(b"not what its name says")
    (names / "ab" / "README").write_bytes(b"somebody else's")
    async with opened(tmp_path) as blobs:
        assert [info.id for info in await blobs.page()] == [blob_id(b"kept"), blob_id(b"placed, not entered")]
        assert await content(blobs, blob_id(b"placed, not entered")) == b"placed, not entered"
        (names / "ab" / "README").unlink()
        check_files(tmp_path, blobs)
    assert "not the blob" in caplog.text


# --- room -------------------------------------------------------------------------------------------------------------


async def test_the_least_recently_used_foreign_blobs_make_room(tmp_path: Path) -> None:
    clock = Ticking()
    ours = {blob_id(b"d" * 100)}
    limits = BlobLimits(quota=350)
    async with opened(tmp_path, limits=limits, now=clock, is_ours=lambda _, blob: blob in ours) as blobs:
        own = await blobs.add(b"o" * 5000)
        a, b, c = [await blobs.add(letter * 100, own=False) for letter in (b"a", b"b", b"c")]
        assert blobs.totals()[:3] == (4, 5300, 300)
        clock.at += 7200
        assert await content(blobs, a.id) == b"a" * 100
        d = await blobs.add(b"d" * 100, own=False)
        assert [info.id for info in await blobs.page()] == [own.id, a.id, c.id, d.id]
        assert await blobs.pin(c.id)
        assert blobs.totals().foreign_bytes == 200
        e, f, g = [await blobs.add(letter * 100, own=False) for letter in (b"e", b"f", b"g")]
        assert [info.id for info in await blobs.page()] == [own.id, c.id, d.id, e.id, f.id, g.id]
        kept = blobs.info(d.id)
        assert kept is not None
        assert kept.own  # a message of ours names it
        check_files(tmp_path, blobs)
        h = await blobs.add(b"h" * 351, own=False)
        assert [info.id for info in await blobs.page()] == [own.id, c.id, d.id]
        assert not blobs.has(h.id)
        assert await blobs.pin(c.id, False)
        assert blobs.totals().foreign_bytes == 100
        check_files(tmp_path, blobs)
    async with opened(tmp_path, limits=limits) as blobs:
        assert blobs.totals()[:3] == (3, 5200, 100)
        await blobs.add(b"c" * 100, own=True)
        assert blobs.totals()[:3] == (3, 5200, 0)
        assert await blobs.remove(own.id)
        assert blobs.totals()[:3] == (2, 200, 0)
        assert b.id not in [info.id for info in await blobs.page()]


async def test_unpinning_may_evict(tmp_path: Path) -> None:
    async with opened(tmp_path, limits=BlobLimits(quota=150)) as blobs:
        first = await blobs.add(b"1" * 100, own=False)
        assert await blobs.pin(first.id)
        await blobs.add(b"2" * 100, own=False)
        assert await blobs.pin(first.id, False)
        assert [info.size for info in await blobs.page()] == [100]
        assert await blobs.pin(blob_id(b"nobody's")) is False
        check_files(tmp_path, blobs)


async def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    async with opened(tmp_path) as blobs:
        for name in ("write", "fsync"):
            with monkeypatch.context() as patch:
                patch.setattr(os, name, full)
                with pytest.raises(StoreError, match="No space left"):
                    await blobs.add(b"x" * 300_000)
            check_files(tmp_path, blobs)
        assert (await blobs.add(b"x" * 300_000)).size == 300_000


async def test_a_failing_database_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as blobs:

        async def fail(*_: object, **__: object) -> None:
            raise StoreError("made to fail")

        with monkeypatch.context() as patch:
            patch.setattr(Database, "write", fail)
            with pytest.raises(StoreError):
                await blobs.add(b"x" * 300_000)
        assert files(tmp_path) == []


# --- wants ------------------------------------------------------------------------------------------------------------


async def test_wants_are_kept_until_the_blob_comes(tmp_path: Path) -> None:
    wanted = blob_id(b"wanted")
    async with opened(tmp_path) as blobs:
        assert await blobs.want(wanted, asked=False) is None
        assert await blobs.want(blob_id(b"other")) is None
        assert [(want.id, want.asked) for want in await blobs.wants()] == [(wanted, False), (blob_id(b"other"), True)]
    async with opened(tmp_path) as blobs:
        assert await blobs.want(wanted) is None
        noted = blobs.wanted(wanted)
        assert noted is not None
        assert noted.asked
        waiting = asyncio.create_task(blobs.arrived(wanted))
        await asyncio.sleep(0)
        info = await blobs.add(b"wanted", own=False, expected=wanted)
        assert await asyncio.wait_for(waiting, 5) == info
        assert await blobs.arrived(wanted) == info
        assert await blobs.want(wanted) == info
        assert [want.id for want in await blobs.wants()] == [blob_id(b"other")]
        assert await blobs.unwant(blob_id(b"other"))
        assert not await blobs.unwant(blob_id(b"other"))
        assert blobs.totals().wants == 0


async def test_wants_are_bounded_and_those_nobody_asked_for_go_first(tmp_path: Path) -> None:
    async with opened(tmp_path, limits=BlobLimits(wants=5)) as blobs:
        asked = [blob_id(b"asked %d" % number) for number in range(3)]
        looked = [blob_id(b"looked %d" % number) for number in range(20)]
        for blob in asked:
            await blobs.want(blob)
        for blob in looked:
            await blobs.want(blob, asked=False)
        assert [want.id for want in await blobs.wants()] == [*asked, *looked[-2:]]
        for number in range(10):
            await blobs.want(blob_id(b"more %d" % number))
        assert [want.id for want in await blobs.wants()] == [blob_id(b"more %d" % number) for number in range(5, 10)]


async def test_pushes_are_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as blobs:
        info = await blobs.add(b"tell them")
        with pytest.raises(NotFound):
            await blobs.push(blob_id(b"nobody's"))
        await blobs.push(info.id)
        await blobs.push(info.id)
    async with opened(tmp_path) as blobs:
        assert await blobs.pushes() == [info.id]
        await blobs.remove(info.id)
        assert await blobs.pushes() == []


async def test_pages_and_filters(tmp_path: Path) -> None:
    async with opened(tmp_path) as blobs:
        infos = [await blobs.add(b"%d" % number, own=number % 2 == 0) for number in range(6)]
        await blobs.pin(infos[1].id)
        ids = [info.id for info in infos]
        assert [info.id for info in await blobs.page(0, 2)] == ids[:2]
        assert [info.id for info in await blobs.page(infos[1].number, 9)] == ids[2:]
        assert [info.id for info in await blobs.page(0, 2, descending=True)] == ids[:3:-1]
        assert [info.id for info in await blobs.page(infos[1].number, 9, descending=True)] == ids[:1]
        assert [info.id for info in await blobs.page(own=True)] == ids[::2]
        assert [info.id for info in await blobs.page(own=False, pinned=False)] == ids[3::2]
        assert [info.id for info in await blobs.page(pinned=True)] == ids[1:2]
