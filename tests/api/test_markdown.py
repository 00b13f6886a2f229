"""Markdown: what posts look like, and that nothing a stranger writes becomes more than harmless HTML."""

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api import markdown
from api.markdown import LONGEST, REL, render
from api.models import Rendered
from tests.api.test_access import code
from tests.support import vectors
from tests.support.api import Api
from tests.support.hostile_html import faults

FEED = "@6CAxOI3f+LUOVrbAl0IemqiS7ATpQvr9Mdw9LC4+Uv0=.ed25519"
MESSAGE = "%g3hPVPDEO1Aj/uPl0+J2NlhFB2bbFLIHlty+YuqFZ3w=.sha256"
BLOB = "&47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=.sha256"
KEY = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=.boxs"
FEED_ROUTE = "/v1/profiles/%406CAxOI3f%2BLUOVrbAl0IemqiS7ATpQvr9Mdw9LC4%2BUv0%3D.ed25519"
MESSAGE_ROUTE = "/v1/messages/%25g3hPVPDEO1Aj%2FuPl0%2BJ2NlhFB2bbFLIHlty%2BYuqFZ3w%3D.sha256"
BLOB_ROUTE = "/v1/blobs/%2647DEQpj8HBSa%2B%2FTImW%2B5JCeuQeRkm5NMpJWZG3hSuFU%3D.sha256"
UNBOX = "?unbox=47DEQpj8HBSa%2B%2FTImW%2B5JCeuQeRkm5NMpJWZG3hSuFU%3D.boxs"


def link(target: str, words: str) -> str:
    return f'<a href="{target}" rel="{REL}">{words}</a>'


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("", ""),
        ("hello *you* and **you**", "<p>hello <em>you</em> and <strong>you</strong></p>\n"),
        ("one\ntwo", "<p>one<br>\ntwo</p>\n"),
        ("# big\n\n---\n\n> said", "<h1>big</h1>\n<hr>\n<blockquote>\n<p>said</p>\n</blockquote>\n"),
        ("3. a\n4. b", '<ol start="3">\n<li>a</li>\n<li>b</li>\n</ol>\n'),
        ("~~no~~ `<b>`", "<p><s>no</s> <code>&lt;b&gt;</code></p>\n"),
        ("```js\na < b\n```", "<pre><code>a &lt; b\n</code></pre>\n"),
        ("<b>bold</b>", "<p>&lt;b&gt;bold&lt;/b&gt;</p>\n"),
        ("👩‍👩‍👧 :smile: (c)", "<p>👩‍👩‍👧 :smile: (c)</p>\n"),
        ("\ud83d\ude00 \ud800", "<p>😀 \ufffd</p>\n"),
        (f"[@bob]({FEED})", f"<p>{link(FEED_ROUTE, '@bob')}</p>\n"),
        (f"[x]({MESSAGE})", f"<p>{link(MESSAGE_ROUTE, 'x')}</p>\n"),
        (f"[x]({MESSAGE}?unbox={KEY})", f"<p>{link(MESSAGE_ROUTE + UNBOX, 'x')}</p>\n"),
        (f"({FEED}, {MESSAGE})", f"<p>({link(FEED_ROUTE, FEED)}, {link(MESSAGE_ROUTE, MESSAGE)})</p>\n"),
        (f"`{FEED}`", f"<p><code>{FEED}</code></p>\n"),
        ("[a](#Some-Channel) #tag a#b \\#c", None),
        (f"![cat]({BLOB})", f'<p><img src="{BLOB_ROUTE}" alt="cat" loading="lazy"></p>\n'),
        (f"![cat]({BLOB}?unbox={KEY})", f'<p><img src="{BLOB_ROUTE}{UNBOX}" alt="cat" loading="lazy"></p>\n'),
        ("![cat](https://x.example/y.png)", f"<p>{link('https://x.example/y.png', 'cat')}</p>\n"),
        ("[![cat](https://x.example/y)](https://z.example)", f"<p>{link('https://z.example', 'cat')}</p>\n"),
        ("![](https://x.example/y)", f"<p>{link('https://x.example/y', 'https://x.example/y')}</p>\n"),
        ("<a@b.example>", f"<p>{link('mailto:a@b.example', 'a@b.example')}</p>\n"),
        ("[x](javascript:y)", "<p>[x](javascript:y)</p>\n"),
        ("[x](ssb:experimental?a=b)", f"<p>{link('ssb:experimental?a=b', 'x')}</p>\n"),
        ("https://ü.example/ü", f"<p>{link('https://xn--tda.example/%C3%BC', 'https://ü.example/ü')}</p>\n"),
        (
            "(see https://x.example/a_(b)_c).",
            f"<p>(see {link('https://x.example/a_(b)_c', 'https://x.example/a_(b)_c')}).</p>\n",
        ),
    ],
)
def test_what_posts_look_like(text: str, html: str | None) -> None:
    channels = "/v1/timelines/channels/"
    expected = f"<p>{link(channels + 'Some-Channel', 'a')} {link(channels + 'tag', '#tag')} a#b #c</p>\n"
    assert render(text) == (expected if html is None else html)


