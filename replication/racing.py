"""Connecting to a host name that has several addresses, IPv6 and IPv4 (RFC 8305, in short).

Many machines have an IPv6 address and no way out by it, so the addresses are tried in turns of the families, each a
quarter second after the one before or as soon as that one failed; the first that answers is taken.
"""

import asyncio
import socket
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Final, NamedTuple

HEAD_START: Final = 0.25
MAX_ADDRESSES: Final = 8


class Candidate(NamedTuple):
    """One address of a host, as the resolver gives it."""

    family: int
    address: tuple[str | int | bytes, ...]


def in_turns(candidates: Sequence[Candidate]) -> list[Candidate]:
    """At most MAX_ADDRESSES of them: the family of the first, the other, and so on, each in the resolver's order."""
    first = [each for each in candidates if each.family == candidates[0].family]
    rest = [each for each in candidates if each.family != candidates[0].family]
    mixed = chain.from_iterable(zip_longest(first, rest))
    return [each for each in mixed if each is not None][:MAX_ADDRESSES]


async def connect_first(host: str, port: int) -> socket.socket:
    """A connected TCP socket that does not block; raises OSError, that of the first address if all failed."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    waiting = in_turns([Candidate(family, address) for family, _, _, _, address in found])
    running: list[asyncio.Task[socket.socket]] = []
    errors: list[BaseException] = []
    try:
        while waiting or running:
            if waiting:
                running.append(asyncio.create_task(_connect(waiting.pop(0))))
            head_start = HEAD_START if waiting else None
            done, _ = await asyncio.wait(running, timeout=head_start, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in running if task in done]:
                running.remove(task)
                error = task.exception()
                if error is None:
                    return task.result()
                errors.append(error)
        raise errors[0]
    finally:
        await _give_up(running)


async def _give_up(running: Sequence["asyncio.Task[socket.socket]"]) -> None:
    for task in running:
        task.cancel()
    for ended in await asyncio.gather(*running, return_exceptions=True):
        if isinstance(ended, socket.socket):  # it came second
            ended.close()


async def _connect(candidate: Candidate) -> socket.socket:
    sock = socket.socket(candidate.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, candidate.address)
    except BaseException:
        sock.close()
        raise
    return sock
