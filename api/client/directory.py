"""Where the running node of a data directory answers, and the token for it.

A running node keeps its ready line in `ready.json`. After a crash that file is left over and its port may be somebody
else's by now, who must not be sent the token: so it counts only while the process that wrote it lives and is the one
named in `lock`.
"""

import json
import os
from pathlib import Path
from typing import Final, NamedTuple

from api.client.problems import NodeNotRunning

__all__ = ["READY", "Place", "find_node"]

READY: Final = "ready.json"
LOCK: Final = "lock"
TOKEN: Final = "http-token"  # noqa: S105 - the name of a file
LARGEST: Final = 64 * 1024


class Place(NamedTuple):
    url: str
    token: str


def find_node(directory: str | os.PathLike[str]) -> Place:
    """Address and token of the node that runs on a data directory. Raises NodeNotRunning."""
    root = Path(directory).expanduser()
    try:
        ready = json.loads(_read(root / READY))
        url, pid = ready["http"], ready["pid"]
        holder = _read(root / LOCK).strip()
        token = _read(root / TOKEN).strip()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise _nobody(root) from None
    if not isinstance(url, str) or type(pid) is not int or holder != str(pid) or not _lives(pid):
        raise _nobody(root)
    return Place(url, token)


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(LARGEST).decode("utf-8")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def _nobody(root: Path) -> NodeNotRunning:
    return NodeNotRunning(
        f"No node is running for {root}; start it with: sbot start --path {root} (or name another directory)."
    )
