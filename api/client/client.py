"""The client: one method for each thing a program wants of its node.

    with Client.for_directory("~/.pysbot") as node:
        print(node.whoami()["id"], node.post("hello")["key"])

Ids are taken in any spelling that the API takes. Every method raises ApiProblem; methods that give an iterator ask when
it is iterated. Not to be shared between threads.
"""

import os
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Final, Literal, Self, cast

from api.client.connection import TIMEOUT, Answer, Connection, Query, escaped
from api.client.directory import find_node
from api.client.events import Event, events_in
from api.client.problems import CONNECTION_LOST, ApiProblem
from api.client.shapes import (
    AcceptedInvite,
    BlobAdded,
    Channel,
    Connected,
    ConsumedAlias,
    Deleted,
    DryRun,
    EarlyMessage,
    Feed,
    Found,
    Info,
    Invite,
    Message,
    Mute,
    Name,
    NewInvite,
    NewToken,
    NewWebhook,
    OwnAlias,
    Peer,
    PrivateThread,
    Profile,
    Replication,
    Resolved,
    Restored,
    Retained,
    Room,
    Status,
    Thread,
    ThreadSummary,
    Token,
    Vote,
    Webhook,
    Whoami,
    Why,
)
from feeds.canonical_json import JsonObject, JsonValue

__all__ = ["Client"]

PAGE: Final = 200
"""Items asked for at a time."""
NAMES_AT_ONCE: Final = 200
RETRY: Final = 1.0
"""Seconds before an event stream that broke is opened again."""


