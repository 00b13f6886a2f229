"""How far replication is, for people: totals, a line for each peer, all about one feed. Plain JSON values."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from feeds.log import Log
from replication.ebt.state import EbtState, PairStatus
from replication.exchange import Exchange
from replication.policy import Policy

RATE_SECONDS: Final = 5.0


class Rate:
    """Messages stored a second, over the last few seconds."""

    def __init__(self, now: float, position: int) -> None:
        self._seen = deque([(now, position)])

    def measure(self, now: float, position: int) -> None:
        """To be called about once a second with the position of the log."""
        self._seen.append((now, position))
        while len(self._seen) > 2 and self._seen[1][0] < now - RATE_SECONDS:
            self._seen.popleft()

    def left(self, missing: int) -> int | None:
        """Seconds until so many messages are here if it goes on like this; None when nothing moves."""
        rate = self.per_second
        return None if rate <= 0 else -int(-missing // rate)

    @property
    def per_second(self) -> float:
        (began, before), (ended, after) = self._seen[0], self._seen[-1]
        return (after - before) / (ended - began) if ended > began else 0.0


def summary(log: Log, state: EbtState, policy: Policy, wanted: Sequence[str], *, connected: bool) -> dict[str, Any]:
    """Totals wanted, held, and missing by what the connected peers say they have."""
    missing = {
        feed: claim - held for feed, claim in _best_claims(state).items() if claim > (held := log.sequence(feed))
    }
    held, lacking = sum(map(log.sequence, wanted)), sum(missing.values())
    return {
        "feeds": {
            "wanted": len(wanted),
            "held": sum(1 for feed in wanted if log.sequence(feed)),
            "behind": len(missing),
            "forked": sum(1 for feed in wanted if log.feed_state(feed) == "forked"),
            "requested": sum(policy.requests.values()),
        },
        "messages": {"wanted": held + lacking, "held": held, "missing": lacking},
        "state": "offline" if not connected else "syncing" if missing else "up to date",
        "hops": policy.max_hops,
    }


def peers(state: EbtState, exchanges: Iterable[Exchange]) -> list[dict[str, Any]]:
    """A line for each connection that replicates."""
    return [_peer(state, exchange) for exchange in exchanges]


def feed(
    feed_id: str, log: Log, state: EbtState, policy: Policy, requests: Mapping[str, bool], *, connected: bool
) -> dict[str, Any]:
    """What we have of one feed, what each peer says it has, and what is being waited for."""
    status = state.feed_status(feed_id)
    held = log.sequence(feed_id)
    lag = max([0, *(pair.claim - held for pair in status.peers.values() if pair.claim is not None)])
    if log.feed_state(feed_id) == "forked":
        stands, waits_for = "forked", None
    elif feed_id not in policy.wanted:
        stands, waits_for = "not wanted", None
    elif lag:
        stands = "behind"
        waits_for = f"{lag} messages from {status.source}" if status.source else "a peer to send them"
    elif not connected:
        stands, waits_for = "offline", "a connection to a peer"
    else:
        stands, waits_for = ("up to date", None) if held else ("unknown", "a peer that has it")
    return {
        "feed": feed_id,
        "sequence": held,
        "wanted": feed_id in policy.wanted,
        "reason": policy.reason(feed_id).value,
        "requested": requests.get(feed_id),
        "hops": policy.hops.get(feed_id),
        "state": stands,
        "waits_for": waits_for,
        "lag": lag,
        "source": status.source,
        "peers": [_pair(peer, pair, held) for peer, pair in status.peers.items()],
    }


def _best_claims(state: EbtState) -> dict[str, int]:
    """The most that any connected peer says it has of each wanted feed."""
    best: dict[str, int] = {}
    for peer in state.peers():
        for feed_id, claim in state.clock_of(peer).items():
            if claim > best.get(feed_id, 0):
                best[feed_id] = claim
    return best


def _peer(state: EbtState, exchange: Exchange) -> dict[str, Any]:
    line: dict[str, Any] = {"id": exchange.peer, "protocol": exchange.protocol}
    status = state.peer_status(exchange.peer)
    if status is None:
        if exchange.protocol is None:
            return line | {"state": "starting", "waits_for": "its first word on feeds"}
        return line | {"state": "fetching", "waits_for": "what its history streams bring"}
    if status.missing:
        stands, waits_for = "behind", f"{status.missing} messages that it has and we have not"
    elif status.owed:
        stands, waits_for = "sending", f"it to take {status.owed} messages"
    else:
        stands, waits_for = "up to date", None
    return line | {
        "state": stands,
        "waits_for": waits_for,
        "missing": status.missing,
        "owed": status.owed,
        "received": status.received,
        "sent": status.sent,
        "duplicates": status.duplicates,
        "invalid": status.invalid,
    }


def _pair(peer: str, pair: PairStatus, held: int) -> dict[str, Any]:
    return {
        "id": peer,
        "claim": pair.claim,
        "told": pair.told,
        "lag": None if pair.claim is None else max(0, pair.claim - held),
        "sending": pair.sending,
        "receiving": pair.receiving,
    }
