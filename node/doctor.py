"""`sbot doctor`: one check after another, each with what came out and what to do (GET /v1/doctor).

The node dials itself, over the address that it tells others where there is one. That shows that a port is open from
here; whether others far away get through, only they can tell, and no deployed peer offers to dial back.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import orjson

from node import file_checks
from node.directory import DataDirectory
from node.file_checks import Finding, failed, ok, skipped
from node.store import Store
from replication.address import Address, parse_address
from replication.connections import Connections
from replication.errors import ConnectionClosed, DialFailed, InvalidAddress, NoPublicAddress, RemoteError
from replication.inviting import Inviting
from replication.network import has_route
from replication.peer_info import PeerState
from replication.rpc.methods import Kind

__all__ = ["Check", "Doctor", "examine", "offline"]

log = logging.getLogger("node.doctor")

CHECK_SECONDS: Final = 30.0
CALL_SECONDS: Final = 10.0
RECENT: Final = 200
AHEAD_MS: Final = 5 * 60 * 1000
EARLIEST: Final = 1_735_689_600
"""2025-01-01: no clock that is right shows less."""
LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}  # noqa: S104 - compared with, not bound to

Check = tuple[str, Callable[[], Awaitable[Finding]]]


async def examine(checks: Sequence[Check], *, seconds: float = CHECK_SECONDS) -> list[dict[str, Any]]:
    """Run them in order; none can hold up or hide the others."""
    found = []
    for name, check in checks:
        try:
            async with asyncio.timeout(seconds):
                finding = await check()
        except TimeoutError:
            finding = skipped(f"The check took more than {seconds:g} seconds.")
        except Exception:
            log.exception("the check of %s failed", name)
            finding = failed("The check itself failed.", "The node's log says why, with --log-level debug.")
        found.append({"check": name, "state": str(finding.state), "detail": finding.detail, "advice": finding.advice})
    return found


def offline(directory: DataDirectory, me: str | None = None, pid: int | None = None) -> list[Check]:
    """What can be looked at without a running node; `me` and `pid` are of one that runs."""
    return [
        ("directory", _in_thread(lambda: file_checks.check_directory(directory))),
        ("key", _in_thread(lambda: file_checks.check_key(directory, me))),
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
        wall: Callable[[], float] = time.time,
        network: Callable[[], bool] = has_route,
    ) -> None:
        self._directory = directory
        self._me = me
        self._store = store
        self._connections = connections
        self._inviting = inviting
        self._wall = wall
        self._network = network
        self._turn = asyncio.Lock()

    async def examine(self) -> list[dict[str, Any]]:
        """All checks, one examination at a time; plain JSON values."""
        checks: list[Check] = [
            *offline(self._directory, self._me, os.getpid()),
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
        async with self._turn:
            return await examine(checks)

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
        return skipped(
            "Peers have no method to dial us back, so nobody outside was asked.",
            "For certainty, have a friend's node connect to the address that `reach-outside` names.",
        )

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
        behind: Mapping[str, object] | Sequence[str] = self._store.indexer.behind
        if not behind:
            return ok("All views show the whole log.")
        return failed(
            f"Being made anew or left behind: {', '.join(sorted(behind))}.",
            "Wait, sbot status shows how far they are; if it does not move, sbot rebuild.",
        )

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


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
