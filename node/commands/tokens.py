"""Tokens for other programs: list, make, revoke."""

import re
from datetime import UTC, datetime

from node.commands.catalogue import Invocation
from node.commands.local import local
from node.errors import UsageError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPAN = re.compile(r"([0-9]{1,6})([smhdw])")
SCOPES = ("read", "publish", "private", "admin")


def list_tokens(invocation: Invocation) -> int:
    """Print the tokens, without what they open with."""
    with local(invocation, most=0) as here:
        found = list(here.node.tokens())
        if here.output.pretty:
            rows = [(one["id"], one["name"], " ".join(one["scopes"]), day(one["expires"])) for one in found]
            here.output.table(("id", "name", "scopes", "ends"), rows)
        else:
            for one in found:
                here.value(dict(one))
    return 0


def create(invocation: Invocation) -> int:
    """Make a token; it is printed now and never again."""
    with local(invocation, least=2, valued=("expires-in",)) as here:
        name, *scopes = here.words
        for scope in scopes:
            if scope not in SCOPES:
                raise UsageError(f"{scope!r} is no scope; there are {', '.join(SCOPES)}.")
        made = here.node.create_token(name, scopes, expires_in=span(here.found.values.get("expires-in")))
        if here.output.pretty:
            here.output.line(made["token"])
            here.output.line(f"Keep it safe: it is not shown again. sbot token revoke {made['id']} ends it.")
        else:
            here.value(dict(made))
    return 0


def revoke(invocation: Invocation) -> int:
    """End a token at once."""
    with local(invocation, least=1, most=1) as here:
        here.node.revoke_token(here.words[0])
        here.output.line("The token opens nothing any more.") if here.output.pretty else here.value(
            {"id": here.words[0], "revoked": True}
        )
    return 0


def span(text: str | None) -> int | None:
    """Seconds of a span like 90m. Raises UsageError."""
    if text is None:
        return None
    found = _SPAN.fullmatch(text)
    if found is None:
        raise UsageError(f"--expires-in is a span like 90m, 12h or 30d, not {text!r}.")
    return int(found[1]) * _SECONDS[found[2]]


def day(seconds: int | None) -> str:
    """A moment in seconds since 1970, for people."""
    return "never" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(" ", "minutes")
