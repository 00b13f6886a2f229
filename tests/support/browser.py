"""A real browser (`chromium` of Debian, without a window), shut in: it reaches one address, the rest is recorded.

Its only way out is a proxy of the test's own, but for the one page server that it may ask directly. So nothing leaves
the machine, and whatever a page tried to load from elsewhere is known. Without the program tests are skipped, or fail
when the environment's PYSBOT_REQUIRE names `browser`.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

REQUIRED = "browser" in os.environ.get("PYSBOT_REQUIRE", "").replace(",", " ").split()
SECONDS = 60.0
"""How long a page may take. Starting the program is what takes time."""
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-default-apps",
    "--enable-logging=stderr",
    "--v=0",
    "--timeout=5000",  # milliseconds to load: a page in which something became a download never says that it is loaded
)
_CONSOLE = re.compile(r":CONSOLE\S* (.*)")
_OWN = re.compile(r"[A-Z]+ (?:https?://)?[a-z0-9.-]+\.(?:google|googleapis|gvt1)\.com[:/]")
"""What the browser asks its maker for, whatever the flags say. No page of these tests names such a host."""


class Shown(NamedTuple):
    """What became of a page."""

    dom: str
    """The document after its scripts ran, as HTML."""
    console: list[str]
    """What the page, or the browser on its behalf, wrote to the console: errors and violations of policies too."""
    elsewhere: list[str]
    """The first lines of requests to anywhere but the one address, but for the browser's own."""


class Browser:
    """Opens pages one at a time, each with a profile of its own below `folder`."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._opened = 0

    def open(self, url: str) -> Shown:
        """Look at a page once it is loaded; `url` is on 127.0.0.1, and the only address that answers."""
        return self._run(url, "--dump-dom")

    def picture(self, url: str, file: Path) -> Shown:
        """A page as a PNG of 1000 x 1400 points."""
        return self._run(url, f"--screenshot={file}", "--window-size=1000,1400")

    def _run(self, url: str, *flags: str) -> Shown:
        self._opened += 1
        reached = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
        with _trap() as (proxy, elsewhere):
            words = (
                self._program,
                *_FLAGS,
                f"--user-data-dir={self._folder / str(self._opened)}",
                f"--proxy-server=http://127.0.0.1:{proxy}",
                f"--proxy-bypass-list=<-loopback>;{reached}",
                *flags,
                url,
            )
            with subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self._folder,
                start_new_session=True,
            ) as process:
                try:
                    out, err = process.communicate(timeout=SECONDS)
                finally:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)  # its helpers, if it left some
        said = err.decode(errors="replace")
        assert process.returncode == 0, said[-2000:]
        foreign = [line for line in elsewhere if not _OWN.match(line)]
        return Shown(out.decode(errors="replace"), _CONSOLE.findall(said), foreign)


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """The browser of this machine; skips, or fails, where there is none."""
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        reason = f"no browser is installed ({', '.join(_PROGRAMS)})"
        if REQUIRED:
            pytest.fail(f"a browser is required here: {reason}")
        pytest.skip(reason)
    yield Browser(program, folder)


@contextlib.contextmanager
def _trap() -> Iterator[tuple[int, list[str]]]:
    """A proxy that leads nowhere: its port, and the first line of each request that it got."""
    seen: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Woken by a connection of our own at the end.
        over = threading.Event()

        def take() -> None:
            while True:
                connection, _ = listener.accept()
                with connection:
                    if over.is_set():
                        return
                    connection.settimeout(5)
                    with contextlib.suppress(OSError):
                        seen.append(connection.recv(4096).decode("latin-1").partition("\r\n")[0])
                        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=take, name="proxy that leads nowhere", daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        try:
            yield port, seen
        finally:
            over.set()
            with socket.create_connection(("127.0.0.1", port)):
                thread.join(10)
