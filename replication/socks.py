"""Dialling through a SOCKS5 proxy, such as Tor's: the proxy looks names up, we never do."""

import asyncio
import ssl
from typing import NamedTuple

from python_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError, ProxyType
from python_socks.async_.asyncio import Proxy

from replication.errors import DialFailed
from replication.limits import DEFAULT_LIMITS, Limits
from replication.socket_stream import SocketStream
from replication.transport import open_tcp


class SocksProxy(NamedTuple):
    """Where the proxy listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_proxy(text: str) -> SocksProxy:
    """Read ``HOST:PORT`` (an IPv6 address in brackets). Raises ``ValueError``."""
    host, _, port = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address needs brackets")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65536 or "/" in host:
        raise ValueError("expected HOST:PORT")
    return SocksProxy(host, int(port))


async def open_through(
    proxy: SocksProxy, host: str, port: int, *, tls: ssl.SSLContext | None = None, limits: Limits = DEFAULT_LIMITS
) -> SocketStream:
    """Have the proxy connect to ``host`` (a name, an onion service or an address) and ``port``.

    Raises ``DialFailed`` with step ``socks`` or ``tls``. The caller sets the time.
    """
    way = Proxy(ProxyType.SOCKS5, proxy.host, proxy.port, rdns=True, loop=asyncio.get_running_loop())
    try:
        sock = await way.connect(host, port, timeout=limits.socks_timeout)
    except ProxyConnectionError:
        raise DialFailed("socks", f"the SOCKS proxy at {proxy} does not answer; is it running?") from None
    except ProxyTimeoutError:
        raise DialFailed("socks", f"the SOCKS proxy at {proxy} did not reach {host} port {port} in time") from None
    except (ProxyError, OSError, ValueError, UnicodeError) as error:
        raise DialFailed("socks", f"the SOCKS proxy at {proxy} did not reach {host} port {port}: {error}") from None
    stream = await open_tcp(host, port, timeout=limits.socks_timeout, tls=tls, through=sock, limits=limits)
    stream.peername = f"{host}:{port}"
    return stream
