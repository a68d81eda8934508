from __future__ import annotations

import time

from redistill.compress.judge.latency import MIN_ROUNDS, WARM_UP_ROUNDS, interleaved


def test_interleaved_calls_take_turns_and_each_starts_in_turn() -> None:
    order: list[str] = []
    interleaved([lambda: order.append("a"), lambda: order.append("b")], rounds=MIN_ROUNDS)
    counted = order[2 * WARM_UP_ROUNDS :]
    assert counted[:4] == ["a", "b", "b", "a"]
    assert counted.count("a") == counted.count("b") == MIN_ROUNDS


def test_interleaved_tells_a_slow_call_from_a_fast_one_and_keeps_its_budget() -> None:
    def burn(milliseconds: float) -> None:
        until = time.thread_time() + milliseconds / 1e3
        while time.thread_time() < until:
            pass

    began = time.process_time()
    slow, fast = interleaved([lambda: burn(2.0), lambda: burn(0.5)], rounds=10_000, budget_s=0.1)
    assert 1.9 < slow.p50_ms < 4.0
    assert 0.45 < fast.p50_ms < 1.5
    assert slow.calls < 100
    assert time.process_time() - began < 1.0


def test_interleaved_does_not_count_time_spent_asleep() -> None:
    (asleep,) = interleaved([lambda: time.sleep(0.002)], rounds=MIN_ROUNDS)
    assert asleep.p50_ms < 1.0
