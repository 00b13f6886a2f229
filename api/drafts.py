"""What publishing a content would make, measured without signing it."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from api.services import MESSAGE_UNITS, Services
from feeds.canonical_json import utf16_units
from feeds.content import links
from feeds.message import JsonObject, JsonValue
from feeds.private.sealing import read_recipients
from feeds.refs import is_blob

__all__ = ["measure"]

_find_blobs: Final = re.compile(r"&[A-Za-z0-9+/]{43}=\.sha256").findall


def measure(
    services: Services, content: JsonObject | str, recps: Sequence[JsonValue] | None = None
) -> dict[str, object]:
    """The members of `models.DryRun`. Raises InvalidMessage, TooLarge."""
    draft = services.ingest.dry_run(content, recps=recps)
    # The signature is ASCII, so what it adds in units it adds in bytes.
    signature = draft.size - utf16_units(draft.signed.decode())
    blobs = _once(blob for text in _texts(content) for blob in _find_blobs(text) if is_blob(blob))
    mentioned = _once(link.target for link in links(content) if link.path.partition(".")[0] == "mentions")
    named = recps if recps is not None else content.get("recps") if isinstance(content, dict) else None
    return {
        "sequence": draft.sequence,
        "bytes": len(draft.signed) + signature,
        "size": draft.size,
        "limit": MESSAGE_UNITS,
        "mentions": [target for target in mentioned if not is_blob(target)],
        "blobs": blobs,
        "recps": None if named is None else list(dict.fromkeys([*read_recipients(named), services.me])),
        "missing_blobs": [blob for blob in blobs if not services.blobs.has(blob)],
    }


def _once(items: Iterable[str]) -> list[str]:
    """Without repetitions, in the order of first appearance."""
    return list(dict.fromkeys(items))


def _texts(value: JsonValue) -> Iterator[str]:
    """Every string inside a content. Its depth is bounded by the parser that read it."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
