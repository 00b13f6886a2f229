"""Names instead of keys, and messages in words: who is meant, what is shown, and what never reaches a terminal."""

from collections.abc import Iterable, Iterator
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.client import Client
from node.errors import NodeError, NothingFound
from node.people import People
from node.rendered import Paper, ago, one_line
from node.telling import Teller, written
from tests.support.builders import keypair

ME, ANN, BOB, CID = (keypair(name).id for name in ("me", "ann", "bob", "cid"))
NOW = 1_700_000_000_000.0
KEY = "%" + "A" * 43 + "=.sha256"
STEERING = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) != "\n"] + list(
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)


class FakeNode:
    """Answers what People asks: names, and by the beginning of a name."""

    def __init__(self, **names: tuple[str, str]) -> None:
        self.called = {feed: {"id": feed, "name": name, "from": teller} for feed, (name, teller) in names.items()}
        self.asked: list[list[str]] = []

    def whoami(self) -> dict[str, str]:
        return {"id": ME}

    def names(self, ids: Iterable[str]) -> dict[str, Any]:
        self.asked.append(list(ids))
        return {id: self.called.get(id, {"id": id, "name": id[:9], "from": "nobody"}) for id in self.asked[-1]}

    def feeds_named(self, beginning: str, *, limit: int) -> Iterator[Any]:
        start = beginning.removeprefix("@").lower()
        found = [one for one in self.called.values() if one["name"].lower().startswith(start)]
        return iter(sorted(found, key=lambda one: (one["name"].lower() != start, one["from"] != "me"))[:limit])


def people(**names: tuple[str, str]) -> People:
    return People(cast(Client, FakeNode(**names)))


def test_ids_mean_themselves_in_any_spelling() -> None:
    known = people()
    uri = "ssb:feed/ed25519/" + BOB[1:-8].replace("+", "-").replace("/", "_")
    assert known.find(BOB) == known.find(uri) == BOB
    assert known.find("me") == ME


@pytest.mark.parametrize(
    ("who", "names", "meant"),
    [
        ("bob", {BOB: ("Bob", "self"), ANN: ("Bobby", "self")}, BOB),
        ("@BOB", {BOB: ("Bob", "self"), ANN: ("Bobby", "self")}, BOB),
        ("bobb", {BOB: ("Bob", "self"), ANN: ("Bobby", "self")}, ANN),
        ("bob", {BOB: ("bob", "me"), ANN: ("bob", "self"), CID: ("bob", "others")}, BOB),
    ],
)
def test_names_mean_whom_they_should(who: str, names: dict[str, tuple[str, str]], meant: str) -> None:
    assert people(**names).find(who) == meant


@pytest.mark.parametrize(
    ("who", "names"),
    [
        ("bo", {BOB: ("Bob", "me"), ANN: ("Bobby", "self")}),
        ("bob", {BOB: ("Bob", "self"), ANN: ("bob", "others")}),
        ("bob", {BOB: ("Bob", "me"), ANN: ("bob", "me"), CID: ("bob", "self")}),
    ],
)
def test_several_that_may_be_meant_are_listed(who: str, names: dict[str, tuple[str, str]]) -> None:
    with pytest.raises(NodeError, match="Several") as caught:
        people(**names).find(who)
    assert caught.value.exit_code == 1
    assert BOB in str(caught.value)
    assert ANN in str(caught.value)


@pytest.mark.parametrize("who", ["zoe", "", "@", " ", "@A=.ed25519", "\x1b[2J"])
def test_nobody_is_found_without_a_guess(who: str) -> None:
    with pytest.raises(NothingFound) as caught:
        people(**{BOB: ("Bob", "self")}).find(who)
    assert "\x1b" not in str(caught.value)


def test_names_are_asked_for_once() -> None:
    fake = FakeNode(**{BOB: ("Bob", "self")})
    known = People(cast(Client, fake))
    known.learn([{"author": BOB, "content": {"text": f"[x]({ANN})", "list": [CID, BOB, "@x", 1, None]}}])
    assert [known.label(feed) for feed in (BOB, ANN, BOB)] == ["Bob", ANN[:9], "Bob"]
    assert [set(asked) for asked in fake.asked] == [{ANN, BOB, CID}]
    known.forget(BOB)
    known.label(BOB)
    assert len(fake.asked) == 2


