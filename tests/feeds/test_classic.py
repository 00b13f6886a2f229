"""Classic messages: every stored verdict, the odd spellings, and that damage is never taken."""

import base64
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from feeds import canonical_json, keys
from feeds.errors import InvalidKey, InvalidMessage, TooLarge
from feeds.formats.classic import MAX_TEXT, MAX_UNITS
from feeds.formats.classic_exact import read_exact
from feeds.formats.classic_fast import read_fast
from feeds.formats.registry import CLASSIC, format_named, format_of_feed
from feeds.message import EMPTY, JsonObject, Message, Tip
from feeds.validation import check_alone, check_next
from tests.support.builders import Feed, chain, generate, keypair, message_id, signed_text
from tests.support.vectors import entries, shared

ME = keypair("me")
HMAC_KEY = bytes(range(32))
POST: JsonObject = {"type": "post", "text": "hello"}


def verdict(text: str, state: dict[str, Any] | None, hmac_key: str | None) -> str | None:
    """The id with which a text is accepted as the next message after a state, None when it is not."""
    tip = EMPTY if state is None else Tip(state["sequence"], state["id"])
    raw = text.encode("utf-8", "surrogatepass")
    try:
        secret = None if hmac_key is None else keys.parse_hmac_key(hmac_key)
        return check_next(CLASSIC, raw, tip, secret).id
    except (InvalidKey, InvalidMessage):
        return None


# Where ssb-validate and ssb-classic disagree, protocol.md section 7 decides: ssb-validate, but a timestamp is a number.
SECTION_7 = {"tamper:timestamp-string": False, "tamper:ts-null": False}


def test_generated_vectors() -> None:
    classes = set()
    for entry in entries("classic-generated.json"):
        expected = SECTION_7.get(entry["class"], entry["ssb_validate"]["valid"])
        found = verdict(entry["message_json"], entry["state"], entry["hmac_key"])
        assert found == (entry["id"] if expected else None), entry["class"]
        if found is not None:
            assert CLASSIC.prepare(entry["message_json"].encode()).size == entry["formatted_utf16_length"]
        classes.add(entry["class"])
    assert len(classes) > 30


def test_validation_dataset() -> None:
    for entry in shared("classic-validation-dataset.json"):
        found = verdict(entry["message_json"], entry["state"], entry["hmacKey"])
        assert found == (entry["id"] if entry["valid"] else None), entry["error"]


def test_generated_feeds() -> None:
    tips: dict[str, Tip] = {}
    for entry in entries("classic-feeds.jsonl.gz"):
        text = entry["value_json"].encode()
        author, _ = CLASSIC.peek(text)
        message = check_next(CLASSIC, text, tips.get(author, EMPTY))
        assert message.id == entry["key"]
        assert message.text == text
        tips[author] = Tip(message.sequence, message.id)
    assert sum(tip.sequence for tip in tips.values()) == 900


def test_real_feed() -> None:
    for entry in shared("classic-real-feed.jsonl.gz"):
        received = canonical_json.parse(entry["received_json"])
        assert isinstance(received, dict)
        message = check_alone(CLASSIC, canonical_json.compact(received["value"]))
        assert message.id == entry["key"]
        assert message.signed.decode() == entry["formatted_without_signature"]
        assert CLASSIC.signed_text(message.text).decode() == entry["formatted"]


# --- what a message is made of ----------------------------------------------------------------------------------------


def test_every_field() -> None:
    feed = Feed(ME)
    feed.append(POST)
    text = feed.append({"type": "post", "text": "日本 🎉"})
    message = CLASSIC.prepare(text)
    value = json.loads(text)
    formatted = json.dumps(value, indent=2, ensure_ascii=False)
    assert message.id == feed.ids[1]
    assert message.id == f"%{base64.b64encode(message.key).decode()}.sha256"
    assert message.previous == feed.ids[0]
    assert (message.author, message.sequence, message.timestamp) == (ME.id, 2, value["timestamp"])
    assert message.content == value["content"]
    assert message.text == text
    assert message.size == len(formatted.encode("utf-16-le")) // 2
    assert message.signed.decode() == formatted[: formatted.index(',\n  "signature"')] + "\n}"
    assert keys.verify(ME.public, message.signed, message.signature)
    assert message.format == "classic"
    assert CLASSIC.signed_text(text).decode() == formatted
    assert CLASSIC.peek(text) == (ME.id, 2)


