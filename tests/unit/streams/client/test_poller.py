"""The thread of a model client: woken or by the clock, and never in anybody's way."""

from __future__ import annotations

import gc
import threading
import time
import weakref

from waiting import PATIENCE_SECONDS, eventually

from redistill.streams.client.poller import Poller

NEVER = 3_600.0


class Owner:
    def __init__(self, seconds: float = NEVER, *, rounds: int = 1_000_000) -> None:
        self.done = 0
        self.rounds = rounds
        self.poller = Poller(self.work, seconds=seconds, name="test")

    def work(self) -> bool:
        self.done += 1
        return self.done < self.rounds


def test_works_each_time_it_is_woken_and_at_once_if_it_was_before() -> None:
    owner = Owner()
    owner.poller.wake()
    owner.poller.start()
    eventually(lambda: owner.done == 1)
    owner.poller.wake()
    eventually(lambda: owner.done == 2)


def test_works_every_so_many_seconds_until_it_is_done() -> None:
    owner = Owner(0.01, rounds=3)
    owner.poller.start()
    eventually(lambda: not owner.poller.alive)
    assert owner.done == 3
    owner.poller.start()  # it may be started again
    eventually(lambda: owner.done == 4)


def test_starting_twice_starts_one() -> None:
    owner = Owner()
    before = threading.active_count()
    owner.poller.start()
    owner.poller.start()
    assert threading.active_count() == before + 1


def test_owner_that_is_forgotten_goes_and_its_thread_with_it() -> None:
    owner = Owner(0.01)
    owner.poller.start()
    thread, gone = owner.poller._thread, weakref.ref(owner)
    del owner
    eventually(lambda: gc.collect() >= 0 and gone() is None)
    assert thread is not None
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


def test_the_thread_itself_may_join() -> None:
    class Joining(Owner):
        def work(self) -> bool:
            self.poller.join()
            return super().work()

    owner = Joining(0.01, rounds=1)
    owner.poller.start()
    owner.poller.join()
    assert (owner.done, owner.poller.alive) == (1, False)


def test_who_pauses_in_its_work_is_woken() -> None:
    """Closing a model client waited for up to two seconds."""
    owner = Owner()
    poller = owner.poller
    since = time.monotonic()
    threading.Timer(0.05, poller.wake).start()
    poller.pause(60.0)
    assert time.monotonic() - since < 30.0
    poller.pause(0.01)  # that wake is used up: it lasts as long as it should
