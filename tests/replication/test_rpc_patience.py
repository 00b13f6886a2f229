"""Patience with silent and dripping peers, with the time as an argument."""

from replication.limits import Limits
from replication.rpc.patience import Patience

LIMITS = Limits(half_frame_timeout=60, silence_timeout=600)


def look(patience: Patience, now: float, *, partial: bool = False, reading: bool = True) -> bool:
    """Whether the peer is cut off."""
    return patience.exhausted(now, partial=partial, reading=reading) is not None


def test_silence_is_borne_for_its_time() -> None:
    patience = Patience(LIMITS, 0)
    assert not look(patience, 600)
    assert look(patience, 601)
    patience.heard(601, whole=True, received=10)
    assert not look(patience, 1200)
    assert look(patience, 1202)


def test_while_we_do_not_read_nobody_is_silent() -> None:
    patience = Patience(LIMITS, 0)
    for now in range(0, 10_000, 100):
        assert not look(patience, now, partial=True, reading=False)
    assert not look(patience, 10_050, partial=True)


def test_a_frame_may_take_its_time_from_when_it_was_begun() -> None:
    patience = Patience(LIMITS, 0)
    assert not look(patience, 500, partial=True)
    assert not look(patience, 560, partial=True)
    assert look(patience, 561, partial=True)


def test_dripping_is_no_progress_and_completed_frames_are() -> None:
    dripping, steady = Patience(LIMITS, 0), Patience(LIMITS, 0)
    for now in range(0, 60, 5):
        dripping.heard(now, whole=False, received=now)
        steady.heard(now, whole=True, received=now)
        assert not look(dripping, now, partial=True)
        assert not look(steady, now, partial=True)
    assert look(dripping, 66, partial=True)
    assert not look(steady, 66, partial=True)


def test_a_large_frame_on_a_slow_line_is_allowed() -> None:
    patience = Patience(LIMITS, 0)
    for now in range(0, 2000, 20):
        patience.heard(now, whole=False, received=now * 2000)
        assert not look(patience, now, partial=True)


def test_looks_are_frequent_enough_for_the_shorter_limit() -> None:
    assert Patience(LIMITS, 0).pause == 15
    assert Patience(Limits(silence_timeout=4), 0).pause == 1
