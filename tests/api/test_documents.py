"""docs/http-api.md, the OpenAPI document and the page at /docs, held against the code, both ways."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.routing import Route

from api.app import ROUTERS
from api.auth import OPEN_PATHS
from api.docs_page import POLICY
from api.errors import KINDS, TABLE, Problem, problem_of
from feeds import errors as feeds_errors
from feeds.errors import FeedLocked, FeedsError, ForkedFeed, StoreError
from replication.errors import DialTimeout, HandshakeFailed, ReplicationError
from tests.api.test_access import code
from tests.support.api import BLOB_SIZE, Api

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "http-api.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def routes() -> set[str]:
    return {
        f"{method} {route.path_format}"
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, Route)
        for method in route.methods or ()
    }


def test_every_route_is_documented_and_the_other_way_round() -> None:
    documented = re.findall(r"^\| `([A-Z]+ /\S+)` \|", section("Routes"), re.MULTILINE)
    assert len(documented) == len(set(documented))
    assert set(documented) == routes()


def test_every_problem_is_documented_and_the_other_way_round() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| ([0-9]{3}) \| ", section("Problems"), re.MULTILINE)
    assert [name for name, _ in rows] == list(KINDS)
    assert {name: int(status) for name, status in rows} == {name: kind.status for name, kind in KINDS.items()}


def test_every_problem_has_a_place_that_raises_it() -> None:
    source = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "api").rglob("*.py"))
    source = source.replace('f"feed-{error.state}"', '"feed-locked" "feed-forked"')
    for name in KINDS:
        assert len(re.findall(rf'"{name}"', source)) >= 2, name
    named = set(re.findall(r'Problem\(\s*"([a-z-]+)"', source))
    assert named <= set(KINDS)


def test_open_paths_are_documented() -> None:
    sentence = re.search(r"Only (.*) are answered without it", PAGE)
    assert sentence is not None
    assert set(re.findall(r"`(/[^`]+)`", sentence[1])) == OPEN_PATHS


def test_every_domain_exception_has_its_problem() -> None:
    """Errors that a request can cause are in the table; the rest are ours, or of people who never come here."""
    inner = {"FeedsError", "InvalidKey"}
    for name in feeds_errors.__all__:
        kind = getattr(feeds_errors, name)
        assert (kind in TABLE) == (name not in inner), name


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (FeedLocked("locked", "the store is older than what was published"), "feed-locked"),
        (ForkedFeed("two branches"), "feed-forked"),
        (StoreError("/home/me/.pysbot/sbot.db: the disk is full"), "store-failed"),
        (DialTimeout("connect", "no answer"), "dial-timeout"),
        (HandshakeFailed("hello", "closed"), "handshake-failed"),
    ],
)
def test_exceptions_become_problems(error: Exception, name: str) -> None:
    problem = problem_of(error)
    assert problem is not None
    assert problem.code == name
    assert b"/home" not in problem.body("/x")


def test_unknown_exceptions_become_none() -> None:
    for error in (ValueError("x"), FeedsError("x"), ReplicationError("x"), OSError("/etc/passwd")):
        assert problem_of(error) is None


def test_a_problem_survives_text_that_utf8_cannot_hold() -> None:
    problem = json.loads(Problem("invalid-id", "a\ud800b", member="\udfff").body("/x"))
    assert (problem["detail"], problem["member"]) == ("a\ud800b", "\udfff")


async def test_unforeseen_errors_tell_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("secret of /home/me/.pysbot/secret")

    monkeypatch.setattr(api.peers, "peers", fail)
    answer = await api.client.get("/v1/peers")
    assert answer.status_code == 500
    assert code(answer) == "internal-error"
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    (record,) = [record for record in caplog.records if record.name == "api.edge"]
    assert record.exc_info is not None
    assert "secret of" in str(record.exc_info[1])


async def test_a_failing_store_is_named_without_its_path(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    await api.store.database.close()
    for path in ("/v1/messages", "/readyz"):
        answer = await api.client.get(path)
        assert answer.status_code == 503
        assert code(answer) == "store-failed"
    assert "api.edge" in {record.name for record in caplog.records}


# --- the documents that the node serves -------------------------------------------------------------------------------


async def test_the_openapi_document(api: Api) -> None:
    document = (await api.client.get("/openapi.json")).json()
    assert document["info"]["version"] == "1.2.3"
    described = {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}
    assert described == routes()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert operation["tags"], where
            problem = operation["responses"]["default"]["content"]["application/problem+json"]["schema"]
            assert problem == {"$ref": "#/components/schemas/Problem"}
            assert "422" not in operation["responses"], where
            assert (operation.get("security") == []) == (path in OPEN_PATHS), where
            assert all(parameter.get("description") for parameter in operation.get("parameters", [])), where
    assert set(document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) == set(KINDS)
    assert references(document) <= set(document["components"]["schemas"])


def references(value: object) -> set[str]:
    """Names of the schemas that a document refers to."""
    if isinstance(value, dict):
        own = {str(value["$ref"]).rpartition("/")[2]} if "$ref" in value else set()
        return own.union(*(references(item) for item in value.values()))
    if isinstance(value, list):
        return set[str]().union(*(references(item) for item in value))
    return set()


class Links(HTMLParser):
    """Collects what a page links to, loads, and what can be linked to in it."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.targets: set[str] = set()
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attributes:
            if name in ("href", "src", "action"):
                self.targets.add(value or "")
            if name == "id":
                self.ids.add(value or "")


async def test_features_tell_of_all_groups_of_routes(api: Api) -> None:
    info = (await api.client.get("/v1/info")).json()
    document = (await api.client.get("/openapi.json")).json()
    tags = {tag for item in document["paths"].values() for operation in item.values() for tag in operation["tags"]}
    always = {"admin", "feeds", "messages", "node", "peers", "publishing"}
    assert tags - always <= set(info["features"])
    assert info["limits"]["blob_bytes"] == BLOB_SIZE


async def test_the_page_needs_nothing_from_elsewhere(api: Api) -> None:
    answer = await api.client.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == POLICY
    assert "http" not in POLICY
    page = Links()
    page.feed(answer.text)
    assert not page.tags & {"script", "link", "img", "iframe", "form", "object"}
    outside = {target for target in page.targets if not target.startswith("#")}
    assert outside == {"/openapi.json"}
    assert {target[1:] for target in page.targets - outside} <= page.ids
    assert set(KINDS) <= page.ids  # where the type of a problem points
    for route in routes():
        assert route.split(" ")[1] in answer.text
    headings = re.findall("<h2>([^<]+)", answer.text)
    assert len(headings) == len(set(headings))  # what belongs together stands together
    assert "`" not in answer.text.partition("<h2>")[0]
