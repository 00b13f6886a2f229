"""Who may ask: the access token, the names this node answers to, and which web pages may write.

The API listens on loopback, where every web page that the user visits can reach it as well. So the Host must be one of
ours (DNS rebinding gives a foreign name our address), writes from pages of other origins are refused, and all but three
paths want a token: the node's own, which only the user's own programs can read and which allows everything, or one that
was made for a program (`api.tokens`). What a token allows is noted beside the request, for `api.scopes` to judge by.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from starlette.types import Scope

from api.errors import Problem
from api.scopes import GRANT, OPEN_PATHS, Grant, TokenScope

__all__ = ["OPEN_PATHS", "Access"]

BROWSER_PATHS: Final = frozenset({"/docs", "/openapi.json"})
"""Here the token may also come as the password of a browser's own prompt (Basic): documents to look at, no data."""
LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")

_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]{1,5})?")


class Access:
    """The checks of one node.

    hosts -- names beside the loopback ones; origins -- foreign pages that may write; tokens -- what another token than
    the node's own allows, None for one that is unknown.
    """

    def __init__(
        self,
        token: str,
        *,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        tokens: Callable[[bytes], Grant | None] = lambda _: None,
    ) -> None:
        self._token: Final = token.encode()
        self._tokens: Final = tokens
        self._hosts: Final = frozenset((*LOOPBACK, *map(_bracketed, hosts)))
        self._origins: Final = frozenset(origin.lower() for origin in origins)

    def refusal(self, scope: Scope) -> Problem | None:
        """Why this request is not answered; None when it is, and then the scope has what its token allows."""
        hosts: list[bytes] = []
        origins: list[bytes] = []
        sites: list[bytes] = []
        credentials: list[bytes] = []
        wanted = {b"host": hosts, b"origin": origins, b"sec-fetch-site": sites, b"authorization": credentials}
        for name, value in scope["headers"]:
            if name in wanted:
                wanted[name].append(value)
        host = hosts[0].decode("latin-1").lower() if len(hosts) == 1 else ""
        if (problem := self._foreign_host(host)) is not None:
            return problem
        if scope["method"] not in _READING and (problem := self._foreign_page(host, origins, sites)) is not None:
            return problem
        path = scope["path"]
        if path in OPEN_PATHS:
            return None
        basic = path in BROWSER_PATHS
        grant = self._grant(credentials, basic=basic)
        if grant is None:
            return _stranger(credentials, basic=basic)
        scope[GRANT] = grant
        return None

    def _foreign_host(self, host: str) -> Problem | None:
        match = _HOST.fullmatch(host)
        if match is not None and match[1] in self._hosts:
            return None
        return Problem("host-not-allowed", "Use 127.0.0.1, localhost, [::1] or a configured name as the Host.")

    def _foreign_page(self, host: str, origins: Sequence[bytes], sites: Sequence[bytes]) -> Problem | None:
        for raw in origins:
            origin = raw.decode("latin-1").lower()
            if origin in self._origins:
                return None
            if origin not in (f"http://{host}", f"https://{host}"):
                return Problem("origin-not-allowed", "The Origin of this request is not the node itself.")
        if any(site.lower() not in (b"same-origin", b"none") for site in sites):
            return Problem("origin-not-allowed", "Sec-Fetch-Site says that another site sent this request.")
        return None

    def _grant(self, credentials: Sequence[bytes], *, basic: bool) -> Grant | None:
        """What the token of a request allows; None when it has none that is known."""
        given = _token(credentials[0], basic=basic) if len(credentials) == 1 else None
        if given is None:
            return None
        return _EVERYTHING if hmac.compare_digest(given, self._token) else self._tokens(given)


_EVERYTHING: Final = Grant(frozenset(TokenScope))


def _stranger(credentials: Sequence[bytes], *, basic: bool) -> Problem:
    detail = (
        "Send the content of the file http-token as Authorization: Bearer <token>."
        if not credentials
        else "The Authorization header does not carry a token of this node, or one that is over."
    )
    # Each in a header of its own: of several in one, Chromium sees the first and asks the user for no password.
    challenges = ('Bearer realm="sbot"', *(('Basic realm="sbot", charset="UTF-8"',) if basic else ()))
    return Problem("unauthorized", detail, headers={"WWW-Authenticate": challenges})


def _bracketed(name: str) -> str:
    """A host name as the Host header spells it: IPv6 in brackets, lower case."""
    name = name.lower()
    return f"[{name}]" if ":" in name and not name.startswith("[") else name


def _token(credentials: bytes, *, basic: bool) -> bytes | None:
    """The token inside an Authorization header; None when it carries none."""
    scheme, _, value = credentials.strip().partition(b" ")
    value = value.strip()
    if scheme.lower() == b"bearer":
        return value
    if basic and scheme.lower() == b"basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except binascii.Error:
            return None
    return None
