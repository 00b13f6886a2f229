"""Methods for the node's own user: the text of what went wrong is shown, since nobody else can call them."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from feeds.errors import FeedsError
from replication.errors import DialFailed, LocalError, RemoteVisible
from replication.rpc.methods import Kind, Method, Who

Handler = Callable[..., Awaitable[Any]]


def local(name: str, kind: Kind, handler: Handler) -> Method:
    """A method that only local callers may use; `name` with dots between its parts."""
    return Method(tuple(name.split(".")), kind, Who.LOCAL, _explaining(handler))


def _explaining(handler: Handler) -> Handler:
    @wraps(handler)
    async def explained(*arguments: Any) -> Any:
        try:
            return await handler(*arguments)
        except (FeedsError, LocalError, DialFailed) as error:
            raise RemoteVisible(str(error)) from error

    return explained
