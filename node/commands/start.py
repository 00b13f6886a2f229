"""`sbot start`: run a node in this process until SIGINT or SIGTERM.

Standard output carries one line, the ready line; logs go to standard error. The order of ending is `node.sbot`'s; here
is only the patience: whoever asked the node to stop sees it gone within five seconds.
"""

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable

from feeds.keys import Keypair
from node import keyfile, log_setup
from node.commands import settings
from node.commands.catalogue import Invocation
from node.config import Config
from node.directory import DataDirectory
from node.errors import UsageError
from node.lock import DirectoryLock

log = logging.getLogger("node.start")

PATIENCE = 4.5
"""Seconds for an ordered end, from the signal on."""
YOUNG_OBJECTS = 50_000
"""Made since the garbage collector last looked until it looks again: some ten megabytes."""


def start(invocation: Invocation) -> int:
    """Run until told to stop; 0 then, also when that was before the node was ready."""
    found = settings.reading(invocation)
    if found.words:
        raise UsageError(f"sbot start takes options only, not {found.words[0]!r}; sbot start --help lists them.")
    config = settings.loaded(invocation, found)
    log_setup.set_up(form=config.log_format, level=config.log_level)
    os.umask(0o077)
    _look_at_lock(config)
    keypair = keyfile.load(DataDirectory(config.path).secret)  # before signals are ours: it may ask for a passphrase
    with asyncio.Runner(loop_factory=_loop_factory()) as runner, contextlib.suppress(asyncio.CancelledError):
        runner.run(_run(config, keypair))
    return 0


def _look_at_lock(config: Config) -> None:
    """A second start is refused before the node's many parts are even loaded. Raises DirectoryLocked."""
    directory = DataDirectory(config.path)
    directory.make()
    DirectoryLock.acquire(directory.lock).release()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed: it moves bytes about twice as fast."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _run(config: Config, keypair: Keypair | None) -> None:
    from node.sbot import Sbot  # takes half a second to load

    told = _Told()
    async with Sbot.open(config, keypair=keypair) as sbot:
        _collect_less()
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(sbot.ready(), separators=(",", ":")), flush=True)
        log.info("ready: peers %s, web %s", sbot.address, sbot.http.url)
        failure = asyncio.create_task(sbot.failure())
        stop = asyncio.create_task(told.to_stop())
        await asyncio.wait([failure, stop], return_when=asyncio.FIRST_COMPLETED)
        log.info("stopping")
        if failure.done():
            failure.result()
        failure.cancel()


def _collect_less() -> None:
    """Look for garbage in cycles less often: what arrives comes and goes in batches of many thousands of objects, and
    going through them while they are in use took about a fifth of this process's time. What is loaded by now stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)


class _Told:
    """Signals: the first one ends the node in order, wherever it is; the second one at once."""

    def __init__(self) -> None:
        self._main = asyncio.current_task()
        self._stop = asyncio.Event()
        self._ready = False
        self._count = 0
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._hear)

    async def to_stop(self) -> None:
        self._ready = True
        await self._stop.wait()

    def _hear(self) -> None:
        self._count += 1
        if self._count > 1:
            os._exit(130)
        patience = threading.Timer(PATIENCE, _give_up)
        patience.daemon = True
        patience.start()
        if self._ready:
            self._stop.set()
        elif self._main is not None:
            self._main.cancel()


def _give_up() -> None:
    """Something does not end. What was acknowledged is on disk; the rest is told again by our peers."""
    sys.stderr.write("sbot: the node did not end in time and was cut off; nothing acknowledged is lost.\n")
    sys.stderr.flush()
    os._exit(1)
