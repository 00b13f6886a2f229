"""Small JSON over the web, from servers that a link names: bounded in time and size, and never into private networks.

The name is looked up once; what it means is checked, and exactly that address is connected to, so that a second look-up
cannot lead elsewhere. Redirects are not followed, and proxies of the environment are not used.
"""

import asyncio
import socket
from typing import Any, Final

import orjson

from replication.errors import RoomFailed
from replication.network import is_public

SECONDS: Final = 10.0
MOST_BYTES: Final = 64 * 1024


class WebJson:
    """Asks web servers. With `private` it may also ask those in private networks and without encryption."""

    def __init__(self, *, version: str, private: bool = False) -> None:
        self._version = version
        self._private = private

    async def get(self, url: str) -> dict[str, Any]:
        """The JSON object at a web address. Raises RoomFailed."""
        return await self._ask("GET", url, None)

    async def post(self, url: str, value: dict[str, str]) -> dict[str, Any]:
        """The JSON object that a web address answers to one. Raises RoomFailed."""
        return await self._ask("POST", url, orjson.dumps(value))

    async def _ask(self, method: str, url: str, body: bytes | None) -> dict[str, Any]:
        import httpx

        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, ValueError):
            raise RoomFailed("the room names a web address that is none") from None
        host = parsed.host
        if parsed.scheme != "https" and not (self._private and parsed.scheme == "http"):
            raise RoomFailed(f"{host} is to be asked without encryption; only https is trusted without --private-web")
        if not host or parsed.userinfo:
            raise RoomFailed("the room names a web address that is none")
        try:
            async with asyncio.timeout(SECONDS):
                address = await self._look_up(host, parsed.port or (443 if parsed.scheme == "https" else 80))
                return await self._send(method, parsed, address, body)
        except TimeoutError:
            raise RoomFailed(f"{host} did not answer within {SECONDS:g} seconds") from None
        except (httpx.HTTPError, OSError) as error:
            raise RoomFailed(f"{host} could not be asked ({type(error).__name__})") from None

    async def _look_up(self, host: str, port: int) -> str:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(each[4][0]) for each in found]
        if not addresses or not (self._private or all(is_public(each, names=False) for each in addresses)):
            raise RoomFailed(f"{host} is in a private network, which links may not lead into without --private-web")
        return addresses[0]

    async def _send(self, method: str, url: Any, address: str, body: bytes | None) -> dict[str, Any]:
        import httpx

        headers = {"Host": url.netloc.decode(), "Accept": "application/json", "User-Agent": f"pysbot/{self._version}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        async with (
            httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=SECONDS) as client,
            client.stream(
                method,
                url.copy_with(host=address),
                content=body,
                headers=headers,
                extensions={"sni_hostname": url.host},
            ) as answer,
        ):
            data = bytearray()
            async for piece in answer.aiter_bytes():
                data += piece
                if len(data) > MOST_BYTES:
                    raise RoomFailed(f"{url.host} answered with more than {MOST_BYTES // 1024} KiB")
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError:
            value = None
        if not isinstance(value, dict):
            raise RoomFailed(f"{url.host} did not answer as rooms do (status {answer.status_code})")
        if not answer.is_success or value.get("status") not in (None, "successful"):
            said = value.get("error")
            why = said[:200] if isinstance(said, str) and said else f"status {answer.status_code}"
            raise RoomFailed(f"{url.host} refused: {why}")
        return value
