"""What the commands for people share: they talk to the running node over its HTTP API, with names instead of keys."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from api.client import ApiProblem, Client, NodeNotRunning
from feeds.canonical_json import compact
from feeds.errors import InvalidRef
from feeds.refs import MessageRef
from node import arguments, config
from node.commands.catalogue import Invocation
from node.errors import NodeError, NothingFound, NotRunning, UsageError
from node.output import Output
from node.people import People
from node.rendered import Paper
from node.telling import Teller

WRONG_WORDS = ("invalid-id", "invalid-parameter", "invalid-address", "invalid-invite")
"""Problems that are about what was typed."""
GONE = (404, 410)
"""Statuses of what is not here, or no longer."""


@dataclass(frozen=True, slots=True)
class Local:
    """A command under way: what was typed, the node, and where to print."""

    found: arguments.Strict
    node: Client
    output: Output
    people: People
    teller: Teller

    @property
    def words(self) -> tuple[str, ...]:
        return self.found.words

    def number(self, option: str, default: int) -> int:
        """The value of an option that is a positive whole number. Raises UsageError."""
        text = self.found.values.get(option)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) == 0:
            raise UsageError(f"--{option} must be a positive whole number, not {text!r}.")
        return int(text)

    def show(self, message: Any) -> None:
        """Print one message: as it is stored, or for people."""
        self.show_all([message])

    def show_all(self, messages: list[Any]) -> None:
        """Print messages in this order."""
        if not self.output.pretty:
            self.output.json_texts(compact(message) for message in messages)
            return
        self.people.learn(message["value"] for message in messages)
        for message in messages:
            for line in self.teller.tell(message):
                self.output.line(line)

    def value(self, value: Any) -> None:
        """Print a value as JSON."""
        self.output.json_texts([compact(value)])


@contextmanager
def local(
    invocation: Invocation,
    *,
    least: int = 0,
    most: int | None = None,
    valued: tuple[str, ...] = (),
    switches: tuple[str, ...] = (),
) -> Iterator[Local]:
    """Read the command line and attach to the node of the data directory.

    Raises UsageError before anything is asked of the node, and gives every refusal of the node as a NodeError.
    """
    found = arguments.strict(
        invocation.argv,
        valued=("path", "config", *valued),
        switches=("json", *switches),
        command=invocation.spelled,
    )
    if len(found.words) < least or (most is not None and len(found.words) > most):
        raise UsageError(f"usage: sbot {invocation.spelled} {invocation.command.usage}")
    flags = {name: found.values.get(name) for name in ("path", "config")}
    path = config.load(flags, invocation.environ).path
    output = Output.standard(as_json=found.on("json"))
    try:
        with Client.for_directory(path) as node:
            people = People(node)
            teller = Teller(people, Paper.of_terminal(invocation.environ), time.time() * 1000)
            yield Local(found, node, output, people, teller)
    except ApiProblem as problem:
        raise told(problem, path) from None


def told(problem: ApiProblem, path: object) -> NodeError:
    """What a refusal of the node means for the one who typed."""
    if isinstance(problem, NodeNotRunning):
        return NotRunning(
            f"No node is running for {path}; start it with: sbot start --path {path} "
            "(or name another directory with --path)."
        )
    text = problem.detail if problem.detail.endswith((".", "!", "?")) else f"{problem.detail}."
    if problem.status in GONE:
        return NothingFound(text)
    return UsageError(text) if problem.code in WRONG_WORDS else NodeError(text)


def message_id(text: str) -> str:
    """A message id in any spelling. Raises UsageError."""
    try:
        return str(MessageRef.parse(text))
    except InvalidRef:
        raise UsageError(f"{text!r} is no message id; they look like %…=.sha256.") from None


def input_is_terminal() -> bool:
    """Whether somebody sits at standard input."""
    return sys.stdin.isatty()
