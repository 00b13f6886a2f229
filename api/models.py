"""Shapes of answers and bodies, for the OpenAPI document.

Answers are not made through these models: messages go out as they are stored. The tests check that what is answered has
these shapes, so that the document stays true.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "AboutBody",
    "AddressBody",
    "AuthChallenge",
    "AuthSession",
    "AuthState",
    "BackedUp",
    "BacklinkList",
    "BackupBody",
    "Blob",
    "BlobAdded",
    "BlobList",
    "BlobReferenceList",
    "BundleClock",
    "BundleContents",
    "BundleExport",
    "BundleImport",
    "ChannelList",
    "Connected",
    "Contact",
    "ContactBody",
    "ContactList",
    "Deleted",
    "DryRun",
    "Feed",
    "FeedList",
    "FeedReplication",
    "ForkProof",
    "FoundList",
    "GivenNameList",
    "Health",
    "Info",
    "Message",
    "MessageList",
    "MessageMeta",
    "MuteList",
    "NameList",
    "NewToken",
    "NewWebhook",
    "OwnFeedState",
    "Peer",
    "PeerList",
    "PostBody",
    "PrivateMessageList",
    "PrivateThread",
    "PrivateThreadList",
    "ProblemDetails",
    "Profile",
    "PublishBody",
    "ReindexBody",
    "Reindexing",
    "RenderBody",
    "Rendered",
    "Replication",
    "RequestBody",
    "Requested",
    "Resolved",
    "Restored",
    "SignInBody",
    "SignInStart",
    "SolveBody",
    "Solved",
    "Status",
    "Sync",
    "Thread",
    "ThreadList",
    "TokenBody",
    "TokenList",
    "TypeList",
    "UnlockBody",
    "Vacuumed",
    "VisitorBody",
    "VoteBody",
    "VoteList",
    "Webhook",
    "WebhookBody",
    "WebhookList",
    "Whoami",
]

FeedState = Literal["open", "locked", "forked"]


class Shape(BaseModel):
    """Base: an answer has exactly the members that are written down."""

    model_config = ConfigDict(extra="forbid")


class ProblemDetails(BaseModel):
    """An error (RFC 9457). Some codes add members; docs/http-api.md lists them."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Where the code is explained")
    title: str
    status: int
    detail: str = Field(description="What happened this time")
    instance: str = Field(description="The path that was asked for")
    code: str = Field(description="Stable name of the kind of problem, for programs")


# --- the node ---------------------------------------------------------------------------------------------------------


class InfoLimits(Shape):
    message_units: int = Field(description="UTF-16 units of a formatted classic message, signature included")
    body_bytes: int
    blob_bytes: int
    page_items: int
    event_streams: int


class Info(Shape):
    """What this node is; answered to everybody."""

    id: str
    software: str
    version: str
    features: list[str]
    limits: InfoLimits


class LockReason(Shape):
    """Why nothing may be published."""

    code: str
    text: str
    since: int | None = Field(default=None, description="Milliseconds since 1970")
    peer: str | None = Field(default=None, description="The peer that gave rise to it")
    sequence: int | None = Field(default=None, description="How much of our feed that peer showed")


class AheadPeer(Shape):
    """A peer that says it has more of our feed than we hold."""

    peer: str
    sequence: int
    connected: bool
    patience: float = Field(description="Seconds until its claim alone stops counting")


class WayOut(Shape):
    """How a locked feed opens by itself."""

    missing: list[str] = Field(description="For people")
    peers_needed: int
    agreeing: list[str] = Field(description="Peers that said what they have of our feed, not more than we hold")
    complete: list[str] = Field(description="Those that have as much")
    ahead: list[AheadPeer]
    quiet_seconds: float
    way_out: str


class Whoami(Shape):
    """Our own feed."""

    id: str
    uri: str
    sequence: int
    state: FeedState
    reported_by: int = Field(description="Distinct peers that said they have the last message")
    reason: LockReason | None = Field(description="Why nothing may be published, null while it may")
    unlock: WayOut | None = Field(description="What is missing until a locked feed opens by itself")


class UnlockEvent(Shape):
    """Something that became of the lock."""

    at: int = Field(description="Milliseconds since 1970")
    kind: Literal["locked", "agreed", "unlocked", "forced"]
    reason: str | None
    sequence: int = Field(description="Where our feed stood")
    peer: str | None
    claim: int | None = Field(description="How much of our feed the peer showed")
    detail: str


