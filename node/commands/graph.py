"""Who follows and blocks whom: follow, block, hops."""

import os
import time
from typing import Any

from api.client import ApiProblem, Client
from node import display
from node.commands.catalogue import Invocation
from node.commands.local import told
from node.commands.remote import Request, ask, only_words, print_answer
from node.errors import UsageError
from node.people import People
from node.rendered import Paper
from node.telling import Teller


def follow(invocation: Invocation) -> int:
    """Publish that this node follows a feed (or, with --state false, no longer does)."""
    return _declare(invocation, "friends.follow")


def block(invocation: Invocation) -> int:
    """Publish that this node blocks a feed (or, with --state false, no longer does)."""
    return _declare(invocation, "friends.block")


def _declare(invocation: Invocation, method: str) -> int:
    found = only_words(invocation, 1, 1)
    state = found.options.get("state", True)
    if not isinstance(state, bool):
        raise UsageError("--state is true or false.")
    answer = ask(found, method, [_feed(found), {"state": state}])
    if not found.output.pretty:
        return print_answer(found, answer)
    for line in _told(found, answer):
        found.output.line(line)
    return 0


def _told(found: Request, message: Any) -> list[str]:
    """The message in words, with names where the HTTP API gives them."""
    try:
        with Client.for_directory(found.config.path) as node:
            return Teller(People(node), Paper.of_terminal(os.environ), time.time() * 1000).tell(message)
    except ApiProblem:
        return [display.message(message)]


def _feed(found: Request) -> str:
    """The id that was typed, or that of the feed that is called so."""
    word = found.words[0]
    if word.startswith("@") and word.endswith(".ed25519"):
        return word  # the node says what is wrong with it
    try:
        with Client.for_directory(found.config.path) as node:
            return People(node).find(word)
    except ApiProblem as problem:
        raise told(problem, found.config.path) from None


def hops(invocation: Invocation) -> int:
    """Print the feeds in reach with their distance."""
    found = only_words(invocation, 0, 1)
    options = dict(found.options)
    if found.words:
        options.setdefault("start", found.words[0])
    answer = ask(found, "friends.hops", [options] if options else [])
    if not found.output.pretty:
        return print_answer(found, answer)
    rows = sorted(answer.items(), key=lambda pair: (pair[1] < 0, abs(pair[1]), pair[0]))
    found.output.table(("feed", "hops"), rows)
    return 0


def relation(invocation: Invocation) -> int:
    """Print whether one feed follows (or blocks) another; the first defaults to this node's."""
    found = only_words(invocation, 0, 2)
    return print_answer(found, ask(found, invocation.command.name, [_two_feeds(found, invocation)]))


def _two_feeds(found: Request, invocation: Invocation) -> dict[str, Any]:
    options = dict(found.options)
    if found.words:
        options["dest"] = found.words[-1]
    if len(found.words) == 2:
        options["source"] = found.words[0]
    if "dest" not in options:
        raise UsageError(f"usage: sbot {invocation.spelled} {invocation.command.usage}")
    return options
