"""Why a feed, a message or a blob is, or is not, fetched, and what would change that. Pure: facts in, plain JSON out.

Every answer has the same members. `path` is a shortest way along follows from us to the feed in question, `offered_by`
the peers that say they have what is asked about (`has`: a sequence of the feed, or the size of the blob), `limit` what
holds it back by our own will, `error` the last thing that went wrong, `would_change` sentences for a person.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from replication.policy import Explanation, Reason

__all__ = ["BlobFacts", "Failure", "FeedFacts", "Naming", "Offer", "blob", "feed", "message", "missing_message"]

OFFERS_SHOWN: Final = 100


class Offer(NamedTuple):
    """A peer that says it has up to `has` of a feed (or a blob of `has` bytes), now or when it was last connected."""

    peer: str
    connected: bool
    has: int


class Failure(NamedTuple):
    """The last thing that went wrong; `peer` delivered, was dialled or was asked, `at` in ms since 1970."""

    reason: str
    peer: str | None = None
    at: int | None = None


class Naming(NamedTuple):
    """A message that names what is asked about, and its author's distance (None: nobody within reach follows it)."""

    message: str
    author: str
    wanted: bool
    path: list[str]
    hops: int | None


@dataclass(frozen=True, slots=True)
class FeedFacts:
    """All that is known of a feed. `sequence` is what is held, `source` who sends it, `budget` the budget in force."""

    explanation: Explanation
    sequence: int
    forked: bool
    deleted: bool
    source: str | None
    online: bool
    offers: Sequence[Offer]
    failure: Failure | None = None
    blockers: Sequence[str] = ()
    """Connected peers to which its owner does not let it go."""
    budget: str | None = None
    later: bool = False
    """It waits for feeds that we follow."""


@dataclass(frozen=True, slots=True)
class BlobFacts:
    """All that is known of a blob; sizes in bytes, `size` None while it is not here."""

    id: str
    size: int | None
    wanted: bool
    asked: bool
    fetch: str
    limit: int
    named_in: Sequence[Naming]
    wanted_by: Sequence[str]
    offers: Sequence[Offer]
    getting_from: str | None
    pushed_to: int | None
    online: bool
    failure: Failure | None = None
    budget: str | None = None


def feed(facts: FeedFacts) -> dict[str, Any]:
    """About a feed; `holders` counts the peers that say they have all that we have."""
    told = facts.explanation
    return _answer(
        told.feed,
        "feed",
        held=facts.sequence > 0,
        wanted=told.wanted,
        reason=told.reason.value,
        path=told.path,
        hops=_distance(told),
        offers=facts.offers,
        holders=_holders(facts.offers, max(1, facts.sequence)),
        failure=facts.failure,
        limit=_feed_limit(facts),
        would_change=_feed_advice(facts, max(0, _most(facts.offers) - facts.sequence)),
    ) | {"sequence": facts.sequence}


def message(id: str, sequence: int, facts: FeedFacts, *, deleted: bool) -> dict[str, Any]:
    """About a message that is here: it came with its feed."""
    told = facts.explanation
    advice = [] if told.wanted else [f"It stays, but nothing new of its feed comes. {_sentence(told)}"]
    return _answer(
        id,
        "message",
        held=True,
        wanted=told.wanted,
        reason=f"it is message {sequence} of {told.feed}; of that feed: {told.reason.value}",
        path=told.path,
        hops=_distance(told),
        offers=[offer for offer in facts.offers if offer.has >= sequence],
        holders=_holders(facts.offers, sequence),
        failure=facts.failure,
        limit="it was deleted on this node: people do not see it" if deleted else _feed_limit(facts),
        would_change=advice,
    ) | {"feed": told.feed, "sequence": sequence}


