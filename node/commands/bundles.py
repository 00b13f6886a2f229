"""`sbot clock`, `export`, `import`, `inspect`: offline sync by file, in the running node or, without one, here."""

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from api.client import ApiProblem, NodeNotRunning
from api.client.connection import Connection
from api.client.directory import find_node
from feeds.canonical_json import compact
from feeds.errors import InvalidRef, StoreError
from feeds.refs import FeedRef
from node import arguments, config, display
from node.commands.catalogue import Invocation
from node.commands.fetching import fetched, is_address
from node.commands.local import told
from node.config import Config
from node.errors import NodeError, UsageError
from node.output import Output
from replication.bundle import looks_like_bundle
from replication.errors import InvalidBundle
from replication.offline import SMALLEST_PART, Contents, ExportOptions, Known, inspect, parse_clock

PIECE = 256 * 1024
ANSWER_SECONDS = 600.0
"""Silence of the node after which it is given up: it may have much to commit at the end."""
LARGEST_CLOCK = 64 * 1024 * 1024
MOST_PARTS = 1_000_000


class Place(Protocol):
    """Where bundles are made and taken in."""

    def clock(self) -> dict[str, Any]: ...

    def export(self, options: ExportOptions, *, lines: bool) -> Iterator[bytes]: ...

    def take_in(self, pieces: Iterable[bytes]) -> dict[str, Any]: ...


def clock(invocation: Invocation) -> int:
    """Print what we have and want."""
    found = _read(invocation, least=0, most=0)
    with _place(found) as place:
        Output.standard(as_json=True).json_texts([compact(place.clock())])
    return 0


def export(invocation: Invocation) -> int:
    """Write a bundle, or its parts."""
    found = _read(
        invocation,
        least=1,
        most=1,
        valued=("for", "hops", "max-bytes", "format"),
        switches=("blobs", "compress"),
        repeated=("feeds",),
    )
    form = found.values.get("format", "bundle")
    if form not in ("bundle", "jsonl"):
        raise UsageError("--format must be bundle or jsonl.")
    name, options = found.words[0], _options(found)
    if options.max_bytes is not None and (name == "-" or form == "jsonl"):
        raise UsageError("--max-bytes makes parts, which are files of bundles; give a name, and no other format.")
    with _place(found) as place:
        if name == "-":
            for data in place.export(options, lines=form == "jsonl"):
                sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        elif options.max_bytes is None:
            size = _write(Path(name), place.export(options, lines=form == "jsonl"))
            _say(found, {"file": name, "bytes": size}, f"{name}: {display.size(size)}")
        else:
            for value in _parts(name, options, place):
                _say(found, value, f"{value['file']}: {display.size(value['bytes'])}, {value['messages']} messages")
    return 0


def take_in(invocation: Invocation) -> int:
    """Bring files (or standard input, or what is at an address) through the door; prints a report for each."""
    found = _read(invocation, least=1, most=None, valued=("max-bytes",))
    limit = _number(found, "max-bytes", 1)
    good = True
    with _place(found) as place:
        for name in found.words:
            with _opened(name, limit) as pieces:
                report = place.take_in(_shown(pieces, _size(name)))
            good = good and report["problem"] is None
            _say(found, {"file": name, **report}, _report(name, report))
    return 0 if good else 1


def look(invocation: Invocation) -> int:
    """Print what a bundle says that it holds. Needs no node and no data directory."""
    found = _read(invocation, least=1, most=1)
    with _opened(found.words[0], None) as pieces:
        contents = asyncio.run(inspect(_threaded(pieces)))
    value = contents.as_json()
    signed = {True: "signed by its sender", False: "not signed rightly", None: "cut off before its signature"}
    text = (
        f"{found.words[0]}: {contents.messages} messages of {len(contents.feeds)} feeds, {len(contents.blobs)} blobs "
        f"({display.size(sum(contents.blobs.values()))}); from {value['sender']}, {signed[contents.signed]}"
    )
    _say(found, value, text if contents.problem is None else f"{text}\n{contents.problem}")
    return 0 if contents.problem is None else 1


# --- the command line -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found(arguments.Strict):
    """A command line with the settings that it names."""

    config: Config


def _read(
    invocation: Invocation,
    *,
    least: int,
    most: int | None,
    valued: tuple[str, ...] = (),
    switches: tuple[str, ...] = (),
    repeated: tuple[str, ...] = (),
) -> _Found:
    found = arguments.strict(
        invocation.argv,
        valued=("path", "config", *valued),
        switches=("json", *switches),
        repeated=repeated,
        command=invocation.spelled,
    )
    if len(found.words) < least or (most is not None and len(found.words) > most):
        raise UsageError(f"usage: sbot {invocation.spelled} {invocation.command.usage}")
    flags = {name: found.values.get(name) for name in ("path", "config")}
    loaded = config.load(flags, invocation.environ)
    return _Found(found.words, found.values, found.lists, config=loaded)


