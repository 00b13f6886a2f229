"""Reading a command line: the strict way for our own commands, the free way of the old sbot for everything it had.

Free: `--key value`, `--key=value`, `--flag`, `--no-flag`; dotted keys nest (`--address.port 8008`), a key given twice
makes a list. Numbers and true/false become JSON numbers and booleans, a text that is a JSON object or list becomes
that, all else stays text. Pure: words in, values out; the only error is UsageError.
"""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from node.errors import UsageError

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?\Z")
_OPTION = re.compile(r"--[A-Za-z]")
_QUOTED_ID = re.compile(r'"[@%&][A-Za-z0-9+/=]+\.[a-z0-9.-]+"\Z')
_LARGEST_EXACT = 2**53
_DEEPEST = 16


@dataclass(frozen=True, slots=True)
class Strict:
    """What `strict` found: option names without dashes, in the spelling of the command line (`http-port`)."""

    words: tuple[str, ...]
    values: dict[str, str]
    lists: dict[str, list[str]] = field(default_factory=dict)

    def on(self, switch: str) -> bool:
        return self.values.get(switch) == "true"


@dataclass(frozen=True, slots=True)
class Free:
    """What `free` found: positional words as typed, and the nested options as JSON values."""

    words: tuple[str, ...]
    options: dict[str, Any]


def strict(
    argv: Sequence[str],
    *,
    valued: Collection[str],
    switches: Collection[str] = (),
    repeated: Collection[str] = (),
    command: str,
) -> Strict:
    """Accept exactly the named options. A switch also exists as `--no-NAME`; its value is "true" or "false"."""
    words: list[str] = []
    found = Strict((), {}, {name: [] for name in repeated})
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            words += rest
            break
        if not word.startswith("-") or word == "-":
            words.append(word)
            continue
        name, equals, inline = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            raise UsageError(f"Unknown option {word}; sbot {command} --help lists what there is.")
        if name in switches and not equals:
            found.values[name] = "true"
        elif name.startswith("no-") and name[3:] in switches and not equals:
            found.values[name[3:]] = "false"
        elif name in valued or name in repeated:
            if not equals and not rest:
                raise UsageError(f"--{name} needs a value; sbot {command} --help tells more.")
            value = inline if equals else rest.pop(0)
            if name in repeated:
                found.lists[name].append(value)
            else:
                found.values[name] = value
        else:
            raise UsageError(f"Unknown option --{name}; sbot {command} --help lists what there is.")
    return Strict(tuple(words), found.values, found.lists)


def free(argv: Sequence[str], *, switches: Collection[str] = (), texts: Collection[str] = ()) -> Free:
    """Any option at all. `switches` take no value except true or false; values of `texts` are never read as JSON."""
    words: list[str] = []
    options: dict[str, Any] = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            words += rest
            break
        if not _OPTION.match(word):
            words.append(word)
            continue
        name, equals, inline = word[2:].partition("=")
        if equals:
            value: Any = _value(inline, plain=name in texts)
        elif name.startswith("no-"):
            name, value = name[3:], False
        elif name in switches:
            value = rest.pop(0) == "true" if rest and rest[0] in ("true", "false") else True
        elif rest and not _OPTION.match(rest[0]) and rest[0] != "--":
            value = _value(rest.pop(0), plain=name in texts)
        else:
            value = True
        _put(options, name, value)
    return Free(tuple(words), options)


def unquoted(word: str) -> str:
    """A positional word without the quotes that an id has where a command printed it as JSON."""
    return word[1:-1] if _QUOTED_ID.match(word) else word


def word_value(word: str) -> Any:
    """A positional word of a free call: the same reading as an option's value."""
    return _value(word, plain=False)


def _value(text: str, *, plain: bool) -> Any:
    if plain:
        return text
    if text in ("true", "false"):
        return text == "true"
    if _NUMBER.match(text):
        return _number(text)
    if text[:1] in ("{", "["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _number(text: str) -> int | float | str:
    """A number that a double holds and prints back; longer digits stay text rather than lose some."""
    if text.lstrip("-").isdigit():
        whole = int(text) if len(text) <= 17 else _LARGEST_EXACT + 1
        return whole if abs(whole) <= _LARGEST_EXACT and text != "-0" else text
    number = float(text)
    return text if number in (float("inf"), float("-inf")) else number


def _put(options: dict[str, Any], name: str, value: Any) -> None:
    *parents, last = name.split(".")
    if not all([*parents, last]) or len(parents) > _DEEPEST:
        raise UsageError(f"--{name} is not an option name: dots separate nested names, and none may be empty.")
    table = options
    for parent in parents:
        below = table.setdefault(parent, {})
        if not isinstance(below, dict):
            raise UsageError(f"--{name} cannot be set: {parent} already has a value of its own.")
        table = below
    if last not in table:
        table[last] = value
    elif isinstance(table[last], list):
        table[last].append(value)
    elif isinstance(table[last], dict):
        raise UsageError(f"--{name} cannot be set: {last} already has nested values.")
    else:
        table[last] = [table[last], value]