def test_registry() -> None:
    assert format_named("classic") is format_of_feed(ME.id) is CLASSIC
    with pytest.raises(Exception, match="no feed format"):
        format_named("bendybutt-v1")
    with pytest.raises(Exception, match="known format"):
        format_of_feed("ssb:feed/bendybutt-v1/" + "A" * 43 + "=")


def members(**changes: Any) -> dict[str, Any]:
    """The members of a valid first message, before it is signed."""
    value = {
        "previous": None,
        "author": ME.id,
        "sequence": 1,
        "timestamp": 1,
        "hash": "sha256",
        "content": POST,
    }
    return {**value, **changes}


def spelled(text: str, **v8_form: Any) -> bytes:
    """Puts the signature of what V8 makes of a text (the members, changed by v8_form) at the end of that text."""
    signature = json.loads(signed_text(members(**v8_form), ME)[0])["signature"]
    return f'{text[:-1]},"signature":"{signature}"}}'.encode()


HEAD = f'{{"previous":null,"author":"{ME.id}","sequence":1,"timestamp":1,"hash":"sha256","content":'
PLAIN = HEAD + '{"type":"post","text":"hello"}}'


@pytest.mark.parametrize(
    ("text", "v8_form"),
    [
        (PLAIN, {}),
        (PLAIN.replace(":", " : ").replace(",", " ,\n\t").replace(" : .", ":."), {}),
        (PLAIN.replace('"sequence":1', '"sequence":1.0'), {}),
        (PLAIN.replace('"sequence":1', '"sequence":1e0'), {}),
        (PLAIN.replace('"sequence":1', '"sequence":10E-1'), {}),
        (PLAIN.replace('"timestamp":1', '"timestamp":0.1e1'), {}),
        (PLAIN.replace("previous", "pr\\u0065vious"), {}),
        (PLAIN.replace("sha256", "sh\\u0061256"), {}),
        (PLAIN.replace("@", "\\u0040"), {}),
        (PLAIN.replace('"hash"', '"hash":"md5","hash"'), {}),
        (PLAIN.replace('"sequence":1', '"sequence":7').replace('"hash"', '"sequence":1,"hash"'), {}),
        (PLAIN.replace('"timestamp":1', '"timestamp":1514517078157.001'), {"timestamp": 1514517078157.001}),
        (PLAIN.replace('"timestamp":1', '"timestamp":1514517078157.0010'), {"timestamp": 1514517078157.001}),
        (PLAIN.replace('"timestamp":1', '"timestamp":1500000000000.0'), {"timestamp": 1500000000000}),
        (PLAIN.replace('"timestamp":1', '"timestamp":-5'), {"timestamp": -5}),
        (PLAIN.replace('"timestamp":1', '"timestamp":-0'), {"timestamp": 0}),
        (PLAIN.replace('"timestamp":1', '"timestamp":9007199254740993'), {"timestamp": 9007199254740992}),
        (PLAIN.replace("hello", "\\u0068ello"), {}),
        (HEAD + '{"type":"post","n":2,"n":1}}', {"content": {"type": "post", "n": 1}}),
        (HEAD + '{"type":"post","2":1,"1":2}}', {"content": {"1": 2, "2": 1, "type": "post"}}),
        (HEAD + '{"type":"post","__proto__":{}}}', {"content": {"type": "post", "__proto__": {}}}),
        (HEAD + '{"type":"p\\u006fst","text":"hello"}}', {}),
        (HEAD + f'{{"type":"{"🎉" * 26}"}}}}', {"content": {"type": "🎉" * 26}}),
        (HEAD + '"YWJj.box"}', {"content": "YWJj.box"}),
        (HEAD + '"YWI=.box2"}', {"content": "YWI=.box2"}),
        (HEAD + '".box"}', {"content": ".box"}),
        (HEAD + '"YWJj.box é\\u0000"}', {"content": "YWJj.box é\x00"}),
    ],
)
def test_one_value_in_many_spellings(text: str, v8_form: dict[str, Any]) -> None:
    """The spelling on the way in changes nothing: same id, same stored text, and that is accepted again."""
    message = check_alone(CLASSIC, spelled(text, **v8_form))
    stored, own_id = signed_text(members(**v8_form), ME)
    assert (message.id, message.text) == (own_id, stored)
    assert check_alone(CLASSIC, message.text) == message


