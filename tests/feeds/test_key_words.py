"""Keys as 24 words: known spellings, and whatever else somebody types."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.errors import InvalidKey
from feeds.key_words import keypair_of, words_of
from feeds.keys import Keypair

# BIP 39's own test vectors for 32 bytes (English).
KNOWN = [
    ("00" * 32, "abandon " * 23 + "art"),
    ("ff" * 32, "zoo " * 23 + "vote"),
    (
        "7f" * 32,
        "legal winner thank year wave sausage worth useful " * 2 + "legal winner thank year wave sausage worth title",
    ),
    (
        "80" * 32,
        "letter advice cage absurd amount doctor acoustic avoid " * 2
        + "letter advice cage absurd amount doctor acoustic bless",
    ),
]


@pytest.mark.parametrize(("seed", "words"), KNOWN)
def test_the_words_are_the_seed(seed: str, words: str) -> None:
    keypair = Keypair.generate(bytes.fromhex(seed))
    assert words_of(keypair) == words
    assert keypair_of(words) == keypair
    assert keypair_of("\n\t" + words.upper().replace(" ", "  \n")) == keypair


@given(st.binary(min_size=32, max_size=32))
def test_every_key_comes_back(seed: bytes) -> None:
    keypair = Keypair.generate(seed)
    assert keypair_of(words_of(keypair)) == keypair


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "these are 0"),
        ("abandon " * 23, "these are 23"),
        ("abandon " * 25, "these are 25"),
        ("abandon " * 12, "these are 12"),
        ("abandon " * 24, "do not belong together"),
        ("art " + "abandon " * 23, "do not belong together"),
        ("abandon " * 22 + "abandom art", "number 23"),
        ("x" * 5000, "too long"),
    ],
)
def test_wrong_words_are_told_by_their_place_and_never_repeated(words: str, said: str) -> None:
    with pytest.raises(InvalidKey, match=said) as caught:
        keypair_of(words)
    assert "abando" not in str(caught.value)


@given(
    st.text(max_size=300) | st.lists(st.sampled_from(["zoo", "art", "é", "\x00", "vote"]), max_size=30).map(" ".join)
)
def test_only_the_documented_error_comes_out(text: str) -> None:
    with pytest.raises(InvalidKey):
        keypair_of(text)
