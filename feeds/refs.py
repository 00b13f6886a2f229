"""Ids of feeds, messages and blobs: read once at the edge, plain canonical text everywhere inside.

protocol.md section 2. A classic id is a sigil, the canonical base64 of 32 bytes, and a suffix: `@….ed25519`,
`%….sha256`, `&….sha256`. Ids of other formats have only their ssb: URI. `FeedRef`, `MessageRef` and `BlobRef` read
every spelling that people paste; `str` of one is the id used inside, and `is_feed`, `is_message` and `is_blob` tell
whether a text is such an id already. What the deployed JavaScript takes for an id or a link, which is more, stands at
the end.
"""

import binascii
import re
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple, Self
from urllib.parse import parse_qsl, unquote

from feeds import ssb_uris
from feeds.errors import InvalidRef

__all__ = [
    "BlobRef",
    "FeedRef",
    "Link",
    "MessageRef",
    "deployed_kind",
    "extract",
    "is_blob",
    "is_feed",
    "is_message",
    "is_plain_id",
    "parse_link",
    "recognised_as",
]

CLASSIC: Final = "classic"

# The 43rd character holds four bits of the 32 bytes; its two unused bits must be zero.
_DATA32 = "[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]="
_IS_DATA32 = re.compile(_DATA32).fullmatch
_IS_BARE = re.compile("[A-Za-z0-9_-]{43}=?").fullmatch
_IS_CLASSIC_FEED = re.compile(rf"@{_DATA32}\.ed25519").fullmatch
_IS_CLASSIC_MESSAGE = re.compile(rf"%{_DATA32}\.sha256").fullmatch
_IS_CLASSIC_BLOB = re.compile(rf"&{_DATA32}\.sha256").fullmatch

_LONGEST: Final = 512


def _bytes32(data: str) -> bytes | None:
    return binascii.a2b_base64(data) if _IS_DATA32(data) else None


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()