def test_a_lone_surrogate_is_signed_as_its_escape() -> None:
    value = members(content={"type": "post", "text": "MARK"})
    raw = canonical_json.compact({**value, "content": {"type": "post", "text": "a\ud83dz"}})
    covered = json.dumps(value, indent=2).replace("MARK", "a\\ud83dz").encode()
    signature = base64.b64encode(keys.sign(ME, covered)).decode()
    for escape in (b"\\ud83d", b"\\uD83D"):
        text = raw[:-1].replace(b"\\ud83d", escape) + f',"signature":"{signature}.sig.ed25519"}}'.encode()
        message = check_alone(CLASSIC, text)
        assert message.signed == covered
        assert message.content == {"type": "post", "text": "a\ud83dz"}
        assert b"\\ud83d" in message.text


B64 = "A" * 86 + "=="


@pytest.mark.parametrize(
    ("field", "found", "damage"),
    [
        ("previous", "1", {"previous": 1}),
        ("previous", "[", {"previous": [message_id(1)]}),
        ("previous", "%", {"previous": message_id(1)[:-1]}),
        ("previous", "false", {"previous": False}),
        ("author", "null", {"author": None}),
        ("author", ".sha256", {"author": ME.id.replace(".ed25519", ".sha256")}),
        ("author", "Xed25519", {"author": ME.id.replace(".ed25519", "Xed25519")}),
        ("author", "n", {"author": ME.id + "\n"}),
        ("author", "AAB=", {"author": f"@{'A' * 42}B=.ed25519"}),
        ("sequence", "0", {"sequence": 0}),
        ("sequence", "-1", {"sequence": -1}),
        ("sequence", "1.5", {"sequence": 1.5}),
        ("sequence", '"1"', {"sequence": "1"}),
        ("sequence", "true", {"sequence": True}),
        ("sequence", "2147483648", {"sequence": 2**31}),
        ("timestamp", "null", {"timestamp": None}),
        ("timestamp", '"1"', {"timestamp": "1"}),
        ("timestamp", "true", {"timestamp": True}),
        ("hash", '"sha512"', {"hash": "sha512"}),
        ("content", "nothing", {"content": {}}),
        ("content", '"ab"', {"content": {"type": "ab"}}),
        ("content", "xxx", {"content": {"type": "x" * 53}}),
        ("content", "null", {"content": {"type": None}}),
        ("content", "🎉", {"content": {"type": "🎉"}}),
        ("content", "[]", {"content": []}),
        ("content", "null", {"content": None}),
        ("content", '"text"', {"content": "text"}),
        ("content", "abc.box", {"content": "abc.box"}),
        ("content", "YWJ=.box", {"content": "YWJ=.box"}),
        ("content", "YW=j.box", {"content": "YW=j.box"}),
        ("content", "=.box", {"content": "=.box"}),
        ("content", "n", {"content": "YWJj.box\n"}),
        ("content", ".box", {"content": "YWJj.box\u2028"}),
        ("content", ".bo", {"content": "YWJj.bo"}),
        ("signature", "nothing", {"signature": None}),
        ("signature", "5", {"signature": 5}),
        ("signature", "AAA", {"signature": B64[:-5] + "=.sig.ed25519"}),
        ("signature", "AAA", {"signature": B64 + ".sig.ed25518"}),
        ("signature", "AAA", {"signature": "A" * 85 + "B==.sig.ed25519"}),
        ("signature", "AAA", {"signature": "A" * 88 + ".sig.ed25519"}),
        ("signature", "AAA", {"signature": "A" * 87 + "=.sig.ed25519"}),
        ("signature", "AAA", {"signature": B64 + ".sig.ed25519 "}),
        ("signature", "AAA", {"signature": B64 + "\u2028sig.ed25519"}),
        ("signature", "-", {"signature": "-" * 86 + "==.sig.ed25519"}),
    ],
)
def test_refusals_name_field_finding_and_place(field: str, found: str, damage: dict[str, Any]) -> None:
    value = members(signature=B64 + ".sig.ed25519", **damage) if "signature" not in damage else members(**damage)
    if value.get("signature", "") is None:
        del value["signature"]
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    with pytest.raises(InvalidMessage) as refused:
        CLASSIC.prepare(text)
    assert refused.value.field == field
    assert field in refused.value.reason
    if found == "nothing" and field == "signature":
        assert refused.value.offset is None
        return
    assert found in str(refused.value)
    assert refused.value.offset == text.index(f'"{field}":'.encode()) + len(field) + 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "ends too early"),
        (b"null", "must be an object"),
        (b"[]", "must be an object"),
        (b"{}", "previous, author, sequence, timestamp, hash, content, signature is missing"),
        (b"\xef\xbb\xbf" + PLAIN.encode(), "byte order mark"),
        (PLAIN.encode() + b"x", "not JSON"),
        (PLAIN.encode().replace(b"hello", b"\xff"), "not UTF-8"),
        (PLAIN.encode().replace(b"hello", b"\xed\xa0\xbd"), "not UTF-8"),
        (b"[" * 60_000, "inside one another"),
        (b" " * (MAX_TEXT + 1), "65537 bytes long"),
    ],
)
def test_texts_that_hold_no_message(text: bytes, reason: str) -> None:
    with pytest.raises(InvalidMessage, match=reason):
        CLASSIC.prepare(text)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", PLAIN.replace("@", "").encode(), PLAIN.encode()[:90], b" " * 70_000]
)
def test_nothing_to_peek_at(text: bytes) -> None:
    with pytest.raises(InvalidMessage):
        CLASSIC.peek(text)


