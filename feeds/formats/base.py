"""What every feed format offers; callers hold a FeedFormat and never know which (design.md, rule 7).

A format reads a message in three steps that are kept apart because they cost differently: `peek` looks at the head of
an unverified text, `prepare` makes a Message of it (everything but chain and signature), `first_bad_signature` verifies
a whole batch in one tight loop.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from feeds.keys import Keypair
from feeds.message import Draft, JsonObject, Message, Tip

__all__ = ["ChainFault", "FeedFormat"]


class ChainFault(NamedTuple):
    """Why a message does not follow a tip."""

    kind: Literal["known", "gap", "fork", "invalid"]
    """known: at or before the tip; gap: messages between are missing; fork: the next, but of another branch."""
    field: str
    reason: str


class FeedFormat(Protocol):
    """One way to encode, sign and link messages. Stateless: one object serves every feed and thread."""

    @property
    def name(self) -> str:
        """As in ssb: URIs and in `ebt.replicate`'s option "format"."""
        ...

    def owns(self, feed: str) -> bool:
        """Whether feed is a canonical id of a feed of this format."""
        ...

    def peek(self, text: bytes) -> tuple[str, int]:
        """Author and sequence as a text claims them; nothing is verified. Raises InvalidMessage."""
        ...

    def prepare(self, text: bytes, hmac_key: bytes | None = None) -> Message:
        """The message in a text, checked in all but chain and signature. Raises InvalidMessage, nothing else."""
        ...

    def check_chain(self, message: Message, tip: Tip) -> ChainFault | None:
        """Whether message is the next after tip; None when it is."""
        ...

    def first_bad_signature(self, messages: Sequence[Message], hmac_key: bytes | None = None) -> int:
        """Index of the first message whose signature is wrong, -1 when there is none."""
        ...

    def draft(self, author: str, tip: Tip, content: JsonObject | str, timestamp: float) -> Draft:
        """The next message of a feed before it is signed, checked like a received one. Raises InvalidMessage."""
        ...

    def create(
        self,
        keypair: Keypair,
        tip: Tip,
        content: JsonObject | str,
        timestamp: float,
        hmac_key: bytes | None = None,
    ) -> Message:
        """The next message of keypair's feed, signed. Raises InvalidMessage for content that breaks a rule."""
        ...

    def signed_text(self, text: bytes) -> bytes:
        """The exact text whose hash is the message id, made again from the stored text. Raises InvalidMessage."""
        ...
