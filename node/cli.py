"""The command `sbot`: finds the command that the words name, runs it, turns every failure into a sentence and a code.

Exit codes: 0 done, 1 failed, 2 usage, 3 node not running, 4 not found. Commands are imported when they are called, so
that `sbot whoami` does not wait for a web framework.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import TextIO, cast

from node.commands.catalogue import COMMANDS, Command, Invocation, find, runner
from node.errors import NodeError, UsageError
from node.output import clean, reader_is_gone

GLOBAL_VALUED = ("--path", "--config")
GLOBAL_SWITCHES = ("--json",)
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the answer is the process's exit code."""
    _fill_standard_files()
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--log-level=debug" in words or os.environ.get("SBOT_LOG_LEVEL", "").lower() == "debug"
    try:
        code = run(words, os.environ)
        sys.stdout.flush()
        return code
    except NodeError as error:
        return _complain(str(error), error.exit_code)
    except BrokenPipeError:
        reader_is_gone()
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _complain(_sentence(error), 1)


def _fill_standard_files() -> None:
    """Where standard input, output or error is closed (`>&-`), put nothing there before a database or socket does."""
    sys.stdin = sys.stdin or _nothing("r")
    sys.stdout = sys.stdout or _nothing("w")
    sys.stderr = sys.stderr or _nothing("w")


def _nothing(mode: str) -> TextIO:
    return cast(TextIO, open(os.devnull, mode, encoding="utf-8"))


def run(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """The same, letting errors out."""
    shared, words = _split_global(words)
    if not words or words[0] in ("help", "--help", "-h"):
        return _help(words[1:], usage_error=not words)
    if words[0] in ("--version", "-V"):
        words = ["version"]
    if words[0].startswith("-"):
        raise UsageError(f"Unknown option {words[0]} before a command; sbot --help lists the commands.")
    found = find(words)
    if found is None:
        from node.commands.remote import by_manifest

        return by_manifest(words, shared, environ)
    command, spelled, count = found
    rest = [*shared, *words[count:]]
    if "--help" in rest[: rest.index("--") if "--" in rest else None]:
        print(_describe(command))
        return 0
    return runner(command)(Invocation(command, tuple(rest), environ, spelled))


def _split_global(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """`sbot --path D whoami` is `sbot whoami --path D`."""
    rest = list(words)
    shared: list[str] = []
    while rest:
        if rest[0] in GLOBAL_SWITCHES or rest[0].startswith(tuple(name + "=" for name in GLOBAL_VALUED)):
            shared.append(rest.pop(0))
        elif rest[0] in GLOBAL_VALUED and len(rest) > 1:
            shared += [rest.pop(0), rest.pop(0)]
        else:
            break
    return shared, rest


def _help(words: Sequence[str], *, usage_error: bool) -> int:
    found = find(words)
    text = _describe(found[0]) if found else _overview()
    print(text, file=sys.stderr if usage_error else sys.stdout)
    return UsageError.exit_code if usage_error else 0


def _overview() -> str:
    lines = ["usage: sbot COMMAND [words] [--options]", ""]
    for group in dict.fromkeys(command.group for command in COMMANDS):
        lines.append(f"{group}:")
        lines += [f"  {_names(item):<34} {item.summary}" for item in COMMANDS if item.group == group]
        lines.append("")
    lines += [
        "A blank does as well as a dot (friends hops); any other method of the running node can be called by its name.",
        "All commands take --path DIR (data directory; default $SBOT_PATH or ~/.pysbot) and --json.",
        "sbot COMMAND --help tells more about one.",
    ]
    return "\n".join(lines)


def _names(command: Command) -> str:
    return ", ".join((command.name, *command.aliases))


def _describe(command: Command) -> str:
    lines = [f"usage: sbot {command.name} {command.usage}".rstrip(), "", f"  {command.summary}"]
    if command.aliases:
        lines += ["", f"  also: {', '.join(command.aliases)}"]
    if command.name in ("start", "config"):
        from node.config import OPTIONS

        lines += ["", "options:"]
        for option in OPTIONS:
            flag = (
                f"{option.flag} {option.metavar}".rstrip() if option.metavar else f"{option.flag}, --no-{option.name}"
            )
            lines.append(f"  {flag:<24} {option.help} [{option.variable}]")
    return "\n".join(lines)


def _sentence(error: Exception) -> str:
    """What to say about an error nobody foresaw a sentence for."""
    text = str(error).strip() or type(error).__name__
    if type(error).__module__.split(".")[0] in ("feeds", "replication", "api"):
        return text
    return f"{text} ({type(error).__name__}). SBOT_LOG_LEVEL=debug shows where."


def _complain(text: str, code: int) -> int:
    with contextlib.suppress(OSError):  # nobody may listen there either
        print(f"sbot: {clean(text, keep_lines=True)}", file=sys.stderr, flush=True)
    return code
