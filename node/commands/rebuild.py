"""`sbot rebuild`: make views anew from the log, in the running node or, if there is none, right here."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from feeds.errors import StoreError
from node.client import Node
from node.commands.catalogue import Invocation
from node.commands.remote import Request, print_answer, request, talk
from node.directory import DataDirectory
from node.errors import NodeError, NotRunning, UsageError
from node.lock import DirectoryLock

LOOK_AGAIN = 0.3
"""Seconds between two looks at how far the running node is."""


def rebuild(invocation: Invocation) -> int:
    """Make the named views anew, or all; wait until they show the whole log."""
    found = request(invocation)
    if found.options:
        raise UsageError(f"usage: sbot {invocation.spelled} {invocation.command.usage}")
    try:
        answer = talk(found, lambda node: _in_the_node(node, found.words))
    except NotRunning:
        answer = _here(found)
    if not found.output.pretty:
        return print_answer(found, answer)
    found.output.line(f"Made anew from {answer['messages']} messages: {', '.join(answer['views'])}.")
    return 0


async def _in_the_node(node: Node, views: Sequence[str]) -> Any:
    answer = await node.call("rebuild", [list(views)] if views else [])
    while True:
        behind = (await node.call("status", [], kind="sync"))["index"]["behind"]
        lacking = [behind[name] for name in answer["views"] if name in behind]
        if not lacking:
            break
        _tell(max(lacking))
        await asyncio.sleep(LOOK_AGAIN)
    _tell(0)
    return answer


def _here(found: Request) -> Any:
    directory = DataDirectory(found.config.path)
    if not directory.database.exists():
        raise NodeError(f"There is no log in {found.config.path} to make views from; name its directory with --path.")
    lock = DirectoryLock.acquire(directory.lock)
    try:
        return asyncio.run(_offline(directory, found.words))
    except StoreError as error:
        raise NodeError(f"The views could not be made anew: {error}.") from None
    finally:
        lock.release()


async def _offline(directory: DataDirectory, views: Sequence[str]) -> Any:
    from node.store import open_indexer  # takes a moment to load

    async with open_indexer(directory.database) as indexer:
        unknown = [name for name in views if name not in indexer.names]
        if unknown:
            raise UsageError(f"There is no view {unknown[0]}; there are {', '.join(indexer.names)}.")
        made = await indexer.rebuild(views)
        catching_up = asyncio.create_task(indexer.catch_up())
        while not catching_up.done():
            _tell(max(indexer.behind.values(), default=0))
            await asyncio.wait([catching_up], timeout=LOOK_AGAIN)
        await catching_up
        _tell(0)
        return {"views": made, "messages": indexer.position}


def _tell(left: int) -> None:
    """How many messages are left, for who looks on."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{left} messages left \x1b[K" if left else "\r\x1b[K")
        sys.stderr.flush()
