"""Reading what people wrote: read, thread, search, tail."""

import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from heapq import merge
from itertools import islice
from typing import Any

from api.client import ApiProblem
from feeds.canonical_json import compact
from node.commands.catalogue import Invocation
from node.commands.local import GONE, Local, local, message_id
from node.errors import NothingFound, UsageError
from node.rendered import one_line
from node.telling import branches, written

DEFAULT_LIMIT = 20
LONGEST_SINCE = 10_000
"""Messages that `--since` alone goes back at most."""
DEEPEST = 6
"""Steps of indentation in a thread."""
_SPAN = re.compile(r"([0-9]{1,6})([smhdw])\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_MARK = re.compile("(<mark>|</mark>)")


def read(invocation: Invocation) -> int:
    """Print a timeline, the newest message last."""
    with local(invocation, most=2, valued=("limit", "since"), switches=("replies",)) as here:
        since = _moment(here.found.values.get("since"))
        limit = here.number("limit", DEFAULT_LIMIT if since is None else LONGEST_SINCE)
        found: list[Any] = []
        for message in islice(_timeline(here, limit), limit):
            if since is not None and written(message) < since:
                break
            found.append(message)
        here.show_all(found[::-1])
        if not found and here.output.pretty:
            here.output.line("Nothing there.")
    return 0


def _timeline(here: Local, limit: int) -> Iterable[Any]:
    """Messages, the newest first."""
    name, *more = here.words or ("home",)
    replies = here.found.values.get("replies") != "false"
    if name == "channel" and more:
        return here.node.channel(more[0], limit=limit)
    if more:
        raise UsageError("usage: sbot read [home|public|mentions|private|#CHANNEL|channel NAME|WHO]")
    if name == "home":
        return _with_early(
            here,
            here.node.home(limit=limit, replies=replies),
            here.node.early(limit=limit, replies=replies, followed=True),
        )
    if name == "public":
        return _with_early(
            here, here.node.public(limit=limit, replies=replies), here.node.early(limit=limit, replies=replies)
        )
    if name == "mentions":
        return here.node.mentions(limit=limit)
    if name == "private":
        return here.node.messages(private=True, order="desc", limit=limit)
    if name.startswith("#"):
        return here.node.channel(name[1:], limit=limit)
    return here.node.messages(author=here.people.find(name), type="post", order="desc", limit=limit)


def _with_early(here: Local, posts: Iterator[Any], early: Iterator[Any]) -> Iterator[Any]:
    """A timeline with the posts among it that came before their history, each once."""
    seen: set[str] = set()
    for message in merge(posts, early, key=written, reverse=True):
        if message["key"] in seen:  # its history came between the two answers
            continue
        seen.add(message["key"])
        if name := message.get("meta", {}).get("name"):
            here.people.called(message["value"]["author"], name)
        yield message


def _moment(text: str | None) -> float | None:
    """Milliseconds since 1970 of a time as people type it: `90m`, `2d`, `2026-01-31T12:00`, or such milliseconds."""
    if text is None:
        return None
    if span := _SPAN.match(text):
        return (time.time() - int(span[1]) * _SECONDS[span[2]]) * 1000
    if text.isascii() and text.isdigit() and len(text) >= 9:
        return float(text)
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000
    except (ValueError, OverflowError):
        raise UsageError(f"--since is a span like 90m, 12h or 2d, or a date like 2026-01-31, not {text!r}.") from None


def thread(invocation: Invocation) -> int:
    """Print the whole thread that a message belongs to, each message after those it answers."""
    with local(invocation, least=1, most=1) as here:
        root, private = _root(here, message_id(here.words[0]))
        missing: list[str]
        if private:
            items: list[Any] = list(here.node.private_thread(root))
            missing = []
        else:
            whole = here.node.thread(root)
            items, missing = list(whole["items"]), whole["missing"]
        if not here.output.pretty:
            here.output.json_texts(compact(item) for item in items)
            return 0
        here.people.learn(item["value"] for item in items)
        if root in missing:
            here.output.line(here.teller.paper.dim(f"The first message, {root}, is not here."))
        for line in _tree(here, items, root):
            here.output.line(line)
    return 0


def _root(here: Local, message: str) -> tuple[str, bool]:
    """The first message of the thread that a message is in, and whether it is private."""
    try:
        found = here.node.message(message, private=True)
    except ApiProblem as problem:
        if problem.status not in GONE:
            raise
        return message, False  # there may be answers to it all the same
    content = found["value"].get("content")
    private = "meta" in found
    root = content.get("root") if isinstance(content, dict) else None
    if not isinstance(content, dict):
        raise NothingFound(f"{message} is a private message for others.")
    return (root if isinstance(root, str) else message), private


def _tree(here: Local, items: list[Any], root: str) -> Iterator[str]:
    """Numbered messages; one that answers another than the one before it stands further in and says which."""
    places: dict[str, tuple[int, int]] = {}
    for number, item in enumerate(items, 1):
        answered = [places[one] for one in branches(item["value"].get("content")) if one in places]
        depth = 0 if item["key"] == root else 1
        note = ""
        if answered:
            last, above = max(answered)
            side = last != number - 1
            depth = min(DEEPEST, max(depth, above + side))
            if side and last != 1:
                note = "answers " + ", ".join(str(place) for place, _ in sorted(answered))
        places[item["key"]] = (number, depth)
        yield from here.teller.tell(item, mark=f"{number}. ", indent=2 * depth)
        if note:
            yield " " * (2 * depth + 2) + here.teller.paper.dim(f"({note})")
        for gone in item.get("missing", ()):
            yield " " * (2 * depth + 2) + here.teller.paper.dim(f"(answers {one_line(gone)}, which is not here)")


def search(invocation: Invocation) -> int:
    """Print public messages with these words, the newest last."""
    with local(invocation, least=1, valued=("limit", "type", "by")) as here:
        author = here.found.values.get("by")
        found: list[Any] = list(
            here.node.search(
                " ".join(here.words),
                type=here.found.values.get("type"),
                author=None if author is None else here.people.find(author),
                limit=here.number("limit", DEFAULT_LIMIT),
            )
        )[::-1]
        if not here.output.pretty:
            here.output.json_texts(compact(item) for item in found)
            return 0
        here.people.learn(item["value"] for item in found)
        for item in found:
            snippet = item["snippet"]
            here.output.line(here.teller.tell(item)[0])
            if snippet is not None:
                here.output.line(f"  {_snippet(here, snippet)}")
        if not found:
            here.output.line("Nothing found.")
    return 0


def _snippet(here: Local, snippet: Any) -> str:
    """The excerpt in a line, with the words that were found in bold."""
    from html import unescape

    parts: list[str] = []
    found = False
    for part in _MARK.split(snippet["html"]):
        if part in ("<mark>", "</mark>"):
            found = part == "<mark>"
        elif part:
            plain = unescape(part)
            edge = " " if plain[:1].isspace() else ""
            end = " " if plain[-1:].isspace() else ""
            text = edge + one_line(plain, 400) + (end if plain.strip() else "")
            parts.append(here.teller.paper.bold(text) if found else text)
    return "".join(parts).strip()


def tail(invocation: Invocation) -> int:
    """Print messages as they come, until interrupted."""
    with local(invocation, most=0, valued=("type", "by", "limit", "since")) as here:
        kind, author = here.found.values.get("type"), here.found.values.get("by")
        since = here.found.values.get("since")
        if since is not None and not (since.isascii() and since.isdigit()):
            raise UsageError(f"--since is a position of the log, a whole number, not {since!r}.")
        events = here.node.stream(
            types=[kind or "message"],
            feeds=[] if author is None else [here.people.find(author)],
            since=None if since is None else int(since),
            private=here.output.pretty,
        )
        limit = here.number("limit", 0) or None
        for event in islice((event for event in events if event.kind == "message"), limit):
            content = event.data["value"].get("content")
            if isinstance(content, dict) and isinstance(about := content.get("about"), str):
                here.people.forget(about)
            here.teller.now = time.time() * 1000
            here.show(event.data)
    return 0
