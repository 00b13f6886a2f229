"""Ids in every spelling, against what npm ssb-ref and ssb-uri2 answered."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds import ssb_uris
from feeds.errors import InvalidRef
from feeds.refs import (
    BlobRef,
    FeedRef,
    MessageRef,
    deployed_kind,
    extract,
    is_blob,
    is_feed,
    is_message,
    parse_link,
    recognised_as,
)
from tests.support.vectors import entries

ID_PREDICATES = {"isFeed", "isFeedType", "isMsg", "isMsgType", "isBlob", "isBlobType", "isCloakedMsg"}
LINK_PREDICATES = {"isLink", "isMsgLink", "isBlobLink"}
REFS: list[Any] = [FeedRef, MessageRef, BlobRef]

keys32 = st.binary(min_size=32, max_size=32)


def test_ssb_ref_vectors() -> None:
    for entry in entries("ssb-ref.json"):
        text = entry["input"]
        assert recognised_as(text) == set(entry["true_predicates"]) & (ID_PREDICATES | LINK_PREDICATES), text
        assert deployed_kind(text) == (entry["type"] if entry["type"] in ("feed", "msg", "blob") else None), text
        assert extract(text) == (entry["extract"] or None), text
        link, expected = parse_link(text), entry["parseLink"]
        assert (link and link.id) == (expected and expected["link"]), text
        assert (link and link.query) == (expected and expected.get("query", {})), text


def test_recognised_ids_are_read() -> None:
    """Whatever ssb-ref calls an id we read too, but for its two slips; and nothing else that looks like one."""
    for entry in entries("ssb-ref.json"):
        text = entry["input"]
        names = set(entry["true_predicates"])
        assert is_feed(text) == ("isFeed" in names and text.endswith(".ed25519")), text
        assert is_message(text) == ("isMsg" in names), text
        assert is_blob(text) == ("isBlob" in names), text


URI_PREDICATES = {
    ("feed", "classic"): "isClassicFeedSSBURI",
    ("feed", "bendybutt-v1"): "isBendyButtV1FeedSSBURI",
    ("feed", "gabbygrove-v1"): "isGabbyGroveV1FeedSSBURI",
    ("feed", "buttwoo-v1"): "isButtwooV1FeedSSBURI",
    ("feed", "indexed-v1"): "isIndexedV1FeedSSBURI",
    ("message", "classic"): "isClassicMessageSSBURI",
    ("message", "bendybutt-v1"): "isBendyButtV1MessageSSBURI",
    ("message", "gabbygrove-v1"): "isGabbyGroveV1MessageSSBURI",
    ("message", "buttwoo-v1"): "isButtwooV1MessageSSBURI",
    ("message", "indexed-v1"): "isIndexedV1MessageSSBURI",
    ("message", "cloaked"): "isCloakedV1MessageSSBURI",
    ("blob", "classic"): "isClassicBlobSSBURI",
    ("address", "multiserver"): "isAddressSSBURI",
    ("encryption-key", "box2-dm-dh"): "isEncryptionKeyBox2DMDiffieHellmanSSBURI",
    ("identity", "po-box"): "isIdentityPOBoxSSBURI",
    ("identity", "group"): "isIdentityGroupSSBURI",
    ("identity", "fusion"): "isIdentityFusionSSBURI",
    ("experimental", ""): "isExperimentalSSBURI",
}
GROUP_PREDICATES = {"feed": "isFeedSSBURI", "message": "isMessageSSBURI", "identity": "isIdentitySSBURI"}


def uri_names(uri: ssb_uris.SsbUri | None) -> set[str]:
    """The names of ssb-uri2's predicates that are true of what we made of a URI."""
    if uri is None:
        return set()
    names = {"isSSBURI", URI_PREDICATES[uri.type, uri.format]}
    return names | ({GROUP_PREDICATES[uri.type]} if uri.type in GROUP_PREDICATES else set())


@pytest.mark.parametrize("entry", [entry for entry in entries("ssb-uri.json") if entry["kind"] == "inspect"])
def test_ssb_uri_vectors(entry: dict[str, Any]) -> None:
    text = entry["uri"]
    uri = ssb_uris.parse(text)
    assert uri_names(uri) == set(entry["true_predicates"])
    address = entry["toMultiserverAddress"]
    assert ssb_uris.multiserver_address(text) == (None if isinstance(address, dict) else address)
    for ref, sigil in ((FeedRef, "toFeedSigil"), (MessageRef, "toMessageSigil"), (BlobRef, "toBlobSigil")):
        expected = entry[sigil]
        if expected is not None and is_canonical_id(expected):
            assert str(ref.parse(text)) == expected
    parts = ssb_uris.decompose(text)
    expected = entry["decompose"]
    if "error" in expected:
        assert parts is None
    else:
        assert parts is not None
        assert (parts.type, parts.format, parts.data) == (expected["type"], expected["format"], expected["data"])


def is_canonical_id(text: str) -> bool:
    return is_feed(text) or is_message(text) or is_blob(text)


@pytest.mark.parametrize("entry", [entry for entry in entries("ssb-uri.json") if entry["kind"] == "from"])
def test_ssb_uri_conversion_vectors(entry: dict[str, Any]) -> None:
    ref: Any = {"fromFeedSigil": FeedRef, "fromMessageSigil": MessageRef, "fromBlobSigil": BlobRef}[entry["fn"]]
    assert ref.parse(entry["input"]).uri == entry["output"]
    assert str(ref.parse(entry["output"])) == entry["input"]