def missing_message(id: str, named_in: Sequence[Naming]) -> dict[str, Any]:
    """About a message that is not here: nobody can know who wrote it, so what names it is all there is to tell."""
    nearest = _nearest(named_in)
    if nearest is None:
        reason = "it is not here, and no message that is here names it"
    else:
        reason = f"it is not here, but {nearest.message} of {nearest.author} names it; who wrote it cannot be known"
    return _answer(
        id,
        "message",
        held=False,
        wanted=False,
        reason=reason,
        path=[] if nearest is None else nearest.path,
        hops=None if nearest is None else nearest.hops,
        offers=[],
        holders=0,
        failure=None,
        limit=None,
        would_change=[
            "Messages come with the feed of their author: follow or request that feed, if you know whose it is."
        ],
    ) | {"named_in": _named(named_in)}


def blob(facts: BlobFacts) -> dict[str, Any]:
    """About a blob: what names it, who has it, what keeps it from coming."""
    nearest = _nearest(facts.named_in)
    return _answer(
        facts.id,
        "blob",
        held=facts.size is not None,
        wanted=facts.wanted,
        reason=_blob_reason(facts, nearest),
        path=[] if nearest is None else nearest.path,
        hops=None if nearest is None else nearest.hops,
        offers=facts.offers,
        holders=max(len(facts.offers), facts.pushed_to or 0),
        failure=None if facts.size is not None else facts.failure,
        limit=_blob_limit(facts),
        would_change=[] if facts.size is not None else _blob_advice(facts, nearest),
    ) | {"named_in": _named(facts.named_in), "wanted_by": list(facts.wanted_by), "getting_from": facts.getting_from}


# ---- feeds


def _sentence(told: Explanation) -> str:
    """The advice of the policy as a sentence."""
    advice = told.would_change
    return f"To have it replicated, {advice}." if advice and not told.wanted else ""


def _distance(told: Explanation) -> int | None:
    return told.hops if told.hops is not None and told.hops >= 0 else None


def _feed_limit(facts: FeedFacts) -> str | None:
    told = facts.explanation
    match told.reason:
        case Reason.BLOCKED | Reason.BLOCKED_BY_FOLLOWS | Reason.REFUSED | Reason.UNFOLLOWED:
            return str(told.reason.value)
        case Reason.TOO_FAR:
            return f"it is {told.hops} hops away, and {told.limit} are replicated"
    if facts.forked:
        return f"it is forked: nothing after message {facts.sequence} is taken from anybody"
    if facts.budget is not None:
        return facts.budget
    if facts.later:
        return "feeds that we follow come first, and much of them is still missing"
    if facts.blockers:
        return f"its owner blocks {', '.join(facts.blockers)}, who are not asked for it"
    return "it was deleted on this node: people do not see it" if facts.deleted else None


def _feed_advice(facts: FeedFacts, lag: int) -> list[str]:
    told = facts.explanation
    if not told.wanted:
        return [_sentence(told)]
    if facts.forked:
        return ["Nothing brings a forked feed back; its owner has to begin a new one."]
    if facts.budget is not None:
        return ["The budget begins anew at midnight UTC; a larger one (docs/configuration.md) lets it come earlier."]
    if facts.later:
        return ["Waiting: it is asked for when they are here, or stand still, or after ten minutes."]
    connected = [offer for offer in facts.offers if offer.connected]
    if lag == 0 and facts.sequence and (connected or told.reason is Reason.OWN):
        return []
    if lag and facts.source is not None:
        return [f"Waiting: {_messages(lag)} to come from {facts.source}."]
    elsewhere = [offer for offer in facts.offers if not offer.connected and offer.has > facts.sequence]
    if elsewhere:
        best = max(elsewhere, key=lambda offer: offer.has)
        return [f"Connect to {best.peer}, which had it up to message {best.has} when it was last connected."]
    if lag:
        return ["Waiting: the peers that have it are asked again after a while; another peer that has it would help."]
    if not facts.online:
        return ["Connect to a peer: there is no connection at present."]
    if facts.sequence:
        return []
    return ["Connect to a peer that has it: none of those connected says it does."]


