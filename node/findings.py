"""What a check of the doctor found: how things stand, what to do, and what mends it where that is safe."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

__all__ = ["Finding", "Mend", "State", "failed", "in_thread", "ok", "skipped"]

Mend: TypeAlias = Callable[[], Awaitable[str]]
"""Mends what was found and says what it did. Raises OSError, sqlite3.Error, NodeError or StoreError if it cannot."""


class State(StrEnum):
    """What came out of a check."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing the doctor looked at; `advice` says what to do, `mend` does it where that is safe."""

    state: State
    detail: str
    advice: str | None = None
    mend: Mend | None = None


def ok(detail: str, *, mend: Mend | None = None) -> Finding:
    return Finding(State.OK, detail, None, mend)


def failed(detail: str, advice: str, *, mend: Mend | None = None) -> Finding:
    return Finding(State.FAILED, detail, advice, mend)


def skipped(detail: str, advice: str | None = None) -> Finding:
    return Finding(State.SKIPPED, detail, advice)


def in_thread(mend: Callable[[], str]) -> Mend:
    """The same for what blocks."""

    async def run() -> str:
        return await asyncio.to_thread(mend)

    return run
