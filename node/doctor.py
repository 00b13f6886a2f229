"""`sbot doctor`: one check after another, each with what came out and what to do (GET /v1/doctor).

The node dials itself, over the address that it tells others where there is one. That shows that a port is open from
here; whether others far away get through, only they can tell: connected peers that are nodes like this one dial back,
the deployed ones cannot.
"""

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import orjson

from feeds.errors import StoreError
from feeds.fsck import check_views
from node import file_checks, store_checks
from node.directory import DataDirectory
from node.errors import NodeError
from node.findings import Finding, failed, ok, skipped
from node.store import Store, views
from replication.address import Address, parse_address
from replication.connections import Connections
from replication.errors import ConnectionClosed, DialFailed, InvalidAddress, NoPublicAddress, RemoteError
from replication.inviting import Inviting
from replication.network import has_route
from replication.peer_info import PeerState
from replication.rpc.methods import Kind

__all__ = ["Check", "Doctor", "examine", "mend", "offline"]

log = logging.getLogger("node.doctor")

CHECK_SECONDS: Final = 30.0
CALL_SECONDS: Final = 10.0
DIAL_BACK_SECONDS: Final = 20.0
DIAL_BACK_PEERS: Final = 3
RECENT: Final = 200
PAUSE: Final = 2.0
REBUILD_SECONDS: Final = 20.0
"""How long the doctor waits for views that are made anew; they are not given up then."""
LOOK_AGAIN: Final = 0.1
AHEAD_MS: Final = 5 * 60 * 1000
EARLIEST: Final = 1_735_689_600
"""2025-01-01: no clock that is right shows less."""
LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}  # noqa: S104 - compared with, not bound to

Check = tuple[str, Callable[[], Awaitable[Finding]]]


async def examine(checks: Sequence[Check], *, seconds: float = CHECK_SECONDS) -> list[dict[str, Any]]:
    """Run them in order; none can hold up or hide the others."""
    return [_told(name, await _look(name, check, seconds)) for name, check in checks]


async def mend(checks: Sequence[Check], *, seconds: float = CHECK_SECONDS) -> list[dict[str, Any]]:
    """Run them in order, mend what each found if that is safe, and look at it once more."""
    told = []
    for name, check in checks:
        finding = await _look(name, check, seconds)
        if finding.mend is None:
            told.append(_told(name, finding))
            continue
        try:
            done = await finding.mend()
        except (OSError, sqlite3.Error, NodeError, StoreError) as error:
            finding = failed(f"{finding.detail} It could not be mended: {error}", finding.advice or "Try again.")
            told.append(_told(name, finding))
            continue
        log.info("the doctor %s", done)
        told.append({**_told(name, await _look(name, check, seconds)), "fixed": done})
    return told


async def _look(name: str, check: Callable[[], Awaitable[Finding]], seconds: float) -> Finding:
    try:
        async with asyncio.timeout(seconds):
            return await check()
    except TimeoutError:
        return skipped(f"The check took more than {seconds:g} seconds.")
    except Exception:
        log.exception("the check of %s failed", name)
        return failed("The check itself failed.", "The node's log says why, with --log-level debug.")


def _told(name: str, finding: Finding) -> dict[str, Any]:
    return {
        "check": name,
        "state": str(finding.state),
        "detail": finding.detail,
        "advice": finding.advice,
        "fixable": finding.mend is not None,
        "fixed": None,
    }


def offline(directory: DataDirectory, settings: Path) -> list[Check]:
    """What can be looked at without a running node; `settings` is the file of settings."""
    return [
        *_files(directory, settings),
        ("leftovers", _in_thread(lambda: store_checks.check_leftovers(directory))),
        ("write-ahead log", _in_thread(lambda: store_checks.check_log_size(directory))),
        ("views", _in_thread(lambda: store_checks.check_views_of(directory))),
    ]


def _files(directory: DataDirectory, settings: Path, me: str | None = None, pid: int | None = None) -> list[Check]:
    """What lies on the disk; `me` and `pid` are of a node that runs."""
    return [
        ("directory", _in_thread(lambda: file_checks.check_directory(directory))),
        ("key", _in_thread(lambda: file_checks.check_key(directory, me))),
        ("token", _in_thread(lambda: file_checks.check_token(directory))),
        ("settings", _in_thread(lambda: file_checks.check_settings(settings))),
        ("lock", _in_thread(lambda: file_checks.check_lock(directory, pid))),
        ("database", _in_thread(lambda: file_checks.check_database(directory.database))),
        ("disk", _in_thread(lambda: file_checks.check_disk(directory))),
    ]