# ---- blobs


def _blob_reason(facts: BlobFacts, nearest: Naming | None) -> str:
    if facts.asked:
        return "it was asked for here"
    if nearest is not None:
        whose = "is replicated" if nearest.wanted else "is not replicated"
        return f"message {nearest.message} of {nearest.author} names it, whose feed {whose}"
    if facts.wanted_by:
        return f"{facts.wanted_by[0]} wants it"
    return "it is here, but no message that is here names it" if facts.size is not None else "nothing here names it"


def _blob_limit(facts: BlobFacts) -> str | None:
    if facts.size is not None:
        return None
    if facts.fetch == "off":
        return "this node fetches no blobs (blob_fetch = off)"
    if facts.fetch == "wanted" and not facts.asked:
        return "this node fetches only blobs that were asked for here (blob_fetch = wanted)"
    if facts.budget is not None:
        return facts.budget
    sizes = [offer.has for offer in facts.offers]
    if sizes and min(sizes) > facts.limit:
        return f"it has {min(sizes)} bytes, and {facts.limit} are taken (blob_max_bytes)"
    return None


def _blob_advice(facts: BlobFacts, nearest: Naming | None) -> list[str]:
    if facts.fetch == "off":
        return ["Set blob_fetch to all or wanted, and start the node again."]
    if not facts.wanted:
        advice = [f"Ask for it: sbot blobs.want '{facts.id}'."]
        if nearest is not None and not nearest.wanted:
            advice.append(f"Replicate {nearest.author}: what its messages name is fetched then.")
        return advice
    if facts.getting_from is not None:
        return [f"Waiting: it is coming from {facts.getting_from}."]
    if facts.budget is not None:
        return ["The budget begins anew at midnight UTC; a larger one (docs/configuration.md) lets it come earlier."]
    sizes = [offer.has for offer in facts.offers]
    if sizes and min(sizes) > facts.limit:
        return [f"Set blob_max_bytes to {min(sizes)} or more, and start the node again."]
    if sizes:
        return ["Waiting: it is asked for again after a while; another peer that has it would help."]
    if not facts.online:
        return ["Connect to a peer: there is no connection at present."]
    return ["Connect to a peer that has it: none of those connected says it does; they have been told that we want it."]


# ---- shared


def _answer(
    id: str,
    kind: str,
    *,
    held: bool,
    wanted: bool,
    reason: str,
    path: Sequence[str],
    hops: int | None,
    offers: Sequence[Offer],
    holders: int,
    failure: Failure | None,
    limit: str | None,
    would_change: Iterable[str],
) -> dict[str, Any]:
    ranked = sorted(offers, key=lambda offer: (not offer.connected, -offer.has, offer.peer))
    return {
        "id": id,
        "kind": kind,
        "held": held,
        "wanted": wanted,
        "reason": reason,
        "path": list(path),
        "hops": hops,
        "offered_by": [offer._asdict() for offer in ranked[:OFFERS_SHOWN]],
        "holders": holders,
        "error": None if failure is None else failure._asdict(),
        "limit": limit,
        "would_change": [sentence for sentence in would_change if sentence],
    }


def _most(offers: Iterable[Offer]) -> int:
    """The most that a connected peer says it has."""
    return max((offer.has for offer in offers if offer.connected), default=0)


def _holders(offers: Iterable[Offer], least: int) -> int:
    return sum(1 for offer in offers if offer.has >= least)


def _nearest(named_in: Sequence[Naming]) -> Naming | None:
    """Of a replicated author before others, then the nearest, then the newest message."""
    return min(named_in, key=lambda one: (not one.wanted, 99 if one.hops is None else one.hops), default=None)


def _named(named_in: Sequence[Naming]) -> list[dict[str, Any]]:
    return [{"message": one.message, "author": one.author, "replicated": one.wanted} for one in named_in]


def _messages(count: int) -> str:
    return "1 message is" if count == 1 else f"{count} messages are"