def test_two_of_one_name_are_told_apart() -> None:
    known = people(**{BOB: ("Bob", "me"), ANN: ("BÓB", "self")})
    known.learn([BOB, ANN])
    assert known.label(BOB) == f"Bob ({BOB[:9]})"
    assert known.label(ANN) == f"BÓB ({ANN[:9]})"


def test_links_to_feeds_show_our_names_whatever_their_author_wrote() -> None:
    known = people(**{BOB: ("*B*[o](b)", "self")})
    text = known.with_names(f"hi [@the-pope]({BOB}), [web](https://example.org/), [%]({KEY})")
    assert "pope" not in text
    shown = "".join(Paper(100, styled=False).markdown(text))
    assert "hi @*B*[o](b), web" in shown


@pytest.mark.parametrize("styled", [False, True])
def test_markdown_is_laid_out(styled: bool) -> None:
    text = "# Head\n\nSome *words* and `code`.\n\n* one\n* two\n\n> said\n\n```\nprint(1)\n```\n\n"
    text += "| a | b |\n|---|---|\n| 1 | 2 |\n"
    lines = Paper(60, styled=styled).markdown(text, indent=2)
    shown = "\n".join(lines)
    for part in ("Head", "words", "code", "one", "said", "print", "1"):
        assert part in shown
    assert "# Head" not in shown
    assert ("\x1b[" in shown) is styled
    assert all(line.startswith("  ") for line in lines)
    if not styled:
        assert max(map(len, lines)) <= 60


