"""A call that hangs is one thread, whoever asks."""

from __future__ import annotations

import asyncio
import threading

import pytest
from waiting import eventually

from redistill.workers.web.shared_call import SharedCall


def test_who_asks_while_a_call_is_under_way_shares_it() -> None:
    go, calls = threading.Event(), []

    def slow() -> int:
        calls.append(threading.get_ident())
        go.wait()
        return len(calls)

    shared = SharedCall(slow)

    async def ask() -> list[int]:
        waiting = [asyncio.ensure_future(shared.answer(within=60)) for _ in range(50)]
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await shared.answer(within=0.01)
        assert shared.waiting_seconds() > 0
        go.set()
        return await asyncio.gather(*waiting)

    assert asyncio.run(ask()) == [1] * 50  # nobody's impatience was another's
    assert shared.waiting_seconds() == 0
    assert asyncio.run(shared.answer(within=60)) == 2


def test_answer_is_kept_for_a_while_and_a_failure_is_not() -> None:
    """Whoever scraped in a loop had the database read without end."""
    now, calls = [0.0], list[float]()

    def count() -> int:
        calls.append(now[0])
        if now[0] == 2.0:
            raise OSError("no")
        return len(calls)

    shared = SharedCall(count, keep_seconds=1.0, clock=lambda: now[0])
    assert [asyncio.run(shared.answer(within=60)) for _ in range(100)] == [1] * 100
    now[0] = 0.9
    assert asyncio.run(shared.answer(within=60)) == 1
    now[0] = 1.0
    assert asyncio.run(shared.answer(within=60)) == 2
    now[0] = 2.0
    for _ in range(2):
        with pytest.raises(OSError, match="no"):
            asyncio.run(shared.answer(within=60))
    assert calls == [0.0, 1.0, 2.0, 2.0]


def test_what_a_call_raises_reaches_who_asked() -> None:
    def broken() -> int:
        raise OSError("no")

    shared = SharedCall(broken)
    for _ in range(2):
        with pytest.raises(OSError, match="no"):
            asyncio.run(shared.answer(within=60))


def test_a_call_that_hangs_keeps_no_process() -> None:
    go = threading.Event()
    shared = SharedCall(go.wait)
    with pytest.raises(TimeoutError):
        asyncio.run(shared.answer(within=0.01))
    asker = next(t for t in threading.enumerate() if t.name == "asks")
    assert asker.daemon
    go.set()
    eventually(lambda: not asker.is_alive())
