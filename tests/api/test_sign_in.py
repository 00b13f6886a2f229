"""Sign-in over HTTP: our user at a site, and visitors at a site of ours; the other node is played by the test."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

import pytest

from api.models import AuthChallenge, AuthSession, AuthState, SignInStart, Solved
from feeds.message import JsonValue
from feeds.sign_in import is_solution, start_uri
from replication.errors import ConnectionClosed
from replication.peer_info import Direction, PeerInfo, PeerState
from replication.sign_in import NONCE_SECONDS, SESSION_SECONDS, SignIn
from tests.api.test_access import code
from tests.support import builders
from tests.support.api import Api

THEM, OTHER = builders.keypair("them"), builders.keypair("other")
ADDRESS = "net:127.0.0.1:8008~shs:" + THEM.id[1:].removesuffix(".ed25519")
ELSEWHERE = "net:127.0.0.1:8008~shs:" + OTHER.id[1:].removesuffix(".ed25519")
LINK = PeerInfo(id=THEM.id, address=ADDRESS, direction=Direction.OUTGOING, state=PeerState.CONNECTED, since=0)
NONCE = "yEkQKaQjoxipL1NQpMCI6zEVfx4sHVx8gCFiH7qOQXg="


@pytest.fixture
def their(api: Api) -> SignIn:
    """Sign-in of the other node, which is connected and answers."""
    sign_in = SignIn(THEM, now=api.clock)

    def answered(method: str) -> Any:
        def call(peer: str, args: Sequence[JsonValue]) -> object:
            assert peer == THEM.id
            match method:
                case "requestSolution":
                    return sign_in.answer(api.me, *args)
                case "sendSolution":
                    return sign_in.accept(api.me, *args)
                case _:
                    return sign_in.end_all(api.me) >= 0

        return call

    api.peers.known.append(LINK)
    for method in ("requestSolution", "sendSolution", "invalidateAllSolutions"):
        api.peers.answers[f"httpAuth.{method}"] = answered(method)
    return sign_in


async def test_we_begin_to_sign_in(api: Api) -> None:
    answer = await api.client.post("/v1/sign-in/start", json={"server": THEM.id})
    begun = SignInStart.model_validate(answer.json())
    assert parse_qs(begun.query) == {"ssb-http-auth": ["1"], "cid": [api.me], "cc": [begun.cc]}
    solution = api.services.sign_in.answer(THEM.id, NONCE, begun.cc)
    assert is_solution(solution, THEM.id, api.me, NONCE, begun.cc)
    assert code(await api.client.post("/v1/sign-in/start", json={"server": "x"})) == "invalid-id"
    assert code(await api.client.post("/v1/sign-in/start", json={})) == "invalid-body"


async def test_we_solve_a_link_and_sign_out(api: Api, their: SignIn) -> None:
    sc = their.challenge()
    answer = await api.client.post("/v1/sign-in/solve", json={"uri": start_uri(THEM.id, sc)})
    assert Solved.model_validate(answer.json()) == Solved(server=THEM.id, accepted=True)
    visit = their.visit(sc)
    assert visit is not None
    session = their.session(visit.session or "")
    assert session is not None
    assert session.feed == api.me
    again = await api.client.post("/v1/sign-in/solve", json={"uri": start_uri(THEM.id, sc)})
    assert again.json()["accepted"] is False
    assert (await api.client.post("/v1/sign-in/end", json={"server": THEM.id})).status_code == 204
    assert their.session(visit.session or "") is None


async def test_a_link_with_an_address_is_dialled(api: Api, their: SignIn) -> None:
    api.peers.known.clear()
    uri = start_uri(THEM.id, their.challenge())
    assert code(await api.client.post("/v1/sign-in/solve", json={"uri": uri})) == "peer-not-found"
    uri = start_uri(THEM.id, their.challenge(), ELSEWHERE)
    assert code(await api.client.post("/v1/sign-in/solve", json={"uri": uri})) == "invalid-address"
    assert api.peers.dialled == []
    api.peers.answer = LINK
    uri = start_uri(THEM.id, their.challenge(), ADDRESS)
    assert (await api.client.post("/v1/sign-in/solve", json={"uri": uri})).json()["accepted"] is True
    assert api.peers.dialled == [ADDRESS]


@pytest.mark.parametrize(
    "uri", ["", "https://x.example", "ssb:experimental?action=start-http-auth&sid=x&sc=y", "ssb:x"]
)
async def test_other_links_are_refused(api: Api, uri: str) -> None:
    assert code(await api.client.post("/v1/sign-in/solve", json={"uri": uri})) == "invalid-id"


async def test_a_visitor_solves_our_challenge(api: Api, their: SignIn) -> None:
    answer = await api.client.post("/v1/auth/challenges")
    assert answer.status_code == 201
    challenge = AuthChallenge.model_validate(answer.json())
    path = f"/v1/auth/challenges/{challenge.id}"
    waiting = AuthState.model_validate((await api.client.get(path)).json())
    assert (waiting.state, waiting.feed, waiting.session) == ("waiting", None, None)
    sc = parse_qs(challenge.uri.partition("?")[2])["sc"][0]
    assert api.services.sign_in.accept(THEM.id, sc, *their.solve(api.me, sc))
    solved = AuthState.model_validate((await api.client.get(path)).json())
    assert (solved.state, solved.feed) == ("solved", THEM.id)
    assert await _who(api, solved.session) == THEM.id
    assert (await api.client.delete(f"/v1/auth/sessions/{solved.session}")).status_code == 204
    for method, gone in (("GET", path), ("DELETE", f"/v1/auth/sessions/{solved.session}")):
        assert code(await api.client.request(method, gone)) == "sign-in-not-found"


async def _who(api: Api, session: str | None) -> str:
    answer = await api.client.get(f"/v1/auth/sessions/{session}")
    return AuthSession.model_validate(answer.json()).feed


async def test_a_visitor_opens_our_login_page(api: Api, their: SignIn) -> None:
    cc = their.begin(api.me)
    answer = await api.client.post("/v1/auth/request", json={"feed": THEM.id, "cc": cc})
    session = AuthSession.model_validate(answer.json())
    assert session.feed == THEM.id
    assert await _who(api, session.session) == THEM.id
    api.clock.at += SESSION_SECONDS + 10
    assert code(await api.client.get(f"/v1/auth/sessions/{session.session}")) == "sign-in-not-found"


async def test_visitors_who_do_not_prove_who_they_are(api: Api, their: SignIn) -> None:
    async def ask(feed: str, cc: str) -> str:
        return code(await api.client.post("/v1/auth/request", json={"feed": feed, "cc": cc}))

    assert await ask(THEM.id, "x") == "invalid-body"
    assert await ask(OTHER.id, NONCE) == "peer-not-found"
    wrongs: list[object] = [None, 1, "x", {}, their.solve(api.me, NONCE)[1]]
    for _ in range(len(wrongs)):
        api.peers.answers["httpAuth.requestSolution"] = lambda _peer, _args: wrongs.pop()
        assert await ask(THEM.id, NONCE) == "sign-in-refused"
    api.peers.failure = ConnectionClosed("cut")
    assert await ask(THEM.id, NONCE) == "sign-in-failed"


async def test_challenges_end(api: Api) -> None:
    challenge = (await api.client.post("/v1/auth/challenges")).json()["id"]
    api.clock.at += NONCE_SECONDS + 10
    for name in (challenge, "x", "%00"):
        assert code(await api.client.get(f"/v1/auth/challenges/{name}")) == "sign-in-not-found"
