"""The tables of replication: known peers, what they said they have, and which feeds were asked for by hand."""

from typing import Final

from feeds.database import Component, Migration

REPLICATION: Final = Component(
    "replication",
    (
        Migration(
            1,
            (
                # times in ms since 1970; failures counts the dials that failed in a row; auto: redial unasked
                "CREATE TABLE peer_address(address TEXT PRIMARY KEY, peer TEXT NOT NULL, source TEXT NOT NULL, "
                "auto INTEGER NOT NULL, added INTEGER NOT NULL, failures INTEGER NOT NULL DEFAULT 0, "
                "last_success INTEGER, last_failure INTEGER, error TEXT) WITHOUT ROWID",
                # a number for each feed that appears in a remembered clock
                "CREATE TABLE clock_feed(id INTEGER PRIMARY KEY, ref TEXT NOT NULL UNIQUE)",
                # what a peer said it has: pairs of feed number (u32) and sequence (i32), little-endian
                "CREATE TABLE peer_clock(peer TEXT PRIMARY KEY, saved INTEGER NOT NULL, clock BLOB NOT NULL) "
                "WITHOUT ROWID",
                # feeds which the user asked for (1) or wants no more of (0), whatever the social graph says
                "CREATE TABLE feed_request(feed TEXT PRIMARY KEY, replicate INTEGER NOT NULL, "
                "requested INTEGER NOT NULL) WITHOUT ROWID",
            ),
        ),
        Migration(
            2,
            (
                # kind: pub, room, lan ...; origin: who told us (author, portal); next_try in ms since 1970;
                # paused: we hung up by hand, as what was not to be redialled before
                "ALTER TABLE peer_address ADD COLUMN kind TEXT NOT NULL DEFAULT ''",
                "ALTER TABLE peer_address ADD COLUMN origin TEXT NOT NULL DEFAULT ''",
                "ALTER TABLE peer_address ADD COLUMN next_try INTEGER NOT NULL DEFAULT 0",
                "ALTER TABLE peer_address ADD COLUMN paused INTEGER NOT NULL DEFAULT 0",
                "UPDATE peer_address SET paused=1 WHERE auto=0",
                # up to where the log was read for addresses of pubs
                "CREATE TABLE pub_cursor(id INTEGER PRIMARY KEY CHECK(id=1), position INTEGER NOT NULL)",
            ),
        ),
        Migration(
            3,
            (
                # key: the id that an invite's seed gives, the seed itself is kept nowhere; times in ms since 1970
                "CREATE TABLE invite(key TEXT PRIMARY KEY, total INTEGER NOT NULL, used INTEGER NOT NULL DEFAULT 0, "
                "note TEXT NOT NULL, address TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER, "
                "revoked INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID",
                "CREATE TABLE invite_use(invite TEXT NOT NULL, feed TEXT NOT NULL, used INTEGER NOT NULL, "
                "PRIMARY KEY(invite, feed)) WITHOUT ROWID",
            ),
        ),
        Migration(
            4,
            (
                # bytes that came on a day (number since 1970, UTC), by what `replication.budget` counts them for
                "CREATE TABLE budget_day(day INTEGER NOT NULL, key TEXT NOT NULL, bytes INTEGER NOT NULL, "
                "PRIMARY KEY(day, key)) WITHOUT ROWID",
            ),
        ),
    ),
)
