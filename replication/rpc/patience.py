"""How long a peer may keep silent, and how long it may take over one frame. Pure; time is an argument.

A frame that grows counts as progress only by large steps, so that dripping does not help, while a large
frame on a slow line is allowed its time.
"""

from typing import NamedTuple

from replication.limits import Limits

_STEP = 64 * 1024


class Exhausted(NamedTuple):
    """Why a connection is cut, and the limit that was passed."""

    reason: str
    limit: str


class Patience:
    """What was heard from one peer, and when."""

    __slots__ = ("_half_seen", "_heard", "_limits", "_progress", "_received")

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._heard = now
        self._progress = now
        self._received = 0
        self._half_seen: float | None = None

    @property
    def heard_at(self) -> float:
        """When something was last heard."""
        return self._heard

    @property
    def pause(self) -> float:
        """Seconds until the next look."""
        return min(self._limits.silence_timeout, self._limits.half_frame_timeout) / 4

    def heard(self, now: float, *, whole: bool, received: int) -> None:
        """Something arrived. ``whole``: a frame was completed; ``received``: bytes in all so far."""
        self._heard = now
        if whole or received - self._received >= _STEP:
            self._progress = now
            self._received = received

    def exhausted(self, now: float, *, partial: bool, reading: bool) -> Exhausted | None:
        """Why to cut the connection, if there is a reason. ``reading``: we would take what comes."""
        if not reading:
            self._heard, self._half_seen = now, None
        elif not partial:
            self._half_seen = None
        elif self._half_seen is None:
            self._half_seen = now
        if now - self._heard > self._limits.silence_timeout:
            return Exhausted(f"nothing was heard for {self._limits.silence_timeout:g} s", "silence_timeout")
        begun = None if self._half_seen is None else max(self._half_seen, self._progress)
        if begun is not None and now - begun > self._limits.half_frame_timeout:
            reason = f"a frame was not completed in {self._limits.half_frame_timeout:g} s"
            return Exhausted(reason, "half_frame_timeout")
        return None
