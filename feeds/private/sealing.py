"""Making private messages: who the recipients are, and the content as it goes into the feed (protocol.md section 12).

The plaintext is the compact JSON of the content, its `recps` included, so that every reader knows whom to answer. We
are always among them, or we could not read our own message again.
"""

from collections.abc import Callable, Sequence
from typing import Final

from feeds import canonical_json
from feeds.errors import InvalidKey, InvalidMessage, InvalidRef
from feeds.keys import to_x25519_public
from feeds.message import JsonObject, JsonValue
from feeds.private import box1
from feeds.refs import FeedRef

__all__ = ["read_recipients", "seal", "wants_sealing"]

FIELD: Final = "recps"
_TYPE_LENGTHS: Final = range(3, 53)
"""UTF-16 units that the type of a content may have; a plain content is held to the same by its format."""


def wants_sealing(content: JsonObject | str, recipients: Sequence[JsonValue] | None = None) -> bool:
    """Whether a content is meant for some only: recipients are named beside it or in it. null names nobody."""
    return recipients is not None or (isinstance(content, dict) and content.get(FIELD) is not None)


def seal(
    content: JsonObject | str,
    recipients: Sequence[JsonValue] | None,
    *,
    me: str,
    random: Callable[[int], bytes],
) -> str:
    """The content string of a private message for the recipients and us.

    recipients -- feed ids in any spelling, or objects {link, name}; those in the content's own `recps` otherwise. If
    both are given they must name the same feeds. random -- so many random bytes. Raises InvalidMessage.
    """
    if not isinstance(content, dict):
        raise InvalidMessage("this content is encrypted already, so it takes no recps", FIELD)
    kind = content.get("type")
    if not isinstance(kind, str) or canonical_json.utf16_units(kind) not in _TYPE_LENGTHS:
        raise InvalidMessage("type must be a string of 3 to 52 UTF-16 units", "content")
    within = content.get(FIELD)
    named = read_recipients(recipients if recipients is not None else within)
    if recipients is not None and within is not None and set(read_recipients(within)) != set(named):
        raise InvalidMessage("recps beside the content and in it name different feeds", FIELD)
    named.setdefault(me, me)
    if len(named) > box1.MAX_RECIPIENTS:
        raise InvalidMessage(
            f"a private message can have at most {box1.MAX_RECIPIENTS} recipients, ourselves included; "
            f"these are {len(named)}",
            FIELD,
        )
    whole: JsonObject = {**content, FIELD: list(named.values())}
    ciphertext = box1.box(
        canonical_json.compact(whole),
        [_public(feed) for feed in named],
        nonce=random(box1.NONCE_SIZE),
        ephemeral_secret=random(box1.EPHEMERAL_SIZE),
        body_key=random(box1.BODY_KEY_SIZE),
    )
    return box1.to_text(ciphertext)


def read_recipients(recipients: object) -> dict[str, JsonValue]:
    """Canonical feed id of each recipient and how it was given, the first time it was; in order. Raises InvalidMessage.

    A single one may stand without a list, as in deployed clients.
    """
    given = [recipients] if isinstance(recipients, str | dict) else recipients
    if not isinstance(given, list | tuple):
        raise InvalidMessage("recps must be a list of feed ids", FIELD)
    if not given:
        raise InvalidMessage("recps names nobody; leave it out to publish for everybody", FIELD)
    named: dict[str, JsonValue] = {}
    for recipient in given:
        feed = _feed(recipient)
        named.setdefault(feed, feed if isinstance(recipient, str) else recipient)
    return named


def _feed(recipient: JsonValue) -> str:
    link = recipient.get("link") if isinstance(recipient, dict) else recipient
    if isinstance(link, str):
        try:
            return str(FeedRef.parse(link))
        except InvalidRef:
            pass
    raise InvalidMessage("each of recps must be a feed id, or an object with a feed id as its link", FIELD)


def _public(feed: str) -> bytes:
    try:
        return to_x25519_public(FeedRef.parse(feed).data)
    except InvalidKey:
        raise InvalidMessage(
            f"{feed} is no key that anybody can have, so nothing can be encrypted for it", FIELD
        ) from None
