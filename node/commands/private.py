"""`sbot private.publish`, `private.read`, `private.unbox`: messages for a few, decrypted by the running node."""

from typing import Any

from node import display
from node.commands.catalogue import Invocation
from node.commands.publish import TEXTS, read_content
from node.commands.remote import ask, only_words, print_answer, print_stream, request
from node.errors import NothingFound, UsageError

INPUT = (".", "-")


def publish(invocation: Invocation) -> int:
    """Encrypt, sign and store a message; prints it as the node stored it."""
    found = request(invocation, texts=TEXTS)
    words = found.words
    if words and words[0].startswith("{"):  # as the method has its arguments: the content, then for whom
        words = (*words[1:], words[0])
    recps = [word for word in words if word not in INPUT and not word.startswith("{")]
    if not recps:
        raise UsageError(f"usage: sbot {invocation.spelled} {invocation.command.usage}")
    if words[: len(recps)] != tuple(recps):
        raise UsageError("Give the recipients first, then the . that stands for standard input.")
    content = read_content(found, words[len(recps) :], f"{invocation.spelled} ID…")
    answer = ask(found, "private.publish", [content, recps])
    if not found.output.pretty:
        return print_answer(found, answer)
    found.output.line(display.message(answer))
    return 0


def read(invocation: Invocation) -> int:
    """Print private messages in plain."""
    found = request(invocation)
    if found.words:
        raise UsageError(f"usage: sbot {invocation.spelled} {invocation.command.usage}")
    pretty = display.message if found.options.get("values") is not False else None
    return print_stream(found, "private.read", [found.options] if found.options else [], pretty=pretty)


def unbox(invocation: Invocation) -> int:
    """Print what is in an encrypted text, or a message in plain."""
    found = only_words(invocation, 1, 1)
    word = found.words[0]
    if word.endswith(".box"):
        answer = ask(found, "private.unbox", [word])
        if answer is None:
            raise NothingFound("This is not encrypted for this node, or it is damaged.")
        return print_answer(found, answer)
    message = ask(found, "get", [{**found.options, "id": word, "private": True, "meta": True}])
    if _is_encrypted(message):
        raise NothingFound("This message is not encrypted for this node.")
    if not found.output.pretty:
        return print_answer(found, message)
    found.output.line(display.message(message))
    return 0


def _is_encrypted(message: Any) -> bool:
    return isinstance(message.get("value", {}).get("content"), str)
