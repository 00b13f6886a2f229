"""Command lines: the free form of the old sbot, and the strict one of our own commands."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.arguments import free, strict, unquoted, word_value
from node.errors import UsageError


def test_free_options_become_the_json_values_they_look_like() -> None:
    found = free(
        ["--type", "post", "--count", "3", "--ratio", "0.5", "--live", "--no-old", "--done", "true", "--left", "false"]
    )
    assert found.options == {
        "type": "post",
        "count": 3,
        "ratio": 0.5,
        "live": True,
        "old": False,
        "done": True,
        "left": False,
    }


def test_dotted_keys_nest_and_repeated_keys_make_a_list() -> None:
    found = free(
        ["--address.host", "example.org", "--address.port", "8008", "--branch", "a", "--branch", "b", "--branch", "c"]
    )
    assert found.options == {"address": {"host": "example.org", "port": 8008}, "branch": ["a", "b", "c"]}


def test_json_objects_and_lists_are_read_and_broken_ones_stay_text() -> None:
    found = free(["--mentions", '[{"link":"@x"}]', '--vote={"value":1}', "--note", "[not json"])
    assert found.options == {"mentions": [{"link": "@x"}], "vote": {"value": 1}, "note": "[not json"}


def test_text_fields_are_never_read_as_numbers() -> None:
    assert free(["--text", "2024", "--name", "true"], texts={"text", "name"}).options == {
        "text": "2024",
        "name": "true",
    }


@pytest.mark.parametrize(
    "text", ["007", "+5", "1_000", "0x10", "1.", ".5", "1e999", "123456789012345678901", "-0", "", "nan"]
)
def test_what_json_would_not_print_back_stays_text(text: str) -> None:
    assert word_value(text) == text


@pytest.mark.parametrize(("text", "value"), [("-1", -1), ("9007199254740992", 2**53), ("1e3", 1000.0), ("0", 0)])
def test_numbers(text: str, value: float) -> None:
    assert word_value(text) == value


def test_a_value_may_begin_with_a_dash_but_not_look_like_an_option() -> None:
    assert free(["--limit", "-1", "--text", "- a list", "--live"]).options == {
        "limit": -1,
        "text": "- a list",
        "live": True,
    }
    assert free(["--text=--loud"]).options == {"text": "--loud"}


def test_a_switch_takes_no_positional_word() -> None:
    found = free(["--live", "@feed", "--reverse", "false"], switches={"live", "reverse"})
    assert found.words == ("@feed",)
    assert found.options == {"live": True, "reverse": False}


def test_two_dashes_end_the_options() -> None:
    assert free(["--a", "1", "--", "--b", "2"]).words == ("--b", "2")
    assert strict(["--", "--b"], valued=(), command="x").words == ("--b",)


@pytest.mark.parametrize(
    "argv", [["--a", "1", "--a.b", "2"], ["--a.b", "1", "--a", "2"], ["--a..b", "1"], ["--a.", "1"]]
)
def test_contradicting_names_are_usage_errors(argv: list[str]) -> None:
    with pytest.raises(UsageError):
        free(argv)


def test_strict_takes_only_what_it_knows() -> None:
    found = strict(
        ["file", "--port", "0", "--http-port=1", "--no-lan", "--live", "--allow", "a", "--allow", "b"],
        valued={"port", "http-port"},
        switches={"lan", "live"},
        repeated={"allow"},
        command="start",
    )
    assert found.words == ("file",)
    assert found.values == {"port": "0", "http-port": "1", "lan": "false", "live": "true"}
    assert found.lists == {"allow": ["a", "b"]}
    assert found.on("live")
    assert not found.on("lan")


@pytest.mark.parametrize("argv", [["--nope"], ["--port"], ["-p", "1"], ["--lan=yes"], ["--no-port"]])
def test_strict_names_the_unknown_and_the_incomplete(argv: list[str]) -> None:
    with pytest.raises(UsageError, match=r"sbot start --help"):
        strict(argv, valued={"port"}, switches={"lan"}, command="start")


@given(
    st.lists(st.text(max_size=12) | st.sampled_from(["--a", "--a.b", "--a=1", "--", "1", "[", "--no-a"]), max_size=8)
)
@settings(max_examples=200)
def test_any_words_give_json_values_or_a_usage_error(argv: list[str]) -> None:
    try:
        found = free(argv, switches={"live"})
    except UsageError:
        return
    json.dumps(found.options, allow_nan=False)


def test_an_id_may_have_the_quotes_of_json() -> None:
    blob = "&" + "A" * 43 + "=.sha256"
    assert unquoted(f'"{blob}"') == unquoted(blob) == blob
    for word in ('"', '""', '"hello"', '"&.sha256', f'"{blob}" ', '"@x"'):
        assert unquoted(word) == word
