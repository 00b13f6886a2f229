"""Feeds that we follow come before those further away: when the far ones have to wait. Pure.

While much of our own feed and of those we follow or asked for by hand (hops 0 and 1) is missing, nobody is asked for
feeds further away. That ends when the near ones are here, when they stand still (whoever claims to have more may lie,
or be slow), and after ten minutes in any case; after giving up like that they wait again only once all was well.
"""

from typing import Final

__all__ = ["ENOUGH", "MANY", "NearFirst"]

MANY: Final = 1000
"""So many messages of near feeds must be missing for far feeds to wait."""
ENOUGH: Final = 50
"""With so few missing, far feeds are asked for again."""
STILL_SECONDS: Final = 10.0
LONGEST_SECONDS: Final = 600.0


class NearFirst:
    """To be told about once a second how much of the near feeds is missing, in seconds of a steady clock."""

    def __init__(self) -> None:
        self.waiting = False
        """Far feeds wait."""
        self._gave_up = False
        self._least = 0
        self._began = self._moved = 0.0

    def look(self, now: float, missing: int) -> bool:
        """`missing`: messages of near feeds that connected peers say they have and we have not. Gives `waiting`."""
        if missing <= ENOUGH:
            self.waiting = self._gave_up = False
        elif self.waiting:
            if missing < self._least:
                self._least, self._moved = missing, now
            if now - self._moved >= STILL_SECONDS or now - self._began >= LONGEST_SECONDS:
                self.waiting, self._gave_up = False, True
        elif missing >= MANY and not self._gave_up:
            self.waiting = True
            self._least, self._began, self._moved = missing, now, now
        return self.waiting
