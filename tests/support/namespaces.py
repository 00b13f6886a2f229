"""Network namespaces joined by a cable of their own: a local network that nobody else is on.

They take root and the command `ip`; where they cannot be had, tests are skipped with the reason, or fail with it when
the environment's PYSBOT_REQUIRE names `netns`.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count

import pytest

REQUIRED = "netns" in os.environ.get("PYSBOT_REQUIRE", "").replace(",", " ").split()
_numbers = count()


@dataclass(frozen=True)
class Namespace:
    """One end of the cable; `device` is its interface, `host` its IPv4 address or empty."""

    name: str
    device: str
    host: str

    @property
    def inside(self) -> tuple[str, ...]:
        """The words before a command that is to run there."""
        return ("ip", "netns", "exec", self.name)

    def link(self, state: str) -> None:
        """Plug the cable in (`up`) or out (`down`)."""
        _ip("-n", self.name, "link", "set", self.device, state)

    def route(self) -> None:
        """A way out, which leads nowhere: without one nothing can be sent to 255.255.255.255."""
        _ip("-n", self.name, "route", "add", "default", "dev", self.device)


@contextmanager
def cable(*, ipv4: bool = True) -> Iterator[tuple[Namespace, Namespace]]:
    """Two namespaces with loopback and an Ethernet between them; without `ipv4` only link-local IPv6."""
    tag = f"sbot{os.getpid()}-{next(_numbers)}"
    ends = [Namespace(f"{tag}{end}", f"eth{end}", f"192.168.77.{end}" if ipv4 else "") for end in (1, 2)]
    with ExitStack() as stack:
        try:
            for end in ends:
                _ip("netns", "add", end.name)
                stack.callback(_ip, "netns", "del", end.name)
            one, other = ends
            _ip("-n", one.name, "link", "add", one.device, "type", "veth", "peer", other.device, "netns", other.name)
            for end in ends:
                _ip("-n", end.name, "link", "set", "lo", "up")
                if end.host:
                    _ip("-n", end.name, "address", "add", f"{end.host}/24", "broadcast", "+", "dev", end.device)
                end.link("up")
        except _NotHere as missing:
            if REQUIRED:
                pytest.fail(f"network namespaces are required here but cannot be had: {missing}")
            pytest.skip(f"network namespaces cannot be had here: {missing}")
        yield one, other


class _NotHere(Exception):
    """The text is what went wrong."""


def _ip(*words: str) -> None:
    found = shutil.which("ip")
    if found is None:
        raise _NotHere("the command ip is not installed")
    done = subprocess.run([found, *words], capture_output=True, text=True, timeout=10, check=False)
    if done.returncode:
        raise _NotHere(f"ip {' '.join(words)}: {done.stderr.strip()}")
