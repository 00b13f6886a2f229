"""Conformance vectors: generated sets live in tests/vectors, published ones in ../shared/vectors beside the project.

Each file is one JSON object with `entries`, or gzip'd JSON lines whose first line is that object without entries.
"""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

_PROJECT = Path(__file__).resolve().parents[2]
_OWN = _PROJECT / "tests" / "vectors"
_SHARED = _PROJECT.parent / "shared" / "vectors"


def load(name: str) -> dict[str, Any]:
    """The whole object of a file in tests/vectors, with its entries."""
    return _read(_OWN / name)


def entries(name: str) -> list[dict[str, Any]]:
    """The entries of a file in tests/vectors."""
    found: list[dict[str, Any]] = load(name)["entries"]
    return found


def shared(name: str) -> list[dict[str, Any]]:
    """The entries of a published file that stays in ../shared/vectors; skips the test where that folder is absent."""
    path = _SHARED / name
    if not path.exists():
        pytest.skip(f"{name} is published data that is not part of this project, and ../shared/vectors is not here")
    found: list[dict[str, Any]] = _read(path)["entries"]
    return found


def _read(path: Path) -> dict[str, Any]:
    if path.suffix != ".gz":
        whole: dict[str, Any] = json.loads(path.read_bytes())
        return whole
    # Not splitlines: JSON leaves U+2028 raw, which is a line end to Python.
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    header: dict[str, Any] = json.loads(lines[0])
    header["entries"] = [json.loads(line) for line in lines[1:] if line]
    return header