def _options(found: _Found) -> ExportOptions:
    known = Known()
    if "for" in found.values:
        known = _clock_file(found.values["for"])
    feeds = None
    if found.lists["feeds"]:
        try:
            feeds = [str(FeedRef.parse(feed)) for word in found.lists["feeds"] for feed in word.split(",")]
        except InvalidRef as error:
            raise UsageError(f"--feeds takes feed ids: {error}.") from None
    return ExportOptions(
        known=known,
        feeds=feeds,
        hops=_number(found, "hops", 0),
        blobs=found.values.get("blobs") != "false",
        max_bytes=_number(found, "max-bytes", SMALLEST_PART),
        packed=found.values.get("compress") != "false",
    )


def _number(found: _Found, option: str, least: int) -> int | None:
    text = found.values.get(option)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 15 or int(text) < least:
        raise UsageError(f"--{option} must be a whole number from {least} on, not {text!r}.")
    return int(text)


def _clock_file(name: str) -> Known:
    try:
        with open(name, "rb") as file:
            data = file.read(LARGEST_CLOCK + 1)
    except OSError as error:
        raise NodeError(f"{name} cannot be read: {error.strerror}.") from None
    if len(data) > LARGEST_CLOCK:
        raise NodeError(f"{name} is too long for a clock file; make one with: sbot clock")
    try:
        return parse_clock(data)
    except InvalidBundle as error:
        raise NodeError(f"{name}: {error}.") from None


def _say(found: _Found, value: dict[str, Any], text: str) -> None:
    output = Output.standard(as_json=found.on("json"))
    if output.pretty:
        for line in text.split("\n"):
            output.line(line)
    else:
        output.json_value(value)


def _report(name: str, report: dict[str, Any]) -> str:
    parts = [f"{report['added']} messages added", f"{report['duplicates']} here already"]
    parts += [f"{report[kind]} {kind}" for kind in ("gaps", "forks", "invalid", "skipped") if report[kind]]
    parts.append(f"{report['blobs_added']} blobs added")
    if report["blobs_refused"]:
        parts.append(f"{report['blobs_refused']} blobs refused")
    lines = [f"{name}: {', '.join(parts)}."]
    lines += [f"  {example['kind']}: {example['reason']}" for example in report["examples"][:5]]
    if report["problem"]:
        lines.append(f"It was not read to its end, or is not as it was signed: {report['problem']}.")
    return "\n".join(lines)


# --- files ------------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(name: str, limit: int | None) -> Iterator[Iterator[bytes]]:
    with ExitStack() as stack:
        if is_address(name):
            yield fetched(name, limit)
            return
        try:
            file: BinaryIO = sys.stdin.buffer if name == "-" else stack.enter_context(open(name, "rb"))
        except OSError as error:
            raise NodeError(f"{name} cannot be read: {error.strerror}.") from None
        yield _pieces(name, file)


def _pieces(name: str, file: BinaryIO) -> Iterator[bytes]:
    try:
        while piece := file.read1(PIECE):  # type: ignore[attr-defined]
            yield piece
    except OSError as error:
        raise NodeError(f"{name} cannot be read: {error.strerror}.") from None


def _size(name: str) -> int | None:
    """Bytes of a plain file; None for what may be of any length."""
    path = Path(name)
    return path.stat().st_size if not is_address(name) and path.is_file() else None


def _shown(pieces: Iterable[bytes], total: int | None) -> Iterator[bytes]:
    """The same pieces, with word of how far we are (of `total` bytes) for who looks on."""
    done, told_at, terminal = 0, 0, sys.stderr.isatty()
    for piece in pieces:
        yield piece
        done += len(piece)
        if terminal and done - told_at >= 4 * PIECE:
            told_at = done
            share = f" of {display.size(total)}, {100 * done // total} %" if total else ""
            sys.stderr.write(f"\r{display.size(done)}{share} \x1b[K")
            sys.stderr.flush()
    if terminal:
        sys.stderr.write("\r\x1b[K")


def _write(path: Path, pieces: Iterable[bytes]) -> int:
    """Write a file that appears under its name only when it is complete; its size."""
    draft, size = path.with_name(f"{path.name}.new"), 0
    try:
        with open(draft, "wb") as file:
            for piece in pieces:
                size += file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise NodeError(f"{path} cannot be written: {error.strerror}.") from None
    finally:
        draft.unlink(missing_ok=True)
    return size


