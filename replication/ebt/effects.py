"""What the EBT machine wants done, as plain data for its driver to match on."""

from typing import NamedTuple


class SendNotes(NamedTuple):
    """Send one JSON frame of notes to ``peer``: feed id -> note value, at most ``notes_per_frame`` of them."""

    peer: str
    notes: dict[str, int]


class SendRange(NamedTuple):
    """Send the messages ``after`` < sequence <= ``upto`` of ``feed`` to ``peer``, in order."""

    peer: str
    feed: str
    after: int
    upto: int


class Ready(NamedTuple):
    """``outgoing(peer)`` has something; not repeated until that has returned an empty list."""

    peer: str


class Breach(NamedTuple):
    """The peer breaks the protocol: close its connection. ``reason`` is for our log and people."""

    peer: str
    reason: str
