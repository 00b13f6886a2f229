"""Logs: to standard error, as text for people or JSON for machines; standard output is for results only.

A traceback is for whoever debugs: it is printed at level debug, elsewhere an exception is one short clause.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import IO

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class TextFormatter(logging.Formatter):
    """`2026-01-31 12:00:00.123 INFO replication.connections: connected to @…`"""

    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__()
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        line = f"{moment} {record.levelname} {record.name}: {_message(record)}"
        if self._tracebacks and (trace := _trace(record)):
            line += "\n" + trace
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and trace at level debug."""

    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__()
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {"time": moment, "level": record.levelname.lower(), "logger": record.name, "message": _message(record)}
        if self._tracebacks and (trace := _trace(record)):
            fields["trace"] = trace
        return json.dumps(fields)


def _message(record: logging.LogRecord) -> str:
    text = record.getMessage()
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        text += f" ({type(error).__name__}: {error})"
    return text.replace("\n", "\\n")


def _trace(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[0] is None:
        return ""
    return "".join(traceback.format_exception(*record.exc_info)).rstrip()


def set_up(*, form: str, level: str, stream: IO[str] | None = None) -> logging.Handler:
    """Send all logs of this process to `stream` (default: standard error) in the given form ("text" or "json")."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    tracebacks = level == "debug"
    handler.setFormatter(
        JsonFormatter(tracebacks=tracebacks) if form == "json" else TextFormatter(tracebacks=tracebacks)
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(LEVELS[level])
    # Libraries that narrate every step: useful only to whoever debugs them.
    for name in ("aiosqlite", "asyncio", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.raiseExceptions = False  # a closed standard error must not print tracebacks into nowhere
    return handler
