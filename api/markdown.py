"""Markdown of posts as HTML that can be shown anywhere: strangers wrote it. Pure.

CommonMark with tables, strikethrough and, as SSB clients have it, line breaks where the author made them. HTML is not
markup here and comes out as text. Ids of feeds, messages and blobs, ssb: URIs, channels and web addresses become links,
also where they stand bare in the text; what this node holds is linked to its own routes. Nothing is loaded from
elsewhere: a picture is a blob of ours, any other becomes a link.

Two walls: the parser makes only what is allowed and takes only the targets that `_target` lets through, and nh3 reads
the result as a browser would and throws out whatever else it finds.
"""

import html
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Final
from urllib.parse import quote

import nh3
from markdown_it import MarkdownIt
from markdown_it.common.normalize_url import normalizeLink
from markdown_it.rules_core import StateCore
from markdown_it.token import Token

from feeds import ssb_uris
from feeds.errors import InvalidRef
from feeds.refs import BlobRef, FeedRef, MessageRef

__all__ = ["ATTRIBUTES", "LONGEST", "REL", "SCHEMES", "TAGS", "render"]

LONGEST: Final = 64 * 1024
"""Characters of a text that are rendered."""
DEEPEST: Final = 50
"""Levels of quotes and lists within each other; what is nested deeper is left out."""
REL: Final = "nofollow noopener noreferrer"
SCHEMES: Final = frozenset(("http", "https", "mailto", "ssb"))
TAGS: Final = frozenset(
    (
        "a",
        "blockquote",
        "br",
        "code",
        "em",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "img",
        "li",
        "ol",
        "p",
        "pre",
        "s",
        "strong",
        "table",
        "tbody",
        "td",
        "th",
        "thead",
        "tr",
        "ul",
    )
)
ATTRIBUTES: Final = {
    "a": frozenset(("href", "title", "rel")),
    "img": frozenset(("src", "alt", "title", "loading")),
    "ol": frozenset(("start",)),
    "td": frozenset(("align",)),
    "th": frozenset(("align",)),
}
"""Attributes that tags may have; all others have none."""

_BLOBS: Final = "/v1/blobs/"
_CHANNELS: Final = "/v1/timelines/channels/"
_ROUTES: Final[dict[str, tuple[type[FeedRef | MessageRef | BlobRef], str]]] = {
    "@": (FeedRef, "/v1/profiles/"),
    "%": (MessageRef, "/v1/messages/"),
    "&": (BlobRef, _BLOBS),
}
_SIGILS: Final = {"feed": "@", "message": "%", "blob": "&"}
_is_unbox = re.compile(r"unbox=([A-Za-z0-9+/]{43}=(?:\.boxs)?)").fullmatch
_is_web = re.compile(r"https?://[^\s\x00-\x20/\\?#]", re.IGNORECASE).match
_is_mail = re.compile(r"mailto:[^\s\x00-\x20:/\\]+@[^\s\x00-\x20:/\\]+", re.IGNORECASE).fullmatch
_is_channel = re.compile(r"#[^\s\x00-\x20#/\\?&]{1,64}").fullmatch
_is_made = re.compile(r"(?:https?://|mailto:|ssb:|/v1/(?:profiles|messages|blobs|timelines/channels)/)").match
_BARE: Final = re.compile(
    r"(?<![A-Za-z0-9+/=_])[@%&][A-Za-z0-9+/]{43}=\.(?:ed25519|sha256)(?:\?unbox=[A-Za-z0-9+/]{43}=(?:\.boxs)?)?"
    r"|(?<![A-Za-z0-9])ssb:(?://)?(?:feed|message|blob)[/:][a-z0-9-]+[/:][A-Za-z0-9_=-]+"
    r"|(?<![A-Za-z0-9])https?://[^\s<>\"\x00-\x20]+"
    r"|(?<![^\s(\[{>*_\"'])#[^\s#.,?!<>()\[\]{}\"'`:;&/\\|*+=~^%$@]{1,64}"
)
_ENDINGS: Final = ".,;:!?'*~]}"
_STYLES: Final = {f"text-align:{side}": side for side in ("left", "right", "center")}


def render(text: str) -> str:
    """The HTML of a markdown text, the same each time. Never raises; what is beyond `LONGEST` is cut off."""
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if len(whole) > LONGEST:
        whole = whole[:LONGEST] + "…"
    try:
        made = _PARSER.render(whole)
    except Exception:  # a fault of the parser: the text can be shown all the same
        made = f"<p>{html.escape(whole)}</p>"
    return nh3.clean(
        made,
        tags=set(TAGS),
        attributes={tag: set(names - {"rel", "align"}) for tag, names in ATTRIBUTES.items()},
        tag_attribute_values={
            "a": {"rel": {REL}},
            "td": {"align": set(_STYLES.values())},
            "th": {"align": set(_STYLES.values())},
        },
        attribute_filter=_allowed,
        url_schemes=set(SCHEMES),
        link_rel=None,
    )


