"""The scheduler's driver in virtual time: a played hub, a real address book, and a clock that only the test moves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from feeds.database import Database
from feeds.migrations import FEEDS
from replication.address_book import AddressBook, Remembered
from replication.backoff import Backoff
from replication.errors import DialFailed, InvalidAddress
from replication.migrations import REPLICATION
from replication.schedule import Group, Held, Rules
from replication.scheduler import Scheduler, Times
from replication.staging import Staging

START = 1_000_000.0
RULES = Rules(backoff=Backoff(spread=0), patient=Backoff(minimum=5, maximum=86_400, spread=0))


@dataclass
class World:
    """A hub that exists only on paper. `alive` are peers that answer."""

    book: AddressBook
    database: Database
    staging: Staging = field(default_factory=Staging)
    now: float = START
    alive: set[str] = field(default_factory=set)
    dialled: list[tuple[float, str]] = field(default_factory=list)
    links: dict[str, tuple[str, Held]] = field(default_factory=dict)
    blocked: set[str] = field(default_factory=set)
    distances: dict[str, int] = field(default_factory=dict)
    network: bool = True
    broken: Exception | None = None

    def __post_init__(self) -> None:
        times = Times(lambda: self.now, lambda: 0.5)
        self.scheduler = Scheduler(
            self.book, self.staging, self, RULES, times, has_network=lambda: self.network, pause=self.pause
        )
        self._until = START
        self._idle = asyncio.Event()
        self._move = asyncio.Event()

    # ---- time

    async def pause(self, happening: Awaitable[object], seconds: float) -> None:
        """Jump there, and no further than the test allows."""
        waiting = asyncio.ensure_future(happening)
        for _ in range(3):  # let dials end, and what they write be written
            await asyncio.sleep(0)
            await self.database.write(lambda _connection: None)
        while not waiting.done() and self.now + seconds > self._until:
            self._idle.set()
            self._move.clear()
            moved = asyncio.ensure_future(self._move.wait())
            await asyncio.wait([waiting, moved], return_when=asyncio.FIRST_COMPLETED)
            moved.cancel()
        if not waiting.done():
            self.now += seconds
        waiting.cancel()

    async def run_for(self, seconds: float) -> None:
        self._until = self.now + seconds
        self._idle.clear()
        self._move.set()
        await asyncio.wait_for(self._idle.wait(), 20)
        self.now = self._until

    # ---- what the scheduler asks

    async def dial_known(self, known: Remembered) -> object:
        self.dialled.append((self.now - START, known.peer))
        if self.broken is not None:
            raise self.broken
        if known.peer not in self.alive:
            error = DialFailed("connect", "nobody there")
            await self.scheduler.failed(known.address, error)
            raise error
        group = self.scheduler.group(known)
        self.links[known.peer] = (known.address, Held(known.peer, group, self.now, True, 0.5))
        await self.scheduler.reached(known.address)
        return None

    async def lose(self, peer: str) -> None:
        address, held = self.links.pop(peer)
        await self.scheduler.ended(address, self.now - held.since)

    def hang_up(self, peer: str, reason: str) -> None:
        address, held = self.links[peer]
        self.links[peer] = (address, held._replace(closing=True))

    def held(self) -> list[tuple[str, Held]]:
        return list(self.links.values())

    def dialling(self) -> Mapping[str, Group]:
        return {}

    def barred(self, peer: str) -> str:
        return "we block this peer" if peer in self.blocked else ""

    def hops(self, peer: str) -> int | None:
        return self.distances.get(peer)

    # ---- for the tests

    async def know(self, peer: str, *, auto: bool = False, kind: str = "pub", host: str = "") -> str:
        address = f"net:{host or peer + '.example.org'}:8008~shs:{'A' * 43}="
        await self.book.remember(address, peer, "manual", auto=auto, kind=kind)
        self.scheduler.wake()
        return address

    def times(self, peer: str) -> list[int]:
        return [round(at) for at, name in self.dialled if name == peer]


@asynccontextmanager
async def world(tmp_path: Path, before: Callable[[World], Awaitable[None]] | None = None) -> AsyncIterator[World]:
    database = await Database.open(tmp_path / "sbot.db", [FEEDS, REPLICATION])
    book = AddressBook(database, lambda: played.now)
    played = World(book, database)
    await book.load()
    if before is not None:
        await before(played)
    running = asyncio.create_task(played.scheduler.run())
    try:
        yield played
        assert not running.done(), running.exception()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await database.close()


async def test_a_dead_peer_is_dialled_at_growing_intervals_and_a_lost_one_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.know("dead", auto=True)
        await here.know("pub")
        address = await here.know("alive", auto=True)
        here.alive.add("alive")
        await here.run_for(60)
        assert here.times("dead") == [0, 1, 3, 7, 15, 31]
        assert here.times("pub") == [0, 5, 15, 35]
        assert here.times("alive") == [0]
        await here.lose("alive")
        await here.run_for(1)
        assert here.times("alive") == [0, 60]
        known = here.book.get(address)
        assert known is not None
        assert (known.failures, known.error) == (0, None)
        decided = here.scheduler.decisions()[address]
        assert (decided.what, decided.reason) == ("dial", "picked by hand")


async def test_a_peer_that_hangs_up_at_once_is_not_dialled_in_a_loop(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.know("rude", auto=True)
        here.alive.add("rude")
        for _ in range(200):
            await here.run_for(0.5)
            if "rude" in here.links:
                await here.lose("rude")
        assert len(here.times("rude")) < 9
        await here.run_for(600)
        await here.run_for(40)
        assert here.book.all()[0].failures == 0  # the last one lasted: all is forgiven while it is still there


async def test_without_a_network_nothing_is_dialled_but_neighbours(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        here.network = False
        address = await here.know("pub")
        await here.know("neighbour", kind="lan", host="192.168.1.9")
        await here.run_for(30)
        assert here.times("pub") == []
        assert len(here.times("neighbour")) > 3
        assert here.scheduler.decisions()[address].reason == "there is no network"
        here.network = True
        await here.run_for(6)
        assert len(here.times("pub")) >= 1


async def test_after_an_outage_everybody_is_tried_again_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        peers = [f"p{number}" for number in range(8)]
        for peer in peers:
            await here.know(peer, auto=True)
        await here.run_for(7_200)
        assert len(here.dialled) < 8 + 60  # not 8 peers with a dial each ten minutes, and never for nothing
        here.alive.update(peers)
        await here.run_for(330)
        assert here.links.keys() == set(peers)


async def test_a_staged_address_is_dialled_while_it_is_there(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        known = Remembered("net:10.0.0.7:8008~shs:x", "lan", "lan", False, 1, kind="lan")
        here.staging.put(known, now=here.now, ttl=10)
        here.scheduler.wake()
        await here.run_for(30)
        assert here.times("lan") == [0, 1, 3, 7]
        here.alive.add("lan")
        here.staging.put(known, now=here.now, ttl=10)
        here.scheduler.wake()
        await here.run_for(10)
        assert list(here.links) == ["lan"]
        assert here.links["lan"][1].group is Group.LAN


async def test_blocked_and_paused_peers_are_left_alone(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        here.blocked.add("enemy")
        enemy = await here.know("enemy", auto=True)
        left = await here.know("left")
        known = here.book.get(left)
        assert known is not None
        await here.book.update(replace(known, paused=True))
        await here.run_for(100)
        assert here.dialled == []
        assert here.scheduler.decisions()[enemy].reason == "we block this peer"
        assert "you hung up" in here.scheduler.decisions()[left].reason


async def test_a_dial_that_cannot_even_begin_counts_and_a_bug_ends_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.know("odd", auto=True)
        here.broken = InvalidAddress("no such transport")
        await here.run_for(10)
        assert here.times("odd") == [0, 1, 3, 7]
        here.broken = ZeroDivisionError("a bug in a dialler")
        await here.run_for(50)
        assert here.times("odd")[4:] == [15, 31]


async def test_rotation_and_forgetting(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        for number in range(4):
            await here.know(f"pub{number}")
            here.alive.add(f"pub{number}")
        await here.run_for(1)
        assert len(here.links) == 2
        first = set(here.links)
        await here.run_for(7_300)
        (leaving,) = [peer for peer, (_, held) in here.links.items() if held.closing]
        await here.lose(leaving)
        await here.run_for(5)
        assert len(here.links) == 2
        assert set(here.links) != first
        address = await here.know("gone")
        known = here.book.get(address)
        assert known is not None
        await here.book.update(replace(known, failures=20, next_try=0, added=1))
        here.now += 20 * 86_400
        await here.run_for(10)
        assert here.book.get(address) is None


async def test_what_a_person_picked_is_tried_when_the_node_starts(tmp_path: Path) -> None:
    async def before(here: World) -> None:
        for name, auto in (("mine", True), ("pub", False)):
            known = await here.book.remember(f"net:{name}.org:1~shs:x", name, "manual", auto=auto, kind="pub")
            await here.book.update(replace(known, failures=9, next_try=int((START + 600) * 1000)))

    async with world(tmp_path, before) as here:
        await here.run_for(1)
        assert [name for _, name in here.dialled] == ["mine"]


async def test_news_without_end_do_not_keep_the_node_busy(tmp_path: Path) -> None:
    looks: list[float] = []

    async def before(here: World) -> None:
        def has_network() -> bool:
            looks.append(here.now)
            here.scheduler.wake()  # whoever connects and hangs up all the time does as much
            return True

        here.scheduler._has_network = has_network

    async with world(tmp_path, before) as here:
        await here.run_for(1)
        assert 10 < len(looks) < 60
