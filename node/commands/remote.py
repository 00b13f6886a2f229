"""What all commands that talk to the running node share, and the call of any of its methods by name.

Arguments go the old way: words first, then one object of the options, if any. Every failure becomes a sentence.
"""

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import orjson

from feeds.canonical_json import compact, parse
from node import arguments, config
from node.client import Node, attach
from node.commands.catalogue import COMMANDS, Invocation
from node.directory import DataDirectory
from node.errors import NodeError, NothingFound, UsageError
from node.output import Output
from replication.errors import ConnectionClosed, RemoteCallError, ReplicationError

T = TypeVar("T")

SWITCHES = frozenset(
    {"json", "live", "old", "reverse", "keys", "values", "private", "meta", "sync", "validate", "nocolor"}
)
"""Options of the old streams that take no value besides true and false."""
OWN = ("path", "config", "json")
"""Options that are for us and not for the node."""


@dataclass(frozen=True, slots=True)
class Request:
    """A command line for the running node, read."""

    config: config.Config
    words: tuple[str, ...]
    options: dict[str, Any]
    output: Output

    @property
    def arguments(self) -> list[Any]:
        """Words as values, and the options after them."""
        return [arguments.word_value(word) for word in self.words] + ([self.options] if self.options else [])


def read(
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    switches: Collection[str] = SWITCHES,
    texts: Collection[str] = (),
) -> Request:
    """Take our own options out of a free command line; the rest is for the node."""
    found = arguments.free(argv, switches=switches, texts=(*texts, "path", "config"))
    options = dict(found.options)
    own = {name: options.pop(name, None) for name in OWN}
    for name in ("path", "config"):
        if own[name] is not None and not isinstance(own[name], str):
            raise UsageError(f"--{name} needs one value.")
    loaded = config.load({"path": own["path"], "config": own["config"]}, environ)
    words = tuple(map(arguments.unquoted, found.words))
    return Request(loaded, words, options, Output.standard(as_json=own["json"] is True))


def request(invocation: Invocation, *, texts: Collection[str] = ()) -> Request:
    """The request of a command that takes any option."""
    return read(invocation.argv, invocation.environ, texts=texts)


def only_words(invocation: Invocation, least: int, most: int) -> Request:
    """The request of a command with a fixed number of words."""
    found = request(invocation)
    if not least <= len(found.words) <= most:
        raise UsageError(f"usage: sbot {invocation.spelled} {invocation.command.usage}")
    return found


def talk(found: Request, conversation: Callable[[Node], Awaitable[T]]) -> T:
    """Run `conversation` with the running node. What the node refuses comes out as NodeError or NothingFound."""

    async def run() -> T:
        async with attach(found.config) as node:
            return await conversation(node)

    try:
        return asyncio.run(run())
    except RemoteCallError as error:
        kind = NothingFound if _says_not_found(error) else NodeError
        raise kind(f"The node answered: {error.message.rstrip('.')}.") from None
    except ConnectionClosed as error:
        raise NodeError(f"The node hung up: {error}. Its log may say why.") from None
    except ReplicationError as error:
        raise NodeError(f"The node could not be asked: {error}.") from None


def ask(found: Request, method: str, args: Sequence[Any], *, kind: str = "async") -> Any:
    """One call, one answer as a JSON value."""

    async def conversation(node: Node) -> Any:
        return await node.call(method, args, kind=kind)

    return talk(found, conversation)


def print_stream(
    found: Request, method: str, args: Sequence[Any], *, pretty: Callable[[Any], str] | None = None
) -> int:
    """Print the items of a source as they come; `pretty` makes the text that people see instead of JSON."""
    output = found.output

    async def conversation(node: Node) -> None:
        async for texts in node.stream(method, args):
            if not output.pretty:
                output.json_texts(texts)
            elif pretty is not None:
                for text in texts:
                    output.line(pretty(parse(text)))
            else:
                for text in texts:
                    output.pretty_json(parse(text))

    talk(found, conversation)
    return 0


def print_answer(found: Request, value: Any) -> int:
    """Print one answer: as JSON in V8's spelling, which is the one messages were signed in, or laid out for people."""
    if found.output.pretty:
        found.output.pretty_json(value)
    else:
        found.output.json_texts([compact(value)])
    return 0


def manifest(invocation: Invocation) -> int:
    """Print the manifest of the running node."""
    found = only_words(invocation, 0, 0)
    return print_answer(found, ask(found, "manifest", [], kind="sync"))


def by_manifest(words: Sequence[str], shared: Sequence[str], environ: Mapping[str, str]) -> int:
    """Call any method that `manifest.json` of the data directory names, as the old sbot did."""
    found = read([*words, *shared], environ)
    known = _methods(DataDirectory(found.config.path).manifest)
    for count in range(min(len(found.words), 3), 0, -1):
        name = ".".join(found.words[:count])
        if name in known:
            rest = replace(found, words=found.words[count:])
            return _call(rest, name, known[name])
    raise UsageError(f"There is no command {words[0]!r}{_nearest(words[0], known)}; sbot --help lists them.")


def _call(found: Request, name: str, kind: str) -> int:
    if kind in ("async", "sync"):
        return print_answer(found, ask(found, name, found.arguments, kind=kind))
    if kind == "source":
        return print_stream(found, name, found.arguments)
    raise UsageError(f"{name} is a {kind}, which needs a program to talk to it.")


def _methods(path: Path) -> dict[str, str]:
    """Dotted method names and their kinds, from manifest.json; empty where there is none."""
    try:
        tree = orjson.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return dict(_flat(tree, ())) if isinstance(tree, dict) else {}


def _flat(tree: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for name, below in tree.items():
        if isinstance(below, str):
            yield ".".join((*above, name)), below
        elif isinstance(below, dict) and len(above) < 4:
            yield from _flat(below, (*above, name))


def _nearest(word: str, known: Mapping[str, str]) -> str:
    names = [name for command in COMMANDS for name in (command.name, *command.aliases)]
    near = difflib.get_close_matches(word, [*names, *known], n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _says_not_found(error: RemoteCallError) -> bool:
    return error.name == "NotFoundError" or "not found" in error.message.lower()
