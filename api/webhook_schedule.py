"""When a webhook is tried again: exponential back-off with jitter, and a pause after too many failures in a row.

Pure: the time and the random number are arguments. Times are seconds since 1970.
"""

from dataclasses import dataclass, replace
from typing import Final

__all__ = ["FRESH", "Patience", "Progress", "failed", "seconds_left"]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to keep trying. The defaults give up after some 14 hours."""

    first: float = 5.0
    """Seconds after the first failure; doubled with each further one."""
    longest: float = 3600.0
    spread: float = 0.5
    """Each wait is shortened by up to this part of it, so that many webhooks of one dead server do not come at once."""
    failures: int = 24
    """So many in a row pause the webhook."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How a webhook has fared since its last success."""

    failures: int = 0
    next_try: float | None = None
    paused: bool = False
    error: str | None = None
    """Why the last try failed."""


FRESH: Final = Progress()
"""After a success, and after somebody resumed it."""


def failed(progress: Progress, error: str, *, now: float, chance: float, patience: Patience, gone: bool) -> Progress:
    """What follows from one more failure. chance -- random, 0 <= chance < 1; gone -- the server wants no more."""
    failures = progress.failures + 1
    if gone or failures >= patience.failures:
        return Progress(failures, None, True, error)
    doublings = min(failures - 1, 62)  # beyond any `longest`, and short of overflow
    wait = min(patience.first * 2.0**doublings, patience.longest)
    return replace(progress, failures=failures, next_try=now + wait * (1 - patience.spread * chance), error=error)


def seconds_left(progress: Progress, *, now: float, patience: Patience) -> float:
    """Seconds until the next try; a clock that was turned back makes nobody wait longer than the longest wait."""
    if progress.next_try is None:
        return 0.0
    return min(max(0.0, progress.next_try - now), patience.longest)