class Doctor:
    """Looks at a running node. `wall`: seconds since 1970."""

    def __init__(
        self,
        directory: DataDirectory,
        *,
        me: str,
        store: Store,
        connections: Connections,
        inviting: Inviting,
        settings: Path,
        manifest: bytes,
        wall: Callable[[], float] = time.time,
        network: Callable[[], bool] = has_route,
        pause: float = PAUSE,
    ) -> None:
        """settings -- the file of settings. manifest -- what manifest.json must say. pause -- seconds between two looks
        at views that are behind."""
        self._directory = directory
        self._me = me
        self._store = store
        self._connections = connections
        self._inviting = inviting
        self._settings = settings
        self._manifest_text = manifest
        self._pause = pause
        self._wall = wall
        self._network = network
        self._turn = asyncio.Lock()

    async def examine(self) -> list[dict[str, Any]]:
        """All checks, one examination at a time; plain JSON values."""
        async with self._turn:
            return await examine(self._checks())

    async def mend(self) -> list[dict[str, Any]]:
        """All checks, with what is safe to mend mended; never the key, the log or our feed."""
        async with self._turn:
            return await mend(self._checks())

    def _checks(self) -> list[Check]:
        return [
            *_files(self._directory, self._settings, self._me, os.getpid()),
            ("manifest", self._manifest),
            ("write-ahead log", self._log_size),
            ("clock", self._clock),
            ("listening", self._listening),
            ("reach-here", self._reach_here),
            ("reach-outside", self._reach_outside),
            ("dial-back", self._dial_back),
            ("network", self._has_network),
            ("peers", self._peers),
            ("index", self._index),
            ("feed", self._feed),
        ]

    async def _manifest(self) -> Finding:
        path = self._directory.manifest
        held = await asyncio.to_thread(lambda: path.read_bytes() if path.is_file() else None)
        if held == self._manifest_text:
            return ok(f"{path} says what this node offers.")

        async def write() -> str:
            await asyncio.to_thread(self._directory.write_manifest, self._manifest_text)
            return f"wrote {path} anew"

        what = "is not there" if held is None else "is of another node or was changed"
        return failed(f"{path} {what}; old programs read it.", "Start the node anew, or: sbot doctor --fix", mend=write)

    async def _log_size(self) -> Finding:
        size = store_checks.wal_bytes(self._directory.database)
        said = f"The write-ahead log has {size} bytes"
        if size <= store_checks.LARGE_WAL:
            return ok(f"{said}.")

        async def fold() -> str:
            if not await self._store.database.checkpoint():
                raise NodeError("another program reads the database; end it and try again.")
            return f"folded {size} bytes of the write-ahead log into the database"

        advice = "Something reads the database for a long time; end it, then: sbot doctor --fix"
        return failed(f"{said}: it is not folded into the database.", advice, mend=fold)

    async def _clock(self) -> Finding:
        now = self._wall()
        advice = "Set the clock of this machine (NTP): messages carry its time, and people sort by it."
        if now < EARLIEST:
            return failed(f"The clock shows {_day(now)}.", advice)
        newest = await self._store.log.entries_after(0, RECENT, descending=True)
        ahead = [entry for entry in newest if _claimed(entry.text) > now * 1000 + AHEAD_MS]
        if any(entry.author == self._me for entry in ahead):
            return failed(f"A message of our own is from the future; the clock shows {_day(now)}.", advice)
        if len({entry.author for entry in ahead}) > 2:
            return failed(f"Messages of several others are from the future; the clock shows {_day(now)}.", advice)
        return ok(f"{_day(now)}, which no message contradicts.")

    async def _listening(self) -> Finding:
        addresses = self._connections.addresses()
        if not addresses:
            return failed("The node listens nowhere.", "Start it with --host and --port.")
        return ok(", ".join(addresses))

    async def _reach_here(self) -> Finding:
        addresses = [parse_address(address) for address in self._connections.addresses()]
        bound = next((address for address in addresses if address.transport == "net"), None)
        if bound is None:
            return skipped("The node listens on no TCP port.")
        near = Address.net(LOOPBACK.get(bound.host, bound.host), bound.port, bound.public)
        return await self._reach(near, "Something on this machine stands between: a firewall, or another program.")

    async def _reach_outside(self) -> Finding:
        try:
            address = self._inviting.advertised()
        except NoPublicAddress as error:
            return skipped("There is no public address to dial.", str(error))
        except InvalidAddress as error:
            return failed(str(error), "Correct --external.")
        return await self._reach(
            address,
            f"Forward TCP port {address.port} to this machine and open it in the firewall, or correct --external. Some "
            "routers do not let a machine dial its own outside address: if so, ask somebody else to try.",
        )

    async def _reach(self, address: Address, advice: str) -> Finding:
        """Dial ourselves: connect, shake hands, ask who is there."""
        where = f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"
        try:
            said = await self._ask_who(address)
        except DialFailed as error:
            step = "TCP connection" if error.step == "connect" else f"handshake ({error.step})"
            other = "" if error.step == "connect" else " Or another node, or none, answers at this address."
            return failed(f"{where}: the {step} failed: {error.reason}.", advice + other)
        except (RemoteError, TimeoutError) as error:
            return failed(f"{where}: connected, but the call of whoami failed: {str(error) or 'no answer'}.", advice)
        if said != {"id": self._me}:
            return failed(f"{where}: somebody else answers.", advice)
        return ok(f"{where}: TCP, handshake and whoami work, from here.")

    async def _ask_who(self, address: Address) -> object:
        peer = await self._connections.visit(address)
        running = asyncio.create_task(peer.run(), name="doctor")
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await peer.connection.call("whoami", [], kind=Kind.SYNC)
        finally:
            with suppress(ConnectionClosed):
                await peer.close()
            await asyncio.wait([running], timeout=1.0)
            running.cancel()
            peer.connection.abort()

    async def _dial_back(self) -> Finding:
        """Have connected peers dial us where our connection comes from; those that are nodes like this one can."""
        bound = next(
            (each for each in map(parse_address, self._connections.addresses()) if each.transport == "net"), None
        )
        if bound is None:
            return skipped("The node listens on no TCP port.")
        try:
            port, told = self._inviting.advertised().port, True
        except InvalidAddress:
            port, told = bound.port, False
        live = [peer for peer in self._connections.peers() if peer.state is PeerState.CONNECTED and not peer.local]
        failure = None
        for peer in live[:DIAL_BACK_PEERS]:
            try:
                said = await self._connections.call(peer.id, "conn.dialBack", [port], timeout=DIAL_BACK_SECONDS)
            except RemoteError:
                continue  # it has no such method
            if isinstance(said, dict) and said.get("reached") is True:
                return ok(f"{peer.id} dialled this node back at {said.get('address')}.")
            if isinstance(said, dict):
                failure = failure or f"{peer.id} could not dial this node back at {said.get('address')}: {_step(said)}."
        if failure is None:
            return skipped(
                "No connected peer can dial us back, so nobody outside was asked.",
                "For certainty, have a friend's node connect to the address that `reach-outside` names.",
            )
        advice = f"Forward TCP port {port} to this machine and open it in the firewall."
        if "server-accept" in failure:  # as a stranger it may be turned away, if there is not another node
            return skipped(f"{failure} Strangers may not be wanted here (--strangers), or another node answers there.")
        return failed(failure, advice) if told else skipped(f"{failure} Others can only be called from here.", advice)

    async def _has_network(self) -> Finding:
        if self._network():
            return ok("There is a route to other networks.")
        return failed("This machine has no route to other networks.", "Connect it; peers nearby can be reached anyhow.")

    async def _peers(self) -> Finding:
        peers = self._connections.peers()
        live = [peer for peer in peers if peer.state is PeerState.CONNECTED]
        if live:
            return ok(
                f"{len({peer.id for peer in live})} connected, {len(self._connections.remembered())} addresses known."
            )
        if not peers:
            return skipped("No address of any peer is known.", "sbot join INVITE, or sbot connect ADDRESS.")
        errors = [known.error for known in self._connections.remembered() if known.error]
        last = f" Last error: {errors[-1]}." if errors else ""
        return failed(
            f"None of {len(peers)} known peers is connected.{last}", "sbot peers shows each; sbot join another pub."
        )

    async def _index(self) -> Finding:
        """Views that are behind and stand still, or whose tables are damaged, can be made anew."""
        indexer = self._store.indexer
        reach = await asyncio.to_thread(check_views, self._directory.database, views())
        damaged = {damage.subject for damage in reach.damage}
        before: Mapping[str, int] = indexer.behind
        if before and not damaged:
            await asyncio.sleep(self._pause)
        behind: Mapping[str, int] = indexer.behind
        if not behind and not damaged:
            return ok("All views show the whole log.")
        if not damaged and any(behind.get(name, 0) < left for name, left in before.items()):
            told = ", ".join(f"{name} ({left} messages left)" for name, left in sorted(behind.items()))
            return failed(f"Being made anew or left behind: {told}.", "Wait, sbot status shows how far they are.")
        names = sorted(damaged or behind)

        async def make_anew() -> str:
            await indexer.rebuild(names)
            with suppress(TimeoutError):
                async with asyncio.timeout(REBUILD_SECONDS):
                    while any(name in indexer.behind for name in names):  # noqa: ASYNC110 - it tells nobody
                        await asyncio.sleep(LOOK_AGAIN)
            return f"made anew: {', '.join(names)}"

        what = "damaged" if damaged else "left behind and standing still"
        return failed(f"Views are {what}: {', '.join(names)}.", "sbot rebuild makes them anew.", mend=make_anew)

    async def _feed(self) -> Finding:
        status = self._store.publishing.status()
        if status["state"] == "open":
            return ok(f"Open, {status['sequence']} messages.")
        reason = status["reason"]["text"] if status["reason"] else "no reason is known"
        return failed(f"The feed is {status['state']}: {reason}.", "sbot unlock tells what is missing.")


def _in_thread(check: Callable[[], Finding]) -> Callable[[], Awaitable[Finding]]:
    async def run() -> Finding:
        return await asyncio.to_thread(check)

    return run


def _claimed(text: bytes) -> float:
    try:
        claimed = orjson.loads(text)["timestamp"]
    except (ValueError, KeyError, TypeError):
        return 0.0
    return claimed if isinstance(claimed, int | float) else 0.0


def _step(said: Mapping[str, Any]) -> str:
    """Where a dial of somebody else stopped, in its words."""
    step = "the TCP connection" if said.get("step") == "connect" else f"the handshake ({str(said.get('step'))[:40]})"
    return f"{step} failed: {str(said.get('reason'))[:200]}"


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
