"""Writing to people: post, reply, like, dm."""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from api.client import ApiProblem
from node.commands.catalogue import Invocation
from node.commands.local import input_is_terminal, local, message_id
from node.errors import NodeError, UsageError

LARGEST = 256 * 1024


def post(invocation: Invocation) -> int:
    """Publish a post, public to everybody."""
    with local(invocation, valued=("channel", "warning")) as here, _draft(invocation, here.words) as text:
        here.show(
            here.node.post(
                text, channel=here.found.values.get("channel"), content_warning=here.found.values.get("warning")
            )
        )
    return 0


def reply(invocation: Invocation) -> int:
    """Answer a message; the answer to a private one is private."""
    with local(invocation, least=1, valued=("warning",)) as here:
        answered = message_id(here.words[0])
        with _draft(invocation, here.words[1:]) as text:
            here.show(here.node.post(text, reply_to=answered, content_warning=here.found.values.get("warning")))
    return 0


def like(invocation: Invocation) -> int:
    """Say that we like a message, or with --undo that we do not any more."""
    with local(invocation, least=1, most=1, valued=("expression",), switches=("undo",)) as here:
        liked = message_id(here.words[0])
        here.show(here.node.vote(liked, 0 if here.found.on("undo") else 1, here.found.values.get("expression")))
    return 0


def dm(invocation: Invocation) -> int:
    """Publish a private post, readable only for the people named and for us."""
    with local(invocation, least=2) as here:
        *whom, last = here.words
        recipients = list(dict.fromkeys(here.people.find(who) for who in whom))
        with _draft(invocation, (last,)) as text:
            sent = here.node.post(text, recps=list(dict.fromkeys([*recipients, here.people.me])))
            here.show(here.node.message(sent["key"], private=True) if here.output.pretty else sent)
    return 0


@contextmanager
def _draft(invocation: Invocation, words: tuple[str, ...]) -> Iterator[str]:
    """The text to publish: from the words, from standard input (also for "-"), or written in an editor.

    What was written in an editor is not lost when the node refuses it: it stays in a file that is named.
    """
    file = None
    if words and words != ("-",):
        text = " ".join(words)
    elif words or not input_is_terminal():
        text = _from_input()
    else:
        text, file = _edited(invocation)
    try:
        if not text.strip():
            raise UsageError("There is no text, so nothing was published.")
        yield text
    except ApiProblem as problem:
        if file is None:
            raise
        kept, file = file, None
        raise NodeError(f"{problem.detail.rstrip('.')}. What you wrote is in {kept}.") from None
    finally:
        if file is not None:
            file.unlink(missing_ok=True)


def _from_input() -> str:
    data = sys.stdin.buffer.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise UsageError(f"The text on standard input is longer than {LARGEST} bytes.")
    try:
        return data.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise UsageError("The text on standard input is not UTF-8.") from None


def _edited(invocation: Invocation) -> tuple[str, Path]:
    """What was written in the user's editor, and the file that it is in."""
    editor = _editor(invocation.environ)
    if editor is None:
        raise UsageError(f"usage: sbot {invocation.spelled} {invocation.command.usage}")
    descriptor, name = tempfile.mkstemp(prefix="sbot-", suffix=".md")
    os.close(descriptor)
    file = Path(name)
    try:
        code = subprocess.run([*editor, name], check=False).returncode  # noqa: S603 - the user's own editor
        text = file.read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:
        file.unlink(missing_ok=True)
        raise NodeError(f"The editor {editor[0]} cannot be started: {error.strerror}; see $EDITOR.") from None
    except UnicodeDecodeError:
        raise NodeError(f"What you wrote is not UTF-8, so nothing was published; it is in {name}.") from None
    if code:
        raise NodeError(f"The editor ended with {code}, so nothing was published; what you wrote is in {name}.")
    return text, file


def _editor(environ: Mapping[str, str]) -> list[str] | None:
    for name in ("VISUAL", "EDITOR"):
        try:
            words = shlex.split(environ.get(name, ""))
        except ValueError:
            raise UsageError(f"${name} is no command: a quotation mark is missing.") from None
        if words:
            return words
    return None
