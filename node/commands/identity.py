"""`sbot init`, `whoami`, `version`: who this node is. None of them needs a running node."""

from typing import Any

from node import keyfile
from node.commands import settings
from node.commands.catalogue import Invocation
from node.directory import DataDirectory
from node.errors import NotRunning, UsageError
from node.output import Output
from node.version import VERSION


def init(invocation: Invocation) -> int:
    """Make the data directory, the identity, the token and the commented settings file, where they are missing.

    With --words the identity is that of 24 words, with --import DIR that of an old sbot, whose messages, blobs and
    peers come along; in both cases its feed starts locked.
    """
    found = settings.reading(invocation, valued=("words", "import"))
    if found.words:
        raise UsageError(f"usage: sbot {invocation.spelled} {invocation.command.usage} (the words in quotation marks)")
    config = settings.loaded(invocation, found)
    directory = DataDirectory(config.path)
    output = Output.standard(as_json=found.on("json"))
    report: dict[str, Any] = {}
    if "words" in found.values and "import" in found.values:
        raise UsageError("--words and --import both say which key to take; give one of them.")
    if "import" in found.values:
        from node.commands.moving_in import take_in

        report = take_in(config, found.values["import"], output)
        identity = report["id"]
    elif "words" in found.values:
        from node.commands.keys import keypair_of_words, take_over

        keypair = keypair_of_words(found.values["words"])
        directory.make()
        take_over(directory, keypair)
        identity = keypair.id
    else:
        directory.make()
        identity = keyfile.identity(directory.secret) or keyfile.load_or_create(directory.secret).id
    directory.http_token()
    directory.write_settings(config.config)
    if report and not output.pretty:
        output.json_value(report)
    else:
        _print_id(identity, output)
    return 0


def whoami(invocation: Invocation) -> int:
    """Print the id in the key file; the running node, if any, has no other."""
    found = settings.reading(invocation)
    path = settings.loaded(invocation, found).path
    identity = keyfile.identity(DataDirectory(path).secret)
    if identity is None:
        raise NotRunning(f"No node has run in {path} yet: there is no identity; sbot start --path {path} makes one.")
    _print_id(identity, Output.standard(as_json=found.on("json")))
    return 0


def version(invocation: Invocation) -> int:
    """Print the version of this program."""
    output = Output.standard(as_json=settings.reading(invocation).on("json"))
    if output.pretty:
        output.line(f"pysbot {VERSION}")
    else:
        output.json_value(VERSION)
    return 0


def _print_id(identity: str, output: Output) -> None:
    if output.pretty:
        output.line(identity)
    else:
        output.json_value({"id": identity})
