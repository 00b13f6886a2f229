"""Lines for people: a message on one or two lines, durations, sizes, shortened ids. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from node.output import clean

TEXT_WIDTH = 400


def message(item: Any) -> str:
    """A message (value, or key-value-timestamp) as a heading and, where it has one, its text."""
    value = item.get("value", item) if isinstance(item, Mapping) else item
    if not isinstance(value, Mapping):
        return clean(str(value))
    content = value.get("content")
    kind = content.get("type", "?") if isinstance(content, Mapping) else "private"
    heading = f"{moment(value.get('timestamp'))}  {short(value.get('author'))} {value.get('sequence')}  {kind}"
    key = item.get("key")
    lines = [clean(f"{heading}  {key}" if key else heading)]
    if body := _body(content):
        lines += [f"    {clean(line)}" for line in body.splitlines()]
    return "\n".join(lines)


def _body(content: Any) -> str:
    if not isinstance(content, Mapping):
        return ""
    text = content.get("text")
    if isinstance(text, str):
        return text if len(text) <= TEXT_WIDTH else text[: TEXT_WIDTH - 1] + "…"
    rest = {name: value for name, value in content.items() if name != "type"}
    shown = ", ".join(f"{name}: {value}" for name, value in rest.items())
    return shown if len(shown) <= TEXT_WIDTH else shown[: TEXT_WIDTH - 1] + "…"


def moment(milliseconds: Any) -> str:
    """A claimed time in ms since 1970, or as much of it as can be shown."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    except (TypeError, ValueError, OverflowError, OSError):
        return "????-??-?? ??:??"


def short(identity: Any) -> str:
    """The beginning of an id, enough to tell a handful apart."""
    text = str(identity)
    return text[:9] + "…" if len(text) > 12 else text


def size(count: Any) -> str:
    """Bytes in a unit people read."""
    if not isinstance(count, int | float):
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return ""
