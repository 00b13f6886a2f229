"""Reading messages from the running node: one by id, streams of them, tips and clocks."""

from typing import Any

from node import display, keyfile
from node.commands.catalogue import Invocation
from node.commands.remote import Request, ask, only_words, print_answer, print_stream, request
from node.directory import DataDirectory

ITEMS_ARE_MESSAGES = {
    "createLogStream",
    "createFeedStream",
    "createHistoryStream",
    "createUserStream",
    "messagesByType",
}
BARE = {"createHistoryStream": "id", "createUserStream": "id", "messagesByType": "type"}
"""What a single word means to a stream that takes options."""


def get(invocation: Invocation) -> int:
    """Print one message."""
    found = only_words(invocation, 1, 1)
    argument: Any = {"id": found.words[0], **found.options} if found.options else found.words[0]
    answer = ask(found, "get", [argument])
    if not found.output.pretty:
        return print_answer(found, answer)
    found.output.line(display.message(answer))
    return 0


def stream(invocation: Invocation) -> int:
    """Print a stream of messages, links or tips."""
    found = request(invocation)
    name = invocation.command.name
    pretty = display.message if name in ITEMS_ARE_MESSAGES and found.options.get("values") is not False else None
    return print_stream(found, name, _stream_arguments(name, found), pretty=pretty)


def _stream_arguments(name: str, found: Request) -> list[Any]:
    """One object of options; a bare word is the option the stream is about, which defaults to our own feed."""
    options = dict(found.options)
    words = list(found.words)
    if words and name in BARE and BARE[name] not in options:
        options[BARE[name]] = words.pop(0)
    if (
        BARE.get(name) == "id"
        and "id" not in options
        and (own := keyfile.identity(DataDirectory(found.config.path).secret))
    ):
        options["id"] = own
    if name == "createHistoryStream" and words and "seq" not in options and "sequence" not in options:
        options["seq"] = int(words.pop(0)) if words[0].isdigit() else words.pop(0)
    return [options, *words] if options or words else []


def latest(invocation: Invocation) -> int:
    """Print the tip of one feed."""
    found = only_words(invocation, 1, 1)
    return print_answer(found, ask(found, invocation.command.name, [found.words[0]]))


def clock(invocation: Invocation) -> int:
    """Print all feeds with their last sequences."""
    found = only_words(invocation, 0, 0)
    answer = ask(found, "getVectorClock", [])
    if not found.output.pretty:
        return print_answer(found, answer)
    found.output.table(("feed", "sequence"), sorted(answer.items()))
    return 0
