"""What this node does not show: mute, unmute, delete."""

from feeds.errors import InvalidRef
from feeds.refs import FeedRef
from node.commands.catalogue import Invocation
from node.commands.local import local, message_id
from node.errors import UsageError


def mute(invocation: Invocation) -> int:
    """Leave a feed out of timelines and searches on this node; without a word, list the muted ones."""
    with local(invocation, most=1) as here:
        if here.words:
            feed = here.people.find(here.words[0])
            here.node.mute(feed)
            text = f"{here.people.label(feed)} is muted on this node. Nobody is told; sbot unmute ends it."
            here.output.line(text) if here.output.pretty else here.value({"id": feed, "muted": True})
            return 0
        found = [dict(one) for one in here.node.mutes()]
        if here.output.pretty:
            here.output.table(("muted",), [(here.people.label(one["id"]),) for one in found])
        else:
            for one in found:
                here.value(one)
    return 0


def unmute(invocation: Invocation) -> int:
    """Show a muted feed again."""
    with local(invocation, least=1, most=1) as here:
        feed = here.people.find(here.words[0])
        here.node.unmute(feed)
        text = f"{here.people.label(feed)} is not muted."
        here.output.line(text) if here.output.pretty else here.value({"id": feed, "muted": False})
    return 0


def delete(invocation: Invocation) -> int:
    """Hide a message or a feed on this node, or erase it, and say what that does not do."""
    with local(invocation, least=1, most=1, switches=("undo", "erase")) as here:
        (id,) = here.words
        feed, erase = _feed(id), here.found.on("erase")
        if here.found.on("undo"):
            if feed is None or erase:
                raise UsageError("--undo takes the id of a feed; a deleted message stays hidden.")
            restored = here.node.restore_feed(feed)
            if here.output.pretty:
                anew = " Since some of it was erased, it is fetched again from its first message on."
                here.output.line(f"The feed is shown again.{anew if restored['anew'] else ''}")
            else:
                here.value(dict(restored))
            return 0
        if feed is None:
            answer = here.node.delete_message(message_id(id), erase=erase)
        else:
            answer = here.node.delete_feed(feed, erase=erase)
        here.output.line(answer["note"]) if here.output.pretty else here.value(dict(answer))
    return 0


def _feed(text: str) -> str | None:
    """A feed id in the spellings that say what they are; bare base64 might be a message's."""
    if not text.startswith(("@", "ssb:")):
        return None
    try:
        return str(FeedRef.parse(text))
    except InvalidRef:
        return None
