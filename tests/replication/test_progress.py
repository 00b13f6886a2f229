"""How fast it goes and how long it will take."""

import pytest

from node.commands.status import progress
from replication.progress import Rate


def test_the_rate_is_that_of_the_last_seconds_and_tells_what_is_left() -> None:
    rate = Rate(0.0, 100)
    assert (rate.per_second, rate.left(10)) == (0.0, None)
    for second in range(1, 11):
        rate.measure(float(second), 100 + 50 * second)
    assert rate.per_second == 50.0
    assert [rate.left(missing) for missing in (0, 1, 50, 51, 5000)] == [0, 1, 1, 2, 100]
    for second in range(11, 30):
        rate.measure(float(second), 600)
    assert (rate.per_second, rate.left(10)) == (0.0, None)


@pytest.mark.parametrize(
    ("missing", "rate", "left", "text"),
    [
        (0, 0.0, 0, "up to date, 50 messages"),
        (150, 0.0, None, "syncing, 50 of 200 messages (25%), nothing comes at present"),
        (150, 12.5, 12, "syncing, 50 of 200 messages (25%), 12.5 a second, about 12 seconds left"),
        (150, 1.0, 9000, "syncing, 50 of 200 messages (25%), 1 a second, about 2 hours left"),
    ],
)
def test_the_line_for_people(missing: int, rate: float, left: int | None, text: str) -> None:
    messages = {"wanted": 50 + missing, "held": 50, "missing": missing, "per_second": rate, "seconds_left": left}
    assert progress({"state": "syncing" if missing else "up to date", "messages": messages}) == text
