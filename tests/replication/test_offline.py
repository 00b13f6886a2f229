"""Bundles in and out of stores: islands and their carrier, parts, hostile files, what an import reports."""

import base64
import hashlib
import os
import random
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from feeds.blobs import EMPTY
from feeds.keys import sign
from replication.bundle import BlobBegin, BundleReader, BundleWriter, Header, Slice
from replication.errors import InvalidBundle
from replication.offline import SMALLEST_PART, ExportOptions, Known, inspect, known_of, parse_clock
from tests.support import builders
from tests.support.islands import Island, chunks, island

ISLANDS = 5


def blob_id(data: bytes) -> str:
    return f"&{base64.b64encode(hashlib.sha256(data).digest()).decode()}.sha256"


async def known(place: Island) -> Known:
    return known_of(await place.bundles.clock())


@pytest.mark.parametrize("seed", [1, 2])
async def test_islands_that_never_meet_converge_by_one_carrier(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    async with AsyncExitStack() as stack:
        keys = [builders.keypair(f"island {number}") for number in range(ISLANDS)]
        islands = [await stack.enter_async_context(island(tmp_path / str(n), key)) for n, key in enumerate(keys)]
        stick: dict[str, bytes] = {}
        held: set[str] = set()
        for number, place in enumerate(islands):
            data = rng.randbytes(70_000 + number)
            await place.blobs.add(data)
            held.add(blob_id(data))
            await place.store.ingest.publish(
                {"type": "post", "text": "look", "mentions": [{"link": blob_id(data), "type": "image/png"}]}
            )
            friend = keys[(number + 1) % ISLANDS].id
            await place.store.ingest.publish({"type": "post", "text": f"secret {number}"}, recps=[friend])
            attached = rng.randbytes(3000)
            held.add(blob_id(attached))
            await place.blobs.add(attached)
            await place.blobs.push(blob_id(attached))
        for _ in range(3):
            for place in rng.sample(islands, ISLANDS):
                for data in stick.values():
                    report = await place.take_in(data, rng.randint(1000, 200_000))
                    assert report.signed
                    assert report.problem is None
                stick[place.id] = await place.export()
        clocks = [place.store.log.clock() for place in islands]
        assert all(clock == clocks[0] for clock in clocks)
        assert set(clocks[0].values()) == {2}
        for number, place in enumerate(islands):
            assert all(place.blobs.has(blob) for blob in held)
            for reader, opens in ((place, True), (islands[number - 2], False)):
                letter = await reader.store.log.at(keys[number - 1].id, 2)
                assert letter is not None
                assert (reader.store.mailbox.open(letter) is not None) is opens


async def test_a_bundle_for_a_clock_carries_only_what_is_lacking(tmp_path: Path) -> None:
    feed = builders.chain("other", 50)
    async with (
        island(tmp_path / "a", builders.keypair("a")) as here,
        island(tmp_path / "b", builders.keypair("b")) as there,
    ):
        await here.store.ingest.add(feed.texts, source="test")
        await there.store.ingest.add(feed.texts[:45], source="test")
        wanted = await here.blobs.add(b"wanted by its id alone")
        await there.blobs.want(wanted.id)
        data = await here.export(ExportOptions(known=await known(there)))
        contents = await inspect(chunks(data, 1000))
        assert contents.feeds == {feed.keys.id: (46, 50)}
        assert list(contents.blobs) == [wanted.id]
        assert contents.clock == here.store.log.clock()
        report = await there.take_in(data)
        assert (report.added, report.duplicates, report.blobs_added, report.complete) == (5, 0, 1, True)
        again = await there.take_in(data)
        assert (again.added, again.duplicates, again.blobs_known) == (0, 5, 1)
        nothing = await inspect(chunks(await here.export(ExportOptions(known=await known(there))), 1000))
        assert (nothing.messages, nothing.blobs) == (0, {})


async def test_parts_under_a_cap_carry_everything_once(tmp_path: Path) -> None:
    feeds = [builders.chain(f"author {number}", 120) for number in range(3)]
    async with (
        island(tmp_path / "a", builders.keypair("a")) as here,
        island(tmp_path / "b", builders.keypair("b")) as there,
    ):
        for feed in feeds:
            await here.store.ingest.add(feed.texts, source="test")
        pictures = [await here.blobs.add(os.urandom(20_000 + n)) for n in range(9)]
        large = await here.blobs.add(os.urandom(SMALLEST_PART))
        for info in [*pictures, large]:
            await here.store.ingest.publish({"type": "post", "text": "see", "mentions": [{"link": info.id}]})
        clock: dict[str, int] = {}
        had: set[str] = set()
        wants: list[str] = []
        messages = part = 0
        while True:
            part += 1
            options = ExportOptions(
                known=Known(clock, had, wants), max_bytes=SMALLEST_PART, part=part, packed=part % 2 == 0
            )
            data = await here.export(options)
            assert len(data) <= SMALLEST_PART
            contents = await inspect(chunks(data, 5000))
            assert contents.signed
            clock |= {feed: span[1] for feed, span in contents.feeds.items()}
            had |= set(contents.blobs)
            wants = [blob for blob in [*wants, *contents.lacking] if blob not in had]
            messages += contents.messages
            report = await there.take_in(data)
            assert report.duplicates == 0
            if contents.last:
                break
            assert part < 50
        assert messages == 370
        assert there.store.log.clock() == here.store.log.clock()
        assert all(there.blobs.has(info.id) for info in pictures)
        assert not there.blobs.has(large.id)  # it fits into no part


async def test_forked_feeds_are_not_spread(tmp_path: Path) -> None:
    forked, other = builders.chain("forked", 5), builders.chain("forked", 3)
    other.append({"type": "post", "text": "another fourth"})
    async with island(tmp_path / "a", builders.keypair("a")) as here:
        await here.store.ingest.add(forked.texts, source="test")
        await here.store.ingest.add(other.texts[3:], source="test")
        assert here.store.log.feed_state(forked.keys.id) == "forked"
        assert (await inspect(chunks(await here.export(), 1000))).messages == 0


async def test_json_lines_out_and_in(tmp_path: Path) -> None:
    feed = builders.chain("other", 20)
    async with (
        island(tmp_path / "a", builders.keypair("a")) as here,
        island(tmp_path / "b", builders.keypair("b")) as there,
    ):
        await here.store.ingest.add(feed.texts, source="test")
        lines = b"".join([data async for data in here.bundles.json_lines(ExportOptions())])
        assert lines.count(b"\n") == 20
        report = await there.take_in(b"\n" + lines + b"not json\n[1]\n" + b"x" * 3_000_000 + b"\n", 7000)
        assert (report.format, report.added, report.invalid) == ("jsonl", 20, 3)
        assert there.store.log.clock() == here.store.log.clock()


def handmade(*, reverse: bool = False) -> bytes:
    """A bundle with trouble of every kind in it, rightly signed."""
    keys = builders.keypair("anna")
    good, forked, other = builders.chain("good", 30), builders.chain("forked", 6), builders.chain("forked", 3)
    other.append({"type": "post", "text": "another fourth"})
    damaged = [*builders.chain("damaged", 4).texts]
    damaged[2] = damaged[2].replace(b'"hash"', b'"hasH"')
    runs = [(good, good.texts[at : at + 5]) for at in range(0, 30, 5)]
    writer = BundleWriter(Header(keys.id, 1), packed=False)
    out = [writer.header()]
    for feed, texts in reversed(runs) if reverse else runs:
        out.append(writer.slice(feed.keys.id, 1, texts))
    out.append(writer.slice(good.keys.id, 1, good.texts))
    out.append(writer.slice(forked.keys.id, 1, forked.texts))
    out.append(writer.slice(forked.keys.id, 4, other.texts[3:]))
    out.append(writer.slice(keys.id, 1, damaged))
    out.append(writer.slice(keys.id, 9, builders.chain("gappy", 9).texts[5:]))
    for blob, data in ((EMPTY, b""), (builders.blob_id(1), b"not it"), (blob_id(b"it"), b"it")):
        out.append(writer.blob(blob, len(data)))
        if data:
            out.append(writer.piece(data))
    huge = writer.blob(builders.blob_id(2), 1_100_000)
    out += [huge, *(writer.piece(bytes(50_000)) for _ in range(22))]
    manifest = writer.manifest(last=True)
    return b"".join([*out, writer.end(manifest, sign(keys, writer.to_sign(manifest)))])


@pytest.mark.parametrize("reverse", [False, True])
async def test_what_is_wrong_is_reported_and_the_rest_taken(tmp_path: Path, reverse: bool) -> None:
    async with island(tmp_path / "a", builders.keypair("a")) as here:
        report = await here.take_in(handmade(reverse=reverse))
        assert report.signed
        assert report.messages == report.added + report.duplicates + report.gaps + report.forks + report.invalid
        assert report.gaps >= 4
        assert report.forks == 1
        assert report.invalid >= 1
        assert (report.blobs_added, report.blobs_known, report.blobs_refused) == (1, 1, 2)
        assert here.store.log.sequence(builders.keypair("good").id) == 30
        assert here.store.log.sequence(builders.keypair("damaged").id) == 2
        assert here.store.log.feed_state(builders.keypair("forked").id) == "forked"
        assert report.examples


async def test_hostile_files_end_soon_with_a_report(tmp_path: Path) -> None:
    data = handmade()
    rng = random.Random(3)
    begun = time.monotonic()
    async with island(tmp_path / "a", builders.keypair("a")) as here:
        for _ in range(25):
            report = await here.take_in(data[: rng.randrange(len(data))], 30_000)
            assert not report.complete
            assert report.problem
        for _ in range(25):
            flipped = bytearray(data)
            flipped[rng.randrange(40_000)] ^= 1 << rng.randrange(8)
            report = await here.take_in(bytes(flipped), 30_000)
            assert report.problem
        for junk in (b"", b"\n\n", b"\xc6", b"\x28\xb5\x2f\xfd", os.urandom(5000), b"[" * 100_000, b"{" * 2_000_000):
            report = await here.take_in(junk)
            assert report.problem
            assert report.added == 0
        assert set(here.store.log.clock()) <= {builders.keypair(name).id for name in ("good", "forked", "damaged")}
    assert time.monotonic() - begun < 30


async def test_an_import_that_broke_off_is_completed_by_another(tmp_path: Path) -> None:
    feed = builders.chain("other", 500)
    async with island(tmp_path / "a", builders.keypair("a")) as here:
        await here.store.ingest.add(feed.texts, source="test")
        data = await here.export(ExportOptions(packed=False))
    async with island(tmp_path / "b", builders.keypair("b")) as there:
        cut = await there.take_in(data[: len(data) // 2])
        assert cut.problem is not None
    async with island(tmp_path / "b", builders.keypair("b")) as there:
        report = await there.take_in(data)
        assert (report.added + report.duplicates, report.duplicates) == (500, cut.added)
        assert there.store.log.sequence(feed.keys.id) == 500


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b'{"x":1}', b'{"clock":{"@x":1}}', b'{"clock":{},"blobs":3}', b'{"clock":{},"wants":["x"]}'],
)
def test_wrong_clock_files_are_refused(text: bytes) -> None:
    with pytest.raises(InvalidBundle):
        parse_clock(text)


def test_clock_files_may_be_plain() -> None:
    feed = builders.keypair("a").id
    assert parse_clock(b'{"%b":7}' % feed.encode()).clock == {feed: 7}
    for wrong in (b"-1", b"true", b"1.5", b'"1"', b"1e999"):
        with pytest.raises(InvalidBundle):
            parse_clock(b'{"%b":%b}' % (feed.encode(), wrong))


def test_a_bundle_is_read_as_it_was_written() -> None:
    events = list(BundleReader().feed(handmade()))
    assert sum(len(event.texts) for event in events if isinstance(event, Slice)) == 75
    assert sum(isinstance(event, BlobBegin) for event in events) == 4


async def test_a_feed_with_erased_messages_is_carried_up_to_them_and_from_behind_them(tmp_path: Path) -> None:
    feed = builders.chain("other", 50)
    async with (
        island(tmp_path / "a", builders.keypair("a")) as here,
        island(tmp_path / "b", builders.keypair("b")) as there,
        island(tmp_path / "c", builders.keypair("c")) as ahead,
    ):
        await here.store.ingest.add(feed.texts, source="test")
        await ahead.store.ingest.add(feed.texts[:30], source="test")
        places = [await here.store.log.at(feed.id, sequence) for sequence in (21, 25, 28)]
        await here.store.erasing.erase([place.position for place in places if place], now=0)
        for place, feeds in ((there, (1, 20)), (ahead, (31, 50))):
            data = await here.export(ExportOptions(known=await known(place)))
            assert (await inspect(chunks(data, 1000))).feeds == {feed.id: feeds}
            report = await place.take_in(data)
            assert (report.added, report.gaps, report.complete) == (20, 0, True)
        lines = b"".join([line async for line in here.bundles.json_lines(ExportOptions())]).splitlines()
        assert len(lines) == 47
