"""Care of the store over HTTP: views made anew, the file written anew."""

import asyncio
import fcntl
import re
from typing import Any

import pytest

from api.models import BackedUp, Reindexing, Status, Vacuumed
from feeds.backup import read_backup, restore
from tests.api.test_access import code
from tests.api.test_documents import PAGE
from tests.support import builders
from tests.support.api import Api
from tests.support.stores import VIEWS

IN_MODULE = pytest.mark.asyncio(loop_scope="module")


async def test_all_views_are_made_anew_while_lists_go_on(api: Api) -> None:
    await api.receive(*builders.chain("one", 60).texts)
    (own,) = await api.publish("gardening with friends")
    lists = (
        "/v1/messages?type=post",
        "/v1/timelines/public",
        "/v1/threads",
        "/v1/search?q=gardening",
        "/v1/names?q=na",
    )
    before = [(await api.client.get(path)).json() for path in lists]
    assert all(page["items"] for page in before)
    answer = await api.client.post("/v1/admin/reindex", json={})
    assert answer.status_code == 202
    begun = Reindexing.model_validate(answer.json())
    assert begun.views == [view.name for view in VIEWS]
    assert begun.messages == 61
    index = Status.model_validate((await api.client.get("/v1/status")).json()).index
    assert index.behind == dict.fromkeys(begun.views, 61)
    assert not index.ready
    for path in lists:
        assert (await api.client.get(path)).status_code == 200
    whole = asyncio.Event()
    api.store.indexer.when_rebuilt("search", whole.set)
    following = asyncio.create_task(api.store.indexer.follow())
    await asyncio.wait_for(whole.wait(), 10)
    following.cancel()
    assert (await api.client.get("/v1/status")).json()["index"]["ready"]
    assert [(await api.client.get(path)).json() for path in lists] == before
    found = await api.client.get("/v1/search", params={"q": "gardening", "author": api.me})
    assert [item["key"] for item in found.json()["items"]] == [own]


async def test_some_views_or_all_without_a_body(api: Api) -> None:
    answer = await api.client.post("/v1/admin/reindex", json={"views": ["votes", "search"]})
    assert answer.json() == {"views": ["votes", "search"], "messages": 0}
    answer = await api.client.post("/v1/admin/reindex")
    assert answer.status_code == 202
    assert len(answer.json()["views"]) == len(VIEWS)
    assert api.store.indexer.behind == {}


@pytest.mark.parametrize(
    "body",
    [
        {"views": []},
        {"views": ["nonsense"]},
        {"views": ["votes", "message; DROP TABLE message"]},
        {"views": [1]},
        {"views": "votes"},
        {"views": {"votes": True}},
        {"view": ["votes"]},
    ],
)
@IN_MODULE
async def test_other_views_are_refused(shared: Api, body: dict[str, Any]) -> None:
    answer = await shared.client.post("/v1/admin/reindex", json=body)
    assert answer.status_code == 422
    assert code(answer) == "invalid-body"


async def test_vacuum_says_how_much_it_freed(api: Api) -> None:
    await api.receive(*builders.chain("one", 60).texts)

    def shrink(connection: Any) -> None:
        connection.execute("CREATE TABLE big(x)")
        connection.executemany("INSERT INTO big VALUES(?)", [("x" * 10_000,)] * 200)

    await api.store.database.write(shrink)
    await api.store.database.write(lambda connection: connection.execute("DROP TABLE big"))
    answer = await api.client.post("/v1/admin/vacuum")
    assert answer.status_code == 200
    assert Vacuumed.model_validate(answer.json()).freed_bytes > 1_000_000
    assert len((await api.client.get("/v1/messages?limit=100")).json()["items"]) == 60
    assert (await api.publish("still here"))[0].startswith("%")


async def test_a_backup_lies_in_the_data_directory_and_is_brought_up_to_date(api: Api) -> None:
    await api.publish("one")
    folder = api.store.database.path.parent
    for body, place in ((None, "main"), ({}, "main"), ({"directory": "a-2"}, "a-2")):
        answer = await api.client.post("/v1/admin/backup", json=body)
        assert answer.status_code == 200
        made = BackedUp.model_validate(answer.json())
        assert (made.directory, made.feed, made.sequence) == (f"backups/{place}", api.me, 1)
        assert read_backup(folder / "backups" / place).sequence == 1
        assert not (folder / "backups" / place / "secret").exists()
    await api.publish("two")
    assert (await api.client.post("/v1/admin/backup")).json()["sequence"] == 2
    assert restore(folder / "backups" / "main", folder / "restored").backup.sequence == 2


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/tmp/x", "a" * 65, "-x", "a\n", "a.b", "\x00", "é", 1, ["a"]])
@IN_MODULE
async def test_no_backup_goes_elsewhere(shared: Api, name: object) -> None:
    answer = await shared.client.post("/v1/admin/backup", json={"directory": name})
    assert (answer.status_code, code(answer)) == (422, "invalid-body")
    assert not (shared.store.database.path.parent / "backups").exists()


async def test_a_second_backup_at_the_same_time_is_told_to_wait(api: Api) -> None:
    assert (await api.client.post("/v1/admin/backup")).status_code == 200
    with (api.store.database.path.parent / "backups" / "main" / "backup.lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        answer = await api.client.post("/v1/admin/backup")
        assert (answer.status_code, code(answer)) == (409, "backup-running")


def test_the_page_names_every_view() -> None:
    section = PAGE.partition("\n## Care\n")[2].partition("\n## ")[0].replace("\n", " ")
    (named,) = re.findall(r"\(all, or `views`: ([^)]*)\)", section)
    assert re.findall(r"`(\w+)`", named) == [view.name for view in VIEWS]


@pytest.mark.parametrize("path", ["/v1/admin/reindex", "/v1/admin/vacuum", "/v1/admin/backup"])
@IN_MODULE
async def test_nobody_without_the_token(shared: Api, path: str) -> None:
    async with shared.stranger() as client:
        assert (await client.post(path)).status_code == 401
    assert (await shared.client.get(path)).status_code == 405


async def test_the_doctor_says_whether_anything_failed(api: Api) -> None:
    answer = (await api.client.get("/v1/doctor")).json()
    assert answer["ok"] is False
    assert [check["check"] for check in answer["checks"]] == ["directory", "peers"]


async def test_the_doctor_mends_and_says_what(api: Api) -> None:
    answer = (await api.client.post("/v1/doctor")).json()
    assert answer["ok"] is False
    assert [check["fixed"] for check in answer["checks"]] == ["chmod", None]
