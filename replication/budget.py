"""How many bytes of messages and blobs may come a day: in all, from one peer, and of feeds at one distance. Pure.

Days are those of UTC, by their number since 1970. A budget that is used up stops the asking, not what is under way
already; our own feed is never held back. Counts are kept by key: "all", "peer @…", "hop 2".
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["ALL", "DAY_SECONDS", "Budgets", "Spending"]

DAY_SECONDS: Final = 86_400
ALL: Final = "all"


@dataclass(frozen=True, slots=True)
class Budgets:
    """Bytes a day; None, or a hop that is not named, for no limit."""

    total: int | None = None
    peer: int | None = None
    hops: Mapping[int, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.total is not None or self.peer is not None or bool(self.hops)


class Spending:
    """What was used today. `keys` bounds how many counts are kept: beyond, the peers that used least are forgotten."""

    def __init__(self, budgets: Budgets, now: float, *, keys: int = 1000) -> None:
        self.budgets: Final = budgets
        self._keys: Final = keys
        self.day = int(now // DAY_SECONDS)
        self._used: dict[str, int] = {}
        self._changed: set[str] = set()

    def load(self, used: Mapping[str, int]) -> None:
        """Take over what was saved of this day."""
        self._used = dict(used)

    def begin_day(self, now: float) -> bool:
        """Begin anew if a new day has come; whether it has. A clock that is set back changes nothing."""
        day = int(now // DAY_SECONDS)
        if day <= self.day:
            return False
        self.day = day
        self._used, self._changed = {}, set()
        return True

    def spend(self, peer: str, size: int, hops: Mapping[int, int] | None = None) -> bool:
        """So many bytes came from a peer, and so many of them by distance; whether a budget has run out by that."""
        ran_out = self._add(ALL, size, self.budgets.total)
        ran_out |= self._add(f"peer {peer}", size, self.budgets.peer)
        for hop, part in (hops or {}).items():
            ran_out |= self._add(f"hop {hop}", part, self.budgets.hops.get(hop))
        return ran_out

    def _add(self, key: str, size: int, budget: int | None) -> bool:
        before = self._used.get(key, 0)
        if key not in self._used and len(self._used) >= self._keys:
            peers = [known for known in self._used if known.startswith("peer ")]
            if peers:
                del self._used[min(peers, key=self._used.__getitem__)]
        self._used[key] = before + size
        self._changed.add(key)
        return budget is not None and before < budget <= before + size

    def take_changes(self) -> dict[str, int]:
        """Counts that changed since the last call, to be saved under `day`."""
        changed, self._changed = self._changed, set()
        return {key: self._used[key] for key in changed if key in self._used}

    # ---- what is in force

    @property
    def total_spent(self) -> bool:
        return self._over(ALL, self.budgets.total)

    def peer_spent(self, peer: str) -> bool:
        """Whether nothing more is to be asked of a peer today."""
        return self._over(f"peer {peer}", self.budgets.peer)

    def hop_spent(self, hop: int | None) -> bool:
        """Whether feeds at a distance are not to be asked for today, by the budget of their distance or of all."""
        if hop == 0:
            return False
        return self.total_spent or (hop is not None and self._over(f"hop {hop}", self.budgets.hops.get(hop)))

    def reason(self, hop: int | None, peers: Collection[str] = ()) -> str | None:
        """The budget that holds back what is at a distance (None: of unknown distance), for people.

        peers -- all those that could give it: their own budgets hold it back if there is none left with any.
        """
        if hop == 0:
            return None
        if self.total_spent:
            return f"the budget of today is used up ({self.budgets.total} bytes)"
        if hop is not None and self.hop_spent(hop):
            return f"the budget of today for feeds {hop} hops away is used up ({self.budgets.hops[hop]} bytes)"
        if peers and all(map(self.peer_spent, peers)):
            return f"the budget of today is used up ({self.budgets.peer} bytes) for {', '.join(sorted(peers)[:3])}"
        return None

    def status(self) -> dict[str, Any]:
        """Plain JSON values."""
        over = [hop for hop in sorted(self.budgets.hops) if self._over(f"hop {hop}", self.budgets.hops[hop])]
        return {
            "used": self._used.get(ALL, 0),
            "total": self.budgets.total,
            "per_peer": self.budgets.peer,
            "per_hop": {
                str(hop): {"used": self._used.get(f"hop {hop}", 0), "budget": budget}
                for hop, budget in sorted(self.budgets.hops.items())
            },
            "spent": {
                "total": self.total_spent,
                "hops": over,
                "peers": sorted(
                    key.removeprefix("peer ")
                    for key in self._used
                    if key.startswith("peer ") and self._over(key, self.budgets.peer)
                ),
            },
        }

    def _over(self, key: str, budget: int | None) -> bool:
        return budget is not None and self._used.get(key, 0) >= budget
