"""Arguments come from outside: whatever they are, a reading succeeds or refuses in words, and nothing else."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from feeds.message import JsonValue
from replication.errors import InvalidAddress, RemoteVisible
from replication.history import HistoryRequest
from replication.methods import ebt, gossip, history, links, options, replicate
from replication.methods.options import Bounds
from tests.support.peers import key

FEED = key("feed").id
NAMES = (
    *("id", "seq", "sequence", "live", "old", "limit", "keys", "values", "reverse", "sync", "gt", "gte", "lt", "lte"),
    *("type", "source", "dest", "rel", "meta", "version", "format", "address", "host", "port", "key", "state"),
)

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-2, 30)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from([FEED, FEED[1:-8], "classic", "@", "%", "net:h:1~shs:" + FEED[1:-8], "ssb:feed/ed25519/x"])
)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner))
arguments = st.lists(values | st.dictionaries(st.sampled_from(NAMES), values, max_size=8), max_size=3)

READINGS: list[Callable[[list[JsonValue]], Any]] = [
    history.history_request,
    lambda args: history.user_request(options.options(args, bare="id")),
    replicate.requested,
    ebt.check_options,
    gossip._address,
    gossip._peer_of,
    lambda args: options.shape(options.options(args)),
    lambda args: options.bounds(options.options(args)),
    lambda args: [links._end(options.options(args), name) for name in ("source", "dest")],
    options.feed_argument,
    lambda args: [options.message(arg) for arg in args],
]


@given(args=arguments)
def test_any_arguments_are_read_or_refused(args: list[JsonValue]) -> None:
    for reading in READINGS:
        with suppress(RemoteVisible, InvalidAddress):
            reading(args)


@given(args=arguments)
def test_what_was_read_makes_sense(args: list[JsonValue]) -> None:
    try:
        request = history.history_request(args)
    except RemoteVisible:
        return
    assert request.feed == FEED
    assert request.first >= 1
    assert request.limit is None or request.limit >= 0


@given(value=st.integers(-5, 5), low=st.integers(-5, 5), high=st.integers(-5, 5))
def test_bounds_divide_all_numbers(value: int, low: int, high: int) -> None:
    assert Bounds(gt=low).holds(value) is (value > low)
    assert Bounds(gte=low, lt=high).holds(value) is (low <= value < high)
    assert Bounds(gt=low, gte=high).holds(value) is (value > low and value >= high)
    assert Bounds(lte=high).beyond(value) is (value > high)
    assert Bounds(gt=low, gte=high).lowest == max(low, high)
    assert Bounds().holds(value)
    assert Bounds().lowest is None


def test_old_spellings_and_defaults() -> None:
    assert history.history_request([{"id": FEED}]) == HistoryRequest(FEED)
    assert history.history_request([FEED, 7, True]) == HistoryRequest(FEED, first=7, live=True)
    assert history.history_request([{"id": FEED, "seq": None, "sequence": 3}]).first == 3
    assert history.history_request([{"id": FEED, "seq": -1, "limit": -1}]) == HistoryRequest(FEED)
    assert history.history_request([{"id": FEED, "limit": 0}]).limit == 0
    uri = "ssb:feed/classic/" + FEED[1:-8].replace("+", "-").replace("/", "_")
    assert history.history_request([{"id": uri, "seq": 2.0}]).feed == FEED
    assert replicate.requested([FEED]) == {FEED: True}
    assert replicate.requested([FEED, None]) == {FEED: True}
