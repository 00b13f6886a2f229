"""`sbot blobs.*`: files in and out of the running node. What `blobs.get` prints is the file itself, not JSON."""

import base64
import contextlib
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from node import display
from node.client import Node
from node.commands.catalogue import Invocation
from node.commands.remote import Request, ask, only_words, print_answer, print_stream, read, talk
from node.errors import NodeError, NothingFound, UsageError

PIECE = 64 * 1024
SWITCHES = frozenset({"json", "long", "meta", "live", "old", "wait"})


def add(invocation: Invocation) -> int:
    """Add a file, or standard input; prints the id."""
    found = only_words(invocation, 0, 1)
    with _source(found.words[0] if found.words else "-") as source:
        digest = hashlib.sha256()

        async def conversation(node: Node) -> None:
            def pieces() -> Iterator[bytes]:
                while piece := source.read(PIECE):
                    digest.update(piece)
                    yield piece

            await node.give("blobs.add", [], pieces())

        talk(found, conversation)
    # The node has hashed the same bytes; muxrpc's sinks answer nothing, so the old sbot counted here as well.
    return _print_id(found, f"&{base64.b64encode(digest.digest()).decode()}.sha256")


def get(invocation: Invocation) -> int:
    """Write a blob to standard output."""
    found = only_words(invocation, 1, 1)

    async def conversation(node: Node) -> None:
        async for data in node.take("blobs.get", [found.words[0]]):
            sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    talk(found, conversation)
    return 0


def size(invocation: Invocation) -> int:
    """Print a blob's size in bytes; exit code 4 when it is not here."""
    found = only_words(invocation, 1, 1)
    answer = ask(found, "blobs.size", [found.words[0]])
    if answer is None:
        raise NothingFound(f"blob not found: {found.words[0]}")
    return print_answer(found, answer)


def has(invocation: Invocation) -> int:
    """Print whether a blob is here, or a list of answers for several."""
    found = only_words(invocation, 1, 1000)
    words = list(found.words)
    return print_answer(found, ask(found, "blobs.has", [words[0] if len(words) == 1 else words]))


def remove(invocation: Invocation) -> int:
    """Remove a blob."""
    found = only_words(invocation, 1, 1)
    return print_answer(found, ask(found, "blobs.rm", [found.words[0]]))


def want(invocation: Invocation) -> int:
    """Ask for a blob: prints whether it is here already, or with --wait does not end before it is."""
    found = read(invocation.argv, invocation.environ, switches=SWITCHES)
    if len(found.words) != 1 or set(found.options) - {"wait"}:
        raise UsageError(f"usage: sbot {invocation.spelled} {invocation.command.usage}")
    waiting = found.options.get("wait") is True
    return print_answer(found, ask(found, "blobs.want", [found.words[0], {"nowait": not waiting}]))


def ls(invocation: Invocation) -> int:
    """List blobs in the order they came."""
    found = read(invocation.argv, invocation.environ, switches=SWITCHES)
    if found.words:
        raise UsageError(f"usage: sbot {invocation.spelled} {invocation.command.usage}")
    return print_stream(found, "blobs.ls", [found.options], pretty=_line)


def _line(item: Any) -> str:
    if not isinstance(item, dict):
        return str(item)
    return f"{item['id']}  {display.moment(item['ts'])}  {display.size(item['size'])}"


def _print_id(found: Request, blob: str) -> int:
    if found.output.pretty:
        found.output.line(blob)
        return 0
    return print_answer(found, blob)


@contextlib.contextmanager
def _source(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        file = Path(name).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise NodeError(f"{name} cannot be read: {error.strerror}.") from None
    with file:
        yield file
