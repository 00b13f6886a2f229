"""Names instead of keys: what feeds are called, and who is meant by a name. One for each command."""

import re
from collections.abc import Iterable
from typing import Any

from api.client import Client
from api.client.shapes import Name
from feeds.errors import InvalidRef
from feeds.names import folded_name, short_id
from feeds.refs import FeedRef, is_feed
from node.errors import NodeError, NothingFound
from node.rendered import one_line

CANDIDATES = 10
LONGEST_NAME = 40
_ID = re.compile(r"@[A-Za-z0-9+/]{43}=\.ed25519")
_MENTION = re.compile(r"\[[^\[\]]*\]\(\s*(@[A-Za-z0-9+/]{43}=\.ed25519)[^()]*\)")
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
MOST_IDS = 500
"""Ids looked for in one batch of messages at most; further ones stay as they are."""


class People:
    """Names are asked for once and kept for the command."""

    def __init__(self, node: Client) -> None:
        self._node = node
        self._names: dict[str, Name] = {}
        self._me: str | None = None

    @property
    def me(self) -> str:
        """Our own feed."""
        if self._me is None:
            self._me = self._node.whoami()["id"]
        return self._me

    def learn(self, values: Iterable[Any]) -> None:
        """Ask for the names of all feeds that are named in these JSON values, in one go."""
        found = dict.fromkeys(id for value in values for id in _feeds_in(value) if id not in self._names)
        wanted = [id for id in found if is_feed(id)][:MOST_IDS]
        if wanted:
            self._names |= self._node.names(wanted)

    def called(self, feed: str, name: str) -> None:
        """A feed that nobody names calls itself so in a message that came early."""
        self._names[feed] = {"id": feed, "name": name, "from": "self"}

    def forget(self, feed: str) -> None:
        """A name may have changed."""
        self._names.pop(feed, None)

    def label(self, feed: object) -> str:
        """What to call a feed in a line. Two feeds of one name are told apart by their ids."""
        if not isinstance(feed, str) or not is_feed(feed):
            return one_line(feed, LONGEST_NAME)
        if feed not in self._names:
            self.learn([feed])
        known = self._names.get(feed)
        if known is None:
            return short_id(feed)
        name = one_line(known["name"], LONGEST_NAME)
        alike = folded_name(known["name"])
        if any(other["id"] != feed and folded_name(other["name"]) == alike for other in self._names.values()):
            return f"{name} ({short_id(feed)})"
        return name

    def with_names(self, text: str) -> str:
        """A markdown text in which links to feeds have become what we call them, whatever their author wrote."""

        def named(match: re.Match[str]) -> str:
            return "**" + _PUNCTUATION.sub(r"\\\1", "@" + self.label(match[1]).removeprefix("@")) + "**"

        return _MENTION.sub(named, text)

    def find(self, who: str) -> str:
        """The feed that a word means: an id in any spelling, `me`, a name, or the beginning of only one name.

        A name that we gave goes before the same name of others. Raises NothingFound, NodeError with the candidates.
        """
        if who == "me":
            return self.me
        try:
            return str(FeedRef.parse(who))
        except InvalidRef:
            pass
        found = list(self._node.feeds_named(who[:128], limit=CANDIDATES + 1)) if who.strip("@ ") else []
        wanted = folded_name(who)
        exact = [one for one in found if folded_name(one["name"]) == wanted]
        ours = [one for one in exact if one["from"] == "me"]
        for choice in (ours, exact, found):
            if len(choice) == 1:
                return choice[0]["id"]
            if choice:
                raise _ambiguous(who, choice)
        raise NothingFound(f"Nobody here is called {one_line(who)}; give an id (@…=.ed25519) or another name.")


def _ambiguous(who: str, found: list[Name]) -> NodeError:
    shown = ", ".join(f"{one_line(one['name'], LONGEST_NAME)} {one['id']}" for one in found[:CANDIDATES])
    more = " and more" if len(found) > CANDIDATES else ""
    return NodeError(f"Several feeds are called {one_line(who)}: {shown}{more}. Say by its id which one you mean.")


def _feeds_in(value: Any) -> Iterable[str]:
    """Feed ids anywhere in a JSON value."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield from _ID.findall(one)
        elif isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
