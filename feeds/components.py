"""How a part of the program declares its tables: numbered steps, which `feeds.database` carries out."""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Component", "Migration"]


class Migration(NamedTuple):
    """One step of a component's schema. number counts from 1 without holes; statements run in order."""

    number: int
    statements: tuple[str, ...]


class Component(NamedTuple):
    """A part of the program with tables of its own, and the migrations that lead to their present form."""

    name: str
    migrations: Sequence[Migration]
