"""The waiting times between dials."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.backoff import Backoff


def test_no_failure_no_wait() -> None:
    assert Backoff().delay(0, 0.5) == 0.0


def test_grows_from_the_minimum_to_the_maximum() -> None:
    backoff = Backoff(minimum=1, maximum=60, factor=2)
    assert [backoff.delay(failures, 0.0) for failures in range(1, 10)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_constant_wait() -> None:
    backoff = Backoff(minimum=5, maximum=60, factor=1)
    assert [backoff.delay(failures, 0.0) for failures in (1, 2, 1000)] == [5, 5, 5]
    assert Backoff(minimum=5, maximum=5).delay(3, 0.0) == 5


def test_jitter_takes_up_to_the_spread_off() -> None:
    backoff = Backoff(minimum=10, spread=0.4)
    assert backoff.delay(1, 0.0) == 10
    assert backoff.delay(1, 0.5) == pytest.approx(8)
    assert backoff.delay(1, 1.0) == pytest.approx(6)


@given(st.integers(1, 10**9), st.floats(0, 1), st.floats(1, 100), st.floats(0.001, 1e6), st.floats(0, 1e6))
def test_every_wait_is_within_bounds_and_none_shorter_for_more_failures(
    failures: int, jitter: float, factor: float, minimum: float, more: float
) -> None:
    backoff = Backoff(minimum=minimum, maximum=minimum + more, factor=factor, spread=0.5)
    wait = backoff.delay(failures, jitter)
    assert math.isfinite(wait)
    assert minimum * 0.5 * 0.999 <= wait <= (minimum + more)
    assert wait <= backoff.delay(failures + 1, jitter) * 1.001


@pytest.mark.parametrize("jitter", [-0.1, 1.1, math.nan])
def test_refuses_jitter_out_of_range(jitter: float) -> None:
    with pytest.raises(ValueError, match="jitter"):
        Backoff().delay(1, jitter)


@pytest.mark.parametrize(
    "figures",
    [
        {"minimum": 0},
        {"minimum": -1},
        {"minimum": 10, "maximum": 5},
        {"maximum": math.inf},
        {"factor": 0.5},
        {"factor": math.nan},
        {"spread": 1.0},
        {"spread": -0.1},
        {"steady": -1},
    ],
)
def test_refuses_figures_that_make_no_schedule(figures: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="back-off needs"):
        Backoff(**figures)


def test_only_a_lasting_connection_resets_the_count() -> None:
    backoff = Backoff(steady=30)
    assert backoff.failed(0) == 1
    assert backoff.failed(4) == 5
    assert backoff.ended(4, lasted=29.9) == 5
    assert backoff.ended(4, lasted=30.0) == 0
    assert backoff.ended(0, lasted=0.0) == 1


def test_a_peer_that_accepts_and_hangs_up_is_dialled_ever_more_rarely() -> None:
    backoff = Backoff(minimum=1, maximum=600)
    failures, now, dials = 0, 0.0, 0
    while now < 3600:
        dials += 1
        failures = backoff.ended(failures, lasted=0.1)
        now += backoff.delay(failures, 0.5)
    assert dials < 20
