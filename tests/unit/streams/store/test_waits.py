"""Waits of a process' threads: the longest counts, and nobody waits once all have their answers."""

from __future__ import annotations

import threading

from waiting import eventually

from redistill.streams.store.waits import Waits


def test_longest_wait_is_that_of_whoever_began_first() -> None:
    waits, go = Waits(), threading.Event()
    assert waits.longest() == 0.0

    def wait() -> None:
        waits.begin()
        go.wait(60)
        waits.end()

    other = threading.Thread(target=wait)
    other.start()
    eventually(lambda: waits.longest() > 0.05, every=0.01)
    waits.begin()
    first = waits.longest()
    assert first > 0.05
    go.set()
    other.join()
    assert waits.longest() > 0.0
    waits.end()
    assert waits.longest() == 0.0
