"""`sbot status`: what the running node holds and does."""

from typing import Any

from node.commands.catalogue import Invocation
from node.commands.remote import ask, only_words, print_answer


def status(invocation: Invocation) -> int:
    """Print the status of the running node."""
    found = only_words(invocation, 0, 0)
    answer = ask(found, "status", [], kind="sync")
    if not found.output.pretty:
        return print_answer(found, answer)
    found.output.fields(_flat(answer, ""))
    return 0


def _flat(value: Any, name: str) -> list[tuple[str, object]]:
    if not isinstance(value, dict):
        return [(name, value)]
    return [pair for key, below in value.items() for pair in _flat(below, f"{name}.{key}" if name else key)]
