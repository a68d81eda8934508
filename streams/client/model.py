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

from redistill.streams.client.answers import Prediction, answer, answer_all
from redistill.streams.client.fetch import Repository
from redistill.streams.client.loader import Loader, Serving
from redistill.streams.client.release import PointerFile
from redistill.streams.client.session import Row
from redistill.streams.errors import ReleaseError
from redistill.streams.wire.events import PointerMoved, VersionActivated

__all__ = ["ModelClient"]

log = logging.getLogger("redistill.client")

HURRY_SECONDS = (0.0, 0.05, 0.2, 0.5, 1.0, 2.0)
"""Waits before reading again when an event names a newer pointer than the repository shows."""


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
        rows without an answer: see ``last_error``.

    Notes
    -----
    After ``fork()`` the child loads its session anew and starts its own thread at its first call.
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
        """Why the newest pointer could not be followed; ``None`` when all is well."""
        self._repository = Repository(repository, trust, cache=cache, token=token, ca=ca)
        self._fallback = None if fallback is None else Path(fallback).expanduser().absolute()
        self._log = log
        self._poll_s = poll_s
        self._threads = threads
        self._instance = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._serving: Serving | None = None
        self._previous: Serving | None = None
        self._last: Serving | None = None
        self._pointer: PointerFile | None = None
        self._loader = Loader(self._repository, name, threads=threads, retry_s=poll_s)
        self._wanted = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        self._renew_locks()
        self._begin()
        _CLIENTS.add(self)
        if log is not None:
            method = weakref.WeakMethod(self._announced)  # a logger must not keep clients alive
            log.on_pointer(name, lambda event: _call(method, event))
        self._start()

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
        with self._lock:
            try:
                swapped = self._follow()
            except ReleaseError as error:
                self._complain(str(error))
                return False
            except Exception as error:  # a thread that keeps a service up to date must not die
                self._complain(f"{type(error).__name__}: {error}")
                return False
            self.last_error = None
            return swapped

    def close(self) -> None:
        """Stop following; ``predict`` still answers."""
        self._closed = True
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5)
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

    def _follow(self) -> bool:
        pointer = self._repository.pointer(self.name)
        old = self._serving or self._last
        seen = max(
            0 if old is None else old.epoch, 0 if self._pointer is None else self._pointer.epoch
        )
        if pointer.epoch < seen:
            raise ReleaseError(
                f"the pointer's epoch went back from {seen} to {pointer.epoch}: refused"
            )
        self._pointer = pointer
        if old is not None and old.manifest_sha256 == pointer.manifest_sha256:
            if old.epoch != pointer.epoch:
                self._activate(old.pointed(pointer))
                self._remember(pointer)
            return False
        kept = self._previous
        if kept is not None and kept.manifest_sha256 == pointer.manifest_sha256:
            self._activate(kept.pointed(pointer))
            self._remember(pointer)
            return True
        self._activate(self._loader.load(pointer))
        self._remember(pointer)
        return True

    def _activate(self, new: Serving) -> None:
        old = self._serving
        if old is not None and old.session is not new.session:
            self._previous = old
        self._last = new
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

    def _remember(self, pointer: PointerFile) -> None:
        keep = {s.manifest_sha256 for s in (self._serving, self._previous) if s is not None}
        try:
            self._loader.remember(pointer, keep)
        except OSError as error:  # the swap is done: only a restart would miss it
            log.warning("model %s: the cache cannot be written: %s", self.name, error)

    def _complain(self, message: str) -> None:
        if message != self.last_error:
            serving = self._serving
            what = "nothing" if serving is None else serving.version
            log.warning("model %s: %s; %s goes on serving", self.name, message, what)
        self.last_error = message

    # --- the thread ----------------------------------------------------------------------------

    def _announced(self, event: PointerMoved) -> None:
        """A pointer event: only a reason to look."""
        if event.epoch > max(self._wanted, self._epoch_seen()):
            self._wanted = event.epoch
            self._wake.set()

    def _epoch_seen(self) -> int:
        return 0 if self._pointer is None else self._pointer.epoch

    def _start(self) -> None:
        self._thread = threading.Thread(
            target=_run,
            args=(weakref.ref(self), self._wake),
            name=f"redistill-{self.name}",
            daemon=True,
        )
        self._thread.start()

    def _renew_locks(self) -> None:
        self._lock = threading.Lock()
        self._resume_lock = threading.Lock()
        self._wake = threading.Event()
        self._thread = None

    def _round(self) -> None:
        """What the thread does each time it wakes."""
        for wait in HURRY_SECONDS:
            if self._closed:
                return
            if wait:
                time.sleep(wait)
            self.refresh()
            if self._epoch_seen() >= self._wanted:
                break
        self._wanted = min(self._wanted, self._epoch_seen())

    def _forked(self) -> None:
        """In the child of a fork: sessions, locks and connections belong to the parent."""
        self._renew_locks()
        self._repository.reopen()
        self._last = self._serving or self._last
        self._serving = self._previous = None
        self._instance = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"

    def _resume(self) -> Serving:
        """First call after a fork: load what the parent served, and follow the pointer again."""
        with self._resume_lock:
            if self._serving is None and self._last is not None:
                self._serving = self._last = self._last.reloaded(self._threads)
                if not self._closed:
                    self._start()
        serving = self._serving
        if serving is None:
            raise ReleaseError(f"{self.name}: nothing serves")
        return serving


def _call(method: weakref.WeakMethod[Any], event: PointerMoved) -> None:
    bound = method()
    if bound is not None:
        bound(event)


def _run(reference: weakref.ref[ModelClient], wake: threading.Event) -> None:
    """The thread: holds no reference while it waits, so that a forgotten client can go."""
    client = reference()
    while client is not None and not client._closed:
        wait = client._poll_s
        del client
        wake.wait(wait)
        wake.clear()
        client = reference()
        if client is not None and not client._closed:
            client._round()


_CLIENTS: weakref.WeakSet[ModelClient] = weakref.WeakSet()


def _after_fork() -> None:
    for client in list(_CLIENTS):
        client._forked()


os.register_at_fork(after_in_child=_after_fork)
