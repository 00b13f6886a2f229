"""What an id of any kind means here: whether the node has it, and of what kind a bare one is."""

from contextlib import suppress

from api.errors import Problem
from api.ids import any_id
from api.services import Services
from feeds.errors import InvalidRef
from feeds.refs import BlobRef, FeedRef, MessageRef

__all__ = ["is_held", "named_here"]


async def is_held(services: Services, ref: FeedRef | MessageRef | BlobRef) -> bool:
    """Whether a message or blob is here, or something of a feed."""
    match ref:
        case FeedRef():
            return str(ref) == services.me or services.log.sequence(str(ref)) > 0
        case MessageRef():
            return await services.log.get(str(ref)) is not None
        case BlobRef():
            return services.blobs.has(str(ref))


async def named_here(services: Services, text: str) -> str:
    """Canonical id of a feed, message or blob in any of the three spellings.

    A bare one does not say its kind, so something here must have it. Raises Problem invalid-id.
    """
    if not text.startswith(("@", "%", "&", "ssb:")):
        bare = False
        for kind in (FeedRef, MessageRef, BlobRef):
            with suppress(InvalidRef):
                ref = kind.parse(text)
                bare = True
                if await is_held(services, ref):
                    return str(ref)
        if bare:
            raise Problem(
                "invalid-id", "Nothing here has this id, and it does not say its kind: give it with its sigil."
            )
    return any_id(text)
