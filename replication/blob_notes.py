"""The items of a blobs.createWants stream as values (protocol.md section 10). Pure."""

from typing import Final, NamedTuple

from feeds.message import JsonValue
from feeds.refs import is_blob

__all__ = ["NOTE_MAX", "ParsedNotes", "parse_notes"]

NOTE_MAX: Final = 2**53 - 1


class ParsedNotes(NamedTuple):
    """Notes by blob id, and how many entries were none."""

    notes: dict[str, int]
    wrong: int


def parse_notes(value: object) -> ParsedNotes:
    """Read one item: an object of blob ids with whole numbers other than 0; everything else in it is counted only."""
    if not isinstance(value, dict):
        return ParsedNotes({}, 1)
    notes = {blob: note for blob, number in value.items() if is_blob(blob) and (note := _note(number))}
    return ParsedNotes(notes, len(value) - len(notes))


def _note(number: JsonValue) -> int:
    """The note, 0 for what is none; 10.0 is 10, as in JavaScript."""
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    return number if type(number) is int and abs(number) <= NOTE_MAX else 0
