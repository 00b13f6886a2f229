"""Our own feed never forks: random histories of backups, copies, twins, marks that are lost or old, kills, lying peers.

    PYSBOT_PUBLISHER_RUNS=10000 pytest tests/feeds/test_publisher_simulation.py

What no rule can prevent is left out: publishing on two unlocked machines that both hear of nobody, a machine's image
put back whole, and a disk that comes back with messages which it never showed to anybody.
"""

import os
import random
import shutil
from pathlib import Path

import pytest

from feeds.errors import FeedsError
from feeds.publisher_state import Reason
from tests.support.own_feed_world import Cutter, Disk, Killed, SimNode, World, copy_over

RUNS = int(os.environ.get("PYSBOT_PUBLISHER_RUNS", "300"))
FIRST = int(os.environ.get("PYSBOT_PUBLISHER_SEED", "0"))
RESTARTS = int(os.environ.get("PYSBOT_PUBLISHER_RESTARTS", "100"))
EVENTS = 14
ALL = ("sbot.db", "publishing", "install")


def session(world: World, disks: list[Disk]) -> None:
    """Run nodes beside each other for a while, connected; one of them may be cut off at any step."""
    rng = world.rng
    nodes: list[SimNode] = []
    fatal = rng.random() < 0.4
    if fatal:
        world.cutter.left = rng.randrange(40)
    victim: Disk | None = None
    for disk in disks:
        try:
            nodes.append(SimNode(world, disk))
        except Killed:
            victim = disk
        except FeedsError:
            pass
    turns = [node for _ in range(rng.randint(1, 4)) for node in nodes]
    for node in turns:
        if victim is not None:
            break  # what it may have committed and not shown would come back after the others went on
        try:
            run(world, node)
        except Killed:
            victim = node.disk
    world.cutter.left = None
    for node in nodes:
        node.end()
    if victim is not None and rng.random() < 0.5:
        after_a_kill(world, victim)
    elif victim is not None:
        world.disks.remove(victim)  # the disk is broken
        if not world.disks:
            world.disks.append(Disk(world.new_folder(), "machine 9", key=True))  # the key comes from a paper


def run(world: World, node: SimNode) -> None:
    rng = world.rng
    alone = world.last_publisher in (None, node.disk) or not node.disk.met
    if alone and rng.random() < 0.5:  # nobody else went on meanwhile, so our own files must know whether we may
        node.publish()
    for peer in rng.sample(world.peers, rng.randint(2, 3)):
        node.meet(peer)
    if rng.random() < 0.3:
        node.meet(world.liars[0])
    node.wait(rng.choice([0, 30, 90, 700]))
    for _ in range(rng.randint(0, 3)):
        node.publish()
    if rng.random() < 0.3:
        for peer in list(node.connected):
            node.publishing.left(peer.name)
        node.connected.clear()


def after_a_kill(world: World, disk: Disk) -> None:
    """It starts again at once and shows what it had."""
    node = SimNode(world, disk)
    for peer in world.peers:
        node.meet(peer)
    node.end()


def copied(world: World, source: Disk, machine: str) -> Disk:
    folder = world.new_folder()
    shutil.copytree(source.folder, folder, dirs_exist_ok=True)
    return Disk(folder, machine, source.key)


def accident(world: World) -> None:
    """Something happens to the files of a node that does not run."""
    rng = world.rng
    disk = rng.choice(world.disks)
    match rng.randrange(11):
        case 0 | 1:
            world.backups.append(copied(world, disk, disk.machine))
        case 2 if world.backups:  # only the database
            copy_over(rng.choice(world.backups).folder, disk.folder, ("sbot.db",))
        case 3 if world.backups:  # everything, in place
            copy_over(rng.choice(world.backups).folder, disk.folder, ALL)
        case 4 if world.backups:  # everything, the old folder removed
            shutil.rmtree(disk.folder)
            shutil.copytree(rng.choice(world.backups).folder, disk.folder)
        case 5 if world.backups:  # database and mark, in place
            copy_over(rng.choice(world.backups).folder, disk.folder, ("sbot.db", "publishing"))
        case 6:  # a twin
            machine = rng.choice([disk.machine, "machine 1", "machine 2"])
            world.disks.append(copied(world, rng.choice([disk, *world.backups]), machine))
        case 7:
            (disk.folder / rng.choice(ALL)).unlink(missing_ok=True)
        case 8 if world.backups:  # a mark put back under its name, as a new file
            source = rng.choice(world.backups).folder / "publishing"
            if source.exists():
                (disk.folder / "publishing").unlink(missing_ok=True)
                shutil.copy2(source, disk.folder / "publishing")
        case 9:  # a disk put into another machine
            disk.machine = rng.choice(["machine 0", "machine 1"])
        case 10:
            (disk.folder / "publishing").write_bytes(rng.randbytes(rng.randrange(80)))