def test_every_spelling_of_an_id_leads_to_the_same_place() -> None:
    safe = MESSAGE[1:].removesuffix(".sha256").replace("+", "-").replace("/", "_")
    for uri in (f"ssb:message/classic/{safe}", f"ssb://message/sha256/{safe}", f"ssb:message:classic:{safe}"):
        assert render(uri) == f"<p>{link(MESSAGE_ROUTE, uri)}</p>\n"
        assert render(f"[x]({uri})") == f"<p>{link(MESSAGE_ROUTE, 'x')}</p>\n"


def test_tables_are_aligned_without_styles() -> None:
    html = render("|a|b|c|d|\n|:-|-:|:-:|-|\n|1|2|3|4|")
    for cell in ('<th align="left">a</th>', '<td align="right">2</td>', '<td align="center">3</td>', "<td>4</td>"):
        assert cell in html
    assert "style" not in html


def test_what_is_too_long_is_cut() -> None:
    assert render("a" * LONGEST) == "<p>" + "a" * LONGEST + "</p>\n"
    assert render("a" * (LONGEST + 1)) == "<p>" + "a" * LONGEST + "…</p>\n"


def test_a_fault_of_the_parser_leaves_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> str:
        raise IndexError

    monkeypatch.setattr(markdown._PARSER, "render", fail)
    assert render("*a* <script>") == "<p>*a* &lt;script&gt;</p>"


def test_another_process_renders_the_same() -> None:
    text = f"[a]({FEED} 't') ![b]({BLOB} 'u') #c\n\n|a|\n|:-|\n|1|"
    program = "import sys; from api.markdown import render; sys.stdout.write(render(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", program, text], capture_output=True, timeout=60, check=True)
    assert done.stdout.decode() == render(text)


# --- hostile texts ----------------------------------------------------------------------------------------------------


def hostile(entry: dict[str, Any]) -> str:
    text: str = entry["text"]
    return str(entry.get("before", "")) + text * int(entry.get("times", 1)) + str(entry.get("after", ""))


CORPUS = vectors.entries("hostile-markdown.json")


@pytest.mark.parametrize("kind", sorted({entry["kind"] for entry in CORPUS}))
def test_hostile_markdown_stays_harmless(kind: str) -> None:
    for entry in CORPUS:
        if entry["kind"] == kind:
            html = render(hostile(entry))
            assert faults(html) == [], entry["text"][:200]
            assert len(html) < 40 * LONGEST, entry["text"][:200]


def test_the_corpus_is_of_some_size() -> None:
    assert len(CORPUS) >= 150


@pytest.mark.parametrize(
    "html",
    [
        "<script>x</script>",
        "<p onclick=x></p>",
        '<a href="javascript:x">x</a>',
        f'<a href="/v1/messages" rel="{REL}">x</a>',
        '<a href="http://x">x</a>',
        '<img src="http://x">',
        "<p>",
        "</p>",
        "<!-- -->",
        "<p style=x></p>",
    ],
)
def test_the_check_finds_faults(html: str) -> None:
    assert faults(html)


SIGNS = st.sampled_from("[]()<>!*_`|\n -#&%@:\\\"'x\0\ud800")
MARKUP = st.sampled_from(
    ["~~", "\n\n", "1. ", "> ", "- ", "|-", "```", "<script>", "</p>", "<svg", "<!--", "]: ", "onclick=", "&colon;"]
)
TARGETS = st.sampled_from(("javascript:", "data:", "http://", "mailto:", "ssb:", "//", FEED, MESSAGE, BLOB))
PIECES = SIGNS | MARKUP | TARGETS


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES | st.text(max_size=4), max_size=40).map("".join))
@example("[" + FEED + "](" + BLOB + "?unbox=")
def test_any_text_is_harmless_and_the_same_again(text: str) -> None:
    html = render(text)
    assert faults(html) == []
    assert render(text) == html


@settings(max_examples=100, deadline=None)
@given(st.lists(PIECES, max_size=12).map("".join), st.sampled_from(("[x](%s)", "![x](<%s>)", "<%s>", "[x]\n\n[x]: %s")))
def test_any_target_is_harmless(target: str, around: str) -> None:
    assert faults(render(around.replace("%s", target))) == []


# --- the route --------------------------------------------------------------------------------------------------------


async def test_the_route(api: Api) -> None:
    answer = await api.client.post("/v1/render", json={"text": "*hi*"})
    assert answer.status_code == 200
    assert Rendered.model_validate(answer.json()).html == "<p><em>hi</em></p>\n"
    answer = await api.client.post(
        "/v1/render", content=b'{"text":"\\ud800"}', headers={"Content-Type": "application/json"}
    )
    assert answer.json() == {"html": "<p>\ufffd</p>\n"}


async def test_what_the_route_refuses(api: Api) -> None:
    for body, problem in (
        ({}, "invalid-body"),
        ({"text": 1}, "invalid-body"),
        ({"text": "a", "mode": "gfm"}, "invalid-body"),
        ({"text": "a" * (LONGEST + 1)}, "body-too-large"),
    ):
        assert code(await api.client.post("/v1/render", json=body)) == problem
