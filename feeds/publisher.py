"""The only place that signs messages of our own feed, and the state that says whether it may.

A message is made inside the writer's turn, from the tip that the same transaction reads, so two publishes cannot take
one sequence. States: open; locked, when the store may be older than what we once published (`publisher_state` has the
reasons, `publishing` the way out); forked, when two branches of our feed are known: final.
"""

import math
import os
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final

from feeds.errors import FeedLocked, ForkedFeed, InvalidMessage, SequenceMismatch
from feeds.formats.base import FeedFormat
from feeds.keys import Keypair
from feeds.message import Draft, JsonObject, JsonValue, Message, Tip
from feeds.private import sealing
from feeds.publisher_state import WAY_OUT, Lock, Reason
from feeds.publishing_mark import MarkKeeper
from feeds.validation import check_next

__all__ = ["Publisher", "State"]

_EXACT: Final = 2**53


class State(StrEnum):
    """Whether our own feed may be written to."""

    OPEN = "open"
    LOCKED = "locked"
    FORKED = "forked"


class Publisher:
    """Our own feed's key and rules."""

    def __init__(
        self,
        keypair: Keypair,
        form: FeedFormat,
        *,
        hmac_key: bytes | None = None,
        mark: MarkKeeper | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """mark -- written around each commit of what is signed here. random -- so many random bytes, for encrypting."""
        self._keypair: Final = keypair
        self._format: Final = form
        self._hmac_key: Final = hmac_key
        self._random: Final = random
        self.mark: Final = mark
        self._lock: Lock | None = None

    @property
    def id(self) -> str:
        """Our feed."""
        return self._keypair.id

    @property
    def lock(self) -> Lock | None:
        """Why nothing may be signed, None when it may."""
        return self._lock

    def close(self, lock: Lock) -> None:
        """Sign nothing more, from now on and from any thread. The first reason stays."""
        self._lock = self._lock or lock

    def open(self) -> None:
        """Sign again: the lock was found to be without reason, or taken off."""
        self._lock = None

    def delivered(self, now: int) -> None:
        """Messages of our feed came from outside, so somebody published them elsewhere, or we had lost them.

        Called in the writer's turn: nothing is signed after them. now -- ms since 1970.
        """
        self.close(Lock(Reason.DELIVERED, now))

    def state(self, forked: bool) -> State:
        """State of our feed, given whether the log knows two branches of it."""
        if forked:
            return State.FORKED
        return State.OPEN if self._lock is None else State.LOCKED

    def check(self, forked: bool) -> None:
        """Raise FeedLocked or ForkedFeed unless the feed may be written to."""
        match self.state(forked):
            case State.FORKED:
                raise ForkedFeed(
                    "two branches of this feed are known, so nothing more can be published under this identity"
                )
            case State.LOCKED:
                reason = "" if self._lock is None else self._lock.text
                raise FeedLocked(State.LOCKED.value, f"our feed is locked: {reason}", WAY_OUT)
            case State.OPEN:
                pass

    def sealed(self, content: JsonObject | str, recps: Sequence[JsonValue] | None = None) -> JsonObject | str:
        """The content as it goes into the feed: encrypted when recipients are named beside it or in its `recps`.

        Raises InvalidMessage when it cannot be encrypted for them; it is then not to be published at all.
        """
        if not sealing.wants_sealing(content, recps):
            return content
        return sealing.seal(content, recps, me=self.id, random=self._random)

    def draft(self, content: JsonObject | str, tip: Tip, *, now: float) -> Draft:
        """What `sign` would sign, with its size. Raises InvalidMessage, TooLarge."""
        return self._format.draft(self.id, tip, content, int(now))

    def sign(
        self,
        content: JsonObject | str,
        tip: Tip,
        last_timestamp: float | None,
        *,
        now: float,
        if_sequence: int | None = None,
    ) -> Message:
        """The next message of our feed after `tip`, signed and passed by the validator that judges everyone's.

        Its claimed time is `now` (ms since 1970), or a millisecond after that of the message before it.
        Raises InvalidMessage, TooLarge (an InvalidMessage) and SequenceMismatch.
        """
        if if_sequence is not None and if_sequence != tip.sequence:
            raise SequenceMismatch(if_sequence, tip.sequence)
        timestamp = _later(int(now), last_timestamp)
        message = self._format.create(self._keypair, tip, content, timestamp, self._hmac_key)
        try:
            read = check_next(self._format, message.text, tip, self._hmac_key)
        except InvalidMessage as error:
            raise InvalidMessage(f"the validator refuses this message: {error}", "content") from error
        if read.id != message.id:
            raise InvalidMessage("this message does not read back as it was written", "content")
        return read


def _later(now: int, last: float | None) -> int:
    """A claimed time after the last one, unless that is beyond what numbers can count up from."""
    if last is None or not abs(last) < _EXACT:
        return now
    return max(now, math.floor(last) + 1)