def history(world: World) -> int:
    """One life of a key; how many messages became visible."""
    session(world, [world.disks[0]])
    for _ in range(EVENTS):
        if world.rng.random() < 0.5:
            accident(world)
        else:
            world.disks = world.disks[-3:]
            session(world, world.rng.sample(world.disks, min(len(world.disks), world.rng.randint(1, 2))))
        assert not world.forks
    return len(world.seen)


def test_no_history_forks_the_feed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    visible = []
    cutter = Cutter()
    for seed in range(FIRST, FIRST + RUNS):
        folder = tmp_path / str(seed)
        folder.mkdir()
        with monkeypatch.context() as patches:
            cutter.left = None
            world = World(folder, seed, cutter)
            world.patch(patches)
            try:
                visible.append(history(world))
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: forks at {world.forks}") from error
        shutil.rmtree(folder)
    assert sum(visible) / len(visible) > 3, "so little is published that this test means nothing"
    assert sum(count > 8 for count in visible) > RUNS / 20, "nobody ever finds the way out of a lock"


def test_a_restart_never_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped, cut off at any step, or moved: what was acknowledged is there, and the feed is open."""
    world = World(tmp_path, 1)
    world.patch(monkeypatch)
    (disk,) = world.disks
    rng = random.Random(1)
    cuts = 0
    for _ in range(RESTARTS):
        acknowledged = len(world.seen)
        world.cutter.left = rng.randrange(40) if rng.random() < 0.6 else None
        node = None
        try:
            node = SimNode(world, disk)
            assert node.open, node.publishing.status()
            assert node.log.sequence("@" if acknowledged < 0 else node.publisher.id) >= acknowledged
            for _ in range(rng.randint(0, 3)):
                node.publish()
        except Killed:
            cuts += 1
        world.cutter.left = None
        if node is not None:
            node.end()
        if rng.random() < 0.1:
            moved = world.folder / f"moved {cuts} {rng.random()}"
            disk.folder.rename(moved)
            disk.folder = moved
    assert not world.forks
    assert cuts > RESTARTS / 10
    assert len(world.seen) > RESTARTS / 2


def test_cut_off_between_each_pair_of_steps_of_an_unlock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every step of leaving a lock: afterwards it is either still locked or open for good, and never forks."""
    outcomes = set()
    for step in range(60):
        world = World(tmp_path, step)
        (disk,) = world.disks
        with monkeypatch.context() as patches:
            world.patch(patches)
            node = SimNode(world, disk)
            node.meet(world.peers[0])
            assert node.publish()
            node.end()
            (disk.folder / "publishing").unlink()
            node = SimNode(world, disk)
            assert node.publisher.lock is not None
            assert node.publisher.lock.reason is Reason.NO_MARK
            assert not node.publish()
            for peer in world.peers:
                node.meet(peer)
            world.cutter.left = step
            try:
                node.wait(120)
                outcomes.add("unlocked")
            except Killed:
                outcomes.add("cut off")
            world.cutter.left = None
            node.end()
            node = SimNode(world, disk)
            outcomes.add("open" if node.open else "locked")
            for peer in world.peers:
                node.meet(peer)
            node.wait(120)
            assert node.open
            assert node.publish()
            node.end()
            assert not world.forks
        shutil.rmtree(disk.folder)
    assert outcomes == {"unlocked", "cut off", "open", "locked"}
