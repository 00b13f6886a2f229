"""Messages as JSON lines from a file or pipe, and the check of each with the code that ingest uses (`sbot verify`).

A line holds a message value, or the key-value-timestamp object that sbot's streams print. Lines end with a line feed
and nothing else: U+2028 inside a string is part of it. Memory stays bounded: a line beyond `LONGEST_LINE` is skipped
while it is read, and of a feed only its tip is kept.
"""

import select
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

import msgspec

from feeds import canonical_json
from feeds.admission import Task, judge
from feeds.errors import InvalidJson, InvalidMessage
from feeds.formats import registry
from feeds.log import message_id
from feeds.message import EMPTY, Tip
from feeds.validation import check_alone

LONGEST_LINE = 1024 * 1024
BATCH_BYTES = 2 * 1024 * 1024
CHUNK = 256 * 1024
FORMAT = "classic"
"""The feed format whose messages are JSON texts."""


class Line(NamedTuple):
    """A line by its number, counted from 1; `text` is None where it was too long to be read."""

    number: int
    text: bytes | None


class Verdict(NamedTuple):
    """The answer for one line: the message's id, or the reason why it is refused."""

    line: int
    id: str | None
    reason: str | None


class _Text(NamedTuple):
    line: int
    text: bytes
    key: str | None
    """What the key-value-timestamp object claims the id to be."""
    sequence: int = 0
    """What the text claims; known once it was peeked at."""


def read_batches(source: BinaryIO) -> Iterator[list[Line]]:
    """The lines of `source` in batches of about BATCH_BYTES, sooner when a pipe pauses. Blank lines are left out."""
    number, held, skipping = 1, b"", False
    batch: list[Line] = []
    size = 0
    while chunk := source.read1(CHUNK):  # type: ignore[attr-defined]
        *complete, held = (held + chunk).split(b"\n")
        for text in complete:
            if skipping or len(text) > LONGEST_LINE:
                batch.append(Line(number, None))
                skipping = False
            elif text.strip():
                batch.append(Line(number, text))
            number += 1
            size += len(text)
        if len(held) > LONGEST_LINE:
            held, skipping = b"", True
        if batch and (size >= BATCH_BYTES or _pauses(source)):
            yield batch
            batch, size = [], 0
    if skipping or held.strip():
        batch.append(Line(number, None if skipping else held))
    if batch:
        yield batch


def _pauses(source: BinaryIO) -> bool:
    """True when nothing more can be read at once: whoever feeds us line by line wants the answers."""
    try:
        return not select.select([source], [], [], 0)[0]
    except (OSError, ValueError):  # no descriptor behind it: a buffer in memory
        return False


class Checker:
    """Checks batches of lines; each message as the next of its author's feed, or alone.

    in_turn -- maps a function over independent feeds; hand in an executor's map to use several threads.
    """

    def __init__(
        self, *, hmac_key: bytes | None, alone: bool, in_turn: "Callable[..., Iterator[list[Verdict]]]"
    ) -> None:
        self._format = registry.format_named(FORMAT)
        self._hmac_key = hmac_key
        self._alone = alone
        self._map = in_turn
        self._tips: dict[str, Tip] = {}

    def check(self, batch: Sequence[Line]) -> list[Verdict]:
        """One verdict a line, in their order."""
        verdicts: list[Verdict] = []
        feeds: dict[str, list[_Text]] = {}
        for line in batch:
            try:
                item = _read(line)
                author, sequence = self._format.peek(item.text)
            except (InvalidJson, InvalidMessage) as error:
                verdicts.append(Verdict(line.number, None, str(error)))
            else:
                feeds.setdefault(author, []).append(item._replace(sequence=sequence))
        check = self._check_each_alone if self._alone else self._check_feed
        for found in self._map(check, feeds.keys(), feeds.values()):
            verdicts += found
        return sorted(verdicts)

    def _check_each_alone(self, _author: str, items: list[_Text]) -> list[Verdict]:
        verdicts = []
        for item in items:
            try:
                message = check_alone(self._format, item.text, self._hmac_key)
            except InvalidMessage as error:
                verdicts.append(Verdict(item.line, None, str(error)))
            else:
                verdicts.append(_accepted(item, message.id))
        return verdicts

    def _check_feed(self, author: str, items: list[_Text]) -> list[Verdict]:
        """Judge the lines of one feed as ingest judges deliveries; each line is a delivery, so their order counts."""
        tip = self._tips.get(author, EMPTY)
        delivered = [(at, item.sequence, at, item.text) for at, item in enumerate(items)]
        task = Task(self._format.name, author, tip.sequence, tip.id, assumed=False, forked=False, items=delivered)
        (judged,) = judge([task], self._hmac_key, ())
        refused = dict.fromkeys(judged.known, f"not the next message: sequence {tip.sequence + 1} is due")
        refused |= dict.fromkeys(judged.duplicates, "not the next message: it stands on an earlier line")
        refused |= {at: reason for at, _, reason, _ in judged.rejected}
        if judged.end is not None:
            self._tips[author] = Tip(tip.sequence + len(judged.taken), judged.end)
        return [Verdict(items[at].line, None, reason) for at, reason in refused.items()] + [
            _accepted(items[at], message_id(key, author)) for at, key in zip(judged.taken, judged.keys, strict=True)
        ]


def _accepted(item: _Text, found: str) -> Verdict:
    if item.key is not None and item.key != found:
        return Verdict(item.line, None, f"the key says {item.key!r}, but the id of this message is {found}")
    return Verdict(item.line, found, None)


class _Shell(msgspec.Struct):
    """The outer object of a line; the value's own text is kept as it came."""

    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    key: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    author: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_SHELL = msgspec.json.Decoder(_Shell)


def _read(line: Line) -> _Text:
    """The message text of a line and the id it claims. Raises InvalidMessage or InvalidJson."""
    if line.text is None:
        raise InvalidMessage(f"the line is longer than {LONGEST_LINE} bytes")
    try:
        shell = _SHELL.decode(line.text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _read_exactly(line.number, line.text)
    if shell.value is msgspec.UNSET or shell.author is not msgspec.UNSET:
        return _Text(line.number, line.text, None)
    if shell.key is msgspec.UNSET:
        return _Text(line.number, bytes(shell.value), None)
    key = canonical_json.parse(bytes(shell.key))
    return _Text(line.number, bytes(shell.value), key if isinstance(key, str) else repr(key))


def _read_exactly(number: int, text: bytes) -> _Text:
    """The same for texts that msgspec does not take but V8 may (lone surrogates, deep nesting)."""
    value = canonical_json.parse(text)
    if not isinstance(value, dict) or "value" not in value or "author" in value:
        return _Text(number, text, None)
    key = value.get("key")
    inner = canonical_json.compact(value["value"])
    return _Text(number, inner, key if key is None or isinstance(key, str) else repr(key))
