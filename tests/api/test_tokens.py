"""Tokens with scopes: what each may do on every route, how they begin and end, and that only their hashes are kept."""

import asyncio
import hashlib
import re
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import httpx
import pytest

from api.scopes import NEEDED, OPEN_PATHS, TokenScope, needed
from api.tokens import MAX_TOKENS
from tests.api.test_access import code
from tests.api.test_documents import PAGE, routes
from tests.support.api import Api, serve

IN_MODULE = pytest.mark.asyncio(loop_scope="module")
FEED = "@6CAxOI3f+LUOVrbAl0IemqiS7ATpQvr9Mdw9LC4+Uv0=.ed25519"
GUARDED = sorted(route for route in routes() if route.split(" ")[1] not in OPEN_PATHS)


async def make(api: Api, scopes: Iterable[str], **more: object) -> tuple[str, str]:
    """A new token: its id and its secret."""
    answer = await api.client.post("/v1/tokens", json={"name": "a program", "scopes": list(scopes), **more})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"], answer.json()["token"]


@asynccontextmanager
async def holder(api: Api, *scopes: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a token of some scopes."""
    _, secret = await make(api, scopes)
    async with api.stranger(Authorization=f"Bearer {secret}") as client:
        yield client


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_has_every_route_and_no_other() -> None:
    """Whoever adds a route says here what it needs; one that is forgotten needs `admin`."""
    assert set(NEEDED) - {"GET /openapi.json", "GET /docs"} == set(GUARDED)
    assert needed("GET /v1/something-new") is TokenScope.ADMIN


def test_writes_need_more_than_read() -> None:
    readers = {route for route, scope in NEEDED.items() if scope is TokenScope.READ and not route.startswith("GET ")}
    assert readers == {"POST /v1/render"}


def test_the_page_says_what_each_scope_opens() -> None:
    section = PAGE.partition("\n## Tokens\n")[2].partition("\n## ")[0]
    for scope in TokenScope:
        (row,) = re.findall(rf"^\| `{scope}` \| (.*) \|$", section, re.MULTILINE)
        listed = set(re.findall(r"`([A-Z]+ /[^`]+)`", row))
        if scope is not TokenScope.READ:
            assert listed == {route for route, wanted in NEEDED.items() if wanted is scope}, scope
        else:
            assert listed == {"POST /v1/render"}


@pytest.mark.parametrize("scope", list(TokenScope))
@IN_MODULE
async def test_every_route_with_every_scope(shared: Api, scope: TokenScope) -> None:
    """Whoever lacks the scope gets 403 whatever else is wrong; whoever has it is not refused for it."""
    position = shared.store.log.position
    async with holder(shared, scope) as client:
        for route in GUARDED:
            method, path = route.split(" ")
            wanted = needed(route)
            if wanted is scope and (method != "GET" or path == "/v1/stream"):
                continue  # what follows would act
            answer = await client.request(method, path.replace("{id}", "x").replace("{name}", "x"))
            if wanted is scope:
                assert answer.status_code != 401, route
                assert answer.status_code != 403, route
            else:
                assert answer.status_code == 403, route
                assert code(answer) == "insufficient-scope"
                assert answer.json()["missing"] == wanted
                assert answer.json()["scopes"] == [scope]
                assert f'scope="{wanted}"' in answer.headers["www-authenticate"]
    assert shared.store.log.position == position


@IN_MODULE
async def test_the_document_says_what_each_route_needs(shared: Api) -> None:
    document = (await shared.client.get("/openapi.json")).json()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if path not in OPEN_PATHS:
                assert operation["security"] == [{"token": [needed(f"{method.upper()} {path}")]}]


@IN_MODULE
async def test_paths_that_are_not_there_tell_a_token_nothing_more(shared: Api) -> None:
    async with holder(shared, "read") as client:
        assert code(await client.get("/v1/nonsense")) == "not-found"
        assert code(await client.put("/v1/whoami")) == "method-not-allowed"
        assert (await client.get("/openapi.json")).status_code == 200
    async with holder(shared, "publish") as client:
        assert code(await client.get("/openapi.json")) == "insufficient-scope"


@IN_MODULE
async def test_head_needs_what_get_needs(shared: Api) -> None:
    async with holder(shared, "publish") as client:
        assert (await client.head("/v1/messages")).status_code == 403
    async with holder(shared, "read") as client:
        assert (await client.head("/v1/messages")).status_code == 200


# --- private ----------------------------------------------------------------------------------------------------------

X = "%25" + "A" * 43 + "%3D.sha256"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/messages?private=1",
        "/v1/messages?private=1&q=secret",
        "/v1/messages?%70rivate=1",
        "/v1/messages?private=0&private=1",
        "/v1/messages?private=",
        f"/v1/messages/{X}?private=true",
        f"/v1/messages/{X}?unbox=abc",
        f"/v1/messages/{X}%3Funbox=abc",
        "/v1/stream?private=1",
        "/v1/blobs/x?unbox=abc",
        "/v1/private",
        f"/v1/private/{X}",
    ],
)
@IN_MODULE
async def test_plain_text_needs_private_as_well(shared: Api, path: str) -> None:
    async with holder(shared, "read", "publish", "admin") as client:
        answer = await client.get(path)
        assert answer.status_code == 403
        assert answer.json()["missing"] == "private"
    if "stream" not in path:
        async with holder(shared, "read", "private") as client:
            assert (await client.get(path)).status_code not in (401, 403)


@IN_MODULE
async def test_what_only_looks_private_is_read(shared: Api) -> None:
    async with holder(shared, "read") as client:
        for path in ("/v1/messages?private=0", "/v1/messages?type=private", "/v1/search?q=private"):
            assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"content": {"type": "post", "text": "x"}, "recps": [FEED]},
        {"content": {"type": "post", "text": "x", "recps": [FEED]}},
    ],
)
@pytest.mark.parametrize("query", ["", "?dry_run=1"])
async def test_publishing_for_some_needs_private_as_well(api: Api, body: dict[str, object], query: str) -> None:
    async with holder(api, "publish") as client:
        answer = await client.post(f"/v1/messages{query}", json=body)
        assert code(answer) == "insufficient-scope"
        assert answer.json()["missing"] == "private"
        assert api.store.log.position == 0
        public = {"content": {"type": "post", "text": "x"}}
        assert (await client.post(f"/v1/messages{query}", json=public)).status_code in (200, 201)
    async with holder(api, "publish", "private") as client:
        assert (await client.post(f"/v1/messages{query}", json=body)).status_code in (200, 201)


# --- beginning and end ------------------------------------------------------------------------------------------------


async def test_a_token_is_shown_once_and_kept_as_a_hash(api: Api) -> None:
    id, secret = await make(api, ["read", "publish"])
    (listed,) = (await api.client.get("/v1/tokens")).json()["items"]
    assert listed["id"] == id
    assert listed["name"] == "a program"
    assert listed["scopes"] == ["read", "publish"]
    assert listed["expires"] is None
    assert secret not in (await api.client.get("/v1/tokens")).text
    await api.store.database.write(lambda connection: None, durable=True)
    with sqlite3.connect(api.store.database.path) as connection:
        rows = connection.execute("SELECT * FROM http_token").fetchall()
    assert rows[0][2] == hashlib.sha256(secret.encode()).digest()
    assert secret not in repr(rows)


async def test_a_revoked_token_opens_nothing(api: Api) -> None:
    id, secret = await make(api, ["read"])
    async with api.stranger(Authorization=f"Bearer {secret}") as client:
        assert (await client.get("/v1/whoami")).status_code == 200
        assert (await api.client.delete(f"/v1/tokens/{id}")).status_code == 204
        answer = await client.get("/v1/whoami")
        assert code(answer) == "unauthorized"
        assert secret not in answer.text
    assert code(await api.client.delete(f"/v1/tokens/{id}")) == "token-not-found"
    assert (await api.client.get("/v1/tokens")).json()["items"] == []


async def test_a_token_ends_by_itself(api: Api) -> None:
    _, secret = await make(api, ["read"], expires_in=1000)
    async with api.stranger(Authorization=f"Bearer {secret}") as client:
        assert (await client.get("/v1/whoami")).status_code == 200
        api.clock.at += 1000
        assert code(await client.get("/v1/whoami")) == "unauthorized"
    assert (await api.client.get("/v1/tokens")).json()["items"] == []
    await make(api, ["read"])
    with sqlite3.connect(api.store.database.path) as connection:
        assert connection.execute("SELECT count(*) FROM http_token").fetchone() == (1,)


async def test_a_stream_ends_with_its_token(api: Api) -> None:
    id, secret = await make(api, ["read"])
    async with serve(api) as server:
        url = f"http://127.0.0.1:{server.address[1]}/v1/stream"
        async with (
            httpx.AsyncClient() as client,
            client.stream("GET", url, headers={"Authorization": f"Bearer {secret}"}) as answer,
        ):
            assert answer.status_code == 200
            lines = answer.aiter_lines()
            while "sync" not in await anext(lines):
                pass
            await api.client.delete(f"/v1/tokens/{id}")
            await api.publish("not for this reader")
            async with asyncio.timeout(5):
                assert "not for this reader" not in "".join([line async for line in lines])


async def test_nobody_hands_on_what_it_does_not_have(api: Api) -> None:
    async with holder(api, "admin", "read") as client:
        answer = await client.post("/v1/tokens", json={"name": "x", "scopes": ["read", "private"]})
        assert code(answer) == "insufficient-scope"
        assert answer.json()["missing"] == "private"
        assert (await client.post("/v1/tokens", json={"name": "x", "scopes": ["admin"]})).status_code == 201


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "x"},
        {"name": "", "scopes": ["read"]},
        {"name": " ", "scopes": ["read"]},
        {"name": "a\nb", "scopes": ["read"]},
        {"name": "x" * 101, "scopes": ["read"]},
        {"name": 1, "scopes": ["read"]},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": "read"},
        {"name": "x", "scopes": ["READ"]},
        {"name": "x", "scopes": [["read"]]},
        {"name": "x", "scopes": [None]},
        {"name": "x", "scopes": ["read"], "expires_in": 0},
        {"name": "x", "scopes": ["read"], "expires_in": True},
        {"name": "x", "scopes": ["read"], "expires_in": "1"},
        {"name": "x", "scopes": ["read"], "expires_in": 1.5},
        {"name": "x", "scopes": ["read"], "expires_in": 2**63},
        {"name": "x", "scopes": ["read"], "more": 1},
    ],
)
@IN_MODULE
async def test_orders_that_do_not_fit(shared: Api, body: dict[str, object]) -> None:
    answer = await shared.client.post("/v1/tokens", json=body)
    assert answer.status_code == 422
    assert code(answer) == "invalid-body"


async def test_there_are_only_so_many(api: Api) -> None:
    row = "INSERT INTO http_token VALUES(?,?,?,?,?,?)"

    def fill(connection: sqlite3.Connection) -> None:
        connection.executemany(row, [(str(n), "x", str(n).encode(), "read", n, None) for n in range(MAX_TOKENS)])

    await api.store.database.write(fill)
    answer = await api.client.post("/v1/tokens", json={"name": "x", "scopes": ["read"]})
    assert code(answer) == "too-many-tokens"


@pytest.mark.parametrize("secret", ["sbot_", "sbot_" + "A" * 43, "sbot_" + "A" * 10_000, "sbot_\xff", "sbot_ x"])
@IN_MODULE
async def test_invented_tokens_are_refused(shared: Api, secret: str) -> None:
    async with shared.stranger() as stranger:
        headers = [(b"authorization", b"Bearer " + secret.encode("latin-1"))]
        assert code(await stranger.get("/v1/whoami", headers=headers)) == "unauthorized"


async def test_a_scope_that_only_a_newer_version_knows_counts_for_nothing(api: Api) -> None:
    digest = hashlib.sha256(b"sbot_new").digest()
    row = ("n", "x", digest, "read fly", 1, None)

    def insert(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO http_token VALUES(?,?,?,?,?,?)", row)

    await api.store.database.write(insert)
    async with api.stranger(Authorization="Bearer sbot_new") as client:
        assert (await client.get("/v1/whoami")).status_code == 200
        assert code(await client.get("/v1/tokens")) == "insufficient-scope"
    (listed,) = (await api.client.get("/v1/tokens")).json()["items"]
    assert listed["scopes"] == ["read"]
