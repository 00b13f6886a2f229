"""Visits that are being signed in to, on both sides, and who is signed in (protocol.md section 17).

All of it lives in memory: nonces serve once and for a short while, and a restart signs everybody out. What a stranger
can make us keep is bounded; the oldest goes first.
"""

import binascii
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from feeds.keys import Keypair
from feeds.sign_in import is_nonce, is_solution, solve

__all__ = ["NONCE_SECONDS", "SESSION_SECONDS", "Session", "SignIn", "SignInRefused", "Visit"]

NONCE_SECONDS: Final = 300
SESSION_SECONDS: Final = 30 * 24 * 3600
MOST_VISITS: Final = 1000
MOST_SESSIONS: Final = 10_000


class SignInRefused(Exception):
    """We do not sign; the text may be shown to the other side."""


class Session(NamedTuple):
    """Somebody who is signed in here."""

    feed: str
    ends: float


@dataclass(slots=True)
class Visit:
    """Our challenge to whoever wants to sign in here. `session` is there once it is solved."""

    ends: float
    session: str | None = None


class SignIn:
    """Both sides of sign-in for one node. `now` gives seconds that only grow, `nonce` 32 random bytes."""

    def __init__(
        self, keypair: Keypair, *, now: Callable[[], float], nonce: Callable[[], bytes] = lambda: os.urandom(32)
    ) -> None:
        self._keypair = keypair
        self._now = now
        self._nonce = nonce
        self._asked: dict[str, tuple[str, float]] = {}
        self._visits: dict[str, Visit] = {}
        self._sessions: dict[str, Session] = {}

    # ---- we are the client

    def begin(self, server: str) -> str:
        """Our nonce for a visit that our user wants to make to a site; only this makes us sign for it."""
        cc = self._fresh()
        _bounded(self._asked, MOST_VISITS)
        self._asked[cc] = (server, self._now() + NONCE_SECONDS)
        return cc

    def answer(self, server: str | None, sc: object, cc: object) -> str:
        """The signature for a site that asks; once for each `begin`. Raises SignInRefused."""
        asked = self._asked.get(cc) if is_nonce(cc) else None
        if not (is_nonce(sc) and is_nonce(cc)) or asked is None or asked[0] != server or asked[1] < self._now():
            raise SignInRefused("nobody here asked to sign in to you with this nonce")
        del self._asked[cc]
        return solve(self._keypair, asked[0], sc, cc)

    def solve(self, server: str, sc: str) -> tuple[str, str]:
        """A nonce and the signature for a link of a site that our user has opened."""
        cc = self._fresh()
        return cc, solve(self._keypair, server, sc, cc)

    # ---- we are the server

    def challenge(self) -> str:
        """A nonce of ours for somebody who is to sign in here."""
        sc = self._fresh()
        _bounded(self._visits, MOST_VISITS)
        self._visits[sc] = Visit(self._now() + NONCE_SECONDS)
        return sc

    def visit(self, sc: str) -> Visit | None:
        """How a challenge stands; None when it is not ours or too old."""
        visit = self._visits.get(sc)
        if visit is None or visit.ends < self._now():
            self._visits.pop(sc, None)
            return None
        return visit

    def accept(self, client: str | None, sc: object, cc: object, solution: object) -> bool:
        """Take a signature for an open challenge: its author is signed in then, and the challenge is used up."""
        visit = self._visits.get(sc) if is_nonce(sc) else None
        if visit is None or visit.session is not None or visit.ends < self._now() or client is None:
            return False
        if not (is_nonce(sc) and is_nonce(cc) and is_solution(solution, self._keypair.id, client, sc, cc)):
            return False
        token = self._fresh()
        _bounded(self._sessions, MOST_SESSIONS)
        self._sessions[token] = Session(client, self._now() + SESSION_SECONDS)
        visit.session = token
        return True

    def session(self, token: str) -> Session | None:
        """Who is signed in with a session; None when it is over."""
        session = self._sessions.get(token)
        if session is None or session.ends < self._now():
            self._sessions.pop(token, None)
            return None
        return session

    def end(self, token: str) -> bool:
        """End a session; false if it was over."""
        return self.session(token) is not None and self._sessions.pop(token, None) is not None

    def end_all(self, client: str) -> int:
        """Sign somebody out everywhere; how many sessions that were."""
        tokens = [token for token, session in self._sessions.items() if session.feed == client]
        for token in tokens:
            del self._sessions[token]
        return len(tokens)

    def seconds_left(self, ends: float) -> int:
        """Whole seconds until a visit or session ends."""
        return max(0, int(ends - self._now()))

    def _fresh(self) -> str:
        return binascii.b2a_base64(self._nonce(), newline=False).decode()


def _bounded(kept: dict[str, Any], most: int) -> None:
    """Make room for one more; dicts are in the order of insertion."""
    while len(kept) >= most:
        del kept[next(iter(kept))]
