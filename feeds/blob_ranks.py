"""In which order blobs are fetched: wants with the smallest rank first."""

from typing import Final

__all__ = ["ASKED", "AVATAR", "HOPS_MAX", "LOOKED_FOR", "NAMED"]

ASKED: Final = 0
"""What the node's user asked for."""
AVATAR: Final = 10
"""Pictures of feeds, plus the hops to the feed."""
NAMED: Final = 50
"""What messages name, plus the hops to their author."""
HOPS_MAX: Final = 39
"""More hops than these count as so many."""
LOOKED_FOR: Final = 90
"""What somebody looked for and did not find."""
