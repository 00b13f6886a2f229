"""Classic feed messages (protocol.md section 7): JSON as V8 prints it, Ed25519 over it, SHA-256 of it as the id.

Verdicts are ssb-validate's for number, order, size and content, plus what section 7 recommends: a number as timestamp
in every message, a signature of exactly 64 bytes. A verdict depends on the value alone and never on how it was spelled
on the way: what is stored and sent on is the compact spelling, and that passes every check the received one passed.

Two ways lead from a text to a Message, `classic_fast` for the usual spelling and `classic_exact` for all others and for
the reason of a refusal. Both give the same Message.
"""

from binascii import b2a_base64
from collections.abc import Sequence
from typing import Final

from feeds import canonical_json, keys
from feeds.errors import InvalidJson, InvalidMessage
from feeds.formats.base import ChainFault
from feeds.formats.classic_exact import MAX_TEXT, MAX_UNITS, NAME, is_author, read_exact, read_place
from feeds.formats.classic_fast import peek_fast, read_fast
from feeds.keys import Keypair
from feeds.message import Draft, JsonObject, Message, Tip

__all__ = ["MAX_TEXT", "MAX_UNITS", "ClassicFormat"]


class ClassicFormat:
    """The feed format of nearly every message on the network."""

    name: Final = NAME

    def owns(self, feed: str) -> bool:
        return is_author(feed)

    def peek(self, text: bytes) -> tuple[str, int]:
        return peek_fast(text) or read_place(text)

    def prepare(self, text: bytes, hmac_key: bytes | None = None) -> Message:  # noqa: ARG002  (other formats need it)
        return read_fast(text) or read_exact(text)

    def check_chain(self, message: Message, tip: Tip) -> ChainFault | None:
        expected = tip.sequence + 1
        if message.sequence == expected:
            if message.previous == tip.id:
                return None
            if tip.id is None:
                return ChainFault("invalid", "previous", "the first message of a feed must have null as previous")
            found = message.previous or "null"
            return ChainFault("fork", "previous", f"previous is {found}, but the message before it here is {tip.id}")
        if message.sequence < expected:
            return ChainFault("known", "sequence", f"sequence {message.sequence} is here already, up to {tip.sequence}")
        return ChainFault("gap", "sequence", f"sequence is {message.sequence}, the next one here is {expected}")

    def first_bad_signature(self, messages: Sequence[Message], hmac_key: bytes | None = None) -> int:
        publics = {author: keys.public_from_id(author) for author in {message.author for message in messages}}
        if hmac_key is None:
            return keys.verify_many((m.signature, m.signed, publics[m.author]) for m in messages)
        return keys.verify_many((m.signature, keys.hmac(hmac_key, m.signed), publics[m.author]) for m in messages)

    def draft(self, author: str, tip: Tip, content: JsonObject | str, timestamp: float) -> Draft:
        value: JsonObject = {
            "previous": tip.id,
            "author": author,
            "sequence": tip.sequence + 1,
            "timestamp": timestamp,
            "hash": "sha256",
            "content": content,
        }
        try:
            signed = canonical_json.indented(value)
        except (TypeError, AttributeError, InvalidJson) as error:
            raise InvalidMessage(f"content cannot be written as JSON: {error}", "content") from None
        signature = "A" * 86 + "==.sig.ed25519"
        message = read_exact(canonical_json.compact({**value, "signature": signature}))
        return Draft(
            author, message.sequence, message.previous, message.timestamp, message.content, signed, message.size
        )

    def create(
        self,
        keypair: Keypair,
        tip: Tip,
        content: JsonObject | str,
        timestamp: float,
        hmac_key: bytes | None = None,
    ) -> Message:
        draft = self.draft(keypair.id, tip, content, timestamp)
        signature = b2a_base64(keys.sign(keypair, draft.signed, hmac_key), newline=False)
        formatted = draft.signed[:-2] + b',\n  "signature": "' + signature + b'.sig.ed25519"\n}'
        return self.prepare(canonical_json.canonical_compact(formatted))

    def signed_text(self, text: bytes) -> bytes:
        try:
            return canonical_json.canonical(text)
        except InvalidJson as error:
            raise InvalidMessage(error.reason, None, error.offset) from None
