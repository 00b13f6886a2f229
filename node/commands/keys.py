"""`sbot key …`: the identity as an encrypted file and as 24 words, and back; encrypted where it lies, or not.

A key that comes from elsewhere may have been used elsewhere, so its feed starts locked (rule 4 of publishing).
"""

import sys
from pathlib import Path

from feeds import key_box, key_words
from feeds.errors import InvalidKey
from feeds.install import replace_file
from feeds.key_box import KeyBox
from feeds.keys import Keypair, format_key_file
from feeds.publishing_mark import MARK
from node import keyfile, passphrase
from node.arguments import Strict
from node.commands import settings
from node.commands.catalogue import Invocation
from node.config import Config
from node.directory import DataDirectory
from node.errors import KeyFileError, NodeError, UsageError
from node.lock import DirectoryLock
from node.output import Output
from node.private_files import write_once

LOCKED = (
    "Its feed starts locked: what was published with it elsewhere is fetched from peers first. "
    "Never use one key on two machines."
)
LONGEST_WORDS = 10_000


def export(invocation: Invocation) -> int:
    """Write the key to a file that only a passphrase opens."""
    found, directory = _reading(invocation, words=1)
    target = Path(found.words[0]).expanduser().absolute()
    keypair = _own(directory)
    data = _sealed(keypair, f"the new file {target}")
    try:
        made = write_once(target, data)
    except OSError as error:
        raise NodeError(f"The file {target} cannot be written: {error.strerror}.") from None
    if not made:
        raise NodeError(f"There is a file {target} already, and nothing is written over; name another one.")
    _say(found, {"id": keypair.id, "file": str(target)}, f"The key of {keypair.id} is in {target}, encrypted.")
    return 0


def words(invocation: Invocation) -> int:
    """Print the key as 24 words."""
    found, directory = _reading(invocation, words=0)
    keypair = _own(directory)
    text = key_words.words_of(keypair)
    output = Output.standard(as_json=found.on("json"))
    if output.pretty:
        output.line(text)
        output.line(
            "Whoever has these words can speak in your name. Write them down, on paper, and show them to nobody."
        )
    else:
        output.json_value({"id": keypair.id, "words": text})
    return 0


def import_file(invocation: Invocation) -> int:
    """Take over the key in a file: an exported one, or the file `secret` of any node."""
    found, directory = _reading(invocation, words=1)
    source = Path(found.words[0]).expanduser().absolute()
    content = keyfile.read(source, tighten=False)
    if content is None:
        raise NodeError(f"There is no file {source}.")
    keypair = _opened(content, source)
    directory.make()
    take_over(directory, keypair)
    _say(found, {"id": keypair.id, "state": "locked"}, f"This node is now {keypair.id}. {LOCKED}")
    return 0


def encrypt(invocation: Invocation) -> int:
    """Encrypt the key file where it lies."""
    found, directory = _reading(invocation, words=0)
    content = keyfile.read(directory.secret)
    if isinstance(content, KeyBox):
        raise NodeError("The key is encrypted already; sbot key decrypt first, to choose another passphrase.")
    data = _sealed(_own(directory), f"the key in {directory.secret}")
    _replace(directory, data)
    text = (
        "The key is encrypted. sbot start asks for the passphrase at the terminal, or takes it from $SBOT_PASSPHRASE."
    )
    _say(found, {"encrypted": True}, text)
    return 0


def decrypt(invocation: Invocation) -> int:
    """Write the key file in the plain form that other programs read."""
    found, directory = _reading(invocation, words=0)
    if isinstance(keyfile.read(directory.secret), Keypair):
        raise NodeError("The key is not encrypted.")
    _replace(directory, format_key_file(_own(directory)).encode())
    _say(found, {"encrypted": False}, "The key is no longer encrypted.")
    return 0


def keypair_of_words(text: str) -> Keypair:
    """The identity of what --words says; `-` reads the words from standard input. Raises UsageError."""
    if text == "-":
        text = sys.stdin.read(LONGEST_WORDS)
    try:
        return key_words.keypair_of(text)
    except InvalidKey as error:
        raise UsageError(f"These words are no key: {error}.") from None


def take_over(directory: DataDirectory, keypair: Keypair) -> None:
    """Make a key from elsewhere that of a data directory that has none. Raises NodeError."""
    lock = DirectoryLock.acquire(directory.lock)
    try:
        present = keyfile.identity(directory.secret)
        if present is not None:
            raise NodeError(
                f"{directory.root} has a key already, that of {present}, and it is never written over; "
                "choose another directory with --path."
            )
        _doubt_mark(directory)
        if not write_once(directory.secret, format_key_file(keypair).encode()):
            raise NodeError(f"{directory.root} was given another key at the same moment; nothing was changed.")
    except OSError as error:
        raise NodeError(f"The key cannot be written to {directory.root}: {error.strerror}.") from None
    finally:
        lock.release()


def _doubt_mark(directory: DataDirectory) -> None:
    """A mark that lies there may be out of date when its key comes back. As a new file with the old content it counts
    as copied, which locks, and what it says was published must still be there before the feed opens by itself."""
    path = directory.root / MARK
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    replace_file(path, lambda _descriptor: content)


def _reading(invocation: Invocation, *, words: int) -> tuple[Strict, DataDirectory]:
    found = settings.reading(invocation)
    if len(found.words) != words or "" in found.words:
        raise UsageError(f"usage: sbot {invocation.command.name} {invocation.command.usage}".rstrip())
    config: Config = settings.loaded(invocation, found)
    return found, DataDirectory(config.path)


def _own(directory: DataDirectory) -> Keypair:
    keypair = keyfile.load(directory.secret)
    if keypair is None:
        raise NodeError(f"There is no key in {directory.root}; name the node's directory with --path.")
    return keypair


def _opened(content: Keypair | KeyBox, source: Path) -> Keypair:
    if isinstance(content, Keypair):
        return content
    try:
        return content.open(passphrase.ask(f"the key in {source}"))
    except InvalidKey as error:
        raise KeyFileError(f"The key in {source} was not opened: {error}.") from None


def _sealed(keypair: Keypair, purpose: str) -> bytes:
    """The key encrypted, and opened again to be sure. Raises NodeError."""
    typed = passphrase.ask(purpose, new=True)
    try:
        data = keyfile.sealed(keypair, typed)
        box = key_box.parse(data.decode())
        if box is None or box.open(typed) != keypair:
            raise InvalidKey("it could not be opened again")
    except InvalidKey as error:
        raise NodeError(f"The key was not encrypted: {error}.") from None
    return data


def _replace(directory: DataDirectory, data: bytes) -> None:
    """Replace the key file, whole or not at all, where nobody changed it meanwhile."""
    try:
        replace_file(directory.secret, lambda _descriptor: data)
    except OSError as error:
        raise NodeError(
            f"The key file {directory.secret} cannot be written: {error.strerror}; it is as it was."
        ) from None


def _say(found: Strict, value: dict[str, object], text: str) -> None:
    output = Output.standard(as_json=found.on("json"))
    if output.pretty:
        output.line(text)
    else:
        output.json_value(value)
