"""What is replicated, and how far."""

from node.commands.catalogue import Invocation
from node.commands.remote import ask, only_words, print_answer, print_stream
from node.errors import UsageError


def upto(invocation: Invocation) -> int:
    """Print each wanted feed with the sequence we have of it."""
    return print_stream(only_words(invocation, 0, 0), "replicate.upto", [])


def request(invocation: Invocation) -> int:
    """Ask for a feed by hand, or stop asking."""
    found = only_words(invocation, 1, 2)
    word = found.words[1] if len(found.words) > 1 else "true"
    if word not in ("true", "false"):
        raise UsageError(f"usage: sbot {invocation.spelled} {invocation.command.usage}")
    return print_answer(found, ask(found, "replicate.request", [found.words[0], word == "true"], kind="sync"))


def peer_status(invocation: Invocation) -> int:
    """Print what each peer says it has of a feed."""
    found = only_words(invocation, 1, 1)
    return print_answer(found, ask(found, "ebt.peerStatus", [found.words[0]], kind="sync"))
