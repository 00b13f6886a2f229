"""Contents as deployed clients write them: posts and replies, votes, abouts, contacts (protocol.md section 11). Pure.

What people type goes in, what is signed comes out. The text is kept as it was typed; what it mentions is read from its
markdown, so that a name in a code block mentions nobody.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

from feeds.conversation import normalise_channel, read_channels
from feeds.errors import InvalidRef
from feeds.message import JsonObject, JsonValue
from feeds.refs import BlobRef, FeedRef, MessageRef

__all__ = ["EXPRESSIONS", "MAX_MENTIONS", "BlobFacts", "Spot", "about", "contact", "find_mentions", "post", "vote"]

EXPRESSIONS: Final = {1: "Like", 0: "Unlike", -1: "Dislike"}
"""What a vote says when nothing else is asked for."""
MAX_MENTIONS: Final = 200
"""Read from one text; a message has room for some 130."""
DEEPEST: Final = 50
"""Levels of quotes and lists that are read."""

_ID: Final = re.compile(
    r"(?<![A-Za-z0-9+/=_])[@%&][A-Za-z0-9+/]{43}=\.(?:ed25519|sha256)"
    r"|(?<![A-Za-z0-9])ssb:(?://)?(?:feed|message|blob)[/:][a-z0-9-]+[/:][A-Za-z0-9_=-]+"
)
_KINDS: Final[dict[str, tuple[type[FeedRef | MessageRef | BlobRef], ...]]] = {
    "@": (FeedRef,),
    "%": (MessageRef,),
    "&": (BlobRef,),
    "s": (FeedRef, MessageRef, BlobRef),
}


class Spot(NamedTuple):
    """Where a message stands in its thread. Ids are canonical message ids."""

    root: str
    branches: Sequence[str]
    """What it answers: the ends of the thread as they are known."""


class BlobFacts(NamedTuple):
    """What is known of a blob that is held: bytes, and media type if its first bytes show one."""

    size: int
    type: str | None


# --- contents ---------------------------------------------------------------------------------------------------------


def post(
    text: str,
    *,
    reply: Spot | None = None,
    channel: str | None = None,
    content_warning: str | None = None,
    found: Iterable[JsonObject] | None = None,
    mentions: Iterable[JsonObject] = (),
    blobs: Mapping[str, BlobFacts] | None = None,
) -> JsonObject:
    """A post, or with `reply` a reply.

    channel -- in any spelling; one of which nothing is left is left out. found -- what `find_mentions` found in the
    text, where that was asked before. mentions -- objects {link, name?, …} besides; what they say of a link that is in
    the text counts. blobs -- what is held of those in it.
    """
    content: JsonObject = {"type": "post", "text": text}
    if channel is not None and (name := normalise_channel(channel)) is not None:
        content["channel"] = name
    if content_warning:
        content["contentWarning"] = content_warning
    if mentioned := _together(find_mentions(text) if found is None else found, mentions, blobs or {}):
        content["mentions"] = mentioned
    return _placed(content, reply)


def vote(
    message: str, value: int, expression: str | None = None, *, spot: Spot | None = None, channel: str | None = None
) -> JsonObject:
    """A vote about a message: 1, -1, or 0 for no opinion any more. channel -- of that message."""
    said = EXPRESSIONS[value] if expression is None else expression
    content: JsonObject = {"type": "vote"}
    if channel is not None and (name := normalise_channel(channel)) is not None:
        content["channel"] = name
    content["vote"] = {"link": message, "value": value, "expression": said}
    return _placed(content, spot)


def about(subject: str, fields: Mapping[str, str | None], image: BlobFacts | None = None) -> JsonObject:
    """What we say of a feed, message or blob: some of name, description and image; None takes back.

    image -- what is held of the blob that is the image.
    """
    content: JsonObject = {"type": "about", "about": subject, **fields}
    link = fields.get("image")
    if link is not None and image is not None:
        content["image"] = {"link": link, **_facts(image)}
    return content


def contact(feed: str, *, following: bool, blocking: bool) -> JsonObject:
    """Our relation to a feed, the whole of it: the newest such message replaces those before."""
    return {"type": "contact", "contact": feed, "following": following, "blocking": blocking}


def _placed(content: JsonObject, spot: Spot | None) -> JsonObject:
    return content if spot is None else {**content, "root": spot.root, "branch": list(spot.branches)}


def _facts(blob: BlobFacts) -> JsonObject:
    facts: JsonObject = {} if blob.type is None else {"type": blob.type}
    return {**facts, "size": blob.size}


def _together(
    found: Iterable[JsonObject], given: Iterable[JsonObject], blobs: Mapping[str, BlobFacts]
) -> list[JsonValue]:
    """One mention a link, in the order of the text and then as given."""
    mentions: dict[str, JsonObject] = {}
    for mention in (*found, *given):
        link = str(mention["link"])
        facts = _facts(blobs[link]) if link in blobs else {}
        mentions[link] = {**mentions.get(link, facts), **mention}
    return list(mentions.values())


# --- what a text mentions ---------------------------------------------------------------------------------------------


def find_mentions(text: str) -> list[JsonObject]:
    """Feeds, messages, blobs and hashtags in a markdown text, each once, as objects {link, name?}.

    Targets of links and pictures go by their words as the name, without the `@` before it; ids, ssb: URIs and hashtags
    also count where they stand bare. Code is left alone. Links are canonical ids, without a query. Never raises.
    A text made for it, nothing but brackets, takes half a second.
    """
    mentions: dict[str, JsonObject] = {}
    for link, name in _found(_tokens(text)):
        if link in mentions:
            if name:
                mentions[link].setdefault("name", name)
        elif len(mentions) < MAX_MENTIONS:
            mentions[link] = {"link": link, "name": name} if name else {"link": link}
    return list(mentions.values())


def _tokens(text: str) -> list[Token]:
    try:
        return _PARSER.parse(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    except Exception:  # a fault of the parser: what is written bare can be found all the same
        return [Token("inline", "", 0, children=[Token("text", "", 0, content=text)])]


def _found(tokens: Iterable[Token]) -> Iterator[tuple[str, str]]:
    """Links and their names, in order."""
    for token in tokens:
        if token.type == "inline":
            yield from _in_line(token.children or [])


def _in_line(tokens: Sequence[Token]) -> Iterator[tuple[str, str]]:
    target, words = "", ""
    for token in tokens:
        match token.type:
            case "link_open":
                target, words = str(token.attrs.get("href", "")), ""
            case "link_close":
                yield from _linked(target, words)
                target = ""
            case "image":
                yield from _linked(str(token.attrs.get("src", "")), _words(token.children or []))
            case "text" | "code_inline" if target:
                words += token.content
            case "text":
                yield from _bare(token.content)


def _linked(target: str, words: str) -> Iterator[tuple[str, str]]:
    if target.startswith("#"):
        yield from ((f"#{name}", "") for name in _channels(target))
    elif (link := _canonical(target)) is not None:
        name = words.strip().removeprefix("@")
        yield link, "" if _canonical(words.strip()) is not None else name


def _bare(text: str) -> Iterator[tuple[str, str]]:
    end = 0
    for match in _ID.finditer(text):
        link = _canonical(match[0])
        if link is not None:
            yield from ((f"#{name}", "") for name in _channels(text[end : match.start()]))
            yield link, ""
            end = match.end()
    yield from ((f"#{name}", "") for name in _channels(text[end:]))


def _channels(text: str) -> list[str]:
    return read_channels({"type": "post", "text": text}) if "#" in text else []


def _words(tokens: Iterable[Token]) -> str:
    return "".join(_words(token.children) if token.children else token.content for token in tokens)


def _canonical(target: str) -> str | None:
    """The id that a link leads to, without its query; None for all else."""
    for kind in _KINDS.get(target[:1], ()):
        with suppress(InvalidRef):
            return str(kind.parse(target if target[0] == "s" else target.partition("?")[0]))
    return None


class _Plain(MarkdownIt):
    """The parser, with targets of links left as they were written."""

    def normalizeLink(self, url: str) -> str:  # noqa: N802 - the parser's name
        return url

    def validateLink(self, url: str) -> bool:  # noqa: N802 - the parser's name
        return url != ""


def _parser() -> MarkdownIt:
    parser = _Plain("commonmark", {"html": False, "maxNesting": DEEPEST})
    parser.enable(["table", "strikethrough"])
    return parser


_PARSER: Final = _parser()
