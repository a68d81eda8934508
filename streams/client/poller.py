"""Poller: the thread that does its owner's work when it is woken, and every so many seconds."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

__all__ = ["Poller"]

_JOIN_SECONDS = 5.0


class Poller:
    """A daemon thread for a method. It keeps no owner alive that nobody else wants.

    Parameters
    ----------
    work
        A bound method; returns whether to go on. It must not raise.
    seconds
        Between two calls when nobody wakes it.
    name
        The thread's.
    """

    def __init__(self, work: Callable[[], bool], *, seconds: float, name: str) -> None:
        self._work = weakref.WeakMethod(work)
        self._seconds = seconds
        self._name = name
        self._woken = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start, unless it runs. One that was woken before works at once."""
        if not self.alive:
            args = (self._work, self._woken, self._seconds)
            self._thread = threading.Thread(target=_run, args=args, name=self._name, daemon=True)
            self._thread.start()

    def wake(self) -> None:
        """Work now, or once more after the work that is under way."""
        self._woken.set()

    def pause(self, seconds: float) -> None:
        """Wait within the work, not longer than until somebody wakes us."""
        if self._woken.wait(seconds):
            self._woken.clear()

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self._thread is not None and self._thread.is_alive()

    def join(self) -> None:
        """Wait a little for the thread to end, unless this is the thread."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=_JOIN_SECONDS)


def _run(
    reference: weakref.WeakMethod[Callable[[], bool]], woken: threading.Event, seconds: float
) -> None:
    """Body of the thread: holds no reference while it waits."""
    going = True
    while going:
        woken.wait(seconds)
        woken.clear()
        work = reference()
        going = work is not None and work()
        del work
