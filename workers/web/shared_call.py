"""Shared call: one thread asks what may hang, and everybody who wants to know waits a little.

A database that accepts connections and answers nothing holds up whoever asks it. If each request
asked by itself, forty of them would take the threads that serve files.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

__all__ = ["SharedCall"]

T = TypeVar("T")


class SharedCall(Generic[T]):
    """A function that is run by one thread at a time.

    Parameters
    ----------
    call
        Asks; may take any time, or for ever.
    keep_seconds
        How long an answer is as good as a new one: whoever asks all the time costs no more than
        one question in that time.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        call: Callable[[], T],
        *,
        keep_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._call = call
        self._clock = clock
        self._lock = threading.Lock()
        self._asked: Future[T] | None = None
        self._asked_at = 0.0
        self._keep_seconds = keep_seconds

    def waiting_seconds(self) -> float:
        """How long the call under way has taken; 0 where there is none."""
        with self._lock:
            away = self._asked is not None and not self._asked.done()
            return self._clock() - self._asked_at if away else 0.0

    async def answer(self, *, within: float) -> T:
        """The answer of the call that is under way, or of a new one.

        Parameters
        ----------
        within
            Seconds to wait for it; the call goes on.

        Raises
        ------
        TimeoutError
            There is none yet.
        """
        asked = asyncio.wrap_future(self._share())
        # the call belongs to others, too: whoever stops waiting does not cancel it
        asked.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.wait_for(asyncio.shield(asked), within)

    def _share(self) -> Future[T]:
        with self._lock:
            if self._asked is not None and (not self._asked.done() or self._is_new(self._asked)):
                return self._asked
            made: Future[T] = Future()
            self._asked = made
            self._asked_at = self._clock()
        made.set_running_or_notify_cancel()
        threading.Thread(target=self._ask, args=(made,), name="asks", daemon=True).start()
        return made

    def _is_new(self, asked: Future[T]) -> bool:
        age = self._clock() - self._asked_at
        return age < self._keep_seconds and asked.exception() is None

    def _ask(self, made: Future[T]) -> None:
        try:
            made.set_result(self._call())
        except BaseException as error:  # it is raised where the answer is waited for
            made.set_exception(error)
