"""The notice after a commit."""

import asyncio

from feeds.live import Live


async def test_what_is_already_beyond_returns_at_once() -> None:
    live = Live(5)
    assert await live.wait_beyond(4) == 5
    assert live.position == 5


async def test_waiters_wake_when_the_log_has_passed_their_position() -> None:
    live = Live()
    waiting = [asyncio.create_task(live.wait_beyond(position)) for position in (0, 1, 2)]
    await asyncio.sleep(0)
    live.notify(2)
    assert await waiting[0] == await waiting[1] == 2
    await asyncio.sleep(0)
    assert not waiting[2].done()
    live.notify(3)
    assert await waiting[2] == 3


async def test_several_notices_in_one_turn_are_one_wake_at_the_last() -> None:
    live = Live()
    waiting = asyncio.create_task(live.wait_beyond(0))
    await asyncio.sleep(0)
    for position in (1, 2, 3):
        live.notify(position)
    assert await waiting == 3


async def test_old_news_is_ignored() -> None:
    live = Live(7)
    live.notify(7)
    live.notify(3)
    assert live.position == 7


async def test_a_cancelled_waiter_disturbs_nobody() -> None:
    live = Live()
    waiting = [asyncio.create_task(live.wait_beyond(0)) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    live.notify(1)
    assert await waiting[1] == 1
