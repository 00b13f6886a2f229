"""Back-off of webhooks: bounded, growing, spread, paused in the end."""

from hypothesis import given
from hypothesis import strategies as st

from api.webhook_schedule import FRESH, Patience, Progress, failed, seconds_left

PATIENCE = Patience(first=5, longest=3600, spread=0.5, failures=10)


def fail(progress: Progress, now: float, chance: float = 0.0, *, gone: bool = False) -> Progress:
    return failed(progress, "no answer", now=now, chance=chance, patience=PATIENCE, gone=gone)


def test_waits_double_up_to_the_longest() -> None:
    progress, waits = FRESH, []
    for _ in range(9):
        progress = fail(progress, 1000.0)
        waits.append(seconds_left(progress, now=1000.0, patience=PATIENCE))
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 1280]
    assert not progress.paused
    last = fail(progress, 1000.0)
    assert last == Progress(10, None, True, "no answer")


def test_a_server_that_wants_no_more_is_left_alone_at_once() -> None:
    assert fail(FRESH, 0.0, gone=True) == Progress(1, None, True, "no answer")


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True), st.floats(0, 4e9))
def test_each_wait_is_within_its_bounds(failures: int, chance: float, now: float) -> None:
    patience = Patience(failures=20_000)
    progress = failed(Progress(failures), "x", now=now, chance=chance, patience=patience, gone=False)
    left = seconds_left(progress, now=now, patience=patience)
    whole = min(patience.first * 2.0 ** min(failures, 62), patience.longest)
    assert whole * 0.5 - 1e-6 <= left <= whole + 1e-6
    assert progress.failures == failures + 1


def test_a_clock_that_is_turned_back_delays_nobody_for_years() -> None:
    progress = fail(FRESH, 1_700_000_000.0)
    assert seconds_left(progress, now=0.0, patience=PATIENCE) == 3600
    assert seconds_left(progress, now=1_800_000_000.0, patience=PATIENCE) == 0


def test_nothing_to_wait_for_at_first() -> None:
    assert seconds_left(FRESH, now=0.0, patience=PATIENCE) == 0
