"""People and what they are to us: who, name, unfollow, unblock."""

from collections.abc import Callable
from typing import Any

from feeds.canonical_json import compact
from node.commands.catalogue import Invocation
from node.commands.local import Local, local
from node.rendered import ago, one_line


def who(invocation: Invocation) -> int:
    """Print what is known of a feed: its names, whom it follows, and whether we are connected."""
    with local(invocation, most=1) as here:
        feed = here.people.find(here.words[0]) if here.words else here.people.me
        found = _portrait(here, feed)
        if not here.output.pretty:
            here.output.json_texts([compact(found)])
            return 0
        here.output.fields(_fields(here, found))
        if found["description"]:
            for line in here.teller.paper.markdown(here.people.with_names(found["description"]), indent=2):
                here.output.line(line)
    return 0


def _portrait(here: Local, feed: str) -> dict[str, Any]:
    """The profile, and what else is known of the feed."""
    profile = here.node.profile(feed)
    follows, followers = list(here.node.follows(feed)), list(here.node.followers(feed))
    held = [one for one in here.node.resolve(feed).items() if one == ("held", True)]
    last = list(here.node.messages(author=feed, order="desc", limit=1)) if held else []
    return {
        **profile,
        "sequence": here.node.feed(feed)["sequence"] if held else 0,
        "last": last[0]["timestamp"] if last else None,
        "follows": len(follows),
        "followers": len(followers),
        "connected": any(peer["id"] == feed and peer["state"] == "connected" for peer in here.node.peers()),
    }


def _fields(here: Local, found: dict[str, Any]) -> list[tuple[str, object]]:
    feed = found["id"]
    names = [claim for claim in found["claims"] if claim["field"] == "name" and isinstance(claim["value"], str)]
    here.people.learn([claim["author"] for claim in names])
    us = feed == here.people.me
    relation = [
        text
        for holds, text in (
            (us, "this is us"),
            (found["following"], "we follow it"),
            (found["blocking"], "we block it"),
            (found["follows_us"], "it follows us"),
            (found["connected"] and not us, "connected now"),
        )
        if holds
    ]
    given: dict[str, list[str]] = {}
    for claim in names:
        given.setdefault(one_line(claim["value"], 40), []).append(
            "itself" if claim["author"] == feed else here.people.label(claim["author"])
        )
    fields: list[tuple[str, object]] = [("name", one_line(found["name"])), ("id", feed)]
    fields += [("called", f"{name} (by {_some(tellers)})") for name, tellers in given.items()]
    fields += [
        ("relation", ", ".join(relation) or "none"),
        ("follows", found["follows"]),
        ("followers", found["followers"]),
        ("messages", found["sequence"]),
    ]
    if found["last"] is not None:
        fields.append(("last came", ago(found["last"], here.teller.now)))
    return fields + ([("image", found["image"])] if found["image"] else [])


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def name(invocation: Invocation) -> int:
    """Say what we call somebody; with one word, what we are called ourselves."""
    with local(invocation, least=1, most=2) as here:
        feed = here.people.find(here.words[0]) if len(here.words) == 2 else here.people.me
        message = here.node.about(feed, name=here.words[-1])
        here.people.forget(feed)
        here.show(message)
    return 0


def unfollow(invocation: Invocation) -> int:
    """Publish that we follow a feed no longer."""
    return _change(invocation, lambda here, feed: here.node.unfollow(feed), "is not followed")


def unblock(invocation: Invocation) -> int:
    """Publish that we block a feed no longer."""
    return _change(invocation, lambda here, feed: here.node.unblock(feed), "is not blocked")


def _change(invocation: Invocation, change: Callable[[Local, str], Any], already: str) -> int:
    with local(invocation, least=1, most=1) as here:
        feed = here.people.find(here.words[0])
        message = change(here, feed)
        if message is not None:
            here.show(message)
        elif here.output.pretty:
            here.output.line(f"{here.people.label(feed)} {already} anyway.")
        else:
            here.value(None)
    return 0
