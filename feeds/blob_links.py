"""Which blobs a content names, where, and with which key (protocol.md section 11).

A blob is named by a link anywhere in a content, or in the midst of its `text`, where markdown has pictures and files.
The key of an encrypted blob stands in the query of the link, `?unbox=…`, or beside it in `query`.
"""

import re
from collections.abc import Iterator, Sequence
from html import unescape
from typing import Final, NamedTuple
from urllib.parse import unquote

from feeds.content import FoundLink, links, target_of
from feeds.message import JsonObject, JsonValue

__all__ = ["MAX_BLOBS", "BlobLink", "blob_ids", "blob_links"]

MAX_BLOBS: Final = 256
"""Blobs read from one message."""
TEXT: Final = "text"
_BEGINNINGS: Final = ("&", "ssb:blob")
# In a text a link ends where markdown ends it; `&` and `=` may be escaped for HTML or for a URL.
_find_in_text: Final = re.compile(
    r"(?:&(?:amp;)?|%26)(?:[A-Za-z0-9+/]|%2[BbFf]){43}(?:=|%3[Dd])\.sha256(?:\?[^\s()<>\[\]\"']{1,256})?"
    r"|ssb:(?://)?blob[:/]classic[:/][A-Za-z0-9_-]{43}=?(?:\?[^\s()<>\[\]\"']{1,256})?"
).findall

_find_key: Final = re.compile(r"(?:^|&)unbox=([^&\s]{1,256})").search


class BlobLink(NamedTuple):
    """A blob that a content names."""

    id: str
    """Canonical."""
    path: str
    """As `links` has it; `text` for what stands in the midst of the text."""
    unbox: str | None
    """The key that opens it, as it is written there."""


def blob_ids(content: JsonObject | str, found: Sequence[FoundLink]) -> list[str]:
    """The blobs that a content names, each once; found -- its links. What a view keeps, so it must be quick."""
    named = [target for target, _, _ in found if target.startswith(_BEGINNINGS)]
    if type(content) is dict:
        text = content.get(TEXT)
        if type(text) is str and (".sha256" in text or "ssb:" in text):
            named += [link.id for link in _in_text(text)]
    return list(dict.fromkeys(named))[:MAX_BLOBS] if named else named


def blob_links(content: JsonObject | str) -> list[BlobLink]:
    """The blobs that a content names and where; the first place of each blob that has a key, else the first at all."""
    found: dict[str, BlobLink] = {}
    beside = dict(_keys_beside(content))
    for target, path, query in links(content):
        if target.startswith(_BEGINNINGS):
            _note(found, BlobLink(target, path, _key_in(query) or beside.get(target)))
    text = content.get(TEXT) if isinstance(content, dict) else None
    if isinstance(text, str):
        for link in _in_text(text):
            _note(found, link)
    return list(found.values())[:MAX_BLOBS]


def _note(found: dict[str, BlobLink], link: BlobLink) -> None:
    before = found.get(link.id)
    if before is None or (before.unbox is None and link.unbox is not None):
        found[link.id] = link


def _in_text(text: str) -> Iterator[BlobLink]:
    for spelled in _find_in_text(text):
        plain = unescape(unquote(spelled)) if spelled[:3] == "%26" or spelled.startswith("&amp;") else spelled
        target = target_of(plain)
        if target is not None:
            yield BlobLink(target, TEXT, _key_in(plain.partition("?")[2]))


def _key_in(query: str) -> str | None:
    """The key in the query of a link."""
    match = _find_key(query)
    # Base64 has plus signs, which do not stand for blanks here; a sentence may end after a link.
    return unquote(match[1]).rstrip(".,;:!") or None if match is not None else None


def _keys_beside(content: JsonObject | str) -> Iterator[tuple[str, str]]:
    """Keys that mentions hold in a `query` of their own."""
    mentions: JsonValue = content.get("mentions") if isinstance(content, dict) else None
    for mention in mentions[:MAX_BLOBS] if isinstance(mentions, list) else ():
        if isinstance(mention, dict):
            link, query = mention.get("link"), mention.get("query")
            target = target_of(link) if isinstance(link, str) else None
            key = query.get("unbox") if isinstance(query, dict) else None
            if target is not None and isinstance(key, str) and key:
                yield target, key
