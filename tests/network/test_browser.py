"""What a real browser makes of the node's answers: rendered markdown, /docs, and blobs that would like to be pages.

Beside each there is the same attack without the node's care, to show that here it would have been noticed.
"""

import base64
import html as entities
import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from api.markdown import TAGS
from tests.api.test_markdown import CORPUS, hostile
from tests.support.browser import Browser, browser
from tests.support.page_server import LATE, Page, html, page_server
from tests.support.processes import NodeProcess

NONCE = "only-for-the-script-of-the-test"
WATCH = f"default-src 'none'; img-src 'self'; connect-src 'self'; script-src 'nonce-{NONCE}'; report-uri /violation"
"""Nothing is forbidden by it, but whatever it would forbid is reported: scripts, handlers, styles, frames, loads."""
SCHEMES = {"http:", "https:", "mailto:", "ssb:"}

INSPECT = f"""<script nonce="{NONCE}">
const ran = [], violations = [];
for (const name of ["alert", "confirm", "prompt", "print", "open"]) window[name] = () => ran.push(name);
addEventListener("securitypolicyviolation", event => violations.push(event.violatedDirective + " " + event.blockedURI));
addEventListener("DOMContentLoaded", () => {{
  // Once as the document's own markup, once the way in which programs put a text into a page.
  for (const box of [...document.querySelectorAll("div.text")]) {{
    const again = document.createElement("div");
    again.innerHTML = box.innerHTML;
    document.body.append(again);
  }}
  setTimeout(() => {{
    const all = [...document.querySelectorAll("div *")];
    const report = {{
      texts: document.querySelectorAll("div.text").length,
      ran: ran,
      violations: violations,
      tags: [...new Set(all.map(one => one.localName))],
      schemes: [...new Set(all.filter(one => URL.canParse(one.href)).map(one => one.protocol))],
      handlers: all.flatMap(one => one.getAttributeNames()).filter(name => name.startsWith("on")),
      spaces: [...new Set(all.map(one => one.namespaceURI))],
    }};
    document.body.innerHTML = "<pre></pre>";
    document.querySelector("pre").textContent = JSON.stringify(report);
  }}, 1000);
}});
</script>
"""


@pytest.fixture(name="node", scope="module")
def _node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("browser") / "node") as node:
        yield node


@pytest.fixture(name="chromium")
def _chromium(tmp_path: Path) -> Iterator[Browser]:
    with browser(tmp_path) as opened:
        yield opened


