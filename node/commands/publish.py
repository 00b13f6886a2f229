"""`sbot publish`: content from `--key value` options, or as JSON on standard input with `publish .`."""

import json
import sys
from collections.abc import Sequence
from math import isfinite
from typing import Any

from node import display
from node.commands.catalogue import Invocation
from node.commands.remote import Request, ask, print_answer, request
from node.errors import UsageError

TEXTS = ("type", "text", "channel", "name", "title", "description", "summary")
"""Content fields that are text in every known type, so that `--text 2024` is a text and no number."""

LARGEST_INPUT = 1024 * 1024


def publish(invocation: Invocation) -> int:
    """Sign and store a message; prints it as the node stored it."""
    found = request(invocation, texts=TEXTS)
    answer = ask(found, "publish", [read_content(found, found.words, "publish")])
    if not found.output.pretty:
        return print_answer(found, answer)
    found.output.line(display.message(answer))
    return 0


def read_content(found: Request, words: Sequence[str], command: str) -> Any:
    """The content that a command line gives: its options, a JSON object as the one word, or with `.` standard input."""
    if tuple(words) in ((".",), ("-",)):
        if found.options:
            raise UsageError(
                f"sbot {command} . takes the whole content from standard input; leave the other options out."
            )
        return _from_input()
    if len(words) == 1 and words[0].startswith("{") and not found.options:
        return _content(words[0].encode(errors="surrogateescape"), "The content")
    if words or not found.options:
        raise UsageError(
            'Give the content as options (--type post --text "hi"), or as JSON on standard input with: '
            f"sbot {command} ."
        )
    if not isinstance(found.options.get("type"), str):
        raise UsageError("A message needs a type, as in --type post.")
    return found.options


def _from_input() -> Any:
    data = sys.stdin.buffer.read(LARGEST_INPUT + 1)
    if len(data) > LARGEST_INPUT:
        raise UsageError(f"The content on standard input is longer than {LARGEST_INPUT} bytes.")
    return _content(data, "The content on standard input")


def _content(data: bytes, called: str) -> Any:
    try:
        content = json.loads(data, parse_int=_whole, parse_float=_fraction, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{called} is not JSON: {error}.") from None
    if not isinstance(content, dict | str):
        raise UsageError(f"{called} must be a JSON object (or the text of an encrypted message).")
    return content


def _whole(digits: str) -> int | float:
    """Beyond 2^53 numbers are doubles, for JavaScript and so for messages."""
    number = _fraction(digits)
    return int(digits) if abs(number) <= 2**53 else number


def _fraction(digits: str) -> float:
    number = float(digits)
    return number if isfinite(number) else _no_number(digits)


def _no_number(text: str) -> float:
    raise ValueError(f"{text[:40]} is no number that a message can hold")
