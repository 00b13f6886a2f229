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
    peers = answer["sync"].pop("peers", [])
    found.output.fields([("sync", progress(answer["sync"])), *_flat(answer, "")])
    if peers:
        found.output.line()
        found.output.table(
            ("peer", "by", "state", "waits for"),
            [(peer["id"], peer["protocol"] or "-", peer["state"], peer["waits_for"] or "-") for peer in peers],
        )
    return 0


def progress(sync: dict[str, Any]) -> str:
    """How far replication is, as a line."""
    messages = sync["messages"]
    if not messages["missing"]:
        return f"{sync['state']}, {messages['held']} messages"
    share = 100 * messages["held"] // messages["wanted"]
    left = messages["seconds_left"]
    time = (
        "nothing comes at present" if left is None else f"{messages['per_second']:g} a second, about {_span(left)} left"
    )
    return f"{sync['state']}, {messages['held']} of {messages['wanted']} messages ({share}%), {time}"


def _span(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} seconds"
    return f"{seconds // 60} minutes" if seconds < 7200 else f"{seconds // 3600} hours"


def _flat(value: Any, name: str) -> list[tuple[str, object]]:
    if not isinstance(value, dict):
        return [(name, value)]
    return [pair for key, below in value.items() for pair in _flat(below, f"{name}.{key}" if name else key)]
