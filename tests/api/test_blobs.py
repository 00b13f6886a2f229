"""Blobs over HTTP: uploads raw and by form, ranges, caching, what a browser may show, and hostile requests."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from api.boxed_blobs import box
from api.byte_ranges import ByteRange, Unsatisfiable, wanted_range
from api.media_types import TEXT, UNKNOWN, is_inline, media_type
from api.models import Blob, BlobAdded, BlobList, BlobReferenceList
from api.services import HttpSettings
from feeds.blobs import EMPTY
from tests.api.test_access import code
from tests.support.api import BLOB_SIZE, TOKEN, Api, connect, open_api, serve

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
NOBODYS = "&" + base64.b64encode(b"n" * 32).decode() + ".sha256"


def blob_id(data: bytes) -> str:
    return f"&{base64.b64encode(hashlib.sha256(data).digest()).decode()}.sha256"


def path(blob: str, rest: str = "") -> str:
    return f"/v1/blobs/{quote(blob, safe='')}{rest}"


def files(api: Api) -> list[Path]:
    return [file for file in (api.services.database.path.parent / "blobs").rglob("*") if file.is_file()]


async def add(api: Api, data: bytes) -> str:
    answer = await api.client.post("/v1/blobs", content=data)
    assert answer.status_code == 201, answer.text
    return BlobAdded.model_validate(answer.json()).id


# --- adding -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 70_000, 300_000, BLOB_SIZE])
async def test_raw_uploads_come_back_as_they_were(api: Api, size: int) -> None:
    data = (PNG * 1000)[:size]
    answer = await api.client.post("/v1/blobs", content=data, headers={"Content-Type": "image/svg+xml"})
    assert answer.status_code == 201
    kind = "image/png" if size > 8 else UNKNOWN
    assert answer.json() == {"id": blob_id(data), "size": size, "type": kind}
    assert answer.headers["etag"] == f'"{blob_id(data)}"'
    found = await api.client.get(answer.headers["location"])
    assert (found.status_code, found.content) == (200, data)
    assert found.headers["content-length"] == str(size)
    head = await api.client.head(answer.headers["location"])
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(size))


async def test_pieces_of_unknown_number(api: Api) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"0123456789" * 1000

    answer = await api.client.post("/v1/blobs", content=pieces())
    assert answer.json()["id"] == blob_id(b"0123456789" * 50_000)


async def test_forms(api: Api) -> None:
    for form in ({"file": ("../../x.png", PNG, "text/html")}, {"anything": ("x", PNG)}):
        answer = await api.client.post("/v1/blobs", files=form, data={"note": "hello", "z": "é"})
        assert (answer.status_code, answer.json()["id"]) == (201, blob_id(PNG)), answer.text
    big = b"b" * BLOB_SIZE
    answer = await api.client.post("/v1/blobs", files={"file": ("x", big)})
    assert answer.json() == {"id": blob_id(big), "size": BLOB_SIZE, "type": TEXT}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"--x--"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"--x--\r\n"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\nhi\r\n--x--'),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nhi'),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nhi\r\n' * 2 + b"--x--",
        ),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n" + b"y" * 70_000 + b"\r\n--x--"),
    ],
)
async def test_forms_that_are_none(api: Api, kind: str, body: bytes) -> None:
    answer = await api.client.post("/v1/blobs", content=body, headers={"Content-Type": kind})
    assert (answer.status_code, code(answer)) == (422, "invalid-body")
    assert files(api) == []


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("form", [True, False])
async def test_too_large(api: Api, announced: bool, form: bool) -> None:
    request = api.client.build_request("POST", "/v1/blobs", files={"file": ("x", b"x" * (BLOB_SIZE + 1))})
    whole = request.read() if form else b"x" * (BLOB_SIZE + 1)

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(whole), 65536):
            yield whole[at : at + 65536]

    headers = {"Content-Type": request.headers["content-type"]} if form else {}
    answer = await api.client.post("/v1/blobs", content=whole if announced else pieces(), headers=headers)
    assert (answer.status_code, code(answer)) == (413, "blob-too-large")
    assert answer.json()["limit"] == BLOB_SIZE
    assert files(api) == []


async def test_the_id_that_was_expected(api: Api) -> None:
    answer = await api.client.post("/v1/blobs", params={"id": blob_id(b"right")}, content=b"wrong")
    assert (answer.status_code, code(answer)) == (422, "blob-mismatch")
    assert (answer.json()["expected"], answer.json()["found"]) == (blob_id(b"right"), blob_id(b"wrong"))
    answer = await api.client.post("/v1/blobs", params={"id": "&x"}, content=b"wrong")
    assert (answer.status_code, code(answer)) == (400, "invalid-id")
    assert files(api) == []
    assert (await api.client.post("/v1/blobs", params={"id": blob_id(b"right")}, content=b"right")).status_code == 201


async def test_coded_bodies_are_refused(api: Api) -> None:
    answer = await api.client.post("/v1/blobs", content=b"x", headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, code(answer)) == (415, "unsupported-media-type")


async def test_uploads_that_are_cut_leave_nothing(api: Api) -> None:
    async with serve(api) as server:
        for framing in (b"Content-Length: 900000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n7A120\r\n"):
            async with connect(server) as (_, writer):
                head = b"POST /v1/blobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n" % TOKEN.encode()
                writer.write(head + framing + b"x" * 400_000)
                await writer.drain()
                await until(lambda: files(api))
            await until(lambda: not files(api))
    assert api.services.blobs.totals().blobs == 0


async def test_uploads_that_dawdle_are_cut(tmp_path: Path) -> None:
    async with open_api(tmp_path, HttpSettings(body_timeout=0.2)) as api, serve(api) as server:
        async with connect(server) as (reader, writer):
            head = b"POST /v1/blobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n" % TOKEN.encode()
            writer.write(head + b"Content-Length: 9\r\n\r\nxyz")
            answer = await asyncio.wait_for(reader.read(), 10)
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"body-timeout" in answer
        assert files(api) == []


async def until(condition: object, seconds: float = 10.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - files have no event
            await asyncio.sleep(0.01)


# --- reading ----------------------------------------------------------------------------------------------------------


async def test_ids_in_three_spellings(api: Api) -> None:
    blob = await add(api, PNG)
    bare = base64.urlsafe_b64encode(hashlib.sha256(PNG).digest()).decode()
    for spelled in (quote(blob, safe=""), blob, f"ssb:blob/classic/{bare}", f"ssb:blob:sha256:{bare}", bare):
        assert (await api.client.get(f"/v1/blobs/{spelled}")).content == PNG, spelled


async def test_caching(api: Api) -> None:
    blob = await add(api, PNG)
    answer = await api.client.get(path(blob))
    assert answer.headers["etag"] == f'"{blob}"'
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    for known in (f'"{blob}"', f'"x", W/"{blob}"', "*"):
        again = await api.client.get(path(blob), headers={"If-None-Match": known, "Range": "bytes=0-1"})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == f'"{blob}"'
    assert (await api.client.get(path(blob), headers={"If-None-Match": '"x"'})).status_code == 200
    missing = await api.client.get(path(NOBODYS), headers={"If-None-Match": "*"})
    assert missing.status_code == 404


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=999990-", 999_990, None),
        ("bytes=5-99999999999", 5, None),
        ("bytes=5-" + "9" * 30, 5, None),
        ("bytes=-1", -1, None),
        ("bytes=-999999999", 0, None),
        ("BYTES = 3 - 4", 3, 5),
        ("bytes=0-600000", 0, 600_001),
    ],
)
async def test_ranges(api: Api, asked: str, start: int, end: int | None) -> None:
    data = (PNG * 1000)[:BLOB_SIZE]
    blob = await add(api, data)
    answer = await api.client.get(path(blob), headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, data[start:end])
    first = start % BLOB_SIZE
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(answer.content) - 1}/{BLOB_SIZE}"
    assert answer.headers["content-length"] == str(len(answer.content))
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["etag"] == f'"{blob}"'
    head = await api.client.head(path(blob), headers={"Range": asked})
    assert (head.status_code, head.headers["content-range"]) == (206, answer.headers["content-range"])


@pytest.mark.parametrize("asked", ["bytes=1032-", "bytes=9999999999-99999999999", "bytes=-0"])
async def test_ranges_outside(api: Api, asked: str) -> None:
    blob = await add(api, PNG)
    answer = await api.client.get(path(blob), headers={"Range": asked})
    assert (answer.status_code, code(answer)) == (416, "range-not-satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(PNG)}"
    assert (await api.client.get(path(EMPTY), headers={"Range": "bytes=0-"})).status_code == 416


@pytest.mark.parametrize(
    "asked", ["bytes=5-4", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6", "", "bytes=" + "9" * 30 + "-"]
)
async def test_ranges_that_are_none_give_all(api: Api, asked: str) -> None:
    blob = await add(api, PNG)
    answer = await api.client.get(path(blob), headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, PNG)
    assert answer.headers["accept-ranges"] == "bytes"


async def test_if_range(api: Api) -> None:
    blob = await add(api, PNG)
    for given, status in (
        (f'"{blob}"', 206),
        ('"other"', 200),
        (f'W/"{blob}"', 200),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 200),
    ):
        answer = await api.client.get(path(blob), headers={"Range": "bytes=0-1", "If-Range": given})
        assert answer.status_code == status, given


def test_ranges_of_nothing() -> None:
    assert wanted_range("bytes=0-4", None, 10, None) == ByteRange(0, 5)
    assert wanted_range("bytes=0-4", '"x"', 10, None) is None
    assert wanted_range(None, None, 0, None) is None
    for asked in ("bytes=0-", "bytes=0-0", "bytes=-1"):
        with pytest.raises(Unsatisfiable):
            wanted_range(asked, None, 0, None)


HOSTILE = {
    b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>": UNKNOWN,
    b"<?xml version='1.0'?><svg/>": UNKNOWN,
    b"\xef\xbb\xbf <!DOCTYPE html><script>alert(1)</script>": UNKNOWN,
    b"   \n<html>": UNKNOWN,
    b"plain words <b>and</b> markup": UNKNOWN,
    b"plain words, \xc3\xa9t\xc3\xa9": TEXT,
    b"%PDF-1.7 <script>": "application/pdf",
    b"MZ\x00\x01": UNKNOWN,
    b"RIFF____AVI ": UNKNOWN,
    b"\x00\x00\x00\x18ftypqt  ": UNKNOWN,
    b"\xfe\xff\x00<\x00h\x00t\x00m\x00l": UNKNOWN,
    b"+ADw-script+AD4-": TEXT,
}
SHOWN = {
    PNG: "image/png",
    b"\xff\xd8\xff\xe0<script>": "image/jpeg",
    b"GIF89a<script>": "image/gif",
    b"RIFF____WEBPVP8 ": "image/webp",
    b"RIFF____WAVEfmt ": "audio/wav",
    b"\x00\x00\x00\x18ftypmp42": "video/mp4",
    b"\x00\x00\x00\x18ftypavif": "image/avif",
    b"\x00\x00\x00\x18ftypM4A ": "audio/mp4",
    b"\x1aE\xdf\xa3": "video/webm",
    b"OggS": "audio/ogg",
    b"fLaC": "audio/flac",
    b"ID3\x04": "audio/mpeg",
}


async def test_only_pictures_sound_and_films_are_shown_in_place(api: Api) -> None:
    for data, kind in (HOSTILE | SHOWN).items():
        answer = await api.client.get(path(await add(api, data)))
        assert answer.headers["content-type"] == kind, data
        assert answer.headers["content-disposition"] == ("inline" if data in SHOWN else "attachment"), data
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].endswith("; sandbox")
        assert "script-src" not in answer.headers["content-security-policy"]


def test_a_cut_character_does_not_hide_a_text() -> None:
    assert media_type(("x" + "é" * 400).encode()) == TEXT
    assert media_type(b"x\xc3") == UNKNOWN
    assert media_type(b"") == UNKNOWN
    assert not any(map(is_inline, (TEXT, UNKNOWN, "application/pdf", "text/html")))


async def test_boxed_blobs_are_opened_with_the_key_of_the_link(api: Api) -> None:
    content = PNG * 30
    key = hashlib.sha256(content).digest()
    blob = await add(api, box(content, key))
    spelled = base64.b64encode(key).decode()
    for given in (spelled + ".boxs", spelled, spelled.replace("+", " ")):
        answer = await api.client.get(path(blob), params={"unbox": given})
        assert (answer.status_code, answer.content) == (200, content)
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["cache-control"] == "no-store"
        assert "etag" not in answer.headers
    part = await api.client.get(path(blob), params={"unbox": spelled}, headers={"Range": "bytes=-5"})
    assert (part.status_code, part.content) == (206, content[-5:])
    for wrong in (base64.b64encode(b"k" * 32).decode(), "", "x", spelled + "x", spelled[:-4]):
        answer = await api.client.get(path(blob), params={"unbox": wrong})
        assert (answer.status_code, code(answer)) == (400, "invalid-parameter"), wrong
    cut = await add(api, box(content, key)[:-40])
    assert (await api.client.get(path(cut), params={"unbox": spelled})).status_code == 400


async def test_slow_readers_are_bounded(tmp_path: Path) -> None:
    data = b"x" * BLOB_SIZE
    async with open_api(tmp_path, HttpSettings(downloads=2)) as api, serve(api, stall_timeout=1.5) as server:
        blob = await add(api, data)
        ask = b"GET %b HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n\r\n" % (
            path(blob).encode(),
            TOKEN.encode(),
        )
        app = api.app
        async with connect(server) as (_, one), connect(server) as (_, two):
            for writer in (one, two):
                writer.write(ask * 20)
            await asyncio.sleep(0.3)  # until all buffers on the way are full
            await until(lambda: len(app.state.downloads) == 2)
            answer = await api.client.get(path(blob))
            assert (answer.status_code, code(answer)) == (429, "too-many-streams")
            assert (await api.client.get(path(blob), headers={"Range": "bytes=0-9"})).status_code == 206
            await until(lambda: not app.state.downloads)  # they read nothing, so they are cut
        assert (await api.client.get(path(blob))).content == data


# --- what is missing, and lists ---------------------------------------------------------------------------------------


async def test_a_missing_blob_is_wanted_from_then_on(api: Api) -> None:
    for _ in range(2):
        answer = await api.client.get(path(NOBODYS))
        assert (answer.status_code, code(answer), answer.json()["id"]) == (404, "blob-missing", NOBODYS)
    assert [(want.id, want.asked) for want in await api.services.blobs.wants()] == [(NOBODYS, False)]
    answer = await api.client.post(path(NOBODYS, "/want"))
    assert answer.status_code == 202
    assert Blob.model_validate(answer.json()).wanted
    noted = api.services.blobs.wanted(NOBODYS)
    assert noted is not None
    assert noted.asked
    assert (await api.client.delete(path(NOBODYS))).status_code == 204
    again = await api.client.delete(path(NOBODYS))
    assert (again.status_code, code(again)) == (404, "blob-missing")
    assert await api.services.blobs.wants() == []
    held = await api.client.post(path(await add(api, PNG), "/want"))
    assert (held.status_code, held.json()["held"]) == (200, True)


async def test_lists(api: Api) -> None:
    blobs = [await add(api, b"%d" % number) for number in range(5)]
    await api.services.blobs.add(b"foreign", own=False)
    await api.client.put(path(blobs[1], "/pin"))
    await api.client.get(path(NOBODYS))
    page = BlobList.model_validate((await api.client.get("/v1/blobs", params={"limit": 2})).json())
    assert [item.id for item in page.items] == blobs[:2]
    following = await api.client.get("/v1/blobs", params={"cursor": page.next, "own": 1})
    assert [item["id"] for item in following.json()["items"]] == blobs[2:]
    for params, expected in (
        ({"own": "0"}, [blob_id(b"foreign")]),
        ({"pinned": "1"}, [blobs[1]]),
        ({"pinned": "0", "own": "1", "order": "desc"}, [blobs[4], blobs[3], blobs[2], blobs[0]]),
        ({"wanted": "1"}, [NOBODYS]),
        ({"wanted": "1", "own": "1"}, []),
    ):
        answer = await api.client.get("/v1/blobs", params=params)
        assert [item.id for item in BlobList.model_validate(answer.json()).items] == expected, params
    lines = await api.client.get("/v1/blobs", headers={"Accept": "application/x-ndjson"})
    assert len(lines.text.splitlines()) == 6
    refused = await api.client.get("/v1/blobs", params={"cursor": page.next, "wanted": 1})
    assert code(refused) == "invalid-cursor"


async def test_pinning(api: Api) -> None:
    blob = await add(api, PNG)
    assert Blob.model_validate((await api.client.put(path(blob, "/pin"))).json()).pinned
    assert not Blob.model_validate((await api.client.delete(path(blob, "/pin"))).json()).pinned
    assert code(await api.client.put(path(NOBODYS, "/pin"))) == "blob-missing"
    assert (await api.client.put(path(EMPTY, "/pin"))).status_code == 200


async def test_removing(api: Api) -> None:
    blob = await add(api, PNG)
    assert (await api.client.delete(path(blob))).status_code == 204
    assert (await api.client.get(path(blob))).status_code == 404
    assert files(api) == []


@pytest.mark.parametrize(
    "hostile",
    [
        "..%2f..%2f..%2fsbot.db",
        "../../http-token",
        "%26..%2F..%2F..%2F..%2Fetc%2Fpasswd.sha256",
        "%26%00",
        "&" + "/" * 43 + "=.sha256",
        "%25" + NOBODYS[1:],
        "@" + NOBODYS[1:-6] + "ed25519",
        "x" * 3000,
        "%ff%fe",
        "a/want",
        "a/pin",
    ],
)
async def test_hostile_ids(api: Api, hostile: str) -> None:
    requests = [("GET", ""), ("HEAD", ""), ("DELETE", ""), ("POST", "/want"), ("PUT", "/pin"), ("DELETE", "/pin")]
    for method, rest in requests:
        url = httpx.URL("http://127.0.0.1:8989").copy_with(raw_path=f"/v1/blobs/{hostile}{rest}".encode())
        answer = await api.client.request(method, url)
        assert 400 <= answer.status_code < 500, (method, answer.text)
    assert await api.services.blobs.wants() == []


async def test_a_dry_run_tells_which_blobs_are_missing(api: Api) -> None:
    blob = await add(api, PNG)
    body = {"content": {"type": "post", "text": f"![x]({blob}) ![y]({NOBODYS})"}}
    answer = await api.client.post("/v1/messages?dry_run=1", json=body)
    assert answer.json()["blobs"] == [blob, NOBODYS]
    assert answer.json()["missing_blobs"] == [NOBODYS]


async def test_strangers_see_no_blob(api: Api) -> None:
    blob = await add(api, PNG)
    async with api.stranger() as stranger:
        for method, url in (("GET", path(blob)), ("POST", "/v1/blobs"), ("DELETE", path(blob)), ("GET", path(NOBODYS))):
            assert (await stranger.request(method, url)).status_code == 401
    assert await api.services.blobs.wants() == []


# --- references -------------------------------------------------------------------------------------------------------


async def test_messages_that_name_a_blob(tmp_path: Path) -> None:
    blob, key = blob_id(b"named"), "K+/" + "a" * 40 + "=.boxs"
    async with open_api(tmp_path) as api:
        contents: tuple[dict[str, Any], ...] = (
            {"type": "post", "text": f"![cat]({blob}?unbox={key})"},
            {"type": "post", "text": "no", "\ud800": {"link": f"{blob}?unbox=\ud801"}},
            {"type": "about", "about": api.services.me, "image": blob},
        )
        for content in contents:
            await api.services.ingest.publish(content)
        first = (await api.client.get(path(blob, "/references?limit=2"))).json()
        rest = (await api.client.get(path(blob, f"/references?limit=2&cursor={first['next']}"))).json()
        found = [*BlobReferenceList.model_validate(first).items, *BlobReferenceList.model_validate(rest).items]
        assert [(item.value["sequence"], item.path, item.unbox) for item in found] == [
            (3, "image", None),
            (2, "\\ud800.link", "\\ud801"),
            (1, "text", key),
        ]
        assert rest["next"] is None
        answer = await api.client.get(path(blob, "/references?order=asc"))
        assert [item["key"] for item in answer.json()["items"]] == [item.key for item in reversed(found)]
        assert (await api.client.get(path(NOBODYS, "/references"))).json() == {"items": [], "next": None}
        assert (await api.client.get("/v1/blobs/nonsense/references")).status_code == 400