@dataclass(frozen=True, slots=True)
class _Ref:
    """32 bytes, the format they belong to, and how the two are written."""

    data: bytes
    format: str = CLASSIC

    kind: ClassVar[str]
    """Its type in ssb: URIs."""
    sigil: ClassVar[str]
    suffix: ClassVar[str]

    def __post_init__(self) -> None:
        if len(self.data) != 32:
            raise InvalidRef(f"a {self.kind} id has 32 bytes, this one has {len(self.data)}")
        if self.format not in ssb_uris.FORMATS[self.kind]:
            raise InvalidRef(f"{self.format!r} is no format of {self.kind} ids")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads the sigil form, any spelling of the ssb: URI, or bare URL-safe base64 (classic). Raises InvalidRef."""
        if len(text) > _LONGEST:
            raise InvalidRef(f"{text[:40]!r}… is too long for a {cls.kind} id")
        if text.startswith("ssb:"):
            uri = ssb_uris.parse(text)
            if uri is None or uri.type != cls.kind:
                raise InvalidRef(f"{text!r} is no ssb: URI of a {cls.kind}")
            return cls._from_uri(uri)
        data = None
        if text.startswith(cls.sigil) and text.endswith(cls.suffix):
            data = _bytes32(text[len(cls.sigil) : -len(cls.suffix)])
        elif _IS_BARE(text):
            data = _bytes32(ssb_uris.to_standard_base64(text.rstrip("=")) + "=")
        if data is None:
            form = f"{cls.sigil}<44 characters of canonical base64>{cls.suffix}"
            raise InvalidRef(f"{text!r} is no {cls.kind} id; expected {form} or its ssb: URI")
        return cls(data)

    @classmethod
    def _from_uri(cls, uri: ssb_uris.SsbUri) -> Self:
        data = _bytes32(uri.data)
        if data is None or uri.extra:
            raise InvalidRef(f"{uri.data!r} is not the canonical base64 of 32 bytes in a {cls.kind} URI")
        return cls(data, uri.format)

    @property
    def uri(self) -> str:
        """The ssb: URI, for every format."""
        return ssb_uris.compose(self.kind, self.format, _base64(self.data))

    def __str__(self) -> str:
        """The canonical id: the sigil form for classic ones, else the URI."""
        return f"{self.sigil}{_base64(self.data)}{self.suffix}" if self.format == CLASSIC else self.uri


@dataclass(frozen=True, slots=True)
class FeedRef(_Ref):
    """A feed id. `parent` is the second part of the id of a buttwoo-v1 feed below another."""

    parent: bytes | None = None

    kind: ClassVar[str] = "feed"
    sigil: ClassVar[str] = "@"
    suffix: ClassVar[str] = ".ed25519"

    @classmethod
    def _from_uri(cls, uri: ssb_uris.SsbUri) -> Self:
        data, parent = _bytes32(uri.data), _bytes32(uri.extra)
        if data is None or (uri.extra and (parent is None or uri.format != "buttwoo-v1")):
            raise InvalidRef(f"{uri.data!r} is not the canonical base64 of 32 bytes in a feed URI")
        return cls(data, uri.format, parent)

    @property
    def uri(self) -> str:
        extra = "" if self.parent is None else _base64(self.parent)
        return ssb_uris.compose(self.kind, self.format, _base64(self.data), extra)

    __str__ = _Ref.__str__


@dataclass(frozen=True, slots=True)
class MessageRef(_Ref):
    """A message id."""

    kind: ClassVar[str] = "message"
    sigil: ClassVar[str] = "%"
    suffix: ClassVar[str] = ".sha256"

    __str__ = _Ref.__str__


@dataclass(frozen=True, slots=True)
class BlobRef(_Ref):
    """A blob id: the SHA-256 of its bytes."""

    kind: ClassVar[str] = "blob"
    sigil: ClassVar[str] = "&"
    suffix: ClassVar[str] = ".sha256"

    __str__ = _Ref.__str__


def is_feed(text: object) -> bool:
    """Whether text is a feed id in its canonical form, of any format."""
    return isinstance(text, str) and (_IS_CLASSIC_FEED(text) is not None or _is_canonical_uri(FeedRef, text))


def is_message(text: object) -> bool:
    """Whether text is a message id in its canonical form, of any format."""
    return isinstance(text, str) and (_IS_CLASSIC_MESSAGE(text) is not None or _is_canonical_uri(MessageRef, text))


def is_blob(text: object) -> bool:
    """Whether text is a blob id in its canonical form."""
    return isinstance(text, str) and _IS_CLASSIC_BLOB(text) is not None


is_plain_id: Final = re.compile(rf"(?:[%&]{_DATA32}\.sha256|@{_DATA32}\.ed25519)").fullmatch
"""A match for the canonical id of anything classic: nearly every id there is, told in one step."""


def _is_canonical_uri(ref: type[_Ref], text: str) -> bool:
    if not text.startswith("ssb:"):
        return False
    try:
        return str(ref.parse(text)) == text
    except InvalidRef:
        return False


# --- what deployed peers take for an id or a link (npm ssb-ref) -------------------------------------------------------

# Two quirks, kept because what other peers recognise is what they index: feeds may end in .sha256, and the dot before
# the suffix may be any character.
_ANY_BUT_LINE_END = r"[^\n\r\u2028\u2029]"
_DEPLOYED: Final = {
    "isFeed": re.compile(rf"@{_DATA32}{_ANY_BUT_LINE_END}(?:sha256|ed25519)").fullmatch,
    "isMsg": re.compile(rf"%{_DATA32}{_ANY_BUT_LINE_END}sha256").fullmatch,
    "isBlob": re.compile(rf"&{_DATA32}{_ANY_BUT_LINE_END}sha256").fullmatch,
    "isCloakedMsg": re.compile(rf"%{_DATA32}{_ANY_BUT_LINE_END}cloaked").fullmatch,
}
# ids of any format: canonical base64 of any length, and any suffix.
_BASE64 = "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/](?:[AQgw]==|[A-Za-z0-9+/][AEIMQUYcgkosw048]=))?"
_DEPLOYED_TYPES: Final = {
    "isFeedType": re.compile(rf"@{_BASE64}\.[A-Za-z0-9-]+").fullmatch,
    "isMsgType": re.compile(rf"%{_BASE64}\.[A-Za-z0-9-]+").fullmatch,
    "isBlobType": re.compile(rf"&{_BASE64}\.[A-Za-z0-9-]+").fullmatch,
}
_KINDS: Final = {
    "@": ("feed", _DEPLOYED["isFeed"]),
    "%": ("msg", _DEPLOYED["isMsg"]),
    "&": ("blob", _DEPLOYED["isBlob"]),
}
_LINK = re.compile(r"([@%&][A-Za-z0-9/+]{43}=\.[A-Za-z0-9_]+)(?:\?([^\n\r\u2028\u2029]+))?")
_REFERENCE = re.compile(r"[@%&][A-Za-z0-9/+]{43}=\.[A-Za-z0-9_]+")


class Link(NamedTuple):
    """An id with what followed its question mark (`unbox`, for one, is the key of an encrypted blob)."""

    id: str
    query: dict[str, str]


def recognised_as(text: str) -> frozenset[str]:
    """The names of ssb-ref's predicates about ids and links that are true of a text."""
    names = {name for name, matches in (_DEPLOYED | _DEPLOYED_TYPES).items() if matches(text)}
    if deployed_kind(text.partition("?")[0]) is not None:
        names.add("isLink")
        names |= {"isMsgLink"} if text[0] == "%" else {"isBlobLink"} if text[0] == "&" else set()
    return frozenset(names)


def deployed_kind(text: str) -> str | None:
    """ "feed", "msg" or "blob", as ssb-ref's `type` has it for ids; None for all else."""
    kind = _KINDS.get(text[:1])
    return None if kind is None or not kind[1](text) else kind[0]


def parse_link(text: str) -> Link | None:
    """An id with an optional query; like the deployed reader it does not ask for canonical base64."""
    match = _LINK.fullmatch(text)
    if match is None:
        return None
    query = dict(parse_qsl(match[2] or "", keep_blank_values=True))
    if "unbox" in query:  # base64 has plus signs, which a query string reads as blanks
        query["unbox"] = query["unbox"].replace(" ", "+")
    return Link(match[1], query)


def extract(text: str) -> str | None:
    """The first id inside a text, which may be percent-encoded or escaped for HTML."""
    match = _REFERENCE.search(text) or _REFERENCE.search(unquote(text).replace("&amp;", "&"))
    return match[0] if match else None
