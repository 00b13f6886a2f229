"""What commands print: JSON, one value a line, for programs; readable lines and tables on a terminal.

Message values are printed from the bytes the node sent, so numbers keep their spelling. Text that came from other
people never reaches a terminal with its control characters: an escape sequence in a post must not move the cursor.
"""

import contextlib
import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO

import orjson


class Output:
    """Standard output for one command. `pretty` chooses the form for people."""

    def __init__(self, stream: BinaryIO, *, pretty: bool) -> None:
        self._stream = stream
        self.pretty = pretty

    @classmethod
    def standard(cls, *, as_json: bool) -> "Output":
        """Standard output: pretty only on a terminal and where JSON was not asked for."""
        return cls(sys.stdout.buffer, pretty=not as_json and sys.stdout.isatty())

    def json_texts(self, texts: Iterable[bytes]) -> None:
        """Print JSON texts, one a line. Line ends between tokens become blanks; inside strings JSON has none."""
        self._write(b"".join(text.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n" for text in texts))

    def json_value(self, value: Any) -> None:
        """Print one JSON value on one line."""
        self.json_texts([dump(value)])

    def line(self, text: str = "") -> None:
        """Print a line for people. The caller has cleaned what came from outside."""
        self._write(text.encode("utf-8", "replace") + b"\n")

    def fields(self, pairs: Iterable[tuple[str, object]]) -> None:
        """Print names and values in two columns."""
        rows = [(name, clean(str(value))) for name, value in pairs]
        width = max((len(name) for name, _ in rows), default=0)
        for name, value in rows:
            self.line(f"{name:<{width}}  {value}")

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print a table for people."""
        from rich.console import Console  # only when somebody looks at it: it takes a tenth of a second to import
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(clean(str(cell))) for cell in row))
        with contextlib.suppress(UnicodeError):
            Console(file=sys.stdout, highlight=False).print(table)
        sys.stdout.flush()

    def pretty_json(self, value: Any) -> None:
        """Print one JSON value over several lines."""
        for text in json.dumps(value, indent=2, ensure_ascii=False).split("\n"):
            self.line(clean(text))

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._stream.flush()


def dump(value: Any) -> bytes:
    """Compact JSON. Lone surrogates and integers beyond 64 bits, which orjson refuses, go the slow way."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


def clean(text: str, *, keep_lines: bool = False) -> str:
    """Text safe for a terminal: control and direction-changing characters become a visible mark."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _harmless(char) or (keep_lines and char == "\n") else "�" for char in text)


def _harmless(char: str) -> bool:
    return (
        unicodedata.category(char) not in ("Cc", "Cs")
        and char not in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )


def reader_is_gone() -> None:
    """Standard output was closed by its reader (`sbot log | head`): let nothing more be said about it."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
