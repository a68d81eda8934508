"""What a child of a fork is spared: held locks, and sessions whose threads are not there."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from functools import partial

import pytest
from waiting import PATIENCE_SECONDS

from redistill.streams.client import forks


def in_child(test: Callable[[], object]) -> None:
    """Fails unless something is true in a child of a fork."""
    if (pid := os.fork()) == 0:
        os._exit(0 if test() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_fork_waits_for_guarded_code() -> None:
    inside, order = threading.Event(), []

    def load() -> None:
        with forks.guarded():
            inside.set()
            left.wait(PATIENCE_SECONDS)
            order.append("loaded")

    left = threading.Event()
    thread = threading.Thread(target=load)
    thread.start()
    inside.wait(PATIENCE_SECONDS)
    threading.Timer(0.05, left.set).start()
    in_child(lambda: order == ["loaded"])
    thread.join()


def test_fork_waits_no_longer_than_that_and_the_child_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forks, "FORK_SECONDS", 0.01)
    inside, left = threading.Event(), threading.Event()

    def hang() -> None:
        with forks.guarded():
            inside.set()
            left.wait(PATIENCE_SECONDS)

    thread = threading.Thread(target=hang)
    thread.start()
    inside.wait(PATIENCE_SECONDS)
    in_child(lambda: forks._lock.acquire(timeout=0))
    left.set()
    thread.join()
    with forks.guarded():  # nor is the parent's lock lost
        in_child(
            lambda: forks._lock.acquire(timeout=0)
        )  # a thread may fork in its own guarded code


def test_each_process_has_its_own_mark() -> None:
    here = forks.process()
    assert forks.process() is here
    in_child(lambda: forks.process() is not here)


def test_objects_renew_what_is_theirs_in_the_child_whatever_befalls_one_of_them() -> None:
    class Part:
        def __init__(self, *, breaks: bool = False) -> None:
            self.breaks, self.renewed = breaks, 0
            forks.in_child(self, Part.renew)

        def renew(self) -> None:
            if self.breaks:
                raise RuntimeError
            self.renewed += 1

        def was_renewed(self, times: int) -> bool:
            return self.renewed == times

    broken, part = Part(breaks=True), Part()
    in_child(partial(part.was_renewed, 1))
    assert part.was_renewed(0), "the parent keeps what it has"
    gone = weakref.ref(part)
    del part, broken
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(("line", "freed"), [("", "freed"), ("forks.keep((None, it))", "")])
def test_what_is_kept_is_not_freed_when_the_interpreter_ends(line: str, freed: str) -> None:
    program = f"""
import os
from redistill.streams.client import forks
class Loud:
    def __del__(self, write=os.write): write(1, b"freed")
it = Loud()
{line}
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, freed, "")