class OwnFeedState(Shape):
    """Our feed's state with the events that led to it, the latest first."""

    state: FeedState
    sequence: int
    reported_by: int
    reason: LockReason | None
    unlock: WayOut | None
    history: list[UnlockEvent]


class UnlockBody(Shape):
    sequence: int = Field(ge=0, description="Of the last message of our feed, checked by whoever sends this")


class ForkProof(Shape):
    """Two messages signed by one feed that cannot both be in it; docs/publishing.md says how to check them."""

    type: Literal["ssb-fork-proof"]
    version: Literal[1]
    feed: str
    sequence: int
    messages: list[str] = Field(description="The compact text of each, as a string")


class Health(Shape):
    status: str


class LogStatus(Shape):
    position: int = Field(description="Messages received so far: the position of the last one")
    feeds: int
    bytes: int = Field(description="Bytes of all stored message texts")


class IndexStatus(Shape):
    ready: bool
    behind: dict[str, int] = Field(description="Views being rebuilt, and how many messages they still lack")


class PeerCount(Shape):
    connected: int
    known: int


class BlobStatus(Shape):
    count: int
    bytes: int
    foreign_bytes: int = Field(description="Of others, and not pinned: these may be evicted")
    quota_bytes: int = Field(description="Room for those")
    wanted: int


class DiskStatus(Shape):
    database_bytes: int
    free_bytes: int


class MemoryStatus(Shape):
    resident_bytes: int


class StreamStatus(Shape):
    open: int


class LimitStatus(Shape):
    refused: int = Field(description="Callers turned away in or before the handshake, since the start")
    breaches: dict[str, int] = Field(description="How often which limit held a peer back, by its name")


class Status(Shape):
    """How the node does."""

    id: str
    version: str
    state: FeedState
    uptime_seconds: float
    log: LogStatus
    index: IndexStatus
    peers: PeerCount
    sync: "Sync"
    streams: StreamStatus
    limits: LimitStatus
    blobs: BlobStatus
    disk: DiskStatus
    memory: MemoryStatus


# --- messages and feeds -----------------------------------------------------------------------------------------------


class MessageMeta(Shape):
    private: Literal[True]


class Message(Shape):
    """A message as sbot gives it."""

    key: str = Field(description="Message id")
    value: dict[str, Any] = Field(description="The signed object, in its signed key order and number spelling")
    timestamp: int = Field(description="When this node received it: milliseconds since 1970")
    meta: MessageMeta | None = Field(default=None, description="Only on messages that were decrypted for the answer")


class MessageList(Shape):
    items: list[Message]
    next: str | None = Field(description="Cursor of the next page, null at the end")


class EarlyMeta(Shape):
    """That a message is no part of its feed here yet; with what its author's early messages say of themselves."""

    early: Literal[True]
    name: str | None = Field(default=None, description="Only while nobody else here names the feed")
    image: str | None = Field(default=None, description="Likewise")


class EarlyMessage(Shape):
    """A message whose signature was checked, and whose place in its feed was not."""

    key: str = Field(description="Message id")
    value: dict[str, Any] = Field(description="The signed object, in its signed key order and number spelling")
    timestamp: int = Field(description="When this node received it: milliseconds since 1970")
    meta: EarlyMeta


class EarlyMessageList(Shape):
    items: list[EarlyMessage]
    next: str | None = Field(description="Cursor of the next page, null at the end")


