"""One delivery of a webhook: signed, posted, and judged by the status of the answer alone."""

import asyncio
import hashlib
import hmac
import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import httpx

__all__ = ["DeliveryFailed", "Sender", "check_url", "signature"]

SIGNATURE: Final = "X-Sbot-Signature"
LONGEST_URL: Final = 2048
GONE: Final = 410


class DeliveryFailed(Exception):
    """The server could not be reached, or did not answer with a success; `gone`: it wants no more."""

    def __init__(self, reason: str, *, gone: bool = False) -> None:
        super().__init__(reason)
        self.gone: Final = gone


def signature(secret: str, body: bytes) -> str:
    """What the header of a delivery says: `sha256=` and the HMAC-SHA256 of the body in hexadecimal."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def check_url(url: str) -> str | None:
    """What is wrong with an address to deliver to; None when nothing is."""
    import httpx

    if len(url) > LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        return f"must be a web address of at most {LONGEST_URL} printable ASCII characters"
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        return "is no web address"
    if parsed.scheme not in ("http", "https") or not parsed.host:
        return "must begin with http:// or https:// and name a host"
    if parsed.port is not None and not 0 < parsed.port < 65536:
        return "must have a port from 1 to 65535"
    if parsed.userinfo or parsed.fragment:
        return "must have neither a password nor a fragment; put a token into its path or query"
    return None


class Sender:
    """Posts deliveries. No redirects, no proxies from the environment, and of the answer only the status is read."""

    def __init__(self, *, version: str, timeout: float, at_once: int) -> None:
        self._version: Final = version
        self._timeout: Final = timeout
        self._at_once: Final = at_once
        self._client: httpx.AsyncClient | None = None

    async def post(self, url: str, body: bytes, *, secret: str, webhook: str) -> None:
        """Deliver. Raises DeliveryFailed with one sentence that names neither the address nor what was answered."""
        import httpx

        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"pysbot/{self._version}",
            "X-Sbot-Webhook": webhook,
            SIGNATURE: signature(secret, body),
        }
        try:
            async with asyncio.timeout(self._timeout):
                async with self._open().stream("POST", url, content=body, headers=headers) as answer:
                    status = answer.status_code
        except TimeoutError:
            raise DeliveryFailed(f"the server did not answer within {self._timeout:g} seconds") from None
        except httpx.ConnectError:
            raise DeliveryFailed("the server could not be reached") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise DeliveryFailed(f"the connection failed ({type(error).__name__})") from None
        if 300 <= status < 400:
            raise DeliveryFailed(f"the server answered {status}; redirects are not followed")
        if not 200 <= status < 300:
            raise DeliveryFailed(f"the server answered {status}", gone=status == GONE)

    def _open(self) -> "httpx.AsyncClient":
        """The client, made when there is something to deliver: it takes a while to load."""
        import httpx

        if self._client is None:
            # It would log each address, and with it what is secret in its query.
            logging.getLogger("httpx").setLevel(logging.WARNING)
            self._client = httpx.AsyncClient(
                follow_redirects=False,
                trust_env=False,
                timeout=self._timeout,
                limits=httpx.Limits(max_connections=self._at_once, max_keepalive_connections=0),
            )
        return self._client

    async def close(self) -> None:
        """Close its connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None
