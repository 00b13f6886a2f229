"""Logs: their two forms, and no traceback unless somebody debugs."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from node.log_setup import set_up


@pytest.fixture(autouse=True)
def _root_logger_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raising = list(root.handlers), root.level, logging.raiseExceptions
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising


def fail(logger: logging.Logger) -> None:
    try:
        raise ValueError("bad\nthing")
    except ValueError:
        logger.exception("could not %s", "sing")


def test_text_lines_have_time_level_and_place_and_no_traceback() -> None:
    stream = io.StringIO()
    set_up(form="text", level="info", stream=stream)
    logger = logging.getLogger("feeds.x")
    logger.debug("unseen")
    logger.info("hello %d", 5)
    fail(logger)
    first, second = stream.getvalue().splitlines()
    assert first.endswith(" INFO feeds.x: hello 5")
    assert second.endswith(r" ERROR feeds.x: could not sing (ValueError: bad\nthing)")


def test_json_lines_are_objects() -> None:
    stream = io.StringIO()
    set_up(form="json", level="warning", stream=stream)
    logger = logging.getLogger("feeds.x")
    logger.info("unseen")
    fail(logger)
    record = json.loads(stream.getvalue())
    assert record["level"] == "error"
    assert record["logger"] == "feeds.x"
    assert "trace" not in record


@pytest.mark.parametrize("form", ["text", "json"])
def test_level_debug_shows_where(form: str) -> None:
    stream = io.StringIO()
    set_up(form=form, level="debug", stream=stream)
    fail(logging.getLogger("x"))
    assert "Traceback" in stream.getvalue()


def test_a_closed_standard_error_is_no_reason_to_fail() -> None:
    stream = io.StringIO()
    set_up(form="text", level="info", stream=stream)
    stream.close()
    logging.getLogger("x").warning("nobody hears this")