class Content(BaseModel):
    """A content: any members beside its type."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(min_length=3, max_length=52)


Box = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]+={0,2}\.box", description="A message already encrypted")]


class RecipientLink(BaseModel):
    """A recipient as clients write it who also keep the name."""

    model_config = ConfigDict(extra="allow")

    link: str


class PublishBody(Shape):
    """What to publish."""

    content: Content | Box
    recps: list[str | RecipientLink] | None = Field(
        default=None,
        min_length=1,
        description="Feed ids: encrypt the message for these and ourselves, 7 in all at most",
    )


class MentionLink(BaseModel):
    """A mention: what it links to, and what deployed clients keep beside it."""

    model_config = ConfigDict(extra="allow")

    link: str = Field(description="An id in any spelling but the bare one, or a hashtag")


class PostBody(Shape):
    """A post, or with `reply_to` a reply."""

    text: str = Field(min_length=1, max_length=8192, pattern=r"\S", description="Markdown")
    reply_to: str | None = Field(
        default=None, description="Message id: reply in its thread, and to those only who could read it"
    )
    channel: str | None = Field(default=None, description="In any spelling; else that of the message replied to")
    recps: list[str | RecipientLink] | None = Field(
        default=None, min_length=1, description="Feed ids: a private post for these and ourselves, 7 in all at most"
    )
    content_warning: str | None = Field(default=None, description="What readers are to be warned of")
    mentions: list[str | MentionLink] | None = Field(
        default=None, description="Ids and hashtags to mention besides those found in the text"
    )


class VoteBody(Shape):
    """What we think of a message; the last vote counts."""

    message: str = Field(description="Message id in any spelling")
    value: Literal[1, 0, -1] = Field(default=1, description="0 takes back")
    expression: str | None = Field(default=None, max_length=64, description="Else Like, Unlike or Dislike")


class AboutBody(Shape):
    """What we say of a feed, message or blob; null takes back what we said before."""

    about: str | None = Field(default=None, description="An id in any spelling but the bare one; else ourselves")
    name: str | None = Field(default=None, min_length=1, max_length=256, pattern=r"\S")
    description: str | None = Field(default=None, min_length=1, pattern=r"\S")
    image: str | None = Field(default=None, description="Blob id in any spelling")


class ContactBody(Shape):
    """Our relation to a feed. What is left out stays as it is, but following and blocking end each other."""

    contact: str = Field(description="Feed id in any spelling")
    following: bool | None = None
    blocking: bool | None = None


class PrivateThread(Shape):
    """A conversation that we can read."""

    id: str = Field(description="Message id of its root, which need not be here")
    messages: int
    recps: list[str] = Field(description="Feeds that take part: authors and recipients")
    tips: list[str] = Field(description="Messages that nothing in it answers yet; the `branch` of the next reply")
    last: Message | None = Field(description="The message received last, decrypted")


class PrivateThreadList(Shape):
    items: list[PrivateThread]
    next: str | None


class PrivateMessageList(Shape):
    items: list[Message]
    next: str | None
    recps: list[str]
    tips: list[str]


class DryRun(Shape):
    """What publishing would make, without signing it."""

    sequence: int
    bytes: int = Field(description="UTF-8 bytes of the formatted message, signature included")
    size: int = Field(description="What counts against `limit`: UTF-16 units")
    limit: int
    recps: list[str] | None = Field(description="Feeds that could read it, ourselves included; null: everybody")
    mentions: list[str] = Field(description="Feeds and messages that the content mentions")
    blobs: list[str] = Field(description="Blobs that the content names")
    missing_blobs: list[str] = Field(description="Those of them that this node does not hold")


class Feed(Shape):
    id: str
    sequence: int
    messages: int
    bytes: int
    state: FeedState


class FeedList(Shape):
    items: list[Feed]
    next: str | None


# --- threads, timelines, reactions ------------------------------------------------------------------------------------


class ThreadSummary(Shape):
    """A thread in the list of threads."""

    id: str = Field(description="Id of its first message")
    root: Message | None = Field(description="The first message; null while this node does not have it")
    replies: int
    authors: list[str] = Field(description="Of the first message and of the replies, in order of time")
    latest: Message | None = Field(description="The latest reply; null when nobody has replied")
    time: int = Field(description="Of the latest reply, else of the first message: the earlier of claimed and received")


class ThreadList(Shape):
    items: list[ThreadSummary]
    next: str | None


class ThreadMessage(Message):
    """A message in its place in a thread."""

    missing: list[str] = Field(description="Messages that it answers and that this node does not have")
    replies: int = Field(description="Replies in the sub-thread that begins with it")
    blocked: bool = Field(description="Its author is blocked by us")


class Thread(Shape):
    """A whole thread: every message after those that it answers."""

    id: str
    parent: str | None = Field(description="The thread that this one was carried off from")
    replies: int
    authors: list[str]
    missing: list[str] = Field(description="Messages that others answer and that this node does not have")
    truncated: bool = Field(description="The thread is longer than what is shown")
    items: list[ThreadMessage]


class Vote(Shape):
    """The vote of an author that counts."""

    key: str = Field(description="Id of the vote message")
    author: str
    value: Literal[1, -1]
    expression: str
    claimed: int | float | None = Field(description="When its author claims to have cast it: milliseconds since 1970")
    timestamp: int = Field(description="When this node received it: milliseconds since 1970")


class VoteTotals(Shape):
    up: int
    down: int
    expressions: dict[str, int] = Field(description="The most frequent first")


class VoteList(Shape):
    id: str
    totals: VoteTotals
    items: list[Vote]
    next: str | None


class Backlink(Message):
    """A message that points to another one."""

    rel: str = Field(description="Path of the link inside its content")


class BacklinkList(Shape):
    items: list[Backlink]
    next: str | None


class Channel(Shape):
    name: str
    messages: int
    subscribers: int
    latest: int | None = Field(description="Time of its newest message; null when there is none")
    subscribed: bool = Field(description="Whether we subscribe to it")


class ChannelList(Shape):
    items: list[Channel]
    next: str | None


class TypeCount(Shape):
    type: str
    messages: int


class TypeList(Shape):
    items: list[TypeCount]
    next: str | None


# --- the social graph -------------------------------------------------------------------------------------------------


class Contact(Shape):
    id: str


class ContactList(Shape):
    items: list[Contact]
    next: str | None


class Resolved(Shape):
    """What a pasted text is; null for what does not apply."""

    kind: str = Field(description="feed, message, blob, id (of nothing here), invite, address, alias, alias-link, …")
    id: str | None
    uri: str | None
    held: bool | None = Field(description="Whether what has the id is here")
    address: str | None = Field(description="How to reach it, without the secret of an invite")
    host: str | None
    alias: str | None = Field(description="Alias, or the name of a channel")
    action: str | None = Field(description="What an ssb:experimental URI asks for")


class Snippet(Shape):
    field: str = Field(description="Member of the content that it is from")
    text: str
    html: str = Field(description="The same, escaped, with <mark> around the words searched for")


class Found(Message):
    snippet: Snippet | None


class FoundList(Shape):
    items: list[Found]
    next: str | None
    behind: int = Field(description="Messages that the index lacks at present")


class GivenName(Shape):
    name: str
    author: str = Field(description="Who gives this name")
    message: str
    timestamp: int = Field(description="When the message was received, in milliseconds since 1970")


class GivenNameList(Shape):
    items: list[GivenName]
    next: str | None


Teller = Literal["me", "self", "others", "nobody"]


class Name(Shape):
    """A feed and the name that counts; a short form of the id when nobody gave any."""

    id: str
    name: str
    who: Teller = Field(alias="from", description="Whose word the name is")


class NameList(Shape):
    items: list[Name]
    next: str | None


class Claim(Shape):
    """What an author says at present of one field."""

    field: str
    value: Any
    author: str
    message: str
    timestamp: int = Field(description="When the message was received, in milliseconds since 1970")


class Word(Shape):
    who: Teller
    authors: list[str] = Field(description="All who say so")


class Words(Shape):
    name: Word
    image: Word
    description: Word


class Profile(Shape):
    """What counts of what is said of a feed, and who said what."""

    id: str
    name: str
    image: str | None
    description: str | None
    public_web_hosting: bool | None = Field(description="Whether it agrees to be shown on the web: its own word alone")
    words: Words = Field(alias="from")
    following: bool = Field(description="Whether we follow it")
    blocking: bool
    follows_us: bool
    claims: list[Claim]
    truncated: bool = Field(description="Whether there are more claims")


# --- sign-in ---------------------------------------------------------------------------------------------------------


class SignInBody(Shape):
    """A site."""

    server: str = Field(description="Feed id of the site's node, in any spelling")


class SignInStart(Shape):
    server: str
    client: str
    cc: str = Field(description="Our nonce")
    query: str = Field(description="To be put after the question mark of the site's login page")
    expires_in: int = Field(description="Seconds")


class SolveBody(Shape):
    """A link that a site shows."""

    uri: str = Field(description="ssb:experimental?action=start-http-auth&…")


class Solved(Shape):
    server: str
    accepted: bool


class AuthChallenge(Shape):
    id: str
    uri: str = Field(description="The link to be shown, as a link or a QR code")
    expires_in: int


class AuthState(Shape):
    state: Literal["waiting", "solved"]
    feed: str | None
    session: str | None
    expires_in: int


class AuthSession(Shape):
    feed: str
    session: str
    expires_in: int


class VisitorBody(Shape):
    """Who opened the login page."""

    feed: str = Field(description="`cid` of the query")
    cc: str


# --- tokens -----------------------------------------------------------------------------------------------------------


ScopeName = Literal["read", "publish", "private", "admin"]


class TokenBody(Shape):
    """A token to be made."""

    name: str = Field(min_length=1, max_length=100, description="For people: which program has it")
    scopes: list[ScopeName] = Field(min_length=1)
    expires_in: int | None = Field(default=None, ge=1, description="Seconds; without it, until it is revoked")


class Token(Shape):
    id: str = Field(description="Names it, and opens nothing")
    name: str
    scopes: list[ScopeName]
    created: int = Field(description="Seconds since 1970")
    expires: int | None = Field(description="Seconds since 1970")


class TokenList(Shape):
    items: list[Token]
    next: str | None


class NewToken(Token):
    token: str = Field(description="What `Authorization: Bearer` carries; only its hash is kept")


# --- doctor -----------------------------------------------------------------------------------------------------------


class Finding(Shape):
    check: str = Field(description="What was looked at")
    state: Literal["ok", "failed", "skipped"]
    detail: str
    advice: str | None = Field(description="What to do")
    fixable: bool = Field(description="`POST /v1/doctor` mends it")
    fixed: str | None = Field(description="What was done, where it was mended just now")


class Examination(Shape):
    ok: bool = Field(description="No check failed")
    checks: list[Finding]


# --- invites ----------------------------------------------------------------------------------------------------------


class InviteBody(Shape):
    """An invite to be made."""

    uses: int = Field(default=1, ge=1, le=100_000, description="How many feeds may come with it")
    note: str | None = Field(default=None, max_length=300, description="Published with each use: what it was for")
    expires_in: int | None = Field(default=None, ge=1, description="Seconds; without it, until it is used up")
    external: str | None = Field(
        default=None, max_length=300, description="HOST or HOST:PORT under which others reach this node"
    )
    modern: bool = Field(default=False, description="The form net:HOST:PORT~shs:KEY:SEED")


class Invite(Shape):
    id: str = Field(description="The id of the invite's key; it opens nothing")
    uses: int
    used: int
    note: str
    address: str = Field(description="Where the code leads")
    created: int = Field(description="Milliseconds since 1970")
    expires: int | None = Field(description="Milliseconds since 1970")
    state: Literal["open", "used-up", "expired", "revoked"]


class InviteList(Shape):
    items: list[Invite]
    next: str | None


class NewInvite(Invite):
    invite: str = Field(description="The code to hand on; its secret is kept nowhere")


class AcceptBody(Shape):
    """The code of an invite."""

    invite: str = Field(min_length=1, max_length=2000)


class AcceptedInvite(Shape):
    pub: str
    address: str = Field(description="Where the pub is; remembered, and dialled from now on")
    already: bool = Field(description="The pub followed us before, so the invite was not used up")
    messages: list[str] = Field(description="Ids of what we published: that we follow it, and where it is")


# --- rooms ------------------------------------------------------------------------------------------------------------


class JoinRoomBody(Shape):
    """One of the two."""

    address: str | None = Field(default=None, max_length=4096, description="The room's address")
    invite: str | None = Field(default=None, max_length=4096, description="A link that the room gave out")


class OwnAlias(Shape):
    alias: str
    url: str = Field(description="The page of the room that leads to us")


class Room(Shape):
    id: str
    address: str
    name: str
    joined: int | None = Field(description="Milliseconds since 1970; null: we are in it and did not join it")
    connected: bool
    version: int | None = Field(description="1 or 2; null while we are not connected")
    membership: bool | None = Field(description="Does the room count us among its members; null: it does not say")
    features: list[str]
    attendants: list[str] = Field(description="Who else is in it now")
    aliases: list[OwnAlias] = Field(description="Our names in it")
    refused: str = Field(description="Why it does not tell who is in it; empty: it does")


class RoomList(Shape):
    items: list[Room]
    next: str | None


class AliasBody(Shape):
    """A name to be taken."""

    alias: str = Field(max_length=80, description="Letters a-z, digits, inner hyphens")


class AliasLinkBody(Shape):
    """A link that leads to an alias."""

    link: str = Field(min_length=1, max_length=4096, description="A page of a room, or ssb:experimental?action=…")


class ConsumedAlias(Shape):
    alias: str
    user: str
    room: str
    address: str = Field(description="Where the room is")


# --- webhooks ---------------------------------------------------------------------------------------------------------


class WebhookRules(Shape):
    """Which messages; several rules must all fit."""

    types: list[str] | None = Field(default=None, min_length=1, max_length=100)
    feeds: list[str] | None = Field(default=None, min_length=1, max_length=1000)
    channel: str | None = Field(default=None, min_length=1, max_length=512)
    mentions: str | None = Field(default=None, min_length=1, max_length=512, description="Id of what is mentioned")
    root: str | None = Field(default=None, min_length=1, max_length=512, description="Id of a thread's first message")


class WebhookBody(Shape):
    """Where to send which messages."""

    url: str = Field(min_length=1, max_length=2048, description="http or https")
    filter: WebhookRules | None = None
    secret: str | None = Field(
        default=None, min_length=16, max_length=256, description="Signs the deliveries; made here if not given"
    )
    since: int | None = Field(default=None, ge=0, description="Begin after this position; else with what comes")


class Webhook(Shape):
    """A webhook and how it fares. Times are milliseconds since 1970."""

    id: str
    url: str
    filter: WebhookRules
    state: Literal["active", "failing", "paused"]
    cursor: int = Field(description="Position up to which all is acknowledged")
    lag: int = Field(description="Messages received after that")
    failures: int = Field(description="In a row")
    error: str | None = Field(description="Why the last try failed; null after a success")
    next_try: int | None
    delivered: int | None = Field(description="The last success")
    created: int


class WebhookList(Shape):
    items: list[Webhook]
    next: str | None


class NewWebhook(Webhook):
    secret: str


# --- hiding -----------------------------------------------------------------------------------------------------------


class Mute(Shape):
    id: str
    since: int = Field(description="Milliseconds since 1970")


class MuteList(Shape):
    items: list[Mute]
    next: str | None


class Deleted(Shape):
    id: str
    deleted: Literal["here"]
    erased: int = Field(description="Messages of which the bytes are gone from this node")
    note: str = Field(description="What was done, and what nobody can do, for people")


class Restored(Shape):
    id: str
    anew: bool = Field(description="Parts of it had been erased, so it is fetched again from its first message on")


# --- text -------------------------------------------------------------------------------------------------------------


class RenderBody(Shape):
    """A text as authors write it."""

    text: str = Field(max_length=64 * 1024, description="Markdown")


class Rendered(Shape):
    html: str = Field(description="Safe HTML; links to ids lead to this API")


# --- blobs ------------------------------------------------------------------------------------------------------------


class Blob(Shape):
    """A blob that is held, or wanted (then `size`, `added` and `used` are null)."""

    id: str
    held: bool
    wanted: bool
    size: int | None
    added: int | None = Field(description="Milliseconds since 1970")
    used: int | None = Field(description="When it was last read, roughly: milliseconds since 1970")
    own: bool = Field(description="Added here, or named by a message of ours; never evicted")
    pinned: bool


class BlobList(Shape):
    items: list[Blob]
    next: str | None


class BlobReference(Message):
    """A message that names a blob."""

    path: str = Field(description="Where: the path of a link inside its content, or `text` for the midst of its text")
    unbox: str | None = Field(description="The key that opens the blob, as it stands there")


class BlobReferenceList(Shape):
    items: list[BlobReference]
    next: str | None


class BlobAdded(Shape):
    id: str
    size: int
    type: str = Field(description="Media type, as far as the bytes tell it")


# --- peers and replication --------------------------------------------------------------------------------------------


class Peer(Shape):
    id: str
    address: str
    direction: Literal["incoming", "outgoing"]
    state: Literal["dialling", "connected", "closing", "disconnected"]
    since: int = Field(description="Milliseconds since 1970")
    local: bool
    source: str
    replication: str | None = Field(description="How messages are exchanged: ebt, history or null")
    bytes_in: int
    bytes_out: int
    failures: int
    redial_in: float | None
    error: str | None
    reason: str = Field(description="Why it is dialled or not; empty for connections that others opened")


class KnownPeer(Shape):
    """An address that we know, connected or not, and what becomes of it. Times are milliseconds since 1970."""

    id: str
    address: str
    source: str = Field(description="Where it is from: manual, pub, invite, room, lan ...")
    kind: str = Field(description="pub, room, lan, room-attendant, or empty for just a peer")
    origin: str = Field(description="Who told us: the author of a message, the room; empty if nobody did")
    group: Literal["by hand", "lan", "room", "pub", "followed", "stranger"] = Field(
        description="In which quota a connection counts"
    )
    autoconnect: bool = Field(description="A person picked it: dialled before others and never rotated out")
    staged: bool = Field(description="It is known only for now: on the local network, or in a room")
    state: Literal["dialling", "connected", "disconnected"]
    hops: int | None
    failures: int = Field(description="Dials in vain in a row")
    first_heard: int
    last_success: int | None
    last_failure: int | None
    next_try: int | None = Field(description="Not dialled by itself before; null: no such wait")
    error: str | None = Field(description="Why the last dial failed")
    decision: Literal["", "dial", "wait", "hang-up", "forget"] = Field(description="The scheduler's last one")
    reason: str
    decided: int | None


class KnownPeerList(Shape):
    items: list[KnownPeer]
    next: str | None


class PeerList(Shape):
    items: list[Peer]
    next: str | None


class AddressBody(Shape):
    """Whom to connect to."""

    address: str = Field(description="Multiserver address: net:HOST:PORT~shs:KEY")


class Connected(Shape):
    id: str
    state: Literal["connected"]
    address: str


class FeedCounts(Shape):
    wanted: int
    held: int = Field(description="Wanted feeds of which we have something")
    behind: int = Field(description="Feeds of which a connected peer says it has more than we")
    forked: int
    requested: int = Field(description="Asked for by hand")


class MessageCounts(Shape):
    wanted: int = Field(description="Of the wanted feeds, by what we have and connected peers say they have")
    held: int
    missing: int
    per_second: float = Field(description="Stored a second, over the last five seconds")
    seconds_left: int | None = Field(
        description="Until nothing is missing, if it goes on like this; null: nothing moves"
    )


class HopBudget(Shape):
    used: int
    budget: int


class Spent(Shape):
    """Budgets that are used up."""

    total: bool
    hops: list[int]
    peers: list[str]


class Budget(Shape):
    """Bytes fetched in this day of UTC, and how many may be; null for no limit."""

    used: int
    total: int | None
    per_peer: int | None
    per_hop: dict[str, HopBudget]
    spent: Spent


class Sync(Shape):
    """How far replication has come."""

    feeds: FeedCounts
    messages: MessageCounts
    state: str = Field(description="`offline`, `syncing` or `up to date`")
    hops: int
    budget: Budget | None = Field(description="null where there is no budget")


class ReplicatingPeer(BaseModel):
    """One connected peer; the counts are there once it replicates by EBT."""

    model_config = ConfigDict(extra="allow")

    id: str
    protocol: str | None = Field(description="`ebt`, `history` or null")
    state: str = Field(description="`starting`, `fetching`, `behind`, `sending` or `up to date`")
    waits_for: str | None


class Replication(Sync):
    peers: list[ReplicatingPeer]


class PreviewHop(Shape):
    hops: int
    feeds: int
    unknown_feeds: int
    messages: int


class Preview(Shape):
    """What another number of hops would fetch, reckoned by what is known."""

    hops: int
    hops_now: int
    feeds: int = Field(description="How many more feeds")
    fewer_feeds: int = Field(description="Feeds that would no longer be replicated")
    unknown_feeds: int = Field(description="Of the new ones: no peer has said how long they are; the mean counts")
    messages: int
    bytes: int
    blobs: int
    blob_bytes: int
    by_hop: list[PreviewHop]


class PeerClaim(Shape):
    """What one peer says about a feed, and what we do about it."""

    id: str
    claim: int | None = Field(description="The sequence it says it has")
    told: int | None = Field(description="The sequence we told it we have")
    lag: int | None = Field(description="How many more messages it has than we")
    sending: bool
    receiving: bool


class FeedReplication(Shape):
    """One feed: what we have, what peers say they have, and what is waited for."""

    feed: str
    sequence: int
    wanted: bool
    reason: str = Field(description="Why it is wanted or not")
    requested: bool | None = Field(description="What was asked for by hand")
    hops: int | None
    state: str
    waits_for: str | None
    lag: int
    source: str | None = Field(description="The peer that sends it to us")
    peers: list[PeerClaim]


class Offered(Shape):
    """A peer that says it has what is asked about."""

    peer: str
    connected: bool = Field(description="False: it said so when it was last connected")
    has: int = Field(description="Its sequence of the feed, or the size of the blob")


class LastError(Shape):
    reason: str
    peer: str | None
    at: int | None


class Named(Shape):
    message: str
    author: str
    replicated: bool


class Why(BaseModel):
    """Why a feed, message or blob is, or is not, fetched; some members are only there for some kinds."""

    model_config = ConfigDict(extra="forbid")

    id: str
    kind: Literal["feed", "message", "blob"]
    held: bool
    wanted: bool
    reason: str
    path: list[str] = Field(description="Feeds from us to it, each followed by the one before; [] if there is no way")
    hops: int | None
    offered_by: list[Offered] = Field(description="Peers that say they have it, 100 at most")
    holders: int = Field(description="How many peers have all that we have of it")
    error: LastError | None
    limit: str | None = Field(description="Block, limit or budget in force")
    would_change: list[str] = Field(description="Sentences: what would change that")
    sequence: int | None = Field(default=None, description="Of the feed: what we have; of a message: its number")
    feed: str | None = Field(default=None, description="Whose message it is")
    named_in: list[Named] | None = Field(default=None, description="Messages that name it, the newest first")
    wanted_by: list[str] | None = Field(default=None, description="Connected peers that want the blob")
    getting_from: str | None = Field(default=None, description="Who is sending the blob")


class RequestBody(Shape):
    """Whether to replicate a feed, whatever the social graph says."""

    feed: str = Field(description="Feed id in any spelling")
    replicate: bool


class Requested(Shape):
    feed: str
    replicate: bool


# --- care -------------------------------------------------------------------------------------------------------------


class BundleClock(Shape):
    """What a node has and wants."""

    id: str
    clock: dict[str, int] = Field(description="Last sequence of each feed")
    blobs: list[str] = Field(description="Blobs held")
    wants: list[str] = Field(description="Blobs wanted")


class BundleExport(Shape):
    """What a bundle shall carry."""

    for_: dict[str, Any] | None = Field(default=None, alias="for", description="A clock file of its receiver")
    feeds: list[str] | None = Field(default=None, description="Only these feeds")
    hops: int | None = Field(default=None, ge=0, le=100, description="Only feeds so near in the follow graph")
    blobs: bool | None = Field(default=None, description="Blobs that the messages name; true if it is not there")
    max_bytes: int | None = Field(default=None, ge=65536, description="What finds no room is left to the next part")
    packed: bool | None = Field(default=None, description="As a zstd frame; true if it is not there")
    part: int | None = Field(default=None, ge=1, le=1_000_000)
    series: str | None = Field(default=None, max_length=64)
    format: Literal["bundle", "jsonl"] | None = None


class BundleContents(Shape):
    """What a bundle says that it holds."""

    format: str
    sender: str | None
    created: int | None
    part: int | None
    series: str | None
    complete: bool
    last: bool = Field(description="No part follows")
    signed: bool | None = Field(description="Whether the sender signed all of it; null if it is cut off")
    problem: str | None
    packed: bool
    bytes: int
    unpacked: int
    messages: int
    feeds: int
    blobs: int
    blob_bytes: int
    sender_feeds: int = Field(description="Feeds in the sender's clock")
    slices: dict[str, list[int]] = Field(description="First and last sequence of each feed, a thousand at most")
    blob_sizes: dict[str, int] = Field(description="Sizes of blobs, a thousand at most")


class BundleImport(Shape):
    """What became of a file that was taken in."""

    format: str
    bytes: int
    messages: int
    added: int
    duplicates: int
    gaps: int
    forks: int
    invalid: int
    skipped: int = Field(description="Messages of feeds that were deleted here")
    feeds: int = Field(description="Feeds of which something was added or here already")
    blobs: int = Field(description="The same as `blobs_added`")
    blobs_added: int
    blobs_known: int
    blobs_refused: int
    examples: list[dict[str, Any]] = Field(description="The first refusals")
    sender: str | None
    created: int | None
    part: int | None
    complete: bool
    last: bool
    signed: bool | None
    problem: str | None


class ReindexBody(Shape):
    views: list[str] | None = Field(default=None, description="Names of views; all of them if it is not there")


class Reindexing(Shape):
    """Views that are being made anew; `index` of the status tells how far they are."""

    views: list[str]
    messages: int = Field(description="Messages that they are made from")


class Vacuumed(Shape):
    freed_bytes: int


class RetentionBody(Shape):
    """What need not be kept."""

    rules: str | None = Field(
        default=None, description="Rules like `hops=3 age=1y; type=vote age=90d`; those of the settings if not there"
    )
    dry_run: bool | None = Field(default=None, description="true tells what would go, and changes nothing")


class RetentionShare(Shape):
    rule: str
    messages: int = Field(description="That go by it, and by no rule before it")
    bytes: int
    feeds: int


class Retained(Shape):
    """What went by rules, or would go."""

    dry_run: bool
    messages: int
    bytes: int
    rules: list[RetentionShare]
    kept_bytes: int = Field(description="Bytes of the messages that stay")


class BackupBody(Shape):
    directory: str | None = Field(
        default=None, description="Name of a folder in `backups` of the data directory; `main` if it is not there"
    )


class BackedUp(Shape):
    """A backup that was written, and what was new in it."""

    directory: str = Field(description="Where it is, from the data directory on")
    feed: str
    created: int = Field(description="ms since 1970")
    sequence: int = Field(description="Last message of our feed that is in it")
    database_bytes: int
    blobs: int
    blob_bytes: int
    new_blobs: int
    new_blob_bytes: int
