"""`sbot unlock`: why our feed is locked, what is missing, and opening it by hand."""

from typing import Any

from node.commands.catalogue import Invocation
from node.commands.remote import ask, print_answer, request
from node.errors import UsageError

WARNING = (
    "If any other copy of this node, a phone or an old disk, has published more than that with this key, opening the "
    "feed here breaks it for good. Check the number in another place before you type it."
)


def unlock(invocation: Invocation) -> int:
    """Show the state; with --sequence N, take the lock off."""
    found = request(invocation)
    if found.words or not set(found.options) <= {"sequence"}:
        raise UsageError(f"usage: sbot {invocation.spelled} {invocation.command.usage}")
    sequence = found.options.get("sequence")
    if sequence is None:
        answer = ask(found, "publishing.status", [])
    elif type(sequence) is int and sequence >= 0:
        answer = ask(found, "publishing.unlock", [sequence])
    else:
        raise UsageError("--sequence needs the number of the last message of your feed.")
    if not found.output.pretty:
        return print_answer(found, answer)
    for line in lines(answer):
        found.output.line(line)
    return 0


def lines(status: dict[str, Any]) -> list[str]:
    """The state of our feed, for people."""
    shown = [f"The feed is {status['state']}, its last message here is number {status['sequence']}."]
    reason, way_out = status["reason"], status["unlock"]
    if reason is not None:
        shown.append(f"Reason: {reason['text']}.")
    if way_out is not None:
        shown += ["It opens by itself after:", *(f"  {item}" for item in way_out["missing"])]
        shown.append(f"By hand: sbot unlock --sequence {status['sequence']}, if that is your last message. {WARNING}")
    for event in status.get("history", [])[:10]:
        why = f" ({event['reason']})" if event["reason"] else ""
        shown.append(f"  {event['at']}  {event['kind']}{why} at {event['sequence']}: {event['detail']}")
    return shown
