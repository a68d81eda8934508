"""Model client: the model in a production service. It answers, follows the signed pointer, and
stays up.

``predict`` takes one reference to what serves and never waits. A background thread, woken by
pointer events and by a poll, reads the signed repository, tries a new release in a limited child,
loads it, runs its golden inputs, and then replaces that one reference. Whatever fails, what serves
goes on serving.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from redistill.quiet import Quiet
from redistill.streams.client import forks
from redistill.streams.client.answers import Prediction, answer, answer_all
from redistill.streams.client.cache import reason
from redistill.streams.client.fetch import Repository
from redistill.streams.client.loader import Loader, Serving
from redistill.streams.client.poller import Poller
from redistill.streams.client.release import PointerFile
from redistill.streams.client.session import Row
from redistill.streams.errors import ReleaseError
from redistill.streams.wire.events import PointerMoved, VersionActivated

__all__ = ["ModelClient"]

log = logging.getLogger("redistill.client")

HURRY_SECONDS = (0.0, 0.05, 0.2, 0.5, 1.0, 2.0)
"""Waits before reading again when an event names a newer pointer than the repository shows."""
FORKED_SECONDS = 30.0
"""How long the first calls in a forked child wait for the model to be loaded there: the limited
child that tries a release may take as long."""


class Wakeup(Protocol):
    """What a logger offers a model client (``PredictionLogger`` does)."""

    def on_pointer(self, model: str, callback: Callable[[PointerMoved], None]) -> None:
        """Call back, on any thread, when the model's pointer was announced."""

    def report(self, event: VersionActivated) -> None:
        """Send an event; never raises."""


