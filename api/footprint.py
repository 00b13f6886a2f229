"""What the node takes up on its machine: disk and memory, in bytes."""

import os
import resource
import shutil
import sys
from pathlib import Path

__all__ = ["database_bytes", "free_bytes", "resident_bytes"]


def database_bytes(path: Path) -> int:
    """Size of a database's files."""
    files = (path, path.with_name(path.name + "-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


def free_bytes(path: Path) -> int:
    """Room left on the disk of a file."""
    return shutil.disk_usage(path.parent).free


def resident_bytes() -> int:
    """Memory that this process occupies now; where that is not to be had, the most it ever did."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
