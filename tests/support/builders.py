"""Deterministic signed messages for tests and benchmarks: the same arguments always give the same bytes.

The signing here is PyNaCl's own and the text is the standard json module's, so that what these messages prove about
`feeds` does not rest on `feeds`.
"""

import base64
import hashlib
import hmac
import json
import random
from dataclasses import dataclass, field
from typing import Any

from nacl import bindings

from feeds.keys import Keypair

_SOME = (
    "the of and to in is that for it as was with be by on not he his but at are this have from or had an they which "
    "one you were all her she there would their we him been has when who will no more if out so up said what its "
    'naïve café 日本語 привет 🎉 🐚 don\'t "quoted" path\\to <b>html</b> https://example.org/?a=1&b=2 \u2028 \x7f'
)
_WORDS = _SOME.split(" ")

# 45% votes, 35% posts, 8% contacts, 6% abouts, 6% boxed: about what public feeds hold.
_MIX = (("vote", 45), ("post", 80), ("contact", 88), ("about", 94), ("boxed", 100))


def keypair(name: str | int, seed: int = 0) -> Keypair:
    """The key pair of a test identity."""
    return Keypair.generate(hashlib.sha256(f"{seed}:{name}".encode()).digest())


def message_id(number: int) -> str:
    """The id of a message that nobody has."""
    return "%" + _digest(f"message {number}") + ".sha256"


def blob_id(number: int) -> str:
    return "&" + _digest(f"blob {number}") + ".sha256"


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@dataclass
class Feed:
    """A feed that grows message by message; remembers what it wrote.

    Content may hold anything the json module and V8 print alike: no floats, no integer-like keys.
    """

    keys: Keypair
    hmac_key: bytes | None = None
    previous: str | None = None
    sequence: int = 0
    timestamp: int = 1_500_000_000_000
    texts: list[bytes] = field(default_factory=list)
    """Compact text of each message."""
    ids: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.keys.id

    def append(self, content: dict[str, Any] | str, **overrides: Any) -> bytes:
        """Signs the next message and returns its compact text; overrides replace members before signing."""
        text, own_id = self.make(content, **overrides)
        self.sequence += 1
        self.previous = own_id
        self.texts.append(text)
        self.ids.append(own_id)
        return text

    def make(self, content: dict[str, Any] | str, **overrides: Any) -> tuple[bytes, str]:
        """Text and id of what would be the next message, without appending it."""
        self.timestamp += 1
        value: dict[str, Any] = {
            "previous": self.previous,
            "author": self.keys.id,
            "sequence": self.sequence + 1,
            "timestamp": self.timestamp,
            "hash": "sha256",
            "content": content,
        }
        return signed_text({**value, **overrides}, self.keys, self.hmac_key)


def signed_text(value: dict[str, Any], keys: Keypair, hmac_key: bytes | None = None) -> tuple[bytes, str]:
    """Signs the members of a message as they are; compact text and id."""
    covered = _indented(value).encode()
    if hmac_key is not None:
        covered = hmac.digest(hmac_key, covered, "sha512")[:32]
    signature = bindings.crypto_sign(covered, keys.secret)[:64]
    value = {**value, "signature": base64.b64encode(signature).decode() + ".sig.ed25519"}
    low_bytes = _indented(value).encode("utf-16-le")[::2]
    own_id = "%" + base64.b64encode(hashlib.sha256(low_bytes).digest()).decode() + ".sha256"
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(), own_id


def _indented(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def chain(name: str | int, length: int, seed: int = 0, hmac_key: bytes | None = None) -> Feed:
    """A feed of realistic messages, its contacts and links pointing at feeds and messages nobody has."""
    feed = Feed(keypair(name, seed), hmac_key)
    rng = random.Random(f"{seed}:{name}")
    others = [keypair(f"other {number}", seed).id for number in range(8)]
    recent = [message_id(number) for number in range(16)]
    for _ in range(length):
        feed.append(content(rng, feed.id, others, recent))
    return feed


def generate(n_messages: int, n_authors: int, seed: int = 1) -> list[bytes]:
    """Compact texts of n_messages valid messages, feeds taking turns; each feed's messages are in order."""
    feeds = [Feed(keypair(number, seed)) for number in range(n_authors)]
    ids = [feed.id for feed in feeds]
    recent = [message_id(number) for number in range(64)]
    rng = random.Random(seed)
    texts = []
    for number in range(n_messages):
        feed = feeds[number % n_authors]
        feed.timestamp += rng.randint(1, 5000)
        texts.append(feed.append(content(rng, feed.id, ids, recent)))
        recent[rng.randrange(64)] = feed.ids[-1]
    return texts


def content(rng: random.Random, author: str, feeds: list[str], recent: list[str]) -> dict[str, Any] | str:
    """One content as real feeds hold them."""
    draw = rng.randrange(100)
    kind = next(kind for kind, below in _MIX if draw < below)
    match kind:
        case "vote":
            vote = {"link": rng.choice(recent), "value": 1, "expression": "Like"}
            return {"type": "vote", "channel": None, "vote": vote}
        case "post":
            return _post(rng, feeds, recent)
        case "contact":
            return {"type": "contact", "contact": rng.choice(feeds), "following": True, "blocking": False}
        case "about":
            image = {"link": blob_id(rng.randrange(9999)), "size": rng.randrange(99999), "type": "image/jpeg"}
            return {
                "type": "about",
                "about": author,
                "name": f"name{draw}",
                "description": words(rng, 20),
                "image": image,
            }
    return base64.b64encode(rng.randbytes(rng.randint(300, 900))).decode() + ".box"


def _post(rng: random.Random, feeds: list[str], recent: list[str]) -> dict[str, Any]:
    post: dict[str, Any] = {"type": "post", "text": words(rng, int(rng.expovariate(1 / 70)) % 600 + 5)}
    if rng.random() < 0.3:
        post["channel"] = rng.choice(["ssb", "art", "gardening", "new-people"])
    if rng.random() < 0.6:
        post["root"] = rng.choice(recent)
        post["branch"] = rng.choice(recent) if rng.random() < 0.8 else [rng.choice(recent), rng.choice(recent)]
    if rng.random() < 0.5:
        mentioned = [rng.choice(feeds) for _ in range(rng.randint(0, 3))]
        post["mentions"] = [{"link": link, "name": f"name{rng.randrange(100)}"} for link in mentioned]
    return post


def words(rng: random.Random, count: int) -> str:
    chosen = rng.choices(_WORDS, k=count)
    return " ".join(word + "\n\n" if index % 30 == 29 else word for index, word in enumerate(chosen))
