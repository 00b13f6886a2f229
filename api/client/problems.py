"""The one family of exceptions of the client."""

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["CONNECTION_LOST", "NOT_RUNNING", "UNEXPECTED", "ApiProblem", "NodeNotRunning"]

NOT_RUNNING: Final = "not-running"
CONNECTION_LOST: Final = "connection-lost"
UNEXPECTED: Final = "unexpected-answer"


class ApiProblem(Exception):
    """A request was not answered as hoped. `code` is a problem code of docs/http-api.md; `detail` a sentence.

    What no server said has a code of the client's own and `status` 0: `not-running`, `connection-lost` (the request may
    have been carried out), `unexpected-answer` (this is no pysbot). `members` are those that some codes add.
    """

    def __init__(self, code: str, status: int, detail: str, members: Mapping[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.code: Final = code
        self.status: Final = status
        self.detail: Final = detail
        self.members: Final = dict(members or {})


class NodeNotRunning(ApiProblem):
    """Nothing listens there, or no node runs on that directory. Nothing was carried out."""

    def __init__(self, detail: str) -> None:
        super().__init__(NOT_RUNNING, 0, detail)