def test_peek_reads_any_spelling() -> None:
    repeated = PLAIN.replace('"sequence":1', '"sequence":7')[:-1]
    texts = [PLAIN, PLAIN.replace(":", " : "), PLAIN.replace("sequence", "s\\u0065quence")]
    texts += [repeated + ',"sequence":1}', repeated + ',"sequ\\u0065nce":1}']
    for text in texts:
        assert CLASSIC.peek(text.encode()) == (ME.id, 1)


def order(*names: str) -> bytes:
    value = members(signature=B64 + ".sig.ed25519", extra=1, **{"1": 2, "__proto__": 3})
    return json.dumps({name: value[name] for name in names}).encode()


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (order("author", "previous", "sequence", "timestamp", "hash", "content", "signature"), "author"),
        (order("previous", "sequence", "timestamp", "author", "hash", "content", "signature"), "timestamp"),
        (order("previous", "author", "sequence", "timestamp", "content", "hash", "signature"), "content"),
        (order("previous", "author", "sequence", "timestamp", "hash", "signature", "content"), "signature"),
        (order("previous", "author", "sequence", "timestamp", "hash", "content"), "signature"),
        (order("previous", "author", "sequence", "timestamp", "hash", "content", "signature", "extra"), "extra"),
        (
            order("previous", "author", "sequence", "timestamp", "hash", "content", "signature", "__proto__"),
            "__proto__",
        ),
        (order("1", "previous", "author", "sequence", "timestamp", "hash", "content", "signature"), "1"),
    ],
)
def test_seven_members_in_order(text: bytes, field: str) -> None:
    with pytest.raises(InvalidMessage) as refused:
        CLASSIC.prepare(text)
    assert refused.value.field == field


