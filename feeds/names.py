"""What feeds say about feeds, messages and blobs, and whose word counts (protocol.md section 11).

Anybody may give a name, an image or a description to anybody. What I say counts first, then what somebody says of
themselves, then what most of the others say; a feed without any name goes by a short form of its id.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from feeds.content import MAX_DEPTH, target_of
from feeds.message import JsonObject, JsonValue

__all__ = [
    "About",
    "Chosen",
    "Said",
    "Teller",
    "as_json",
    "choose",
    "folded_name",
    "own_word",
    "read_about",
    "short_id",
]

MAX_FIELDS: Final = 32
MAX_FIELD_NAME: Final = 64
MAX_NAME: Final = 256
_NOT_FIELDS: Final = frozenset(("type", "about"))


class About(NamedTuple):
    """The reading of an about message: its author says these things of that id."""

    subject: str
    """Canonical id of a feed, message or blob."""
    fields: dict[str, JsonValue]
    """By name; None takes back what was said before."""


class Teller(StrEnum):
    """Whose word it is."""

    ME = "me"
    SELF = "self"
    OTHERS = "others"
    NOBODY = "nobody"


class Said(NamedTuple):
    """What an author says at present."""

    author: str
    value: str


class Chosen(NamedTuple):
    """The value that counts, whose word it is, and who all say so."""

    value: str | None
    teller: Teller
    authors: list[str]


def read_about(content: JsonObject | str) -> About | None:
    """What an about message says; None for what is none, or says nothing that can be used.

    A name, an image or a description of a wrong shape says nothing, so that what was said before still counts; null, an
    empty text, and a link that says `remove` take back. Other fields are kept as they are.
    """
    if not isinstance(content, dict) or content.get("type") != "about":
        return None
    subject = _target(content.get("about"))
    if subject is None:
        return None
    fields: dict[str, JsonValue] = {}
    for name, value in content.items():
        if name in _NOT_FIELDS or len(name) > MAX_FIELD_NAME or len(fields) == MAX_FIELDS:
            continue
        if name in _SHAPES:
            fits, value = _SHAPES[name](value)
            if not fits:
                continue
        elif _is_too_deep(value):
            continue
        fields[name] = value
    return About(subject, fields) if fields else None


def _is_too_deep(value: JsonValue) -> bool:
    """Whether arrays and objects lie deeper in one another than anybody reads; without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            member
            for outer in level
            if isinstance(outer, list | dict)
            for member in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(level)


def _target(value: JsonValue) -> str | None:
    """Canonical id that a link (an id, or an object with `link`) points to."""
    link = value.get("link") if isinstance(value, dict) else value
    return target_of(link) if isinstance(link, str) else None


def _as_text(value: JsonValue) -> tuple[bool, JsonValue]:
    if isinstance(value, str):
        return True, value if value.strip() else None
    return value is None, None


def _as_name(value: JsonValue) -> tuple[bool, JsonValue]:
    fits, name = _as_text(value)
    return fits, " ".join(name.split())[:MAX_NAME] if isinstance(name, str) else None


def _as_image(value: JsonValue) -> tuple[bool, JsonValue]:
    if value is None or value == "" or (isinstance(value, dict) and value.get("remove") is True):
        return True, None
    target = _target(value)
    is_blob = target is not None and target.startswith(("&", "ssb:blob"))
    return is_blob, target


def _as_flag(value: JsonValue) -> tuple[bool, JsonValue]:
    return value is None or isinstance(value, bool), value


_SHAPES: Final = {
    "name": _as_name,
    "image": _as_image,
    "description": _as_text,
    "publicWebHosting": _as_flag,
}


def choose(said: Sequence[Said], *, me: str, subject: str) -> Chosen:
    """The value that counts of what is said of a feed; among values that as many others give, the smallest."""
    for author, teller in ((me, Teller.ME), (subject, Teller.SELF)):
        for one in said:
            if one.author == author:
                own = Teller.SELF if me == subject else teller
                return Chosen(one.value, own, [other.author for other in said if other.value == one.value])
    if not said:
        return Chosen(None, Teller.NOBODY, [])
    counted = Counter(one.value for one in said)
    value = min(counted, key=lambda value: (-counted[value], value))
    return Chosen(value, Teller.OTHERS, [one.author for one in said if one.value == value])


def own_word(said: Sequence[Said], subject: str) -> str | None:
    """What a feed says of itself: for what nobody else may say for it."""
    return next((one.value for one in said if one.author == subject), None)


def folded_name(name: str) -> str:
    """The spelling by which names are looked up: without case, accents and width, and a leading @."""
    plain = unicodedata.normalize("NFKD", name.removeprefix("@").casefold())
    return "".join(letter for letter in plain if not unicodedata.combining(letter))


def short_id(id: str) -> str:
    """How a feed without a name is called: the sigil and eight characters of the id."""
    data = id.rpartition("/")[2] if id.startswith("ssb:") else id[1:]
    return f"@{data[:8]}" if id.startswith(("@", "ssb:feed")) else f"{id[0]}{data[:8]}"


def as_json(value: object) -> str:
    """A value as JSON in ASCII, which SQLite can hold whatever is in it."""
    return json.dumps(value, separators=(",", ":"))
