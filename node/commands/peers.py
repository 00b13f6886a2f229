"""Peers of the running node: connect, list, remember, hang up."""

from typing import Any

from node import display
from node.commands.catalogue import Invocation
from node.commands.remote import ask, only_words, print_answer


def connect(invocation: Invocation) -> int:
    """Dial an address; done when the handshake is."""
    found = only_words(invocation, 1, 1)
    return print_answer(found, ask(found, "gossip.connect", [found.words[0]]))


def act(invocation: Invocation) -> int:
    """Remember, forget or hang up."""
    found = only_words(invocation, 1, 1)
    return print_answer(found, ask(found, invocation.command.name, [found.words[0]]))


def peers(invocation: Invocation) -> int:
    """List connections and remembered peers."""
    found = only_words(invocation, 0, 0)
    answer = ask(found, "gossip.peers", [], kind="sync")
    if not found.output.pretty:
        return print_answer(found, answer)
    found.output.table(("id", "state", "address", "in", "out", "why"), [_row(peer) for peer in answer])
    return 0


def _row(peer: dict[str, Any]) -> tuple[object, ...]:
    identity = peer.get("id") or peer.get("key", "")
    counts = (display.size(peer.get("bytesIn")), display.size(peer.get("bytesOut")))
    why = peer.get("reason") or ("it called us" if not peer.get("client") else "")
    return (identity, peer.get("state", ""), peer.get("address", ""), *counts, why)