def test_infinity_is_no_timestamp() -> None:
    """JavaScript calls 1e400 a number, but prints null, which the next reader refuses; so nobody may take it."""
    text = PLAIN.replace('"timestamp":1', '"timestamp":1e400')
    with pytest.raises(InvalidMessage, match="timestamp must be a finite number"):
        CLASSIC.prepare(spelled(text, timestamp=None))


# --- size -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("char", "units"), [("x", 1), ("é", 1), ("日", 1), ("🎉", 2), ("\n", 2), ("\x01", 6)])
def test_the_limit_counts_utf16_units_with_the_signature(char: str, units: int) -> None:
    room = MAX_UNITS - CLASSIC.prepare(signed_text(members(content={"type": "post", "text": ""}), ME)[0]).size
    for extra in (0, 1):
        text = char * (room // units) + "x" * (room % units + extra)
        raw, own_id = signed_text(members(content={"type": "post", "text": text}), ME)
        if extra == 0:
            message = check_alone(CLASSIC, raw)
            assert (message.size, message.id) == (MAX_UNITS, own_id)
            continue
        with pytest.raises(TooLarge) as refused:
            CLASSIC.prepare(raw)
        assert (refused.value.size, refused.value.limit) == (MAX_UNITS + 1, MAX_UNITS)


def test_no_valid_message_is_as_deep_as_the_depth_limit() -> None:
    def nested(depth: int) -> bytes:
        return signed_text(members(content={"type": "nest", "n": json.loads("[" * depth + "]" * depth)}), ME)[0]

    assert check_alone(CLASSIC, nested(58)).size <= MAX_UNITS
    with pytest.raises(TooLarge):
        CLASSIC.prepare(nested(70))


# --- making messages --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hmac_key", [None, HMAC_KEY])
def test_create(hmac_key: bytes | None) -> None:
    first = CLASSIC.create(ME, EMPTY, POST, 1500000000000, hmac_key)
    second = CLASSIC.create(ME, Tip(1, first.id), {"type": "post", "n": 0.5, "2": 1, "1": 2}, 1.5, hmac_key)
    third = CLASSIC.create(ME, Tip(2, second.id), "YWJj.box", 3, hmac_key)
    for message, tip in ((first, EMPTY), (second, Tip(1, first.id)), (third, Tip(2, second.id))):
        assert check_next(CLASSIC, message.text, tip, hmac_key) == message
    assert second.text.startswith(b'{"previous":"%')
    assert b'"content":{"1":2,"2":1,"type":"post","n":0.5}' in second.text
    other_key = HMAC_KEY if hmac_key is None else None
    with pytest.raises(InvalidMessage, match="signature"):
        check_next(CLASSIC, first.text, EMPTY, other_key)


def test_a_draft_is_as_long_as_the_message() -> None:
    draft = CLASSIC.draft(ME.id, EMPTY, POST, 5)
    message = CLASSIC.create(ME, EMPTY, POST, 5)
    assert draft.size == message.size
    assert draft.signed == message.signed
    assert (draft.author, draft.sequence, draft.previous, draft.timestamp) == (ME.id, 1, None, 5)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"type": "ab"},
        "text",
        {"type": "post", "text": "x" * 8192},
        {"type": "post", "when": object()},
        {"type": "post", "b": b"bytes"},
        {"type": "post", 5: 6},
        {"type": "post", "deep": json.loads("[" * 600 + "]" * 600)},
        [],
        None,
    ],
)
def test_content_that_breaks_a_rule_is_not_signed(content: Any) -> None:
    for make in (lambda: CLASSIC.draft(ME.id, EMPTY, content, 1), lambda: CLASSIC.create(ME, EMPTY, content, 1)):
        with pytest.raises(InvalidMessage):
            make()