def _parts(name: str, options: ExportOptions, place: Place) -> Iterator[dict[str, Any]]:
    """Write part after part; a series that was interrupted goes on after its last whole part."""
    left = _unfinished(name)
    series = left[0].header.series if left and left[0].header is not None else secrets.token_hex(8)
    known = options.known
    for contents in left:
        known = _after(known, contents)
    for part in range(len(left) + 1, MOST_PARTS):
        path = Path(f"{name}.part{part}")
        size = _write(path, place.export(replace(options, known=known, part=part, series=series), lines=False))
        contents = _contents(path)
        known = _after(known, contents)
        yield {"file": str(path), "bytes": size, "messages": contents.messages, "blobs": len(contents.blobs)}
        if contents.last:
            _drop_older(name, part + 1)
            return


def _unfinished(name: str) -> list[Contents]:
    """The whole parts of a series that lacks its end."""
    found: list[Contents] = []
    while (path := Path(f"{name}.part{len(found) + 1}")).exists():
        contents = _contents(path)
        header = contents.header
        first = found[0].header if found else header
        if header is None or first is None or not contents.signed or contents.problem is not None:
            break
        if (header.sender, header.series, header.part) != (first.sender, first.series, len(found) + 1):
            break
        found.append(contents)
        if contents.last:
            return []
    return found


def _drop_older(name: str, part: int) -> None:
    """Remove what is left of a longer series of the same name, lest it be taken for a part of this one."""
    while (path := Path(f"{name}.part{part}")).is_file():
        with path.open("rb") as file:
            if not looks_like_bundle(file.read(4)):
                return
        path.unlink()
        part += 1


def _contents(path: Path) -> Contents:
    with _opened(str(path), None) as pieces:
        return asyncio.run(inspect(_threaded(pieces)))


def _after(known: Known, contents: Contents) -> Known:
    """What the receiver will have after this part, and what it must get next."""
    clock = dict(known.clock)
    for feed, (_, last) in contents.feeds.items():
        clock[feed] = max(clock.get(feed, 0), last)
    blobs = {*known.blobs, *contents.blobs}
    wants = dict.fromkeys([*known.wants, *contents.lacking])
    return Known(clock, blobs, [blob for blob in wants if blob not in blobs])


async def _threaded(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Pieces that are read while the event loop goes on."""
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece


# --- the node, or its store -------------------------------------------------------------------------------------------


@contextmanager
def _place(found: _Found) -> Iterator[Place]:
    path = found.config.path
    try:
        node = find_node(path)
    except NodeNotRunning:
        from node.offline_store import opened_here  # takes a moment to load

        try:
            with opened_here(found.config) as runner:
                yield _Here(*runner)
        except StoreError as error:
            raise NodeError(f"The store in {path} could not be used: {error}.") from None
        return
    connection = Connection(node.url, node.token, timeout=ANSWER_SECONDS)
    try:
        yield _There(connection)
    except ApiProblem as problem:
        raise told(problem, path) from None
    finally:
        connection.close()


class _There:
    """The running node, over HTTP."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def clock(self) -> dict[str, Any]:
        found: dict[str, Any] = self._connection.request("GET", "/v1/bundles/clock").json()
        return found

    def export(self, options: ExportOptions, *, lines: bool) -> Iterator[bytes]:
        known = options.known
        order: dict[str, Any] = {
            "for": {"clock": dict(known.clock), "blobs": list(known.blobs), "wants": list(known.wants)},
            "feeds": None if options.feeds is None else list(options.feeds),
            "hops": options.hops,
            "blobs": options.blobs,
            "max_bytes": options.max_bytes,
            "packed": options.packed,
            "part": options.part,
            "series": options.series,
            "format": "jsonl" if lines else "bundle",
        }
        with self._connection.streaming("/v1/bundles/export", body=order) as response:
            yield from self._connection.pieces(response)

    def take_in(self, pieces: Iterable[bytes]) -> dict[str, Any]:
        headers = {"Content-Type": "application/octet-stream"}
        answer = self._connection.request("POST", "/v1/bundles/import", data=pieces, headers=headers)
        report: dict[str, Any] = answer.json()
        return report


class _Here:
    """The store itself, while no node has it."""

    def __init__(self, runner: asyncio.Runner, bundles: Any) -> None:
        self._runner = runner
        self._bundles = bundles

    def clock(self) -> dict[str, Any]:
        found: dict[str, Any] = self._runner.run(self._bundles.clock())
        return found

    def export(self, options: ExportOptions, *, lines: bool) -> Iterator[bytes]:
        pieces = self._bundles.json_lines(options) if lines else self._bundles.export(options)

        async def following() -> bytes | None:
            return await anext(pieces, None)

        while (piece := self._runner.run(following())) is not None:
            yield piece

    def take_in(self, pieces: Iterable[bytes]) -> dict[str, Any]:
        report = self._runner.run(self._bundles.take_in(_threaded(iter(pieces))))
        value: dict[str, Any] = report.as_json()
        return value
