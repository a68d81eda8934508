"""Loader: from a pointer to something that answers. Download, try in a child, load, self-test."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from redistill.files import write
from redistill.streams.client import forks
from redistill.streams.client.fallback import load_fallback
from redistill.streams.client.fetch import Repository
from redistill.streams.client.probe import probe
from redistill.streams.client.release import FALLBACK, GOLDEN_FILE, POINTER_FILE, PointerFile
from redistill.streams.client.session import Session, load, self_test
from redistill.streams.errors import ReleaseError

__all__ = ["Loader", "Serving"]

RETRY_SECONDS = 600.0
"""Longest wait before a release that could not be loaded is tried again."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What answers. Replaced as a whole, never changed."""

    session: Session
    version: str
    sha256: str
    """Of ``model.onnx``."""
    manifest_sha256: str
    """Empty for a fallback that is no known release."""
    epoch: int
    process: object = field(default_factory=forks.process)
    """Where it was loaded: it answers nowhere else."""

    def pointed(self, pointer: PointerFile) -> Serving:
        """The same session under another pointer."""
        return replace(self, version=pointer.stable, epoch=pointer.epoch)

    def here(self, threads: int) -> Serving:
        """The same release in a session of this process: loaded anew if a fork lies between."""
        if self.process is forks.process():
            return self
        return replace(self, session=self.session.reload(threads), process=forks.process())


class Loader:
    """Brings releases of one model from the repository into memory.

    Parameters
    ----------
    repository
        Where from.
    model
        Name of the model.
    threads
        Threads of ONNX Runtime for one call.
    retry_s
        Wait before a release that failed is tried again; doubled each time.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        repository: Repository,
        model: str,
        *,
        threads: int,
        retry_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _preload()
        self._clock = clock
        self._repository = repository
        self._model = model
        self._threads = threads
        self._retry_s = retry_s
        self._failed: dict[str, tuple[int, float, str]] = {}

    def load(self, pointer: PointerFile) -> Serving:
        """The release that a pointer names.

        Raises
        ------
        ReleaseError
            It cannot be downloaded, or was refused, by what check; or it was refused lately and is
            not tried again yet.
        """
        key = pointer.manifest_sha256
        tries, not_before, message = self._failed.get(key, (0, 0.0, ""))
        if self._clock() < not_before:
            raise ReleaseError(message)
        # A download that failed may succeed at the next look. What failed here will fail again.
        folder = self._repository.release(self._model, key)
        try:
            self._try_out(folder)
            session = load(folder, threads=self._threads)
            if session.manifest.sha256 != pointer.sha256:
                raise ReleaseError("the pointer and the release name different bytes")
            self_test(session, folder / GOLDEN_FILE)
        except ReleaseError as error:
            wait = min(RETRY_SECONDS, self._retry_s * 2.0 ** min(tries, 20))
            self._failed[key] = (tries + 1, self._clock() + wait, str(error))
            raise
        self._failed.clear()
        return Serving(session, pointer.stable, pointer.sha256, key, pointer.epoch)

    def from_cache(self) -> Serving | None:
        """What served before a restart; ``None`` if the cache does not hold it whole."""
        pointer = self._remembered()
        if pointer is None:
            return None
        key = pointer.manifest_sha256
        try:
            folder = self._repository.cached(self._model, key)
            if folder is None:
                return None
            self._try_out(folder)
            session = load(folder, threads=self._threads)
            self_test(session, folder / GOLDEN_FILE)
        except (OSError, ReleaseError):
            return None
        return Serving(session, pointer.stable, pointer.sha256, key, pointer.epoch)

    def fallback(self, path: Path, pointer: PointerFile | None) -> Serving:
        """The declared fallback: under its version if its bytes are a known release.

        Parameters
        ----------
        path
            Its file or folder.
        pointer
            As the repository showed it; ``None``: it does not answer, the last one seen is taken.

        Raises
        ------
        ReleaseError
            It is missing or no usable model.
        """
        release, pointer = None, pointer or self._remembered()
        if pointer is not None:
            release = self._repository.cached(self._model, pointer.manifest_sha256)
        session, sha256 = load_fallback(path, self._model, self._threads, release)
        for version, known in (pointer.known if pointer is not None else {}).items():
            if known.sha256 == sha256:
                with contextlib.suppress(ReleaseError):
                    folder = self._repository.release(self._model, known.manifest_sha256)
                    session = load(folder, threads=self._threads)
                    return Serving(session, version, sha256, known.manifest_sha256, 0)
        return Serving(session, FALLBACK, sha256, "", 0)

    def remember(self, pointer: PointerFile, keep: set[str]) -> None:
        """Note in the cache what serves, and forget releases that are neither kept nor known.

        Raises
        ------
        OSError
            The cache cannot be written.
        """
        folder = self._repository.cache / "releases" / self._model
        known = {release.manifest_sha256 for release in pointer.known.values()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write(folder / POINTER_FILE, pointer.to_json())
        finally:  # where the disk is full, that may be what makes room
            self._repository.forget(self._model, keep | known)

    def _remembered(self) -> PointerFile | None:
        """The pointer that was followed last, by this cache."""
        path = self._repository.cache / "releases" / self._model / POINTER_FILE
        try:
            pointer = PointerFile.from_json(path.read_bytes())
        except (OSError, ReleaseError):
            return None
        return pointer if pointer.model == self._model else None

    def _try_out(self, folder: Path) -> None:
        """Load a release in a limited child, once per cache and ONNX Runtime."""
        import onnxruntime

        mark = folder / f".tried-{onnxruntime.__version__}"
        if not mark.exists():
            with self._repository.trying():
                if not mark.exists():  # nobody else has meanwhile
                    probe(folder)
                    with contextlib.suppress(OSError):
                        mark.touch()


def _preload() -> None:
    """Import now what the first load would import: a child that is forked while another thread
    imports something would wait for that thread's lock for ever.
    """
    import encodings.cp437  # names in golden.npz
    import encodings.idna  # noqa: F401  # at the first name that is looked up

    import onnxruntime  # noqa: F401
