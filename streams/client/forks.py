"""Fork guard: what ONNX Runtime does not survive when a process forks, and how it is spared that.

``fork()`` leaves a child with one thread, and with the locks and sessions of all the others as they
stood. A lock that another thread held is held for ever there; a session with threads of its own has
none any more, and whoever frees it waits for them to end, or crashes. So no fork happens while
:func:`guarded` code runs, and what a child inherits is never freed (:func:`keep`).
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

__all__ = ["guarded", "in_child", "keep", "process"]

T = TypeVar("T")

FORK_SECONDS = 30.0
"""Longest wait of a fork for guarded code, which takes milliseconds for a small model: the limited
child that tries a release may take as long."""

_lock = threading.RLock()
_forking = threading.local()
_process = object()
_renewals: weakref.WeakKeyDictionary[Any, Callable[[Any], None]] = weakref.WeakKeyDictionary()


@contextmanager
def guarded() -> Iterator[None]:
    """No fork of this process happens meanwhile, unless it was waited for too long."""
    lock = _lock  # a child has another one
    with lock:
        yield


def in_child(owner: T, renew: Callable[[T], None]) -> None:
    """Call a function of an object in each child of a fork, in the order of these calls, for as
    long as the object lives: the function must not keep it alive, as a bound method does."""
    _renewals[owner] = renew


def keep(what: object) -> None:
    """Never free an object in this process, not even when the interpreter ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(what))


def process() -> object:
    """What stands for this process: another object in each child, where a number may come again."""
    return _process


def _before() -> None:
    _forking.waited = _lock.acquire(timeout=FORK_SECONDS)


def _after_in_parent() -> None:
    if _forking.waited:
        _lock.release()


def _after_in_child() -> None:
    global _lock, _process
    _lock, _process = threading.RLock(), object()
    for owner, renew in list(_renewals.items()):
        with suppress(Exception):  # the others' locks have to be renewed all the same
            renew(owner)


os.register_at_fork(
    before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)
