"""Which messages a webhook wants, and how that is kept. Values in, values out."""

from dataclasses import dataclass
from typing import Any, Final

import orjson

from feeds.canonical_json import compact, parse
from feeds.content import content_type
from feeds.content import links as links_in
from feeds.conversation import normalise_channel, read_channels, read_place
from feeds.errors import InvalidJson
from feeds.log import Entry
from feeds.message import JsonObject

__all__ = ["WebhookFilter"]


_TYPE: Final = b'"type":%b'


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookFilter:
    """Rules that all have to fit; None is no rule. Ids are canonical.

    No index of types is asked: one that is being made anew would leave out messages that nobody would send later.
    Rules go by what everybody can read; an encrypted message fits where only feeds are asked for, and goes out as it
    is stored.
    """

    types: frozenset[str] | None = None
    feeds: frozenset[str] | None = None
    channel: str | None = None
    """In any spelling."""
    mentions: str | None = None
    root: str | None = None

    @property
    def author(self) -> str | None:
        """The one feed asked for, where the log can look it up itself."""
        return next(iter(self.feeds)) if self.feeds is not None and len(self.feeds) == 1 else None

    def fits(self, entry: Entry) -> bool:
        """Whether a message is wanted."""
        if self.feeds is not None and entry.author not in self.feeds:
            return False
        if self.types is None and self.channel is None and self.mentions is None and self.root is None:
            return True
        if self.types is not None and not any(_TYPE % compact(one) in entry.text for one in self.types):
            return False  # without reading the message: in the compact spelling a member looks one way only
        content = _content(entry)
        return content is not None and self._fits(content)

    def _fits(self, content: JsonObject) -> bool:
        if self.types is not None and content_type(content) not in self.types:
            return False
        if self.channel is not None and normalise_channel(self.channel) not in read_channels(content):
            return False
        if self.root is not None:
            place = read_place(content)
            if place is None or self.root not in place:
                return False
        return self.mentions is None or any(
            link.target == self.mentions and link.path.partition(".")[0] == "mentions" for link in links_in(content)
        )

    def as_json(self) -> dict[str, Any]:
        """Only the rules that there are."""
        rules = {
            "types": None if self.types is None else sorted(self.types),
            "feeds": None if self.feeds is None else sorted(self.feeds),
            "channel": self.channel,
            "mentions": self.mentions,
            "root": self.root,
        }
        return {name: rule for name, rule in rules.items() if rule is not None}

    def dump(self) -> str:
        """As it is stored."""
        return orjson.dumps(self.as_json()).decode()

    @classmethod
    def load(cls, text: str) -> "WebhookFilter":
        """What `dump` made."""
        rules = orjson.loads(text)
        for name in ("types", "feeds"):
            if name in rules:
                rules[name] = frozenset(rules[name])
        return cls(**rules)


def _content(entry: Entry) -> JsonObject | None:
    """The content in plain; None for an encrypted one."""
    try:
        value = parse(entry.text)
    except InvalidJson:
        return None
    content = value.get("content") if isinstance(value, dict) else None
    return content if isinstance(content, dict) else None
