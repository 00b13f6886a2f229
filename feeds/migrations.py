"""The tables of the log, in numbered steps. A released step is never edited; a change is a new step.

message.position is the receive order of this node and never leaves it. An id is stored as its 32 bytes, found through
the first eight of them as an integer (not unique: whoever finds a row compares all 32). Authors are small integers.
A message that was erased here keeps its row, with an empty text.
"""

from typing import Final

from feeds import claimed_times
from feeds.components import Component, Migration
from feeds.tiered_index import TieredIndex

__all__ = ["FEEDS", "MESSAGE_KEY"]

MESSAGE_KEY: Final = TieredIndex("message_key", ("key8", "position"))
"""Positions of messages by the first eight bytes of their id."""

FEEDS: Final = Component(
    "feeds",
    (
        Migration(
            1,
            (
                # key is the id of the feed's last message; state 0 open, 1 forked
                "CREATE TABLE feed(id INTEGER PRIMARY KEY, ref TEXT NOT NULL UNIQUE, sequence INTEGER NOT NULL, "
                "key BLOB NOT NULL, messages INTEGER NOT NULL, bytes INTEGER NOT NULL, state INTEGER NOT NULL)",
                # received in ms since 1970, local; timestamp as claimed; text as signed, in the compact spelling
                "CREATE TABLE message(position INTEGER PRIMARY KEY, author INTEGER NOT NULL, "
                "sequence INTEGER NOT NULL, key BLOB NOT NULL, received INTEGER NOT NULL, "
                "timestamp NUMERIC NOT NULL, text BLOB NOT NULL)",
                "CREATE UNIQUE INDEX message_by_author ON message(author, sequence)",
                *MESSAGE_KEY.schema,
                # the first evidence of each forked feed: the message we hold and the one that contradicts it
                "CREATE TABLE fork(author INTEGER PRIMARY KEY, sequence INTEGER NOT NULL, first BLOB NOT NULL, "
                "second BLOB NOT NULL, found_at INTEGER NOT NULL, source TEXT NOT NULL)",
                # how far each derived table has come, and by which version of its code
                "CREATE TABLE view(name TEXT PRIMARY KEY, version INTEGER NOT NULL, position INTEGER NOT NULL) "
                "WITHOUT ROWID",
            ),
        ),
        Migration(2, claimed_times.SCHEMA),
        Migration(
            3,
            (
                # what the user of this node does not want to see (feeds.hiding); times in ms since 1970
                "CREATE TABLE muted_feed(ref TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID",
                "CREATE TABLE hidden_message(position INTEGER PRIMARY KEY, at INTEGER NOT NULL)",
                "CREATE TABLE hidden_feed(feed INTEGER PRIMARY KEY, at INTEGER NOT NULL)",
            ),
        ),
        # feeds with erased messages (feeds.erasing): the first and the last sequence of which the text is gone
        Migration(4, ("CREATE TABLE erased(feed INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL)",)),
    ),
)
