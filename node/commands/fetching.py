"""A file at an http(s) address, piece by piece; after a cut the rest is asked for."""

import time
from collections.abc import Iterator

import httpx

from node.errors import NodeError

LARGEST = 1024 * 1024 * 1024
"""Bytes that are fetched if the user does not say otherwise."""
TRIES = 5
"""Cuts in a row without a byte in between, after which it is given up."""
WAIT = 0.5
SECONDS = 30.0


def is_address(name: str) -> bool:
    """Whether a word is an address and not the name of a file."""
    return name.startswith(("http://", "https://"))


def fetched(address: str, limit: int | None) -> Iterator[bytes]:
    """The bytes at an address. Raises NodeError."""
    most = LARGEST if limit is None else limit
    done, failures, tag = 0, 0, None
    with httpx.Client(follow_redirects=True, timeout=SECONDS, headers={"Accept-Encoding": "identity"}) as client:
        while True:
            headers = {"Range": f"bytes={done}-", **({"If-Range": tag} if tag else {})} if done else {}
            try:
                with client.stream("GET", address, headers=headers) as answer:
                    if done and answer.status_code == 416:
                        return  # it was complete, only its end was not seen
                    if answer.status_code not in (200, 206):
                        raise NodeError(f"{address} cannot be fetched: the server answered {answer.status_code}.")
                    tag = _same(address, answer, tag, resumed=done > 0)
                    skip = done if answer.status_code == 200 else 0
                    for piece in answer.iter_raw():
                        fresh = piece[skip:] if skip else piece
                        skip -= len(piece) - len(fresh)
                        done += len(fresh)
                        if done > most:
                            raise NodeError(f"{address} has more than {most} bytes; --max-bytes allows more.")
                        if fresh:
                            failures = 0
                            yield fresh
                    return
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                failures += 1
                if failures >= TRIES or isinstance(error, (httpx.UnsupportedProtocol, httpx.InvalidURL)):
                    reason = str(error) or type(error).__name__
                    raise NodeError(f"{address} cannot be fetched: {reason}; try again later.") from None
                time.sleep(WAIT * failures)


def _same(address: str, answer: httpx.Response, tag: str | None, *, resumed: bool) -> str | None:
    """The strong mark of the file's state; nothing else may come after a cut."""
    found: str | None = answer.headers.get("etag")
    if found is not None and found.startswith("W/"):
        found = None
    if resumed and tag is not None and found != tag:
        raise NodeError(f"{address} was changed while it was fetched; import it again.")
    return found
