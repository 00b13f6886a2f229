"""`sbot proof`: the proof that a feed is forked, exported from the running node or checked without any."""

import sys
from typing import BinaryIO

from feeds.errors import InvalidMessage
from feeds.fork_proof import LARGEST, verify
from node import arguments
from node.commands.catalogue import Invocation
from node.commands.remote import ask, print_answer, read
from node.config import BadValue, named
from node.errors import NodeError, UsageError
from node.output import Output


def proof(invocation: Invocation) -> int:
    """Print the proof of one feed's fork, or check the one in a file (`-`: standard input)."""
    if any(word == "--verify" or word.startswith("--verify=") for word in invocation.argv):
        return _check(invocation)
    found = read(invocation.argv, invocation.environ)
    if len(found.words) != 1 or found.options:
        raise UsageError(f"usage: sbot {invocation.spelled} {invocation.command.usage}")
    return print_answer(found, ask(found, "publishing.proof", [found.words[0]]))


def _check(invocation: Invocation) -> int:
    found = arguments.strict(
        invocation.argv, valued=("verify", "hmac-key", "path", "config"), switches=("json",), command="proof"
    )
    if found.words:
        raise UsageError(f"usage: sbot {invocation.spelled} {invocation.command.usage}")
    try:
        key = named("hmac_key").parse(found.values.get("hmac-key") or invocation.environ.get("SBOT_HMAC_KEY", ""))
    except BadValue as error:
        raise UsageError(f"--hmac-key {error}.") from None
    try:
        good = verify(_read(found.values["verify"]), key)
    except InvalidMessage as error:
        raise NodeError(f"This proves no fork: {error}.") from None
    output = Output.standard(as_json=found.on("json"))
    if output.pretty:
        output.line(f"It holds: {good.feed} signed two branches at sequence {good.sequence}.")
    else:
        output.json_value({"ok": True, "feed": good.feed, "sequence": good.sequence, "messages": list(good.messages)})
    return 0


def _read(name: str) -> bytes:
    def whole(file: BinaryIO) -> bytes:
        return file.read(LARGEST + 1)

    if name == "-":
        return whole(sys.stdin.buffer)
    try:
        with open(name, "rb") as file:
            return whole(file)
    except OSError as error:
        raise NodeError(f"{name} cannot be read: {error.strerror}.") from None
