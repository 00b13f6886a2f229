"""The key file: made once with a private mode, read in all its spellings, refused rather than replaced."""

import json
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feeds.keys import Keypair, format_key_file
from node import keyfile
from node.errors import KeyFileError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_identity_is_written_once_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    first = keyfile.load_or_create(path)
    assert mode(path) == 0o600
    text = path.read_bytes()
    assert keyfile.load_or_create(path) == first
    assert path.read_bytes() == text
    assert {item.name for item in tmp_path.iterdir()} == {"secret", "install", "publishing"}  # two of feeds.publishing


def test_there_may_be_no_file(tmp_path: Path) -> None:
    assert keyfile.load(tmp_path / "secret") is None


def test_comments_and_the_old_single_line_are_read(tmp_path: Path) -> None:
    pair = Keypair.generate(bytes(range(32)))
    path = tmp_path / "secret"
    path.write_text(format_key_file(pair))
    assert keyfile.load(path) == pair
    body = json.loads("".join(line for line in format_key_file(pair).splitlines(True) if not line.startswith("#")))
    path.write_text(body["private"] + "\n")
    assert keyfile.load(path) == pair


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"{}", b"# only a comment\n", b"\xff\xfe", b"null", b"[]", b"{" * 5000, b"a" * 70_000]
)
def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(data)
    with pytest.raises(KeyFileError, match=r"left as it is"):
        keyfile.load_or_create(path)
    assert path.read_bytes() == data


def test_halves_of_different_keys_are_refused_without_showing_them(tmp_path: Path) -> None:
    one, other = Keypair.generate(bytes(32)), Keypair.generate(bytes([1]) * 32)
    path = tmp_path / "secret"
    path.write_text(format_key_file(one).replace(one.id.removeprefix("@").removesuffix(".ed25519"), other.id[1:45]))
    with pytest.raises(KeyFileError) as caught:
        keyfile.load_or_create(path)
    body = format_key_file(one)
    secret = body[body.index('"private": "') + 12 :][:60]
    assert secret not in str(caught.value)


def test_a_directory_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    with pytest.raises(KeyFileError):
        keyfile.load_or_create(tmp_path / "secret")


def test_a_key_others_could_read_is_closed_and_a_stricter_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    keyfile.load_or_create(path)
    path.chmod(0o644)
    keyfile.load(path)
    assert mode(path) == 0o600
    path.chmod(0o400)
    keyfile.load(path)
    assert mode(path) == 0o400


@given(data=st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace")))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_is_in_the_file_only_the_documented_error_comes_out(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(data)
    with pytest.raises(KeyFileError):
        keyfile.load(path)


@given(position=st.integers(0, 10_000), flip=st.integers(1, 255))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_one_changed_byte_gives_the_same_identity_or_a_refusal(tmp_path: Path, position: int, flip: int) -> None:
    pair = Keypair.generate(bytes(range(32)))
    data = bytearray(format_key_file(pair).encode())
    data[position % len(data)] ^= flip
    path = tmp_path / "secret"
    path.write_bytes(data)
    try:
        found = keyfile.load(path)
    except KeyFileError:
        return
    assert found == pair
