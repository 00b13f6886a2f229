"""The messages that the interop tests move about: the same bytes in every run."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.support import builders


@dataclass(frozen=True)
class Dataset:
    """A file of message values, one JSON text a line, each feed's in order; and how long each feed is."""

    file: Path
    clock: dict[str, int]

    @property
    def messages(self) -> int:
        return sum(self.clock.values())


def make(folder: Path, messages: int, feeds: int, seed: int) -> Dataset:
    texts = builders.generate(messages, feeds, seed)
    file = folder / f"{messages}-messages-{feeds}-feeds-{seed}.jsonl"
    file.write_bytes(b"\n".join(texts) + b"\n")
    return Dataset(file, dict(Counter(json.loads(text)["author"] for text in texts)))
