"""What commands print, to programs and to terminals."""

import io
import json

import pytest

from node.output import Output, clean, dump


def written(pretty: bool = False) -> tuple[Output, io.BytesIO]:
    stream = io.BytesIO()
    return Output(stream, pretty=pretty), stream


def test_json_values_come_one_a_line_with_their_own_spelling() -> None:
    output, stream = written()
    output.json_texts([b'{"n":1e21,\n"s":"\xe2\x80\xa8"}', b"[1.50]", b'"a\\nb"'])
    lines = stream.getvalue().split(b"\n")
    assert lines == [b'{"n":1e21, "s":"\xe2\x80\xa8"}', b"[1.50]", b'"a\\nb"', b""]


@pytest.mark.parametrize("value", [2**70, "\ud800", {"a": [None, True, 1.5, "é"]}])
def test_every_json_value_can_be_printed(value: object) -> None:
    assert json.loads(dump(value)) == value


@pytest.mark.parametrize("char", ["\x1b", "\x00", "\r", "\x7f", "\x9b", "\u202e", "\u2066", "\ud800"])
def test_text_of_others_cannot_steer_the_terminal(char: str) -> None:
    assert clean(f"a{char}b") == "a\ufffdb"


def test_harmless_text_stays() -> None:
    assert clean("Grüße, 世界 🦀") == "Grüße, 世界 🦀"
    assert clean("a\nb") == "a\ufffdb"
    assert clean("a\nb\x1b", keep_lines=True) == "a\nb\ufffd"


def test_fields_and_pretty_json_are_cleaned_and_aligned() -> None:
    output, stream = written(pretty=True)
    output.fields([("id", "@a"), ("name", "x\x1b[2J")])
    output.pretty_json({"text": "\u202eabc"})
    text = stream.getvalue().decode()
    assert "id    @a\nname  x\ufffd[2J\n" in text
    assert "\u202e" not in text


def test_a_table_is_drawn_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output, _ = written(pretty=True)
    output.table(("name", "count"), [("bob\x1b[31m", 3), ("[bold]eve", 4)])
    shown = capsys.readouterr().out
    assert "\x1b[31m" not in shown
    assert "[bold]eve" in shown  # text is text, never markup
