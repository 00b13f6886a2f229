"""multipart/form-data: any cut gives the same parts, any damage is refused and nothing else is raised."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.multipart import MultipartError, MultipartReader, PartBegins, PartData, boundary_of

Parts = list[tuple[str, bool, bytes]]

names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)
data = st.one_of(
    st.binary(max_size=60), st.sampled_from([b"\r\n", b"--", b"\r\n--", b"\r\n--edg", b"\r\n\r\n", b"--edge"])
)
some_parts = st.lists(st.tuples(names, st.booleans(), st.lists(data, max_size=4).map(b"".join)), max_size=5)


def body(parts: Parts, boundary: bytes = b"edge") -> bytes:
    made = []
    for name, is_file, content in parts:
        shown = f'form-data; name="{name}"' + ('; filename="a b.png"' if is_file else "")
        made.append(b"--%b\r\nContent-Disposition: %b\r\n\r\n%b\r\n" % (boundary, shown.encode(), content))
    return b"".join(made) + b"--%b--\r\n" % boundary


def read(pieces: list[bytes], boundary: bytes = b"edge") -> Parts:
    reader = MultipartReader(boundary)
    found: list[tuple[str, bool, bytearray]] = []
    for piece in pieces:
        for event in reader.feed(piece):
            if isinstance(event, PartBegins):
                found.append((event.name, event.is_file, bytearray()))
            else:
                assert isinstance(event, PartData)
                found[-1][2].extend(event.data)
    reader.finish()
    return [(name, is_file, bytes(content)) for name, is_file, content in found]


def cut(whole: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({0, len(whole), *(place % (len(whole) + 1) for place in places)})
    return [whole[start:end] for start, end in pairwise(ends)]


@settings(max_examples=150, deadline=None)
@given(some_parts, st.lists(st.integers(0, 10**6), max_size=30), st.sampled_from([b"", b"ignored\r\n"]))
def test_any_cut_gives_the_same_parts(parts: Parts, places: list[int], before: bytes) -> None:
    parts = [part for part in parts if b"\r\n--edge" not in b"\r\n" + part[2]]
    assert read(cut(before + body(parts) + b"epilogue", places)) == parts


@settings(max_examples=150, deadline=None)
@given(some_parts, st.integers(0, 10**6), st.binary(max_size=6), st.lists(st.integers(0, 10**6), max_size=9))
def test_damage_raises_one_thing_only(parts: Parts, at: int, patch: bytes, places: list[int]) -> None:
    whole = bytearray(body(parts))
    at %= len(whole)
    whole[at : at + len(patch)] = patch
    outcomes = []
    for pieces in ([bytes(whole)], cut(bytes(whole), places)):
        try:
            outcomes.append(read(pieces))
        except MultipartError:
            outcomes.append([])
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"--edge",
        b"--edge--"[:-1],
        b"--other\r\n\r\nx\r\n--other--",
        b"--edgex\r\n\r\n\r\n--edge--",
        b"--edge\r\nContent-Disposition: form-data\r\n\r\nx",
        b"--edge\r\n" + b"x" * 20_000,
        b"x" * 20_000,
        b"--edge" + b" " * 20_000,
        b"--edge\r\n\r\n\r\n" * 40 + b"--edge--",
    ],
)
def test_what_is_refused(broken: bytes) -> None:
    with pytest.raises(MultipartError):
        read([broken])
    with pytest.raises(MultipartError):
        read([bytes([byte]) for byte in broken])


def test_little_is_held_back() -> None:
    reader = MultipartReader(b"edge")
    reader.feed(b"--edge\r\n\r\n")
    assert sum(len(event.data) for event in reader.feed(b"x" * 100_000) if isinstance(event, PartData)) > 99_990


@pytest.mark.parametrize(
    ("parameters", "boundary"),
    [
        ("boundary=abc", b"abc"),
        (' boundary="a b=c"', b"a b=c"),
        ("charset=utf-8; BOUNDARY=----WebKitFormBoundaryAbC ", b"----WebKitFormBoundaryAbC"),
    ],
)
def test_boundaries(parameters: str, boundary: bytes) -> None:
    assert boundary_of(parameters) == boundary


@pytest.mark.parametrize(
    "parameters", ["", "boundary=", 'boundary=""', "boundary=" + "x" * 71, "boundary=é", 'boundary="a ']
)
def test_no_boundaries(parameters: str) -> None:
    with pytest.raises(MultipartError):
        boundary_of(parameters)
