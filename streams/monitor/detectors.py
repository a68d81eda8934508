"""Detectors of River: ADWIN on confidence and on the error, and pickles of it that name nothing
else. Nothing else imports River.

ADWIN knows no base error, so it only ever informs: on confidence it asks for labels, on the error
it stands in until a base error is known.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from importlib.metadata import version as installed_version
from typing import Any

from river import drift

from redistill.streams.errors import StateError

__all__ = ["ConfidenceWatch", "adwin", "copy", "error_changes"]

RIVER_VERSION = installed_version("river")


def adwin(delta: float) -> Any:
    """River's ADWIN as used here, on confidence and on the error."""
    return drift.ADWIN(delta=delta)  # type: ignore[no-untyped-call]


class ConfidenceWatch:
    """River's ADWIN on the confidence of every row: tells when it falls, and when it is back.

    Parameters
    ----------
    delta
        ADWIN's significance.
    """

    __slots__ = ("adwin", "delta", "level", "n")

    def __init__(self, delta: float) -> None:
        self.delta = delta
        self.adwin = adwin(delta)
        self.level = 0.0
        """Mean at the end of the last subwindow, or since a change after it."""
        self.n = 0

    def copy(self) -> ConfidenceWatch:
        """An independent copy."""
        other = ConfidenceWatch.__new__(ConfidenceWatch)
        other.delta, other.level, other.n = self.delta, self.level, self.n
        other.adwin = copy(self.adwin)
        return other

    def update(self, values: Sequence[float]) -> list[tuple[int, float, float, int]]:
        """Take the confidences of some rows.

        Returns
        -------
        list of (int, float, float, int)
            Per change: index of the row, mean before, mean since, rows since.
        """
        # ``ADWIN.update`` written out: its Python costs more than its Rust. A test holds both to
        # the same changes, and River is pinned.
        detector, changes = self.adwin, []
        fired, take = detector.drift_detected, detector._helper.update
        for i, value in enumerate(values):
            if fired:
                detector._reset()
                fired, take = False, detector._helper.update
            if take(value):
                fired = detector._drift_detected = True
                changes.append((i, self.level, float(detector.estimation), int(detector.width)))
                self.level = float(detector.estimation)
        self.n += len(values)
        return changes

    def settle(self) -> None:
        """Take the mean at the end of a subwindow: at the same rows however the stream is cut."""
        self.level = float(self.adwin.estimation)

    def plain(self) -> dict[str, Any]:
        """For ``InputState.to_bytes``, which seals it."""
        return {
            "river": RIVER_VERSION,
            "delta": self.delta,
            "level": self.level,
            "n": self.n,
            "adwin": pickle.dumps(self.adwin, protocol=5),
        }

    @classmethod
    def of(cls, plain: dict[str, Any]) -> ConfidenceWatch | None:
        """Read what ``plain`` told, from a state whose seal was right.

        ``None`` if another version of River wrote it: nothing of it is unpickled then.

        Raises
        ------
        StateError
            If it names a class that is not River's, or is no pickle.
        """
        if plain["river"] != RIVER_VERSION:
            return None
        watch = cls.__new__(cls)
        watch.delta, watch.level, watch.n = plain["delta"], plain["level"], plain["n"]
        watch.adwin = unpickle(plain["adwin"])
        return watch


def error_changes(
    errors: Sequence[int], start: int, delta: float
) -> list[tuple[int, float, float, int]]:
    """Changes that ADWIN sees in a short series of errors.

    The whole series is run again on each call (.2 µs a row), so that nothing of River has to be
    stored.

    Parameters
    ----------
    errors
        0 or 1, oldest first.
    start
        Changes before this index were told before and are left out.

    Returns
    -------
    list of (int, float, float, int)
        Index, mean before the change, mean since, and rows since the change.
    """
    detector, changes, before = adwin(delta), [], 0.0
    first = 0
    for i, e in enumerate(errors):
        detector.update(e)
        if detector.drift_detected:
            width = int(detector.width)
            old = errors[first : i + 1 - width]
            before = sum(old) / len(old) if old else before
            if i >= start:
                changes.append((i, before, float(detector.estimation), width))
            first = i + 1 - width
    return changes


# --- storing River's objects
# ---------------------------------------------------------------------------------------

_ALLOWED = {("river.drift.adwin", "ADWIN"), ("river._river_rust.drift", "AdaptiveWindowing")}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise StateError(f"stored detector state names {module}.{name}, which is not allowed")
        return super().find_class(module, name)


def unpickle(body: bytes) -> Any:
    """Unpickle River's classes, and nothing else.

    Raises
    ------
    StateError
        If another class is named, or the bytes are no pickle.
    """
    try:
        return _Unpickler(io.BytesIO(body)).load()
    except StateError:
        raise
    except Exception as error:
        raise StateError(f"stored detector state cannot be read: {error}") from error


def copy(detector: Any) -> Any:
    """An independent copy of a River detector (25 µs)."""
    return pickle.loads(pickle.dumps(detector, protocol=5))  # noqa: S301 - own bytes