def _allowed(_tag: str, name: str, value: str) -> str | None:
    """The second look at what was linked."""
    if name == "href":
        return value if _is_made(value) else None
    if name == "src":
        return value if value.startswith(_BLOBS) else None
    return value


# --- where links lead -------------------------------------------------------------------------------------------------


def _target(url: str) -> str:
    """What to put into a link for what the author wrote; empty if that may not be linked to."""
    if url[:1] in _ROUTES:
        return _route(url[0], url)
    if url[:1] == "#":
        return _CHANNELS + quote(url[1:], safe="") if _is_channel(url) else ""
    if url[:4].lower() == "ssb:":
        return _ssb_target("ssb:" + url[4:])
    if _is_web(url) or _is_mail(url):
        with suppress(ValueError):
            normal = normalizeLink(url)
            return normal if _is_web(normal) or _is_mail(normal) else ""
    return ""


def _route(sigil: str, url: str) -> str:
    """Where this node shows what an id names; the key of an encrypted message or blob goes along."""
    kind, path = _ROUTES[sigil]
    name, _, query = url.partition("?")
    try:
        canonical = str(kind.parse(name))
    except InvalidRef:
        return ""
    key = _is_unbox(query)
    return path + quote(canonical, safe="") + (f"?unbox={quote(key[1], safe='')}" if key and sigil != "@" else "")


def _ssb_target(uri: str) -> str:
    found = ssb_uris.parse(uri)
    if found is None:
        return ""
    sigil = _SIGILS.get(found.type)
    if sigil is not None:
        return _route(sigil, uri)
    return "ssb:" + quote(uri[4:], safe="/:?&=%+~.,_-")


class _SsbMarkdown(MarkdownIt):
    """The parser, with our word on where links may lead."""

    def normalizeLink(self, url: str) -> str:  # noqa: N802 - the parser's name
        return _target(url)

    def validateLink(self, url: str) -> bool:  # noqa: N802 - the parser's name
        return url != ""


# --- from the parser's tokens to ours ---------------------------------------------------------------------------------


def _finish(state: StateCore) -> None:
    """Make bare ids and addresses links, and pictures from elsewhere too; mark links as a stranger's."""
    for token in state.tokens:
        if token.children:
            token.children = list(_linked(token.children))
        elif token.type in ("th_open", "td_open") and "style" in token.attrs:
            token.attrs = {"align": _STYLES[str(token.attrs["style"])]}


def _linked(tokens: list[Token]) -> Iterator[Token]:
    inside = False  # links do not nest
    for token in tokens:
        if token.type == "link_open":
            inside = True
            token.attrs["rel"] = REL
        elif token.type == "link_close":
            inside = False
        if token.type == "image":
            yield from _picture(token, inside)
        elif token.type == "text" and not inside:
            yield from _with_links(token)
        else:
            yield token


def _picture(token: Token, inside: bool) -> Iterator[Token]:
    source = str(token.attrs["src"])
    if source.startswith(_BLOBS):
        token.attrs["loading"] = "lazy"
        yield token
        return
    words = _words(token.children or []) or source
    yield from [_text(words)] if inside else _link(source, words)


def _words(tokens: list[Token]) -> str:
    return "".join(_words(token.children) if token.children else token.content for token in tokens)


def _with_links(token: Token) -> Iterator[Token]:
    end = 0
    for match in _BARE.finditer(token.content):
        found = match[0]
        if found[0] in "hH":
            found = _without_punctuation(found)
        target = _target(found)
        if target:
            yield _text(token.content[end : match.start()])
            yield from _link(target, found)
            end = match.start() + len(found)
    if end == 0:
        yield token
    else:
        yield _text(token.content[end:])


def _without_punctuation(url: str) -> str:
    """An address in running text without what ends its sentence, or the brackets around it."""
    end = len(url)
    surplus = url.count(")") - url.count("(")
    while url[end - 1] in _ENDINGS or (url[end - 1] == ")" and surplus > 0):
        surplus -= url[end - 1] == ")"
        end -= 1
    return url[:end]


def _link(target: str, words: str) -> Iterator[Token]:
    yield Token("link_open", "a", 1, attrs={"href": target, "rel": REL})
    yield _text(words)
    yield Token("link_close", "a", -1)


def _text(words: str) -> Token:
    return Token("text", "", 0, content=words)


def _parser() -> MarkdownIt:
    parser = _SsbMarkdown("commonmark", {"html": False, "breaks": True, "maxNesting": DEEPEST})
    parser.enable(["table", "strikethrough"])
    parser.core.ruler.after("inline", "ssb", _finish)
    return parser


_PARSER: Final = _parser()
