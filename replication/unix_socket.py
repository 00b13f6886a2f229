"""Unix sockets that are private from their first moment, never take a live one's place, and may have long paths."""

import errno
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from replication.errors import AddressInUse, LocalError
from replication.socket_stream import plain_error

_PATH_MAX = 100


def bind_unix(target: Path, mode: int) -> socket.socket:
    """Bind in a private folder beside ``target``, then link into place: never open to others, never over a live one."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        _clear_stale_socket(target)
        with tempfile.TemporaryDirectory(prefix=".", dir=target.parent) as folder:
            private = Path(folder) / target.name
            with short_path(private) as name:
                sock.bind(name)
            private.chmod(mode)
            sock.listen(256)
            os.link(private, target)
    except OSError as error:
        sock.close()
        raise listen_error(str(target), error) from None
    except LocalError:
        sock.close()
        raise
    return sock


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A name for ``path`` that fits into a socket address, which holds about a hundred bytes."""
    if len(os.fsencode(path)) <= _PATH_MAX or not Path("/proc/self/fd").is_dir():
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _clear_stale_socket(target: Path) -> None:
    try:
        found = target.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise LocalError(f"{target} exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, short_path(target) as name:
        probe.settimeout(1.0)
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            target.unlink(missing_ok=True)
            return
        except OSError as error:
            raise AddressInUse(f"{target} is in use: {plain_error(error)}") from None
    raise AddressInUse(f"{target} is in use by another process")


def identity(path: Path) -> tuple[int, int] | None:
    """Which file ``path`` is at present, or None."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def listen_error(where: str, error: OSError) -> LocalError:
    """Why we cannot listen, for people."""
    if error.errno in (errno.EADDRINUSE, errno.EEXIST):
        return AddressInUse(f"{where} is already in use")
    return LocalError(f"cannot listen on {where}: {plain_error(error)}")
