"""The child that judges: what `validators` starts, and how the two talk.

It imports only what judging needs, no event loop and no database: it is started in the middle of a sync, on every core.
"""

import gc
import marshal
import os
import signal
import struct
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import IO, Final

from feeds import admission
from feeds.admission import Extractor

__all__ = ["main", "read_payload", "without", "write_payload"]

_HEADER: Final = struct.Struct("<Q")


def without(extractors: Sequence[Extractor], spared: frozenset[int]) -> list[Extractor | None]:
    """Extractors, None in the place of those that are spared."""
    return [None if number in spared else extract for number, extract in enumerate(extractors)]


def write_payload(stream: IO[bytes], payload: bytes) -> None:
    """Write its length, then the payload."""
    stream.write(_HEADER.pack(len(payload)))
    stream.write(payload)
    stream.flush()


def read_payload(stream: IO[bytes]) -> bytes:
    """The next payload. Raises EOFError at the end of the stream."""
    header = stream.read(_HEADER.size)
    if len(header) == _HEADER.size:
        (size,) = _HEADER.unpack(header)
        payload = stream.read(size)
        if len(payload) == size:
            return payload
    raise EOFError("the process ended")


def main() -> None:
    """The child: judge what comes on standard input until it ends. Arguments: the extractors, as module:name."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the node, which then ends this
    extractors = [_named(name) for name in sys.argv[1:]]
    # Judging makes many objects and drops them all together: going through them again and again meanwhile, as the
    # collector would, costs a third of the time.
    gc.freeze()
    gc.disable()
    while True:
        try:
            request = read_payload(sys.stdin.buffer)
        except EOFError:
            return
        hmac_key, spared, tasks = marshal.loads(request)  # noqa: S302 - from the process that started this one
        verdicts = admission.judge(tasks, hmac_key, without(extractors, spared))
        try:
            write_payload(sys.stdout.buffer, marshal.dumps([tuple(verdict) for verdict in verdicts]))
        except BrokenPipeError:  # the node was killed: nobody waits for the answer
            os._exit(0)
        del request, tasks, verdicts
        gc.collect()


def _named(name: str) -> Extractor:
    module, _, function = name.partition(":")
    extractor: Extractor = getattr(import_module(module), function)
    return extractor