HOSTILE = [
    "\x1b[2J\x1b]0;owned\x07 text",
    "\x9b31m text",
    "&#27;[31m &#x1b;]8;; &#x202e; &#155; text",
    "[link](https://example.org/\x1b[31m) text",
    "![picture](&\x1b[31m) text",
    "```\x1b]8;;\n\x1b[2J text\n```",
    "`\x1b[2J text`",
    "    \x1b[2J text",
    "a\r\x1b[Kb text",
    "| a\x1b[2J |\n|---|\n| \x9b text |",
    "[a]: https://example.org/ '\x1b[2J'\n\n[a] text",
    "<b onclick='\x1b[2J'>text</b>",
    "<div>\ntext\x1b[2J\n</div>",
    "<!-- text",
    "[text]: https://example.org/",
    ">" * 15 + " text",
    "* " * 25 + "text",
    "\u202etext\u2066",
    ">" * 2000 + " text",
    "* " * 2000 + "text",
    "[" * 4000 + "text",
    "**" * 2000 + "text",
    "\ud800 text",
    "a\tb\vc\fd text",
    f"[\x1b[2J]({BOB}) text",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("styled", [False, True])
def test_hostile_text_is_shown_and_cannot_steer(text: str, styled: bool) -> None:
    lines = Teller(people(**{BOB: ("\x1b[2Jbob", "self")}), Paper(80, styled=styled), NOW).tell(post(text))
    shown = without_style("\n".join(lines))
    assert not [char for char in STEERING if char in shown]
    assert "text" in shown
    shown.encode()


@given(st.text(alphabet=st.characters(codec=None) | st.sampled_from("\x1b\x9b[];&#x1b\n`*_>|-()<!\t"), max_size=200))
@settings(max_examples=60, deadline=None)
def test_no_text_can_steer(text: str) -> None:
    shown = without_style("\n".join(Paper(40, styled=True).markdown(text)))
    assert not [char for char in STEERING if char in shown]


def without_style(text: str) -> str:
    """A text without the escape sequences for bold, dim and colours, which are the only ones that may be there."""
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def post(text: str, **members: Any) -> dict[str, Any]:
    return message({"type": "post", "text": text, **members})


def message(content: Any, author: str = BOB, claimed: float = NOW - 3_600_000) -> dict[str, Any]:
    return {"key": KEY, "value": {"author": author, "timestamp": claimed, "content": content}, "timestamp": int(NOW)}


def told(content: Any, author: str = BOB) -> str:
    known = people(**{BOB: ("Bob", "self"), ANN: ("Ann", "self")})
    first, *_ = Teller(known, Paper(100, styled=False), NOW).tell(message(content, author))
    return first.removesuffix(f"  {KEY}")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"type": "post", "text": "x"}, "Bob · 1 h ago"),
        ({"type": "post", "text": "x", "channel": "cats\x1b"}, "Bob · 1 h ago · #cats\ufffd"),
        ({"type": "vote", "vote": {"link": KEY, "value": 1, "expression": "Like"}}, f"Bob likes {KEY} · 1 h ago"),
        ({"type": "vote", "vote": {"link": KEY, "value": 1, "expression": "🦀"}}, f"Bob likes {KEY} (🦀) · 1 h ago"),
        ({"type": "vote", "vote": {"link": KEY, "value": 0}}, f"Bob takes back the vote on {KEY} · 1 h ago"),
        ({"type": "vote", "vote": {"link": KEY, "value": -1}}, f"Bob dislikes {KEY} · 1 h ago"),
        ({"type": "vote", "vote": "x"}, "Bob votes on None · 1 h ago"),
        ({"type": "contact", "contact": ANN, "following": True}, "Bob follows Ann · 1 h ago"),
        ({"type": "contact", "contact": ANN, "following": False}, "Bob no longer follows Ann · 1 h ago"),
        ({"type": "contact", "contact": ANN, "blocking": True}, "Bob blocks Ann · 1 h ago"),
        ({"type": "contact", "contact": ANN, "blocking": False}, "Bob no longer blocks Ann · 1 h ago"),
        ({"type": "contact", "contact": ["\x1b"]}, "Bob no longer follows ['\\x1b'] · 1 h ago"),
        ({"type": "about", "about": BOB, "name": "Bobby"}, "Bob calls itself “Bobby” · 1 h ago"),
        ({"type": "about", "about": ANN, "name": "A\nn"}, f"Bob calls {ANN[:9]} “A n” · 1 h ago"),
        ({"type": "about", "about": ANN, "image": "&x"}, f"Bob describes {ANN[:9]} · 1 h ago"),
        ({"type": "channel", "channel": "x", "subscribed": True}, "Bob subscribes to #x · 1 h ago"),
        ({"type": "post", "text": 5}, "Bob published post: text: 5 · 1 h ago"),
        ({"type": "chess", "move": "e4"}, "Bob published chess: move: e4 · 1 h ago"),
        ("AAAA.box", "Bob wrote a private message · 1 h ago"),
    ],
)
def test_messages_in_words(content: Any, words: str) -> None:
    assert told(content) == words


def test_a_content_warning_stands_before_the_text() -> None:
    known = people(**{BOB: ("Bob", "self")})
    lines = Teller(known, Paper(100, styled=False), NOW).tell(post("the text", contentWarning="spiders\x1b"))
    assert [line.strip() for line in lines[1:]] == ["[spiders\ufffd]", "the text"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-(10**9), "just now"),
        (0, "just now"),
        (59, "just now"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (3600, "1 h ago"),
        (86399, "23 h ago"),
        (86400, "1 d ago"),
        (29 * 86400, "29 d ago"),
        (31 * 86400, "2023-10-14"),
        (10**300, "????-??-??"),
    ],
)
def test_how_long_ago(seconds: float, words: str) -> None:
    assert ago(NOW - seconds * 1000, NOW) == words


def test_a_claimed_time_to_come_is_not_believed() -> None:
    assert written(message({}, claimed=NOW * 2)) == NOW
    assert written(message({}, claimed=float("inf"))) == NOW
    assert written(message({}, claimed=5)) == 5


def test_one_line() -> None:
    assert one_line(" a\n\tb\x1b ") == "a b\ufffd"
    assert one_line("x" * 100, 5) == "xxxx…"
