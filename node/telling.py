"""A message as people read it: a heading, and what it says in words or as rendered markdown."""

from collections.abc import Iterator, Mapping
from typing import Any

from feeds.names import short_id
from feeds.refs import is_feed
from node.people import People
from node.rendered import Paper, ago, one_line

LONGEST_TEXT = 16 * 1024
"""Characters of a text that are laid out; a message has at most half as many."""


class Teller:
    """Tells messages with the names of people, on a paper, at a time (milliseconds)."""

    def __init__(self, people: People, paper: Paper, now: float) -> None:
        self.people = people
        self.paper = paper
        self.now = now

    def tell(self, message: Mapping[str, Any], *, mark: str = "", indent: int = 0) -> list[str]:
        """A message as lines: heading, then text. mark -- what stands before the heading."""
        value = message["value"]
        content = value.get("content")
        who = self.paper.bold(self.people.label(value.get("author")))
        rest = [ago(written(message), self.now), *_tags(message, content)]
        said = self._sentence(content, value.get("author"))
        text = content.get("text") if isinstance(content, dict) and said is None else None
        heading = f"{mark}{who} {said}" if said else f"{mark}{who}"
        dim = self.paper.dim(" · ".join(["", *rest]).lstrip() + "  " + one_line(message["key"]))
        lines = [" " * indent + f"{heading} {dim}"]
        if isinstance(text, str):
            lines += self.body(content, text, indent + 2)
        return lines

    def body(self, content: Mapping[str, Any], text: str, indent: int) -> list[str]:
        """The text of a post, below its content warning if it has one."""
        lines = []
        warning = content.get("contentWarning")
        if isinstance(warning, str) and warning:
            lines.append(" " * indent + f"[{one_line(warning)}]")
        return lines + self.paper.markdown(self.people.with_names(text[:LONGEST_TEXT]), indent=indent)

    def _sentence(self, content: Any, author: object) -> str | None:
        """What is said by a message that is no text."""
        if not isinstance(content, dict):
            return "wrote a private message"
        match content.get("type"):
            case "vote":
                return _vote(content.get("vote"))
            case "contact":
                return f"{_relation(content)} {self.people.label(content.get('contact'))}"
            case "about":
                return _about(content, author)
            case "channel":
                verb = "subscribes to" if content.get("subscribed") is True else "no longer subscribes to"
                return f"{verb} #{one_line(content.get('channel'))}"
            case "post" if isinstance(content.get("text"), str):
                return None
        return f"published {one_line(content.get('type'))}: {one_line(_members(content))}"


def written(message: Mapping[str, Any]) -> float:
    """When a message was written, as far as that can be believed: the earlier of claimed and received."""
    claimed, received = message["value"].get("timestamp"), message["timestamp"]
    return min(claimed, received) if isinstance(claimed, int | float) else float(received)


def branches(content: Any) -> list[str]:
    """The messages that one answers."""
    given = content.get("branch") if isinstance(content, dict) else None
    found = given if isinstance(given, list) else [given]
    return [one for one in found if isinstance(one, str)]


def _tags(message: Mapping[str, Any], content: Any) -> Iterator[str]:
    meta = message.get("meta", {})
    if meta.get("private"):
        yield "private"
    if meta.get("early"):
        yield "early, its history is on its way"
    if not isinstance(content, dict) or content.get("type") == "channel":
        return
    if isinstance(channel := content.get("channel"), str) and channel:
        yield "#" + one_line(channel.removeprefix("#"), 30)


def _vote(vote: Any) -> str:
    vote = vote if isinstance(vote, dict) else {}
    value, said = vote.get("value"), vote.get("expression")
    verb = "votes on"
    if isinstance(value, int | float):
        verb = "likes" if value > 0 else "dislikes" if value < 0 else "takes back the vote on"
    extra = f" ({one_line(said, 20)})" if isinstance(said, str) and said.lower() not in ("", "like", "unlike") else ""
    return f"{verb} {one_line(vote.get('link'))}{extra}"


def _about(content: Mapping[str, Any], author: object) -> str:
    """What is said about somebody, who is named by the id: the name may be the news."""
    subject = content.get("about")
    whom = (
        "itself"
        if subject == author
        else one_line(short_id(subject) if isinstance(subject, str) and is_feed(subject) else subject)
    )
    if isinstance(name := content.get("name"), str):
        return f"calls {whom} “{one_line(name)}”"
    return f"describes {whom}"


def _relation(content: Mapping[str, Any]) -> str:
    if content.get("blocking") is True:
        return "blocks"
    if content.get("following") is True:
        return "follows"
    return "no longer blocks" if "blocking" in content and "following" not in content else "no longer follows"


def _members(content: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in content.items() if name != "type")
