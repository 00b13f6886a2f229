"""Encrypted contents in stored texts: found, and put aside for what they say, without reading the rest of the text.

A stored text is the compact spelling of a signed object. What stands before its content are ids, numbers and names, and
a quotation mark inside a string is escaped, so the first `"content":` is the member of that name and no other.
"""

from typing import Final

from feeds.private.key_ring import Opened

__all__ = ["boxed_content", "opened_kvt", "opened_value"]

_MEMBER: Final = b'"content":'


def boxed_content(text: bytes) -> str | None:
    """The content of a stored message when it is a string, which is how encrypted ones are; else None."""
    place = _place(text)
    return None if place is None else text[place[0] + 1 : place[1] - 1].decode("utf-8", "replace")


def opened_value(text: bytes, opened: Opened) -> bytes:
    """A stored message with its content in plain; all else as it was, so its signature is over the encrypted one."""
    place = _place(text)
    assert place is not None
    return text[: place[0]] + opened.text + text[place[1] :]


def opened_kvt(id: str, text: bytes, received: int, opened: Opened) -> bytes:
    """`{"key","value","timestamp","meta":{"private":true}}` with the content in plain."""
    value = opened_value(text, opened)
    return b'{"key":"%b","value":%b,"timestamp":%d,"meta":{"private":true}}' % (id.encode("ascii"), value, received)


def _place(text: bytes) -> tuple[int, int] | None:
    """Where the string begins and ends, its quotation marks included."""
    begin = text.find(_MEMBER) + len(_MEMBER)
    if begin < len(_MEMBER) or text[begin : begin + 1] != b'"':
        return None
    end = text.find(b'"', begin + 1)
    return None if end < 0 else (begin, end + 1)
