"""Text for people's terminals: markdown laid out, headings, time as people say it.

Everything here may come from strangers, so control characters are taken out last of all, after markdown has made
characters of entities. The escape sequences that are left are ours: bold, dim, colours.
"""

import io
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from node.display import moment
from node.output import clean

WIDEST = 100
NARROWEST = 20
DEEPEST = 12
"""Levels of quotes and lists that are laid out; what is nested more deeply would be pushed out of sight."""
MINUTE, HOUR, DAY = 60, 3600, 86400


class Paper:
    """What is drawn on: so many columns, with or without bold and colour."""

    def __init__(self, width: int, *, styled: bool) -> None:
        self.width = max(NARROWEST, min(width, WIDEST))
        self.styled = styled

    @classmethod
    def of_terminal(cls, environ: Mapping[str, str]) -> "Paper":
        """The terminal that this process writes to. NO_COLOR and TERM=dumb are obeyed."""
        styled = not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"
        return cls(shutil.get_terminal_size().columns, styled=styled)

    def bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self.styled else text

    def dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self.styled else text

    def markdown(self, text: str, *, indent: int = 0) -> list[str]:
        """A text as lines, each indented. Whatever was written, nothing in them steers the terminal."""
        plain = _plain(text)
        try:
            lines = self._laid_out(plain, indent)
            if not any(line.strip() for line in lines):
                raise ValueError("nothing to be seen")
        except Exception:  # no fault of a parser may hide what somebody wrote
            lines = [clean(line) for line in plain.split("\n")]
        while lines and not lines[-1].strip():
            lines.pop()
        return [" " * indent + line.rstrip() for line in lines]

    def _laid_out(self, text: str, indent: int) -> list[str]:
        from markdown_it import MarkdownIt  # only when somebody looks at it: all this takes a tenth of a second
        from rich.console import Console
        from rich.markdown import Markdown
        from rich.segment import Segment, Segments

        file = io.StringIO()
        console = Console(
            file=file,
            width=max(NARROWEST, self.width - indent),
            force_terminal=self.styled,
            color_system="standard" if self.styled else None,
            legacy_windows=False,
            highlight=False,
            _environ={},
        )
        tokens = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"]).parse(text)
        if any(token.level > DEEPEST for token in tokens):
            raise ValueError("nested more deeply than can be seen")
        markdown = Markdown("", hyperlinks=False)
        markdown.parsed = tokens  # with HTML as text; its own parser would leave it out
        console.print(Segments(list(_harmless(console.render(markdown), Segment))), end="")
        return file.getvalue().split("\n")


def _harmless(segments: Any, segment_type: Any) -> Iterator[Any]:
    """Segments whose text is cleaned and whose style has no link, and none that control the terminal."""
    for segment in segments:
        if not segment.control:
            style = segment.style
            if style is not None and style.link:
                style = style.update_link(None)
            yield segment_type(clean(segment.text, keep_lines=True), style)


def _plain(text: str) -> str:
    """One spelling of line ends, no tabs, nothing that cannot be encoded."""
    ends = text.replace("\r\n", "\n").replace("\r", "\n").expandtabs(4)
    return clean(ends, keep_lines=True)


def ago(then: float, now: float) -> str:
    """How long ago a time was, as people say it; a date when that is more than a month. Both in milliseconds.

    Times to come are told as now: no clock of others is believed that far.
    """
    seconds = (now - then) / 1000
    for limit, unit, name in ((HOUR, MINUTE, "min"), (DAY, HOUR, "h"), (30 * DAY, DAY, "d")):
        if seconds < MINUTE:
            return "just now"
        if seconds < limit:
            return f"{int(seconds // unit)} {name} ago"
    return moment(then)[:10]


def one_line(text: object, longest: int = 80) -> str:
    """A short text of others as it may stand in a line."""
    plain = clean(" ".join(str(text).split()))
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"
