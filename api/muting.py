"""Whom lists leave out, for all routes that leave somebody out."""

from typing import Final

from starlette.requests import Request

from api.parameters import Parameter, flag
from api.services import hidden_feeds, services_of

__all__ = ["INCLUDE_MUTED", "left_out"]

INCLUDE_MUTED: Final = Parameter("include_muted", flag(), "1 shows muted feeds as well")


def left_out(request: Request) -> list[str]:
    """Feeds that a list does not show: blocked, deleted here, and muted unless they are asked for."""
    return hidden_feeds(services_of(request), muted=not INCLUDE_MUTED.of(request))
