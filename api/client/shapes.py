"""Shapes of answers as TypedDicts; a test holds each against the model of the same name in `api.models`."""

from typing import Any, Literal, NotRequired, TypedDict

__all__ = [
    "AcceptedInvite",
    "BlobAdded",
    "Channel",
    "Connected",
    "ConsumedAlias",
    "Deleted",
    "DryRun",
    "EarlyMessage",
    "EarlyMeta",
    "Feed",
    "Found",
    "GivenName",
    "Info",
    "Invite",
    "Message",
    "MessageMeta",
    "Mute",
    "Name",
    "NewInvite",
    "NewToken",
    "NewWebhook",
    "OwnAlias",
    "Page",
    "Peer",
    "PrivateThread",
    "Profile",
    "Replication",
    "Resolved",
    "Restored",
    "Retained",
    "RetentionShare",
    "Room",
    "Snippet",
    "Status",
    "Thread",
    "ThreadMessage",
    "ThreadSummary",
    "Token",
    "Vote",
    "Webhook",
    "Whoami",
    "Why",
    "Word",
]

FeedState = Literal["open", "locked", "forked"]
Teller = Literal["me", "self", "others", "nobody"]


class Page(TypedDict):
    """A page of a list; `next` is the cursor of the next one."""

    items: list[Any]
    next: str | None


class Info(TypedDict):
    id: str
    software: str
    version: str
    features: list[str]
    limits: dict[str, int]


class Whoami(TypedDict):
    id: str
    uri: str
    sequence: int
    state: FeedState
    reported_by: int
    reason: dict[str, Any] | None
    unlock: dict[str, Any] | None


class Status(TypedDict):
    id: str
    version: str
    state: FeedState
    uptime_seconds: float
    log: dict[str, int]
    index: dict[str, Any]
    peers: dict[str, int]
    sync: dict[str, Any]
    streams: dict[str, int]
    limits: dict[str, Any]
    blobs: dict[str, int]
    disk: dict[str, int]
    memory: dict[str, int]


class MessageMeta(TypedDict):
    private: Literal[True]


class Message(TypedDict):
    """A message as sbot gives it; `value` is the signed object, `timestamp` when the node received it (ms)."""

    key: str
    value: dict[str, Any]
    timestamp: int
    meta: NotRequired[MessageMeta]


class EarlyMeta(TypedDict):
    early: Literal[True]
    name: NotRequired[str]
    image: NotRequired[str]


class EarlyMessage(TypedDict):
    """A message whose signature the node checked, and not its place in the feed, which is still on its way."""

    key: str
    value: dict[str, Any]
    timestamp: int
    meta: EarlyMeta


class DryRun(TypedDict):
    sequence: int
    bytes: int
    size: int
    limit: int
    recps: list[str] | None
    mentions: list[str]
    blobs: list[str]
    missing_blobs: list[str]


class Feed(TypedDict):
    id: str
    sequence: int
    messages: int
    bytes: int
    state: FeedState


class ThreadSummary(TypedDict):
    id: str
    root: Message | None
    replies: int
    authors: list[str]
    latest: Message | None
    time: int


class ThreadMessage(Message):
    missing: list[str]
    replies: int
    blocked: bool


class Thread(TypedDict):
    id: str
    parent: str | None
    replies: int
    authors: list[str]
    missing: list[str]
    truncated: bool
    items: list[ThreadMessage]


class PrivateThread(TypedDict):
    id: str
    messages: int
    recps: list[str]
    tips: list[str]
    last: Message | None


class Vote(TypedDict):
    key: str
    author: str
    value: Literal[1, -1]
    expression: str
    claimed: int | float | None
    timestamp: int


class Channel(TypedDict):
    name: str
    messages: int
    subscribers: int
    latest: int | None
    subscribed: bool


class Snippet(TypedDict):
    field: str
    text: str
    html: str


class Found(Message):
    snippet: Snippet | None


class Resolved(TypedDict):
    kind: str
    id: str | None
    uri: str | None
    held: bool | None
    address: str | None
    host: str | None
    alias: str | None
    action: str | None


