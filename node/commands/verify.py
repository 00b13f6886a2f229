"""`sbot verify`: check messages with the code that ingest uses. Needs no running node and no data directory."""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import BinaryIO

from node import arguments
from node.commands.catalogue import Invocation
from node.config import BadValue, named
from node.errors import NodeError, UsageError
from node.message_lines import Checker, Verdict, read_batches
from node.output import Output


def verify(invocation: Invocation) -> int:
    """Print a verdict for each line of FILE (or standard input); 1 if any message is refused."""
    found = arguments.strict(
        invocation.argv,
        valued=("hmac-key", "path", "config"),
        switches=("out-of-order", "json"),
        command="verify",
    )
    if len(found.words) > 1:
        raise UsageError("sbot verify checks one file at a time; give one name, or - for standard input.")
    hmac_key = _hmac_key(found.values.get("hmac-key") or invocation.environ.get("SBOT_HMAC_KEY", ""))
    output = Output.standard(as_json=True)
    all_good = True
    with ExitStack() as stack:
        source = _open(found.words[0] if found.words else "-", stack)
        threads = stack.enter_context(ThreadPoolExecutor(os.cpu_count() or 1))
        checker = Checker(hmac_key=hmac_key, alone=found.on("out-of-order"), in_turn=threads.map)
        for batch in read_batches(source):
            verdicts = checker.check(batch)
            all_good = all_good and all(verdict.reason is None for verdict in verdicts)
            output.json_texts(_as_json(verdict) for verdict in verdicts)
    return 0 if all_good else 1


def _as_json(verdict: Verdict) -> bytes:
    if verdict.reason is None:
        return b'{"line":%d,"id":"%b","ok":true}' % (verdict.line, str(verdict.id).encode())
    return b'{"line":%d,"ok":false,"reason":%b}' % (verdict.line, json.dumps(verdict.reason).encode())


def _hmac_key(text: str) -> bytes | None:
    try:
        key: bytes | None = named("hmac_key").parse(text)
    except BadValue as error:
        raise UsageError(f"--hmac-key {error}.") from None
    return key


def _open(name: str, stack: ExitStack) -> BinaryIO:
    if name == "-":
        return sys.stdin.buffer
    try:
        return stack.enter_context(open(name, "rb"))
    except OSError as error:
        raise NodeError(f"{name} cannot be read: {error.strerror}.") from None
