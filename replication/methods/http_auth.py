"""httpAuth.*: signing in to sites with one's feed, as the client and as the site (protocol.md section 17)."""

from feeds.message import JsonValue
from replication.errors import RemoteVisible
from replication.methods.services import MethodServices
from replication.rpc.methods import Caller, Kind, Method, Who
from replication.sign_in import SignInRefused


def methods(services: MethodServices) -> list[Method]:
    """The site calls the first one on us; clients call the others."""
    sign_in = services.sign_in

    async def request_solution(caller: Caller, args: list[JsonValue]) -> str:
        """`[sc, cc]`: our signature, if our user has just begun to sign in to this very site with `cc`."""
        sc, cc, *_ = [*args, None, None]
        try:
            return sign_in.answer(caller.id, sc, cc)
        except SignInRefused as refused:
            raise RemoteVisible(f"httpAuth.requestSolution: {refused}") from refused

    async def send_solution(caller: Caller, args: list[JsonValue]) -> bool:
        """`[sc, cc, signature]`: whether the caller is signed in now."""
        sc, cc, solution, *_ = [*args, None, None, None]
        return sign_in.accept(caller.id, sc, cc, solution)

    async def invalidate_all_solutions(caller: Caller, _args: list[JsonValue]) -> bool:
        """The caller is signed out everywhere."""
        if caller.id is not None:
            sign_in.end_all(caller.id)
        return True

    return [
        Method(("httpAuth", "requestSolution"), Kind.ASYNC, Who.ANON, request_solution),
        Method(("httpAuth", "sendSolution"), Kind.ASYNC, Who.ANON, send_solution),
        Method(("httpAuth", "invalidateAllSolutions"), Kind.ASYNC, Who.ANON, invalidate_all_solutions),
    ]
