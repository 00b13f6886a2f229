"""SSB URIs: the spelling of ids, addresses and requests that can stand in a web page (protocol.md section 2.1).

`ssb:TYPE/FORMAT/DATA`, with DATA in URL-safe base64. Writers use slashes; readers also meet `ssb:TYPE:FORMAT:DATA` and
`ssb://TYPE/FORMAT/DATA`, which are the same URI, and the old names of the classic formats. The scheme is lower-case.
What is read here is the outer form only: whether DATA is a usable id is for `refs` to say.
"""

import re
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote

__all__ = [
    "ADDRESS",
    "EXPERIMENTAL",
    "FORMATS",
    "SsbUri",
    "compose",
    "decompose",
    "from_multiserver_address",
    "multiserver_address",
    "parse",
    "to_standard_base64",
    "to_url_safe_base64",
]

_FEED_FORMATS: Final = ("classic", "bendybutt-v1", "gabbygrove-v1", "buttwoo-v1", "indexed-v1")
FORMATS: Final = {
    "feed": _FEED_FORMATS,
    "message": (*_FEED_FORMATS, "cloaked"),
    "blob": ("classic",),
    "encryption-key": ("box2-dm-dh",),
    "identity": ("po-box", "group", "fusion"),
}
"""The types of URI that carry data, each with the formats known for it."""

ADDRESS: Final = "address"
EXPERIMENTAL: Final = "experimental"

_OLD_NAMES: Final = {("feed", "ed25519"): "classic", ("message", "sha256"): "classic", ("blob", "sha256"): "classic"}
_WITH_DATA = re.compile(
    r"ssb:(?:([a-z0-9-]+)/([a-z0-9-]+)/|([a-z0-9-]+):([a-z0-9-]+):|//([a-z0-9-]+)/([a-z0-9-]+)/)(.*)"
)
_ADDRESS = re.compile(r"ssb:(?://)?address[:/]multiserver[^?]*\?(.*)")
_EXPERIMENTAL = re.compile(r"ssb:(?://)?experimental(?:[^?]*\?(.*)|.*)")
_BASE64_PART = re.compile(r"[A-Za-z0-9_=-]+")


class SsbUri(NamedTuple):
    """A URI taken apart."""

    type: str
    """A key of FORMATS, ADDRESS or EXPERIMENTAL."""
    format: str
    """One of FORMATS[type]; "multiserver" for an address, empty for a request."""
    data: str = ""
    """Base64 in the standard alphabet, unchecked; empty for addresses and requests."""
    extra: str = ""
    """A second part of data (the parent in buttwoo-v1 feed ids)."""
    query: str = ""
    """What follows the question mark."""

    def parameters(self) -> dict[str, str]:
        """The query taken apart; the first of several parameters of one name counts."""
        found: dict[str, str] = {}
        for name, value in parse_qsl(self.query, keep_blank_values=True):
            found.setdefault(name, value)
        return found


def parse(uri: str) -> SsbUri | None:
    """Takes any spelling apart; None for what is no SSB URI of a known type and format."""
    body, _, _ = uri.partition("#")
    if match := _WITH_DATA.fullmatch(body):
        kind = match[1] or match[3] or match[5]
        name = match[2] or match[4] or match[6]
        return _with_data(kind, _OLD_NAMES.get((kind, name), name), match[7])
    if match := _ADDRESS.fullmatch(body):
        address = SsbUri(ADDRESS, "multiserver", query=match[1])
        return address if address.parameters().get("multiserverAddress") else None
    if match := _EXPERIMENTAL.fullmatch(body):
        return SsbUri(EXPERIMENTAL, "", query=match[1] or "")
    return None


def _with_data(kind: str, name: str, rest: str) -> SsbUri | None:
    path, _, query = rest.partition("?")
    parts = re.split("[/:]", path)
    if name not in FORMATS.get(kind, ()) or not _BASE64_PART.fullmatch(parts[-1]):
        return None
    first, *more = map(to_standard_base64, parts)
    return SsbUri(kind, name, first, "/".join(more), query)


def decompose(uri: str) -> SsbUri | None:
    """The parts of a URI in the spelling with slashes, the only one that the deployed `decompose` knows."""
    if uri.startswith("ssb://"):
        return None
    kind, name, data, extra, *_ = [*uri[4:].split("/"), "", "", "", ""]
    name = _OLD_NAMES.get((kind, name), name)
    if name not in FORMATS.get(kind, ()) or not data:
        return None
    return SsbUri(kind, name, to_standard_base64(data), to_standard_base64(extra))


def compose(kind: str, form: str, data: str, extra: str = "") -> str:
    """The URI of data in standard base64."""
    tail = f"/{to_url_safe_base64(extra)}" if extra else ""
    return f"ssb:{kind}/{form}/{to_url_safe_base64(data)}{tail}"


def multiserver_address(uri: str) -> str | None:
    """The multiserver address inside an address URI."""
    found = parse(uri)
    return found.parameters()["multiserverAddress"] if found is not None and found.type == ADDRESS else None


def from_multiserver_address(address: str) -> str:
    """The address URI of a multiserver address."""
    return f"ssb:address/multiserver?multiserverAddress={quote(address, safe='~')}"


def to_standard_base64(data: str) -> str:
    return data.replace("-", "+").replace("_", "/")


def to_url_safe_base64(data: str) -> str:
    return data.replace("+", "-").replace("/", "_")
