"""How long to wait before dialling a peer again. Pure: the random part is an argument.

Waiting grows by ``factor`` with each failure in a row, from ``minimum`` to ``maximum`` seconds. Up to ``spread`` of
each wait is taken off at random, so that peers cut off together do not come back together. A connection counts as a
success only once it has lasted ``steady`` seconds: a peer that accepts and hangs up at once is not dialled in a loop.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """The schedule; times in seconds. ValueError for figures that make no schedule."""

    minimum: float = 1.0
    maximum: float = 600.0
    factor: float = 2.0
    spread: float = 0.5
    steady: float = 30.0

    def __post_init__(self) -> None:
        if not 0 < self.minimum <= self.maximum < math.inf:
            raise ValueError("back-off needs 0 < minimum <= maximum")
        if not self.factor >= 1 or not 0 <= self.spread < 1 or not self.steady >= 0:
            raise ValueError("back-off needs factor >= 1, 0 <= spread < 1 and steady >= 0")

    def delay(self, failures: int, jitter: float) -> float:
        """Seconds to wait after ``failures`` failures in a row (0: none); ``jitter`` is random in [0, 1)."""
        if not 0 <= jitter <= 1:
            raise ValueError(f"jitter must be within 0..1, not {jitter}")
        if failures <= 0:
            return 0.0
        # The exponent at which the maximum is reached; beyond it the power could overflow a float.
        limit = math.log(self.maximum / self.minimum, self.factor) if self.factor > 1 else 0.0
        whole = self.maximum if failures - 1 >= limit > 0 else self.minimum * self.factor ** min(failures - 1, limit)
        return min(whole, self.maximum) * (1 - self.spread * jitter)

    def failed(self, failures: int) -> int:
        """The count after a dial that led to no connection."""
        return failures + 1

    def ended(self, failures: int, lasted: float) -> int:
        """The count after a connection of ``lasted`` seconds has ended."""
        return 0 if lasted >= self.steady else failures + 1