def test_feed_ids_of_other_formats() -> None:
    checked = 0
    for entry in entries("ssb-keys.json"):
        if entry["kind"] == "feed-format-id":
            ref = FeedRef(base64.b64decode(entry["public"].removesuffix(".ed25519")), entry["format"])
            assert str(ref) == entry["id"]
            assert FeedRef.parse(entry["id"]) == ref
            assert is_feed(entry["id"])
            checked += 1
    assert checked == 9


@pytest.mark.parametrize("ref", REFS)
@given(data=keys32)
def test_every_spelling_gives_the_same_id(ref: Any, data: bytes) -> None:
    one = ref(data)
    bare = base64.urlsafe_b64encode(data).decode()
    kind = ref.kind
    old = {"feed": "ed25519", "message": "sha256", "blob": "sha256"}[kind]
    spellings = [str(one), one.uri, bare, bare.rstrip("="), f"ssb://{kind}/classic/{bare}", f"ssb:{kind}:{old}:{bare}"]
    spellings += [f"ssb:{kind}/{old}/{bare}", f"{one.uri}?unbox=abc", f"{one.uri}#part"]
    for spelling in spellings:
        assert ref.parse(spelling) == one
    assert len({is_feed(str(one)), is_message(str(one)), is_blob(str(one))}) == 2


@pytest.mark.parametrize("ref", REFS)
@given(data=keys32)
def test_ids_of_another_kind_are_refused(ref: Any, data: bytes) -> None:
    for other in REFS:
        if other is not ref:
            for text in (str(other(data)), other(data).uri):
                with pytest.raises(InvalidRef):
                    ref.parse(text)


def test_buttwoo_ids_may_name_a_parent() -> None:
    ref = FeedRef(bytes(32), "buttwoo-v1", bytes([255] * 32))
    assert str(ref) == f"ssb:feed/buttwoo-v1/{'A' * 43}=/{'_' * 42}8="
    assert FeedRef.parse(str(ref)) == ref
    assert FeedRef.parse(str(ref).replace("/", ":")) == ref
    with pytest.raises(InvalidRef):
        FeedRef.parse(str(ref).replace("buttwoo", "bendybutt"))
    with pytest.raises(InvalidRef):
        FeedRef.parse(str(ref)[:-2] + "9=")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "@.ed25519",
        f"@{'A' * 43}=.ed25518",
        f"@{'A' * 43}=.sha256",
        f"@{'A' * 43}=Xed25519",
        f"@{'A' * 42}B=.ed25519",
        f"@{'A' * 43}.ed25519",
        f"@{'A' * 44}=.ed25519",
        f"@{'A' * 43}=.ed25519 ",
        f"@{'A' * 43}=.ed25519\n",
        f" @{'A' * 43}=.ed25519",
        f"@{'-' * 43}=.ed25519",
        f"%{'A' * 43}=.ed25519",
        "A" * 42,
        "A" * 44,
        "A" * 42 + "B",
        "ssb:feed/classic/abc",
        "ssb:feed/unknown/" + "A" * 43 + "=",
        "ssb:feed/classic:" + "A" * 43 + "=",
        "SSB:feed/classic/" + "A" * 43 + "=",
        "ssb:feed/classic/" + "A" * 43 + "=/" + "A" * 43 + "=",
        "ssb:" + "A" * 600,
        "@" + "A" * 600,
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(InvalidRef):
        FeedRef.parse(text)
    assert not is_feed(text)


def test_wrong_bytes_make_no_ref() -> None:
    with pytest.raises(InvalidRef, match="32 bytes"):
        MessageRef(b"short")
    with pytest.raises(InvalidRef, match="format"):
        BlobRef(bytes(32), "bendybutt-v1")


def test_only_the_canonical_uri_is_an_id() -> None:
    uri = f"ssb:feed/bendybutt-v1/{'A' * 43}="
    assert is_feed(uri)
    assert not is_feed(uri.replace("/", ":"))
    assert not is_feed(f"ssb:feed/classic/{'A' * 43}=")
    assert not is_feed(None)
    assert is_message(uri.replace("feed", "message"))


def test_experimental_uris() -> None:
    uri = ssb_uris.parse("ssb:experimental?action=claim-http-invite&invite=a%2Bb&invite=second&postTo=https%3A%2F%2Fx")
    assert uri is not None
    assert uri.parameters() == {"action": "claim-http-invite", "invite": "a+b", "postTo": "https://x"}
    address = "net:1.2.3.4:8008~shs:AbC+/="
    assert ssb_uris.multiserver_address(ssb_uris.from_multiserver_address(address)) == address


@given(st.text(max_size=80) | st.from_regex(r"ssb:(//)?[a-z]{4,8}[/:?][a-z0-9-]{3,12}[/:?=&#%A-Za-z0-9_-]{0,60}"))
def test_nothing_but_invalid_ref_escapes(text: str) -> None:
    for ref in REFS:
        try:
            found = ref.parse(text)
        except InvalidRef:
            continue
        assert ref.parse(str(found)) == found
    ssb_uris.decompose(text)
    ssb_uris.multiserver_address(text)
    recognised_as(text)
    parse_link(text)
    extract(text)
