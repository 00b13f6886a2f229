"""An identity as 24 words: the 32-byte seed of its key, as BIP 39 spells bytes in English, checksum included.

This is the scheme of the mobile clients: the words are the seed itself, so nothing but them is needed to get the key.
"""

import unicodedata
from typing import Final

from mnemonic import Mnemonic

from feeds.errors import InvalidKey
from feeds.keys import Keypair

__all__ = ["WORDS", "keypair_of", "words_of"]

WORDS: Final = 24
LONGEST: Final = 2000
"""Characters of a text that is looked at."""


def words_of(keypair: Keypair) -> str:
    """The 24 words, separated by blanks."""
    return str(Mnemonic("english").to_mnemonic(keypair.seed))


def keypair_of(text: str) -> Keypair:
    """The identity of 24 words; any blanks and line breaks between them, in any case. Raises InvalidKey, which names
    the place of a wrong word, but no word."""
    if len(text) > LONGEST:
        raise InvalidKey(f"the text is too long for {WORDS} words")
    words = unicodedata.normalize("NFKD", text).lower().split()
    if len(words) != WORDS:
        raise InvalidKey(f"a key has {WORDS} words, these are {len(words)}")
    english = Mnemonic("english")
    known = frozenset(english.wordlist)
    wrong = [str(place) for place, word in enumerate(words, 1) if word not in known]
    if wrong:
        raise InvalidKey(f"not in the list of words that keys are spelled with: number {', '.join(wrong)}")
    try:
        seed = english.to_entropy(words)
    except (ValueError, LookupError):
        raise InvalidKey("the words do not belong together: one is wrong, or their order is") from None
    return Keypair.generate(bytes(seed))