class ModelClient:
    """A model that follows its signed pointer.

    Parameters
    ----------
    name
        Name of the model.
    repository
        Folder or ``http(s)://`` address of the signed repository.
    trust
        What ``redistill keys export`` wrote: path or bytes.
    fallback
        What serves while no release could be loaded yet: an ONNX file (with a ``manifest.json``
        beside it, or ``features`` in the graph's order and as numbers only) or a release's folder.
        Bytes of a known release serve under its version; others as version ``fallback``,
        unmonitored. It is opened at each start, needed or not: one that cannot be used should not
        be found at night.
    log
        The service's ``PredictionLogger``: wakes this client, and reports what it activated.
    token, ca
        For a repository over HTTP.
    poll_s
        Seconds between looks at the repository without an event.
    cache
        Folder for metadata and releases; processes may share it. Like every path it is taken from
        where the process stands now, wherever it goes later.
    threads
        Threads of ONNX Runtime for one call.

    Raises
    ------
    ReleaseError
        Nothing can serve (no release could be loaded, none is in the cache, and there is no
        fallback), or the fallback cannot be used. Afterwards nothing raises but wrong arguments and
        rows without an answer (see ``last_error``), and the calls of a forked child that cannot
        load what its parent served.

    Notes
    -----
    After ``fork()`` the child loads its session anew and starts its own thread at its first call.
    A fork waits while a session is being loaded, which takes milliseconds for a small model.
    """

    def __init__(
        self,
        name: str,
        *,
        repository: str | Path,
        trust: str | Path | bytes,
        fallback: str | Path | None = None,
        log: Wakeup | None = None,
        token: str | None = None,
        ca: str | None = None,
        poll_s: float = 30.0,
        cache: str | Path | None = None,
        threads: int = 1,
    ) -> None:
        if not 0 < poll_s <= threading.TIMEOUT_MAX:
            raise ValueError("poll_s: seconds above 0 were expected")
        self.name = name
        self.last_error: str | None = None
        """Why the newest pointer could not be followed, or not be kept in the cache; ``None`` when
        all is well."""
        self._quiet = Quiet()
        self._repository = Repository(repository, trust, cache=cache, token=token, ca=ca)
        self._fallback = None if fallback is None else Path(fallback).expanduser().absolute()
        self._log = log
        self._poll_s = poll_s
        self._threads = threads
        self._instance = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._serving: Serving | None = None
        self._previous: Serving | None = None
        self._inherited: Serving | None = None  # what the process served that we were forked from
        self._pointer: PointerFile | None = None
        self._unsaved: PointerFile | None = None  # followed, and not noted in the cache
        self._loader = Loader(self._repository, name, threads=threads, retry_s=poll_s)
        self._wanted = 0
        self._closed = False
        self._renew()
        self._begin()
        forks.in_child(self, ModelClient._forked)
        if log is not None:
            method = weakref.WeakMethod(self._announced)  # a logger must not keep clients alive
            log.on_pointer(name, lambda event: _call(method, event))
        self._poller.start()

    # --- answering ---------------------------------------------------------------------------

    def predict(self, features: Row) -> Prediction:
        """Answer one request.

        Parameters
        ----------
        features
            Value per feature by name (absent and ``None`` mean missing), or all of them in the
            schema's order.

        Raises
        ------
        ValueError
            A sequence of the wrong length; the text of a category, which a bare fallback
            does not know.
        NoAnswer
            The graph answers NaN for this row, as many do where a feature is missing. It is a
            ``ValueError`` about this row, other rows are answered. It is never a class: that would
            be acted on.
        """
        return answer(self._serving or self._resume(), self.name, features)

    def predict_batch(self, rows: Sequence[Row]) -> list[Prediction]:
        """Answer many requests with one call of the graph; all by the same version.

        Raises
        ------
        ValueError
            As :meth:`predict` does. ``NoAnswer.rows`` are the indices of the rows that the graph
            answers with NaN: without them the others are answered.
        """
        return answer_all(self._serving or self._resume(), self.name, rows)

    @property
    def version(self) -> str:
        """What serves."""
        return (self._serving or self._resume()).version

    @property
    def epoch(self) -> int:
        """Epoch of the pointer that serves; 0 for a fallback."""
        return (self._serving or self._resume()).epoch

    @property
    def sha256(self) -> str:
        """SHA-256 of the ``model.onnx`` that serves."""
        return (self._serving or self._resume()).sha256

    # --- following the pointer ---------------------------------------------------------------

    def refresh(self) -> bool:
        """Look at the repository now.

        Returns
        -------
        bool
            Whether another version serves than before. Failures leave what serves and are told in
            ``last_error``.
        """
        return self._attempt(self._look)

    def close(self) -> None:
        """Stop following; ``predict`` still answers."""
        self._closed = True
        self._poller.wake()
        self._poller.join()
        self._repository.close()

    def __enter__(self) -> ModelClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self) -> None:
        """Find something that can serve: the pointer's release, the cached one, the fallback."""
        self.refresh()
        if self._serving is None and (cached := self._loader.from_cache()) is not None:
            self._activate(cached)
        if self._fallback is not None:
            fallback = self._opened(self._fallback)
            if self._serving is None:
                self._activate(fallback)
        if self._serving is None:
            raise ReleaseError(
                f"no version of {self.name} can serve: {self.last_error}; declare a fallback to "
                "start without the repository"
            )

    def _opened(self, path: Path) -> Serving:
        try:
            return self._loader.fallback(path, self._pointer)
        except ReleaseError as error:
            told = f"the fallback {path} of {self.name} cannot be used: {error}"
            if self.last_error is not None:
                told += f"; and no release could be loaded: {self.last_error}"
            raise ReleaseError(told) from error

    def _attempt(self, work: Callable[[], bool]) -> bool:
        with self._lock:
            try:
                return work()
            except ReleaseError as error:
                self._complain(str(error))
            except Exception as error:  # a thread that keeps a service up to date must not die
                self._complain(f"{type(error).__name__}: {error}")
            self._tried.set()  # whoever waits in a forked child is told what was complained about
            return False

    def _look(self) -> bool:
        self._revive()
        swapped = self._follow()
        if (trouble := self._save() or self._repository.trouble) is not None:
            self._complain(trouble)
        elif self.last_error is not None:
            self.last_error = None
            log.info("model %s: well again", self.name)
        return swapped

    def _follow(self) -> bool:
        pointer = self._repository.pointer(self.name)
        old = self._serving
        seen = max(0 if old is None else old.epoch, self._epoch_seen())
        if pointer.epoch < seen:
            raise ReleaseError(
                f"the pointer's epoch went back from {seen} to {pointer.epoch}: refused"
            )
        self._pointer = pointer
        if old is not None and old.manifest_sha256 == pointer.manifest_sha256:
            if old.epoch != pointer.epoch:
                self._activate(old.pointed(pointer))
                self._unsaved = pointer
            return False
        kept = self._previous
        if kept is not None and kept.manifest_sha256 == pointer.manifest_sha256:
            self._activate(kept.here(self._threads).pointed(pointer))
        else:
            self._activate(self._loader.load(pointer))
        self._unsaved = pointer
        return True

    def _activate(self, new: Serving) -> None:
        old = self._serving
        if old is not None and old.session is not new.session:
            with forks.guarded():  # the one before is freed
                self._previous = old
        self._serving = new  # one reference: a concurrent predict sees the old or the new
        serving = (self.name, new.version, new.epoch, new.sha256[:12])
        log.info("model %s: version %s serves (epoch %d, sha256 %s)", *serving)
        if self._log is not None:
            self._log.report(
                VersionActivated(
                    model=self.name,
                    instance_id=self._instance,
                    version=new.version,
                    sha256=new.sha256,
                    epoch=new.epoch,
                    previous=None if old is None else old.version,
                    at=datetime.now(UTC),
                )
            )

    def _save(self) -> str | None:
        """Note in the cache what serves; why that is not possible, and it is tried again."""
        if self._unsaved is not None:
            keep = {s.manifest_sha256 for s in (self._serving, self._previous) if s is not None}
            try:
                self._loader.remember(self._unsaved, keep)
            except OSError as error:  # the swap is done: only a restart would miss it
                return f"the cache cannot be written: {reason(error)}; a restart may miss the swap"
            self._unsaved = None
        return None

    def _complain(self, message: str) -> None:
        if message != self.last_error and self._quiet.ask(message[:80]) is not None:
            serving = self._serving or self._inherited
            what = "nothing serves yet" if serving is None else f"{serving.version} goes on serving"
            log.warning("model %s: %s; %s", self.name, message, what)
        self.last_error = message

    # --- the thread, and processes that fork ----------------------------------------------------

    def _announced(self, event: PointerMoved) -> None:
        """A pointer event: only a reason to look."""
        if event.epoch > max(self._wanted, self._epoch_seen()):
            self._wanted = event.epoch
            self._poller.wake()

    def _epoch_seen(self) -> int:
        return 0 if self._pointer is None else self._pointer.epoch

    def _round(self) -> bool:
        """What the thread does each time it wakes; whether it goes on."""
        for wait in HURRY_SECONDS:
            if wait:
                self._poller.pause(wait)
            if self._closed:
                self._attempt(self._revive)  # what serves goes on serving, in a child as well
                return False
            self.refresh()
            if self._epoch_seen() >= self._wanted:
                break
        self._wanted = min(self._wanted, self._epoch_seen())
        return True

    def _renew(self) -> None:
        """Locks and the thread of this process."""
        self._instance = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._lock = threading.Lock()
        self._first_call = threading.Lock()
        self._first_called: float | None = None
        self._tried = threading.Event()  # whether what was inherited was loaded, or could not be
        self._poller = Poller(self._round, seconds=self._poll_s, name=f"redistill-{self.name}")

    def _forked(self) -> None:
        """In the child of a fork: sessions, locks and connections belong to the parent."""
        forks.keep((self._serving, self._previous, self._inherited))
        self._inherited, self._serving = self._serving or self._inherited, None
        self._renew()
        self._repository.reopen()

    def _resume(self) -> Serving:
        """A call before this process has a session of its own: the thread loads what the parent
        served, and follows the pointer from then on. Whatever becomes of it, a caller is told.
        """
        with self._first_call:
            if not self._poller.alive:
                self._tried.clear()
                self._first_called = time.monotonic()
                self._poller.wake()
                self._poller.start()
            end = (self._first_called or 0.0) + FORKED_SECONDS
        self._tried.wait(max(0.0, end - time.monotonic()))
        serving = self._serving
        if serving is None:
            why = self.last_error if self._tried.is_set() else f"not within {FORKED_SECONDS:g} s"
            raise ReleaseError(
                f"{self.name}: what serves where this process was forked from cannot be loaded"
                f" here: {why}"
            )
        return serving

    def _revive(self) -> bool:
        """Load what was inherited, if anything was; whether that was needed."""
        if self._inherited is None or self._serving is not None:
            return False
        self._activate(self._inherited.here(self._threads))
        self._tried.set()
        return True


def _call(method: weakref.WeakMethod[Any], event: PointerMoved) -> None:
    bound = method()
    if bound is not None:
        bound(event)
