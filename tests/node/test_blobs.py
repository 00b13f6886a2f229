"""`sbot blobs.*` and the settings of blobs, against a real node."""

import base64
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import NodeProcess

DATA = bytes(range(256)) * 2000


def blob_id(data: bytes) -> str:
    return f"&{base64.b64encode(hashlib.sha256(data).digest()).decode()}.sha256"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("node") / "a", "--blob-max-bytes", "600000") as running:
        yield running


def test_files_go_in_and_come_out(node: NodeProcess, tmp_path: Path) -> None:
    file = tmp_path / "photo.jpg"
    file.write_bytes(DATA)
    blob = node.ok("blobs.add", str(file))
    assert blob == blob_id(DATA)
    assert node.ok("blobs", "add", "-", stdin=b"from a pipe") == blob_id(b"from a pipe")
    assert node.ok("blobs.add", stdin=b"from a pipe") == blob_id(b"from a pipe")
    got = node.sbot("blobs.get", blob)
    assert (got.code, got.out) == (0, DATA)
    assert node.ok("blobs.has", blob) is True
    assert node.ok("blobs.has", blob, blob_id(b"nothing here")) == [True, False]
    assert node.ok("blobs.size", blob) == len(DATA)
    assert node.sbot("blobs.ls").values == [blob, blob_id(b"from a pipe")]
    (first, _) = node.sbot("blobs.ls", "--long").values
    assert (first["id"], first["size"]) == (blob, len(DATA))
    status, page = node.get("/v1/blobs")
    assert (status, [item["own"] for item in page["items"]]) == (200, [True, True])
    assert node.ok("blobs.rm", blob) is True
    assert node.ok("blobs.has", blob) is False


def test_what_goes_wrong_is_a_sentence(node: NodeProcess, tmp_path: Path) -> None:
    missing = blob_id(b"nothing here")
    for words, code in (
        (("blobs.get", missing), 4),
        (("blobs.size", missing), 4),
        (("blobs.rm", missing), 4),
        (("blobs.get", "&x"), 1),
        (("blobs.get",), 2),
        (("blobs.want",), 2),
        (("blobs.add", str(tmp_path / "none")), 1),
        (("blobs.add", str(tmp_path)), 1),
    ):
        done = node.sbot(*words)
        assert (done.code, done.out) == (code, b""), (words, done)
        assert done.err.startswith("sbot: ")
        assert "Traceback" not in done.err
    done = node.sbot("blobs.add", stdin=b"x" * 600_001)
    assert done.code == 1
    assert "the limit is 600000" in done.err


def test_wants_outlive_the_node(node: NodeProcess) -> None:
    blob = blob_id(b"wanted")
    assert node.ok("blobs.want", blob) is False
    node.kill()
    node.start()
    status, page = node.get("/v1/blobs?wanted=1")
    assert (status, [item["id"] for item in page["items"]]) == (200, [blob])
    assert node.ok("blobs.add", stdin=b"wanted") == blob
    assert node.ok("blobs.want", blob, "--wait") is True


def test_blobs_are_for_this_user_only(node: NodeProcess) -> None:
    folder = node.directory / "blobs"
    for path in (folder, *folder.rglob("*")):
        assert os.stat(path).st_mode & 0o077 == 0