def ask(node: NodeProcess, method: str, path: str, body: bytes = b"", **headers: str) -> Page:
    """One request to the node with its token, and the answer as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", int(node.http.rpartition(":")[2]), timeout=30)
    try:
        connection.request(method, path, body, {"Authorization": f"Bearer {node.token}", **headers})
        answer = connection.getresponse()
        return Page(answer.read(), dict(answer.getheaders()), answer.status)
    finally:
        connection.close()


# --- markdown ---------------------------------------------------------------------------------------------------------


def rendered(node: NodeProcess, text: str) -> str:
    order = json.dumps({"text": text}).encode()
    answer = ask(node, "POST", "/v1/render", order, **{"Content-Type": "application/json"})
    assert answer.status == 200, answer.body
    made: str = json.loads(answer.body)["html"]
    return made


def inspected(chromium: Browser, texts: list[str]) -> tuple[dict[str, Any], list[str], list[str]]:
    """What the browser says of a page with these pieces of HTML; the paths it asked for, and requests elsewhere."""
    boxes = "".join(f'<div class="text">{text}</div>\n' for text in texts)
    document = f"<!doctype html><meta charset=utf-8><title>texts</title><body>{INSPECT}{boxes}<img src={LATE}>"

    def pages(path: str) -> Page | None:
        return html(document, Content_Security_Policy_Report_Only=WATCH) if path == "/texts" else None

    with page_server(pages) as server:
        shown = chromium.open(server.url("/texts"))
        report = re.search(r"<pre>(.*)</pre>", shown.dom, re.DOTALL)
        assert report is not None, shown.dom[-2000:]
        return json.loads(entities.unescape(report[1])), server.asked, shown.elsewhere


def test_hostile_markdown_neither_runs_nor_loads_anything(node: NodeProcess, chromium: Browser) -> None:
    # Those that are about size alone would make a page of many megabytes.
    texts = [text for text in map(hostile, CORPUS) if len(text) < 5000]
    assert len(texts) > 300
    report, asked, elsewhere = inspected(chromium, [rendered(node, text) for text in texts])
    assert report["texts"] == len(texts)
    assert report["ran"] == []
    assert report["violations"] == []
    assert report["handlers"] == []
    assert set(report["tags"]) <= {*TAGS, "tbody"} - {"script"}
    assert set(report["schemes"]) <= SCHEMES
    assert report["spaces"] == ["http://www.w3.org/1999/xhtml"]
    assert elsewhere == []
    assert {path for path in asked if not path.startswith("/v1/blobs/%26")} <= {"/texts", "/favicon.ico", LATE}


def test_the_same_unrendered_is_noticed(chromium: Browser) -> None:
    report, asked, elsewhere = inspected(
        chromium,
        [
            "<script>alert(1)</script>",
            "<img src=/missing.png onerror=alert(1)>",
            "<img src=http://elsewhere.example/pixel.png>",
            "<svg><a href='javascript:alert(1)'>x</a></svg><a href='javascript:alert(1)'>x</a>",
        ],
    )
    assert "alert" in report["ran"]
    assert any(violation.startswith("script-src") for violation in report["violations"])
    assert any(violation.startswith("img-src") for violation in report["violations"])
    assert "onerror" in report["handlers"]
    assert "javascript:" in report["schemes"]
    assert "http://www.w3.org/2000/svg" in report["spaces"]
    assert any("elsewhere.example" in line for line in elsewhere)
    assert "/violation" in asked


# --- the documentation ------------------------------------------------------------------------------------------------


def test_docs_open_in_a_browser_from_local_assets(node: NodeProcess, chromium: Browser, tmp_path: Path) -> None:
    """The browser asks for a password, and gets the token: here it stands in the address."""
    address = node.http.replace("://", f"://me:{node.token}@") + "/docs"
    shown = chromium.open(address)
    assert "<title>pysbot API</title>" in shown.dom
    assert shown.dom.count("<details") > 100
    assert shown.console == []
    assert shown.elsewhere == []
    picture = tmp_path / "docs.png"
    again = chromium.picture(address, picture)
    assert (again.console, again.elsewhere) == ([], [])
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_what_a_policy_forbids_is_noticed(chromium: Browser) -> None:
    def pages(path: str) -> Page | None:
        body = "<!doctype html><style>p { color: red }</style><p>x</p>"
        return html(body, Content_Security_Policy="default-src 'none'") if path == "/styled" else None

    with page_server(pages) as server:
        shown = chromium.open(server.url("/styled"))
    assert any("Content Security Policy" in line for line in shown.console)


# --- blobs ------------------------------------------------------------------------------------------------------------

CALL = "fetch('/ran')"
PAGE = f'<!doctype html><html><body><script>{CALL}</script><img src=/missing onerror="{CALL}"></body></html>'
PICTURE = f'<svg xmlns="http://www.w3.org/2000/svg" onload="{CALL}"><script>{CALL}</script></svg>'
FILM = "GIF89a/*" + "\0" * 20 + f"*/=1;{CALL};<script>{CALL}</script>"
"""Both a GIF, for who looks at its first bytes, and a script."""
HOSTILE_FILES = {"html": PAGE, "svg": PICTURE, "gif": FILM, "script": CALL}
GO_TO = f"<!doctype html><body><a href={{0}}>x</a><script>document.links[0].click()</script><img src={LATE}></body>"
"""Opens a file by itself. What is only to be saved leaves the page where it was."""
EMBEDDED = (
    "<!doctype html><body><iframe src={0}></iframe><object data={0}></object><embed src={0}><img src={0}>"
    f"<script src={{0}}></script><link rel=stylesheet href={{0}}><img src={LATE}></body>"
)


def asked_for(chromium: Browser, path: str, pages: dict[str, Page]) -> list[str]:
    """What a browser that opens a path asks the server for."""
    with page_server(pages.get) as server:
        shown = chromium.open(server.url(path))
        assert shown.elsewhere == []
        return server.asked


@pytest.mark.parametrize("kind", HOSTILE_FILES)
def test_a_blob_runs_no_script_wherever_it_is_opened(node: NodeProcess, chromium: Browser, kind: str) -> None:
    """Opened by itself and embedded in every way; the node's answers are handed on as they are, but for the token."""
    added = json.loads(ask(node, "POST", "/v1/blobs", HOSTILE_FILES[kind].encode("latin-1")).body)
    path = f"/v1/blobs/{quote(added['id'], safe='')}"
    answer = ask(node, "GET", path)
    assert answer.status == 200
    assert answer.body == HOSTILE_FILES[kind].encode("latin-1")
    for page in (GO_TO, EMBEDDED):
        asked = asked_for(chromium, "/page", {path: answer, "/page": html(page.format(path))})
        assert path in asked
        assert "/ran" not in asked


@pytest.mark.parametrize(
    ("kind", "media_type"), [("html", "text/html"), ("svg", "image/svg+xml"), ("script", "text/javascript")]
)
def test_the_same_file_from_a_careless_server_runs(chromium: Browser, kind: str, media_type: str) -> None:
    careless = Page(HOSTILE_FILES[kind].encode(), {"Content-Type": media_type})
    for page in (EMBEDDED,) if kind == "script" else (GO_TO, EMBEDDED):
        assert "/ran" in asked_for(chromium, "/page", {"/file": careless, "/page": html(page.format("/file"))})


def test_a_picture_is_shown(node: NodeProcess, chromium: Browser) -> None:
    """What is safe is not kept back."""
    pixel = base64.b64decode("R0lGODlhAQABAIAAAP8AAP///ywAAAAAAQABAAACAkQBADs=")
    added = json.loads(ask(node, "POST", "/v1/blobs", pixel).body)
    path = f"/v1/blobs/{quote(added['id'], safe='')}"
    page = f'<!doctype html><body><img src={path} onload="{CALL}"><img src={LATE}></body>'
    assert "/ran" in asked_for(chromium, "/page", {path: ask(node, "GET", path), "/page": html(page)})
