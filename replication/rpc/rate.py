"""A token bucket: so many calls a second, with a burst. Pure; time is an argument."""


class TokenBucket:
    """``rate`` tokens a second flow in, at most ``burst`` are kept; it starts full."""

    __slots__ = ("_burst", "_last", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._last = now

    def take(self, now: float) -> float:
        """Take one token; returns the seconds to wait before going on (0.0 while there are tokens)."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._last) * self._rate) - 1
        self._last = now
        return max(0.0, -self._tokens / self._rate)