class GivenName(TypedDict):
    name: str
    author: str
    message: str
    timestamp: int


Name = TypedDict("Name", {"id": str, "name": str, "from": Teller})


class Word(TypedDict):
    who: Teller
    authors: list[str]


Profile = TypedDict(
    "Profile",
    {
        "id": str,
        "name": str,
        "image": str | None,
        "description": str | None,
        "public_web_hosting": bool | None,
        "from": dict[str, Word],
        "following": bool,
        "blocking": bool,
        "follows_us": bool,
        "claims": list[dict[str, Any]],
        "truncated": bool,
    },
)


class BlobAdded(TypedDict):
    id: str
    size: int
    type: str


class Peer(TypedDict):
    id: str
    address: str
    direction: Literal["incoming", "outgoing"]
    state: Literal["dialling", "connected", "closing", "disconnected"]
    since: int
    local: bool
    source: str
    replication: str | None
    bytes_in: int
    bytes_out: int
    failures: int
    redial_in: float | None
    error: str | None
    reason: str


class Connected(TypedDict):
    id: str
    state: Literal["connected"]
    address: str


class Replication(TypedDict):
    feeds: dict[str, int]
    messages: dict[str, float]
    state: str
    hops: int
    budget: dict[str, Any] | None
    peers: list[dict[str, Any]]


class _WhyAlways(TypedDict):
    id: str
    kind: Literal["feed", "message", "blob"]
    held: bool
    wanted: bool
    reason: str
    path: list[str]
    hops: int | None
    offered_by: list[dict[str, Any]]
    holders: int
    error: dict[str, Any] | None
    limit: str | None
    would_change: list[str]


class Why(_WhyAlways, total=False):
    """What is below is there for some kinds only."""

    sequence: int
    feed: str
    named_in: list[dict[str, Any]]
    wanted_by: list[str]
    getting_from: str | None


class Mute(TypedDict):
    id: str
    since: int


class Deleted(TypedDict):
    """What was done, and what nobody can do, for people."""

    id: str
    deleted: Literal["here"]
    erased: int
    note: str


class Restored(TypedDict):
    """A feed that is shown again."""

    id: str
    anew: bool


class RetentionShare(TypedDict):
    """What one rule takes."""

    rule: str
    messages: int
    bytes: int
    feeds: int


class Retained(TypedDict):
    """What went by rules, or would go."""

    dry_run: bool
    messages: int
    bytes: int
    rules: list[RetentionShare]
    kept_bytes: int


class Token(TypedDict):
    """Times are seconds since 1970."""

    id: str
    name: str
    scopes: list[Literal["read", "publish", "private", "admin"]]
    created: int
    expires: int | None


class NewToken(Token):
    token: str


class Invite(TypedDict):
    """Times are milliseconds since 1970."""

    id: str
    uses: int
    used: int
    note: str
    address: str
    created: int
    expires: int | None
    state: Literal["open", "used-up", "expired", "revoked"]


class NewInvite(Invite):
    invite: str


class AcceptedInvite(TypedDict):
    pub: str
    address: str
    already: bool
    messages: list[str]


class OwnAlias(TypedDict):
    alias: str
    url: str


class Room(TypedDict):
    """`joined` in milliseconds since 1970, None if we are in it and did not join it."""

    id: str
    address: str
    name: str
    joined: int | None
    connected: bool
    version: int | None
    membership: bool | None
    features: list[str]
    attendants: list[str]
    aliases: list[OwnAlias]
    refused: str


class ConsumedAlias(TypedDict):
    alias: str
    user: str
    room: str
    address: str


class Webhook(TypedDict):
    """Times are milliseconds since 1970."""

    id: str
    url: str
    filter: dict[str, Any]
    state: Literal["active", "failing", "paused"]
    cursor: int
    lag: int
    failures: int
    error: str | None
    next_try: int | None
    delivered: int | None
    created: int


class NewWebhook(Webhook):
    secret: str
