"""A child process that is driven by JSON lines (peers/lib/console.js says how)."""

import asyncio
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LINE_LIMIT = 64 * 1024 * 1024
STOP_SECONDS = 8.0

Notice = dict[str, Any]


class CommandFailed(Exception):
    """The child answered with an error; the text is its own."""


class LineProcess:
    """Starts `argv`, sends commands, keeps what the child tells unasked. Its standard error goes to a file."""

    def __init__(self, argv: list[str], log: Path) -> None:
        self._argv = argv
        self._log = log
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._notices: list[Notice] = []
        self._told = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def start(self, timeout: float = 30.0) -> Notice:
        """Runs the child and returns its `ready` notice."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=LINE_LIMIT,
            )
        self._reader = asyncio.create_task(self._read())
        return await self.notice("ready", timeout=timeout)

    async def call(self, do: str, *, timeout: float = 30.0, **fields: Any) -> Any:
        """One command and its result; raises CommandFailed with the child's text."""
        if self._process is None or self._process.stdin is None:
            raise CommandFailed("not started")
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._process.stdin.write(json.dumps({"n": number, "do": do, **fields}).encode() + b"\n")
        await self._process.stdin.drain()
        try:
            return await asyncio.wait_for(answer, timeout)
        except TimeoutError:
            raise CommandFailed(f"no answer to {do} within {timeout} s") from None

    async def notice(
        self, kind: str, *, timeout: float = 10.0, where: Callable[[Notice], bool] | None = None
    ) -> Notice:
        """The first unread notice of this kind (for which `where` holds), waited for; it is taken out."""
        deadline = time.monotonic() + timeout
        while True:
            for index, notice in enumerate(self._notices):
                if notice["notice"] == kind and (where is None or where(notice)):
                    return self._notices.pop(index)
            self._told.clear()
            remaining = deadline - time.monotonic()
            try:
                await asyncio.wait_for(self._told.wait(), max(remaining, 0))
            except TimeoutError:
                raise CommandFailed(f"no notice '{kind}' within {timeout} s; log: {self.log_tail()}") from None

    def forget_notices(self) -> None:
        self._notices.clear()

    def log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""

    async def stop(self) -> int | None:
        """Ends the child by closing its standard input; kills it when that takes too long."""
        if self._process is None:
            return None
        if self._process.returncode is None and self._process.stdin is not None:
            self._process.stdin.close()
        try:
            return await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            return await self.kill()
        finally:
            await self._forget()

    async def kill(self) -> int | None:
        """SIGKILL, as a crash or power loss would end it."""
        if self._process is None:
            return None
        if self._process.returncode is None:
            self._process.kill()
        code = await self._process.wait()
        await self._forget()
        return code

    async def _forget(self) -> None:
        if self._reader is not None:
            await self._reader
        self._process = self._reader = None

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            told = json.loads(line)
            if "notice" in told:
                self._notices.append(told)
                self._told.set()
                continue
            answer = self._answers.pop(told["n"], None)
            if answer is None or answer.done():
                continue
            if "error" in told:
                answer.set_exception(CommandFailed(told["error"]))
            else:
                answer.set_result(told["ok"])
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(CommandFailed("the process ended"))
        self._answers.clear()
