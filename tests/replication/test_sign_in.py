"""Signing in between two nodes, and what must not sign or be signed in."""

import itertools
from pathlib import Path

import pytest

from feeds.message import JsonValue
from feeds.sign_in import is_solution, solve
from replication.errors import ConnectionClosed, RemoteCallError
from replication.sign_in import MOST_VISITS, NONCE_SECONDS, SESSION_SECONDS, SignIn, SignInRefused
from tests.support import builders
from tests.support.peers import open_node, stranger

SITE, USER, OTHER = (builders.keypair(name) for name in ("site", "user", "other"))


class Clock:
    at = 1000.0

    def __call__(self) -> float:
        return self.at


def sides(clock: Clock) -> tuple[SignIn, SignIn]:
    """The site's and the user's."""
    numbers = itertools.count()

    def nonce() -> bytes:
        return next(numbers).to_bytes(32, "big")

    return SignIn(SITE, now=clock, nonce=nonce), SignIn(USER, now=clock, nonce=nonce)


def test_the_client_begins() -> None:
    site, user = sides(Clock())
    cc, sc = user.begin(SITE.id), site.challenge()
    solution = user.answer(SITE.id, sc, cc)
    assert is_solution(solution, SITE.id, USER.id, sc, cc)
    assert site.accept(USER.id, sc, cc, solution)
    visit = site.visit(sc)
    assert visit is not None
    assert visit.session is not None
    session = site.session(visit.session)
    assert session is not None
    assert session.feed == USER.id
    assert not site.accept(USER.id, sc, cc, solution)
    with pytest.raises(SignInRefused):
        user.answer(SITE.id, sc, cc)


def test_the_site_begins() -> None:
    site, user = sides(Clock())
    sc = site.challenge()
    waiting = site.visit(sc)
    assert waiting is not None
    assert waiting.session is None
    cc, solution = user.solve(SITE.id, sc)
    assert not site.accept(OTHER.id, sc, cc, solution)
    assert not site.accept(None, sc, cc, solution)
    assert not site.accept(USER.id, cc, sc, solution)
    assert not site.accept(USER.id, sc, cc, solve(OTHER, SITE.id, sc, cc))
    assert site.accept(USER.id, sc, cc, solution)


def test_we_sign_only_for_the_site_that_was_asked_for_and_in_time() -> None:
    clock = Clock()
    site, user = sides(clock)
    cc, sc = user.begin(SITE.id), site.challenge()
    for server, given_sc, given_cc in (
        (OTHER.id, sc, cc),
        (None, sc, cc),
        (SITE.id, sc, sc),
        (SITE.id, "x", cc),
        (SITE.id, None, cc),
        (SITE.id, sc, [cc]),
    ):
        with pytest.raises(SignInRefused):
            user.answer(server, given_sc, given_cc)
    clock.at += NONCE_SECONDS + 1
    with pytest.raises(SignInRefused):
        user.answer(SITE.id, sc, cc)


def test_challenges_and_sessions_end() -> None:
    clock = Clock()
    site, user = sides(clock)
    old = site.challenge()
    clock.at += NONCE_SECONDS + 1
    assert not site.accept(USER.id, old, *user.solve(SITE.id, old))
    assert site.visit(old) is None
    tokens = []
    for _ in range(3):
        sc = site.challenge()
        assert site.accept(USER.id, sc, *user.solve(SITE.id, sc))
        visit = site.visit(sc)
        assert visit is not None
        tokens.append(visit.session or "")
    assert site.end(tokens[0])
    assert not site.end(tokens[0])
    assert site.end_all(OTHER.id) == 0
    assert site.end_all(USER.id) == 2
    assert site.session(tokens[1]) is None
    sc = site.challenge()
    assert site.accept(USER.id, sc, *user.solve(SITE.id, sc))
    visit = site.visit(sc)
    assert visit is not None
    clock.at += SESSION_SECONDS + 1
    assert site.session(visit.session or "") is None


def test_what_is_kept_is_bounded() -> None:
    site, user = sides(Clock())
    first, asked = site.challenge(), user.begin(SITE.id)
    for _ in range(MOST_VISITS):
        site.challenge()
        user.begin(SITE.id)
    assert site.visit(first) is None
    with pytest.raises(SignInRefused):
        user.answer(SITE.id, first, asked)


async def test_over_the_wire(tmp_path: Path) -> None:
    async with open_node(tmp_path, "site") as site, open_node(tmp_path, "user") as user:
        await user.connections.dial(site.address)
        challenge = site.sign_in.challenge()
        cc, solution = user.sign_in.solve(site.id, challenge)
        wrongs: list[list[JsonValue]] = [[], [challenge], [challenge, cc, "x"], [{}, [], 1], [cc, challenge, solution]]
        for wrong in wrongs:
            assert await user.connections.call(site.id, "httpAuth.sendSolution", wrong) is False
        assert await user.connections.call(site.id, "httpAuth.sendSolution", [challenge, cc, solution]) is True
        visit = site.sign_in.visit(challenge)
        assert visit is not None
        session = visit.session or ""
        assert site.sign_in.session(session) is not None
        assert await user.connections.call(site.id, "httpAuth.invalidateAllSolutions") is True
        assert site.sign_in.session(session) is None

        sc, cc = site.sign_in.challenge(), user.sign_in.begin(site.id)
        async with stranger(user) as peer:
            with pytest.raises(RemoteCallError, match="nobody here asked"):
                await peer.call("httpAuth.requestSolution", [sc, cc])
        solution = str(await site.connections.call(user.id, "httpAuth.requestSolution", [sc, cc]))
        assert is_solution(solution, site.id, user.id, sc, cc)
        with pytest.raises(RemoteCallError, match="nobody here asked"):
            await site.connections.call(user.id, "httpAuth.requestSolution", [sc, cc])
        with pytest.raises(ConnectionClosed):
            await site.connections.call(OTHER.id, "httpAuth.requestSolution", [sc, cc])
