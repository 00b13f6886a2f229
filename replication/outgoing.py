"""How addresses of each transport are dialled: straight, over WebSocket, or through a SOCKS proxy."""

import ssl

from replication.address import Address
from replication.limits import DEFAULT_LIMITS, Limits
from replication.network import is_public
from replication.socks import SocksProxy, open_through
from replication.transport import ByteStream, Dialler, open_tcp
from replication.websocket_stream import open_websocket


def diallers(
    proxy: SocksProxy | None = None,
    *,
    proxy_for_all: bool = False,
    tls: ssl.SSLContext | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> dict[str, Dialler]:
    """Diallers by transport. Without ``proxy`` onion addresses cannot be dialled.

    With ``proxy_for_all`` everything goes through it but IP addresses of this machine and its neighbours, which no
    proxy elsewhere could reach. ``tls`` says whom to trust, if not the system's authorities.
    """

    def is_proxied(host: str) -> bool:
        return proxy_for_all and (host != "localhost" and is_public(host.partition("%")[0], names=True))

    async def opener(host: str, port: int, context: ssl.SSLContext | None) -> ByteStream:
        if proxy is not None and (is_proxied(host) or host.endswith(".onion")):
            return await open_through(proxy, host, port, tls=context, limits=limits)
        return await open_tcp(host, port, tls=context, limits=limits)

    async def plain(address: Address) -> ByteStream:
        return await opener(address.host, address.port, None)

    async def web(address: Address) -> ByteStream:
        return await open_websocket(address, opener, tls=tls, limits=limits)

    async def onion(address: Address) -> ByteStream:
        assert proxy is not None
        return await open_through(proxy, address.host, address.port, limits=limits)

    ways: dict[str, Dialler] = {"net": plain, "ws": web, "wss": web}
    if proxy is not None:
        ways["onion"] = onion
    return ways