@pytest.mark.parametrize("timestamp", [float("nan"), float("inf"), None, "now"])
def test_a_timestamp_is_a_number(timestamp: Any) -> None:
    with pytest.raises(InvalidMessage, match="timestamp"):
        CLASSIC.create(ME, EMPTY, POST, timestamp)


json_leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[]))
contents = st.dictionaries(
    st.text(max_size=8) | st.integers(0, 99).map(str),
    st.recursive(json_leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)),
    max_size=4,
).map(lambda content: {**content, "type": "post"})


@given(contents, st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=100)
def test_whatever_is_created_is_accepted(content: Any, timestamp: float) -> None:
    try:
        message = CLASSIC.create(ME, EMPTY, content, timestamp)
    except TooLarge:
        reject()
    assert check_alone(CLASSIC, message.text) == message
    assert CLASSIC.prepare(CLASSIC.signed_text(message.text)) == message


# --- the two ways, and damage -----------------------------------------------------------------------------------------


def both_ways(text: bytes) -> tuple[Message | None, Message | None]:
    try:
        return read_fast(text), read_exact(text)
    except InvalidMessage:
        return read_fast(text), None


def test_usual_messages_take_the_fast_way() -> None:
    feed = chain("fast", 5)
    fractional = signed_text({**members(), "timestamp": 1514517078157.001}, ME)[0]
    for text in [*generate(200, 5), *feed.texts, fractional]:
        fast, exact = both_ways(text)
        assert fast is not None
        assert fast == exact
        assert repr(fast) == repr(exact)


_PIECES = [b'"', b"\\", b"\\u0041", b"1", b".5", b".0", b"e1", b"-", b"{", b"}", b",", b":", b" ", b"\xff", b"\xc3\xa9"]
_PIECES += [b"\\ud800", b"null", b"A", b"=", b'"5":1,', b'"a":1.5,', b"\x00", b"\xef\xbb\xbf", b"1e400", b"9" * 20]


def damaged(text: bytes, other: bytes, rng: random.Random) -> bytes:
    data = bytearray(text)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(data) or 1)
        match rng.randrange(6):
            case 0:
                data[at : at + 1] = bytes([data[at] ^ 1 << rng.randrange(8)]) if data else b""
            case 1:
                del data[at : at + rng.choice((1, 2, 5, 50))]
            case 2:
                data[at:at] = rng.choice(_PIECES)
            case 3:
                data[at : at + 1] = rng.choice(_PIECES)
            case 4:
                data[at:] = other[at:]
            case _:
                data[-102:-14] = other[-102:-14]
    return bytes(data)


TEXTS = generate(60, 6, seed=9)


@given(st.integers(0, 2**64))
@settings(max_examples=150)
def test_damage_is_refused_and_both_ways_agree(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(10):
        text = damaged(rng.choice(TEXTS), rng.choice(TEXTS), rng)
        fast, exact = both_ways(text)
        assert fast is None or repr(fast) == repr(exact), text
        taken = quietly(lambda damaged: check_alone(CLASSIC, damaged), text)
        assert taken is None or taken.text in TEXTS
        assert exact is None or CLASSIC.peek(text) == (exact.author, exact.sequence)


def quietly(read: Callable[[bytes], Any], text: bytes) -> Any:
    try:
        return read(text)
    except InvalidMessage as refused:
        offset = refused.offset
    assert offset is None or 0 <= offset <= len(text)
    return None


@given(st.binary(max_size=200))
def test_nothing_but_invalid_message_escapes(text: bytes) -> None:
    for data in (text, b'{"previous":null,' + text, TEXTS[0][:200] + text, text + TEXTS[0][-150:]):
        for read in (CLASSIC.prepare, CLASSIC.peek, CLASSIC.signed_text):
            quietly(read, data)
