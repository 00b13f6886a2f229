"""What an HTML parser finds in rendered markdown that must not be there."""

import re
from html.parser import HTMLParser

from api.markdown import ATTRIBUTES, REL, TAGS

VOID = frozenset(("br", "hr", "img"))
TARGET = re.compile(
    r"https?://[^\s/\\]|mailto:[^\s:]+@|ssb:|/v1/(?:profiles|messages|blobs|timelines/channels)/[^/\s]+$"
)
PICTURE = re.compile(r"/v1/blobs/%26[A-Za-z0-9%]+\.sha256(?:\?unbox=[A-Za-z0-9%.]+)?")


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS:
            self.faults.append(f"tag {tag}")
        if tag == "a" and "a" in self.open:
            self.faults.append("a link in a link")
        if tag not in VOID:
            self.open.append(tag)
        values = dict(attrs)
        if len(values) != len(attrs):
            self.faults.append(f"an attribute twice on {tag}")
        if tag == "a" and "href" in values and values.get("rel") != REL:
            self.faults.append(f"rel {values.get('rel')!r}")
        for name, value in values.items():
            if name not in ATTRIBUTES.get(tag, ()) or value is None:
                self.faults.append(f"attribute {name} on {tag}")
            elif (name == "href" and not TARGET.match(value)) or (name == "src" and not PICTURE.fullmatch(value)):
                self.faults.append(f"{name} {value[:80]!r}")
            elif name == "align" and value not in ("left", "right", "center"):
                self.faults.append(f"align {value!r}")
            elif name == "start" and not value.isdecimal():
                self.faults.append(f"start {value!r}")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"a stray end of {tag}")

    def handle_comment(self, data: str) -> None:
        self.faults.append(f"comment {data[:40]!r}")

    def handle_decl(self, decl: str) -> None:
        self.faults.append(f"declaration {decl[:40]!r}")

    def handle_pi(self, data: str) -> None:
        self.faults.append(f"instruction {data[:40]!r}")

    def unknown_decl(self, data: str) -> None:
        self.faults.append(f"declaration {data[:40]!r}")


def faults(html: str) -> list[str]:
    """Everything wrong with some HTML; empty if it is safe to show."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    found = reader.faults + [f"{tag} left open" for tag in reader.open]
    if "\0" in html:
        found.append("a null character")
    return found