class Client:
    """A node, as its own user may use it. timeout -- seconds of silence after which an answer is given up."""

    def __init__(self, base_url: str, token: str, *, timeout: float = TIMEOUT) -> None:
        self._connection: Final = Connection(base_url, token, timeout=timeout)

    @classmethod
    def for_directory(cls, path: str | os.PathLike[str], *, timeout: float = TIMEOUT) -> Self:
        """A client of the node that runs on a data directory. Raises NodeNotRunning."""
        place = find_node(path)
        return cls(place.url, place.token, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    # --- the node -----------------------------------------------------------------------------------------------------

    def info(self) -> Info:
        return cast(Info, self._get("/v1/info"))

    def whoami(self) -> Whoami:
        return cast(Whoami, self._get("/v1/whoami"))

    def status(self) -> Status:
        return cast(Status, self._get("/v1/status"))

    # --- publishing ---------------------------------------------------------------------------------------------------

    def publish(
        self,
        content: JsonObject | str,
        recps: Iterable[str] | None = None,
        *,
        idempotency_key: str | None = None,
        if_sequence: int | None = None,
    ) -> Message:
        """Sign and store a message; recps -- encrypt it for these; if_sequence -- only while our feed is there."""
        body = _given(content=content, recps=_listed(recps))
        return self._publish("/v1/messages", body, idempotency_key, if_sequence)

    def dry_run(self, content: JsonObject | str, recps: Iterable[str] | None = None) -> DryRun:
        """What publishing would make, without signing it."""
        body = _given(content=content, recps=_listed(recps))
        return cast(DryRun, self._post("/v1/messages", body, {"dry_run": True}))

    def post(
        self,
        text: str,
        *,
        reply_to: str | None = None,
        channel: str | None = None,
        recps: Iterable[str] | None = None,
        content_warning: str | None = None,
        mentions: Iterable[str] | None = None,
        idempotency_key: str | None = None,
        if_sequence: int | None = None,
    ) -> Message:
        """Publish a post; root, branch and mentions are filled in by the node."""
        body = _given(
            text=text,
            reply_to=reply_to,
            channel=channel,
            recps=_listed(recps),
            content_warning=content_warning,
            mentions=_listed(mentions),
        )
        return self._publish("/v1/posts", body, idempotency_key, if_sequence)

    def reply(self, message: str, text: str, *, idempotency_key: str | None = None) -> Message:
        """Publish a post that answers a message."""
        return self.post(text, reply_to=message, idempotency_key=idempotency_key)

    def vote(self, message: str, value: Literal[1, 0, -1] = 1, expression: str | None = None) -> Message:
        """Like a message (1), take that back (0), or dislike it (-1)."""
        return self._publish("/v1/votes", _given(message=message, value=value, expression=expression))

    def about(
        self,
        about: str | None = None,
        *,
        name: str | None = None,
        description: str | None = None,
        image: str | None = None,
    ) -> Message:
        """Say what a feed (if not given: ours) is called and looks like."""
        return self._publish("/v1/abouts", _given(about=about, name=name, description=description, image=image))

    def contact(self, feed: str, *, following: bool | None = None, blocking: bool | None = None) -> Message:
        """Publish our relation to a feed, whatever it was before."""
        return self._publish("/v1/contacts", _given(contact=feed, following=following, blocking=blocking))

    def follow(self, feed: str) -> Message | None:
        """Follow a feed; None if we did already."""
        return self._relate("PUT", feed, "follow")

    def unfollow(self, feed: str) -> Message | None:
        """Follow a feed no longer; None if we did not."""
        return self._relate("DELETE", feed, "follow")

    def block(self, feed: str) -> Message | None:
        """Block a feed, for everybody to see; None if we did already."""
        return self._relate("PUT", feed, "block")

    def unblock(self, feed: str) -> Message | None:
        """Block a feed no longer; None if we did not."""
        return self._relate("DELETE", feed, "block")

    # --- messages and feeds -------------------------------------------------------------------------------------------

    def message(self, message: str, *, private: bool = False) -> Message:
        """One message; private -- decrypted, if we can read it."""
        query: Query = {"private": True} if private else {}
        return cast(Message, self._get(f"/v1/messages/{escaped(message)}", query))

    def messages(
        self,
        *,
        limit: int | None = None,
        order: Literal["asc", "desc"] = "asc",
        author: str | None = None,
        type: str | None = None,
        channel: str | None = None,
        root: str | None = None,
        mentions: str | None = None,
        since: int | None = None,
        until: int | None = None,
        private: bool = False,
        q: str | None = None,
    ) -> Iterator[Message]:
        """Messages in order of arrival, all of them or `limit`; the filters are those of GET /v1/messages."""
        query: Query = {
            "order": order,
            "author": author,
            "type": type,
            "channel": channel,
            "root": root,
            "mentions": mentions,
            "since": since,
            "until": until,
            "private": private or None,
            "q": q,
        }
        return self._list("/v1/messages", query, limit)

    def votes(self, message: str) -> Iterator[Vote]:
        """The vote of each author that counts."""
        return self._list(f"/v1/messages/{escaped(message)}/votes")

    def feeds(self, *, limit: int | None = None) -> Iterator[Feed]:
        return self._list("/v1/feeds", None, limit)

    def feed(self, feed: str) -> Feed:
        return cast(Feed, self._get(f"/v1/feeds/{escaped(feed)}"))

    def feed_messages(self, feed: str, *, after: int = 0, limit: int | None = None) -> Iterator[Message]:
        """A feed's messages by sequence."""
        return self._list(f"/v1/feeds/{escaped(feed)}/messages", {"after": after}, limit)

    # --- threads and timelines ----------------------------------------------------------------------------------------

    def thread(self, root: str) -> Thread:
        """A whole thread, each message after those that it answers."""
        return cast(Thread, self._get(f"/v1/threads/{escaped(root)}"))

    def threads(self, *, limit: int | None = None) -> Iterator[ThreadSummary]:
        """Threads, the one replied to last first."""
        return self._list("/v1/threads", None, limit)

    def home(self, *, limit: int | None = None, replies: bool = True) -> Iterator[Message]:
        """Posts of ours and of those we follow, the newest first."""
        return self._list("/v1/timelines/home", {"replies": replies}, limit)

    def public(self, *, limit: int | None = None, replies: bool = True) -> Iterator[Message]:
        """Posts of everybody, the newest first."""
        return self._list("/v1/timelines/public", {"replies": replies}, limit)

    def early(
        self, *, limit: int | None = None, replies: bool = True, followed: bool = False
    ) -> Iterator[EarlyMessage]:
        """The newest posts of feeds whose history is still on its way; followed -- only of those that we follow."""
        return self._list("/v1/timelines/early", {"replies": replies, "followed": followed}, limit)

    def mentions(self, *, limit: int | None = None) -> Iterator[Message]:
        """What mentions us, the newest first."""
        return self._list("/v1/timelines/mentions", None, limit)

    def channel(self, name: str, *, limit: int | None = None) -> Iterator[Message]:
        """What was written in a channel, the newest first."""
        return self._list(f"/v1/timelines/channels/{escaped(name)}", None, limit)

    def channels(self, *, limit: int | None = None) -> Iterator[Channel]:
        return self._list("/v1/channels", None, limit)

    def private_threads(self, *, limit: int | None = None, q: str | None = None) -> Iterator[PrivateThread]:
        """Threads of private messages, the one that grew last first."""
        return self._list("/v1/private", {"q": q}, limit)

    def private_thread(self, root: str, *, limit: int | None = None) -> Iterator[Message]:
        """The messages of a private thread, decrypted."""
        return self._list(f"/v1/private/{escaped(root)}", None, limit)

    # --- people -------------------------------------------------------------------------------------------------------

    def profile(self, feed: str) -> Profile:
        return cast(Profile, self._get(f"/v1/profiles/{escaped(feed)}"))

    def names(self, ids: Iterable[str]) -> dict[str, Name]:
        """What feeds are called, by canonical id."""
        wanted = list(dict.fromkeys(ids))
        found: dict[str, Name] = {}
        for start in range(0, len(wanted), NAMES_AT_ONCE):
            some = wanted[start : start + NAMES_AT_ONCE]
            items: Iterator[Name] = self._list("/v1/names", {"ids": some})
            found |= {item["id"]: item for item in items}
        return found

    def feeds_named(self, beginning: str, *, limit: int | None = None) -> Iterator[Name]:
        """Feeds whose name begins so: those called exactly so first, and of these the ones named by us."""
        return self._list("/v1/names", {"q": beginning}, limit)

    def follows(self, feed: str) -> Iterator[str]:
        """Whom a feed follows."""
        return self._ids(feed, "follows")

    def followers(self, feed: str) -> Iterator[str]:
        return self._ids(feed, "followers")

    def blocks(self, feed: str) -> Iterator[str]:
        return self._ids(feed, "blocks")

    # --- finding ------------------------------------------------------------------------------------------------------

    def search(
        self,
        q: str,
        *,
        type: str | None = None,
        author: str | None = None,
        private: bool = False,
        limit: int | None = None,
    ) -> Iterator[Found]:
        """Public messages with these words, or private ones that we can read; each with a snippet."""
        query: Query = {"q": q, "type": type, "author": author, "private": private or None}
        return self._list("/v1/search", query, limit)

    def resolve(self, ref: str) -> Resolved:
        """What a pasted text is."""
        return cast(Resolved, self._get("/v1/resolve", {"ref": ref}))

    def render(self, text: str) -> str:
        """Markdown as safe HTML."""
        return str(self._post("/v1/render", {"text": text})["html"])

    # --- blobs --------------------------------------------------------------------------------------------------------

    def add_blob(self, data: bytes | Iterable[bytes]) -> BlobAdded:
        """Add a blob: its bytes, pieces of them, or an open file."""
        sent = {"Content-Type": "application/octet-stream"}
        return cast(BlobAdded, self._connection.request("POST", "/v1/blobs", data=data, headers=sent).json())

    def get_blob(self, blob: str) -> Iterator[bytes]:
        """The bytes of a blob, in pieces. One that is not here is wanted from then on."""
        with self._connection.streaming(f"/v1/blobs/{escaped(blob)}") as response:
            yield from self._connection.pieces(response)

    def has_blob(self, blob: str) -> bool:
        """Whether a blob is here. (Asking for it by HEAD would not tell "no" from "no such path".)"""
        return self.resolve(blob)["held"] is True

    # --- peers --------------------------------------------------------------------------------------------------------

    def peers(self) -> Iterator[Peer]:
        """Connections and remembered addresses."""
        return self._list("/v1/peers")

    def connect(self, address: str) -> Connected:
        """Dial a peer; returns once the handshake is done."""
        return cast(Connected, self._post("/v1/peers", {"address": address}))

    def disconnect(self, peer: str) -> None:
        """Hang up."""
        self._connection.request("DELETE", f"/v1/peers/{escaped(peer)}")

    def replication(self) -> Replication:
        return cast(Replication, self._get("/v1/replication"))

    def feed_replication(self, feed: str) -> dict[str, Any]:
        """What we have of a feed, what each peer says it has, what is waited for."""
        return cast(dict[str, Any], self._get(f"/v1/replication/{escaped(feed)}"))

    def preview(self, hops: int) -> dict[str, Any]:
        """What another number of hops would fetch."""
        return cast(dict[str, Any], self._get("/v1/replication/preview", {"hops": hops}))

    def why(self, id: str) -> Why:
        """Why a feed, message or blob is fetched, or is not, and what would change that."""
        return cast(Why, self._get(f"/v1/why/{escaped(id)}"))

    # --- what is not shown --------------------------------------------------------------------------------------------

    def mute(self, feed: str) -> None:
        """Leave a feed out of lists on this node; nobody is told."""
        self._connection.request("PUT", f"/v1/profiles/{escaped(feed)}/mute")

    def unmute(self, feed: str) -> None:
        self._connection.request("DELETE", f"/v1/profiles/{escaped(feed)}/mute")

    def mutes(self) -> Iterator[Mute]:
        return self._list("/v1/mutes")

    def delete_message(self, message: str, *, erase: bool = False) -> Deleted:
        """Hide a message on this node, or take its bytes off the disk; `note` says what that does not do."""
        return self._delete(f"/v1/messages/{escaped(message)}", erase)

    def delete_feed(self, feed: str, *, erase: bool = False) -> Deleted:
        """Hide a feed on this node, or take its bytes off the disk, and replicate it no longer."""
        return self._delete(f"/v1/feeds/{escaped(feed)}", erase)

    def _delete(self, path: str, erase: bool) -> Deleted:
        return cast(Deleted, self._connection.request("DELETE", f"{path}?erase=1" if erase else path).json())

    def restore_feed(self, feed: str) -> Restored:
        """Show a deleted feed again; where some of it was erased, it is fetched anew."""
        return cast(Restored, self._connection.request("PUT", f"/v1/feeds/{escaped(feed)}").json())

    def retention(self, rules: str | None = None, *, dry_run: bool = False) -> Retained:
        """Erase what rules say need not be kept (those of the settings, if none are given), or tell what would go."""
        body: dict[str, Any] = {"dry_run": dry_run} if rules is None else {"dry_run": dry_run, "rules": rules}
        return cast(Retained, self._post("/v1/admin/retention", body))

    # --- tokens, invites and webhooks ---------------------------------------------------------------------------------

    def tokens(self) -> Iterator[Token]:
        return self._list("/v1/tokens")

    def create_token(self, name: str, scopes: Iterable[str], *, expires_in: int | None = None) -> NewToken:
        """A token for another program, for so many seconds; `token` is never shown again."""
        body: JsonObject = {"name": name, "scopes": list(scopes), "expires_in": expires_in}
        return cast(NewToken, self._post("/v1/tokens", body))

    def revoke_token(self, token: str) -> None:
        """End a token, which is named by its id."""
        self._connection.request("DELETE", f"/v1/tokens/{escaped(token)}")

    def invites(self) -> Iterator[Invite]:
        """Invites of this node, ended ones too."""
        return self._list("/v1/invites")

    def create_invite(
        self,
        *,
        uses: int = 1,
        note: str | None = None,
        expires_in: int | None = None,
        external: str | None = None,
        modern: bool = False,
    ) -> NewInvite:
        """An invite; `invite` is the code, which is never shown again. `external`: the host to write into it."""
        body = _given(uses=uses, note=note, expires_in=expires_in, external=external, modern=modern)
        return cast(NewInvite, self._post("/v1/invites", body))

    def revoke_invite(self, invite: str) -> None:
        """End an invite, which is named by its id."""
        self._connection.request("DELETE", f"/v1/invites/{escaped(invite)}")

    def accept_invite(self, invite: str) -> AcceptedInvite:
        """Redeem the code of another node: it follows us, and we follow it. May take a minute."""
        return cast(AcceptedInvite, self._post("/v1/invites/accept", {"invite": invite}))

    def rooms(self) -> Iterator[Room]:
        """Rooms, and who is in them."""
        return self._list("/v1/rooms")

    def join_room(self, text: str) -> Room:
        """Join a room by its address, or by an invite of any kind."""
        link = text.strip().startswith(("http", "ssb:"))
        return cast(Room, self._post("/v1/rooms", {"invite" if link else "address": text}))

    def leave_room(self, room: str) -> None:
        """Hang up on a room and forget it."""
        self._connection.request("DELETE", f"/v1/rooms/{escaped(room)}")

    def register_alias(self, room: str, alias: str) -> OwnAlias:
        """Take a name in a room."""
        return cast(OwnAlias, self._post(f"/v1/rooms/{escaped(room)}/aliases", {"alias": alias}))

    def revoke_alias(self, room: str, alias: str) -> None:
        """Give a name in a room back."""
        self._connection.request("DELETE", f"/v1/rooms/{escaped(room)}/aliases/{escaped(alias)}")

    def consume_alias(self, link: str) -> ConsumedAlias:
        """Connect to whom a link of an alias leads to."""
        return cast(ConsumedAlias, self._post("/v1/aliases/consume", {"link": link}))

    def doctor(self) -> dict[str, Any]:
        """What is wrong with the node: `{"ok", "checks": [{"check", "state", "detail", "advice"}]}`."""
        return cast(dict[str, Any], self._get("/v1/doctor"))

    def mend(self) -> dict[str, Any]:
        """The same after the node mended what is safe to mend; what was done is in `fixed`."""
        return cast(dict[str, Any], self._connection.request("POST", "/v1/doctor").json())

    def vacuum(self) -> int:
        """Make the database file small again; how many bytes smaller it is. Nothing is written meanwhile."""
        return int(cast(dict[str, Any], self._connection.request("POST", "/v1/admin/vacuum").json())["freed_bytes"])

    def webhooks(self) -> Iterator[Webhook]:
        return self._list("/v1/webhooks")

    def create_webhook(
        self, url: str, rules: JsonObject | None = None, *, secret: str | None = None, since: int | None = None
    ) -> NewWebhook:
        """Have messages posted to a web address, after the position `since` or from now on."""
        body: JsonObject = {"url": url, "filter": rules, "secret": secret, "since": since}
        return cast(NewWebhook, self._post("/v1/webhooks", body))

    def webhook(self, webhook: str) -> Webhook:
        return cast(Webhook, self._get(f"/v1/webhooks/{escaped(webhook)}"))

    def resume_webhook(self, webhook: str) -> Webhook:
        """Try again at once."""
        return cast(Webhook, self._connection.request("POST", f"/v1/webhooks/{escaped(webhook)}/resume").json())

    def delete_webhook(self, webhook: str) -> None:
        self._connection.request("DELETE", f"/v1/webhooks/{escaped(webhook)}")

    # --- live ---------------------------------------------------------------------------------------------------------

    def stream(
        self,
        *,
        types: Iterable[str] = (),
        feeds: Iterable[str] = (),
        since: int | None = None,
        private: bool = False,
        resume: bool = True,
    ) -> Iterator[Event]:
        """Live events, without end, of what happens from this call on, and messages from the position `since` on.

        A connection that breaks is opened again where it ended, unless not `resume`. Raises ApiProblem when the node
        refuses, and NodeNotRunning when it is gone.
        """
        query: dict[str, Any] = {
            "types": list(types) or None,
            "feeds": list(feeds) or None,
            "private": private or None,
            "since": self.status()["log"]["position"] if since is None else since,
        }
        return self._events(query, resume)

    def _events(self, query: Query, resume: bool) -> Iterator[Event]:
        position: int | None = None
        while True:
            headers = {} if position is None else {"Last-Event-ID": str(position)}
            try:
                with self._connection.streaming("/v1/stream", query, headers) as response:
                    for event in events_in(self._connection.lines(response)):
                        position = event.position
                        yield event
            except ApiProblem as problem:
                if problem.code != CONNECTION_LOST or not resume:
                    raise
            if not resume:
                return
            time.sleep(RETRY)

    # --- muxrpc -------------------------------------------------------------------------------------------------------

    def rpc(self, method: str, *args: JsonValue) -> Any:
        """The answer of a muxrpc method, called by its old name (`blobs.has`) as the node's own user."""
        return self._connection.request("POST", f"/v1/rpc/{escaped(method)}", body=list(args)).json()

    def rpc_stream(self, method: str, *args: JsonValue) -> Iterator[Any]:
        """The items of a muxrpc source as they come; for a live one without end."""
        with self._connection.streaming(f"/v1/rpc/{escaped(method)}", body=list(args)) as response:
            for line in self._connection.lines(response):
                if line:
                    yield Answer(response.status, {}, line).json()

    # --- asking -------------------------------------------------------------------------------------------------------

    def _get(self, path: str, query: Query | None = None) -> Any:
        return self._connection.request("GET", path, query).json()

    def _post(self, path: str, body: JsonObject, query: Query | None = None) -> Any:
        return self._connection.request("POST", path, query, body=body).json()

    def _publish(
        self, path: str, body: JsonObject, idempotency_key: str | None = None, if_sequence: int | None = None
    ) -> Message:
        headers = {}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        if if_sequence is not None:
            headers["If-Match"] = f'"{if_sequence}"'
        return cast(Message, self._connection.request("POST", path, body=body, headers=headers).json())

    def _relate(self, method: str, feed: str, relation: str) -> Message | None:
        answer = self._connection.request(method, f"/v1/profiles/{escaped(feed)}/{relation}")
        return cast(Message, answer.json()) if answer.status == 201 else None

    def _ids(self, feed: str, relation: str) -> Iterator[str]:
        items: Iterator[dict[str, str]] = self._list(f"/v1/profiles/{escaped(feed)}/{relation}")
        return (item["id"] for item in items)

    def _list(self, path: str, query: Query | None = None, limit: int | None = None) -> Iterator[Any]:
        """The items of a list, page by page as they are taken."""
        left, cursor = limit, None
        while left is None or left > 0:
            size = PAGE if left is None else min(left, PAGE)
            page = self._get(path, {**(query or {}), "limit": size, "cursor": cursor})
            yield from page["items"]
            cursor = page["next"]
            if left is not None:
                left -= len(page["items"])
            if cursor is None:
                return


def _listed(ids: Iterable[str] | None) -> list[JsonValue] | None:
    return None if ids is None else list(ids)


def _given(**members: JsonValue) -> JsonObject:
    """A body of the members that are not None."""
    return {name: value for name, value in members.items() if value is not None}
