"""Where deliveries are judged: worker threads for small rounds, child processes behind them for large ones.

libsodium verifies without the interpreter's lock, but all else that judging needs holds it, and whoever holds it makes
every verifying thread wait: with threads alone two cores do the work of one and a half, and the event loop stutters. A
child has a lock of its own. It is a plain interpreter that reads tasks from its standard input and writes verdicts to
its standard output until that ends, so it cannot outlive this process. Children are started when a large round comes
and let go when none has come for a while; where they cannot be started, threads do the work.
"""

import asyncio
import logging
import marshal
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, TypeVar

from feeds import admission
from feeds.admission import Extractor, Task, Verdict
from feeds.validator_process import read_payload, without, write_payload

if sys.platform == "linux":
    import fcntl

__all__ = ["Validators"]

T = TypeVar("T")
LOG: Final = logging.getLogger(__name__)

LARGE: Final = 256
"""Messages in a round from which on children are worth their cost."""
CHANCES: Final = 3
"""So many children may fail before threads do all the work for good."""
IDLE_SECONDS: Final = 30.0
EXIT_SECONDS: Final = 5.0
PIPE_BYTES: Final = 1 << 20


class Validators:
    """Judges rounds of tasks on all cores. Belongs to one event loop; ended by `close`."""

    def __init__(
        self,
        extractors: Sequence[Extractor],
        hmac_key: bytes | None,
        *,
        spared: Collection[int] = (),
        much: int = 0,
        workers: int | None = None,
        processes: bool | None = None,
    ) -> None:
        """spared -- extractors (by index) that are left out of rounds of more than `much` messages.

        workers -- so many parts a large round is cut in (default: one a core, at most 4). processes -- False:
        nothing but threads (default: processes where there is more than one core).
        """
        cores = os.cpu_count() or 1
        self._extractors: Final = list(extractors)
        self._spared: Final = frozenset(spared)
        self._much: Final = much
        self._hmac_key: Final = hmac_key
        self._workers: Final = workers or min(cores, 4)
        # Twice as many threads as parts: one round's parts wait at the children while those work on another's.
        self._pool: Final = ThreadPoolExecutor(2 * self._workers, thread_name_prefix="validate")
        self._chances = 0 if processes is False or (processes is None and cores == 1) else CHANCES
        self._children: Final[dict[int, _Child]] = {}
        self._lock: Final = threading.Lock()
        self._idle: asyncio.TimerHandle | None = None
        self._closed = False

    async def judge(self, tasks: Sequence[Task]) -> list[tuple[Task, Verdict]]:
        """Decide about every item of every task. A long feed may come back as several tasks, in order."""
        count = sum(len(task.items) for task in tasks)
        if count < LARGE:
            return list(zip(tasks, await self.run(self._judge_here, tasks, frozenset()), strict=True))
        spared = self._spared if count > self._much else frozenset()
        parts = admission.share(tasks, self._workers)
        if self._chances > 0:
            judging = [self.run(self._judge_in_child, number, part, spared) for number, part in enumerate(parts)]
        else:
            judging = [self.run(self._judge_here, part, spared) for part in parts]
        verdicts = await asyncio.gather(*judging)
        self._let_go_later()
        return [pair for part, answers in zip(parts, verdicts, strict=True) for pair in zip(part, answers, strict=True)]

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function that blocks in a worker thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    async def close(self) -> None:
        """End children and threads; nothing may be judged any more. May be called twice."""
        if self._closed:
            return
        self._closed = True
        if self._idle is not None:
            self._idle.cancel()
        await self.run(self._end_children)
        self._pool.shutdown()

    def _judge_here(self, tasks: Sequence[Task], spared: frozenset[int]) -> list[Verdict]:
        return admission.judge(tasks, self._hmac_key, without(self._extractors, spared))

    def _judge_in_child(self, number: int, tasks: Sequence[Task], spared: frozenset[int]) -> list[Verdict]:
        """In a worker thread, which waits without the interpreter's lock."""
        child: _Child | None = None
        try:
            child = self._child(number)
            return child.judge(self._hmac_key, tasks, spared)
        except (OSError, EOFError, ValueError) as error:
            LOG.warning("no process to validate in (%s); threads do it", error)
            with self._lock:
                self._chances -= 1
                if self._children.get(number) is child:
                    self._children.pop(number, None)
            return self._judge_here(tasks, spared)
        finally:
            if child is not None:
                self._done_with(number, child)

    def _child(self, number: int) -> "_Child":
        with self._lock:
            child = self._children.get(number)
            if child is None:
                child = self._children[number] = _Child(self._extractors)
            child.users += 1
            return child

    def _done_with(self, number: int, child: "_Child") -> None:
        with self._lock:
            child.users -= 1
            over = not child.users and self._children.get(number) is not child
        if over:
            child.end()

    def _let_go_later(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(IDLE_SECONDS, lambda: loop.run_in_executor(self._pool, self._end_children))

    def _end_children(self) -> None:
        with self._lock:
            idle = {number: child for number, child in self._children.items() if not child.users}
            for number in idle:
                del self._children[number]
        for child in idle.values():
            child.end()


class _Child:
    """A process that judges. Several threads may ask; it answers in the order in which they did."""

    def __init__(self, extractors: Sequence[Extractor]) -> None:
        """Raises OSError when there can be none."""
        home = str(Path(__file__).parent.parent)
        paths = [home, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        names = [f"{extract.__module__}:{extract.__qualname__}" for extract in extractors]
        self._process: Final = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-P", "-c", "from feeds.validator_process import main; main()", *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to: Final = self._process.stdin
        self._from: Final = self._process.stdout
        _widen(self._to)
        _widen(self._from)
        self.users = 0
        self._asking: Final = threading.Lock()
        self._asked = 0
        self._answering: Final = threading.Condition()
        self._answered = 0
        self._broken = False

    def judge(self, hmac_key: bytes | None, tasks: Sequence[Task], spared: frozenset[int]) -> list[Verdict]:
        """Raises OSError, EOFError or ValueError when the process is gone or does not answer as it should."""
        request = marshal.dumps((hmac_key, spared, [tuple(task) for task in tasks]))
        try:
            with self._asking:
                turn = self._asked
                self._asked += 1
                write_payload(self._to, request)
            with self._answering:
                self._answering.wait_for(lambda: self._broken or self._answered == turn)
            if self._broken:
                raise EOFError("the process ended")
            answer = read_payload(self._from)
        except BaseException:
            with self._answering:
                self._broken = True
                self._answering.notify_all()
            raise
        with self._answering:
            self._answered += 1
            self._answering.notify_all()
        return [Verdict(*verdict) for verdict in marshal.loads(answer)]  # noqa: S302 - our own process

    def end(self) -> None:
        """Let the process end and wait for that."""
        with suppress(OSError):
            self._to.close()
        try:
            self._process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._from.close()


def _widen(pipe: IO[bytes]) -> None:
    """Let a whole task pass without the two sides taking turns, where the system can."""
    if sys.platform == "linux":
        with suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
