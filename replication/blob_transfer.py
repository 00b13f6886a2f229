"""One blob from one peer: `blobs.get`, piece by piece into the store, with every way it can go wrong told apart."""

import asyncio

from feeds.blobs import Blobs
from feeds.errors import StoreError, TooLarge, WrongBlob
from replication.blob_wants import Fault
from replication.errors import RemoteCallError, RemoteError
from replication.rpc.bodies import BodyType
from replication.rpc.connection import RpcConnection

__all__ = ["TransferFailed", "fetch"]


class TransferFailed(Exception):
    """A get came to nothing; the text is for a person."""

    def __init__(self, fault: Fault, reason: str) -> None:
        super().__init__(reason)
        self.fault = fault
        self.reason = reason


async def fetch(connection: RpcConnection, blobs: Blobs, blob: str, *, size: int, stall: float) -> None:
    """Take a blob in; nothing of it is seen before it is whole and right. Raises TransferFailed.

    size -- bytes that the peer said it has: one more is too many; stall -- seconds without a piece that are allowed.
    """
    try:
        async with blobs.adding(own=False, expected=blob, limit=size) as writer:
            source = connection.source("blobs.get", [{"key": blob, "max": blobs.limits.max_size}])
            try:
                while True:
                    async with asyncio.timeout(stall):
                        batch = await source.read_batch()
                    if not batch:
                        break
                    for body in batch:
                        if body.kind is not BodyType.BINARY:
                            raise TransferFailed(Fault.LIED, "it sent something else than bytes")
                        await writer.write(body.data)
            finally:
                await source.cancel()
            await writer.commit()
    except TimeoutError:
        raise TransferFailed(Fault.LOST, f"nothing came for {stall:g} seconds") from None
    except TooLarge:
        raise TransferFailed(Fault.LIED, f"it sent more than the {size} bytes it said it has") from None
    except WrongBlob:
        raise TransferFailed(Fault.LIED, "it sent other bytes than the blob's") from None
    except StoreError as error:
        raise TransferFailed(Fault.LOCAL, f"it could not be stored: {error}") from None
    except RemoteCallError as error:
        raise TransferFailed(Fault.REFUSED, f"it answered: {error.message[:200]}") from None
    except RemoteError as error:
        raise TransferFailed(Fault.LOST, str(error)[:200]) from None
