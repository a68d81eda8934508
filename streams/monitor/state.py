"""The input state of one (model, version, partition), and how it is stored: arrays and plain
values, no pickle but River's."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from redistill.streams.errors import StateError
from redistill.streams.monitor.counts import Counts
from redistill.streams.monitor.sample import Sample
from redistill.streams.wire.events import Contributor, DriftFound

if TYPE_CHECKING:
    from redistill.streams.monitor.detectors import ConfidenceWatch

FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class ClosedWindow:
    """A statistical window that is complete."""

    number: int
    rows: int
    first_served_at: int
    """Microseconds since 1970."""
    last_served_at: int
    summary: dict[str, Any]
    """Means, missing rates and distances; JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenFinding:
    """A finding that has not ended."""

    found: DriftFound
    """As last told."""
    columns: tuple[int, ...] = ()
    calm: int = 0
    """Windows in a row without it."""


@dataclass(slots=True, eq=False)
class InputState:
    """What is remembered of one (model, version, partition). Treat as a value: ``observe`` returns
    a new one."""

    model: str
    version: str
    partition: tuple[str, int]
    rows: int = 0
    first_served_at: int | None = None
    last_served_at: int | None = None
    window: int = 0
    """Number of the open window."""
    window_rows: int = 0
    window_first: int = 0
    window_last: int = 0
    digest: str | None = None
    """Of the profile under which ``pane``, ``whole`` and ``shapes`` were counted."""
    pane: Counts | None = None
    """Rows since the last pane boundary."""
    whole: Counts | None = None
    """Complete panes of the open window."""
    shapes: tuple[NDArray[np.float64], ...] = ()
    """Quartiles of the last panes, ``(3, S)`` each, see ``units.steps``."""
    streaks: dict[str, int] = field(default_factory=dict)
    """``rule|column`` -> bad panes in a row."""
    open: dict[str, OpenFinding] = field(default_factory=dict)
    """Open findings by ``kind|name|scope``."""
    opened: dict[str, int] = field(default_factory=dict)
    """How many findings were opened by ``kind|name|scope``."""
    moved: tuple[Contributor, ...] = ()
    """Columns that moved in the newest closed window."""
    moving: dict[str, int] = field(default_factory=dict)
    """Kind -> windows in a row in which some column had moved."""
    unseen: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Newest unseen values per category."""
    confidence: ConfidenceWatch | None = None
    sample: Sample | None = None
    learned: bool = False
    """The profile from the first rows was told."""

    def copy(self) -> InputState:
        """An independent copy: what it shares is never changed."""
        return dataclasses.replace(
            self,
            streaks=dict(self.streaks),
            open=dict(self.open),
            opened=dict(self.opened),
            moving=dict(self.moving),
            unseen=dict(self.unseen),
            confidence=self.confidence.copy() if self.confidence else None,
        )

    def to_bytes(self, key: bytes) -> bytes:
        """As stored in ``input_states.state``.

        Parameters
        ----------
        key
            Secret of this installation; River's objects are pickled under an HMAC with it.
        """
        plain: dict[str, Any] = {"format": FORMAT}
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Counts):
                value = _plain_counts(value)
            elif isinstance(value, Sample):
                value = value.plain()
            elif f.name == "shapes":
                value = [shape.tobytes() for shape in value]
            elif f.name == "confidence" and value is not None:
                value = value.plain(key)
            plain[f.name] = value
        return msgspec.msgpack.encode(plain)

    @classmethod
    def from_bytes(cls, data: bytes, key: bytes) -> InputState:
        """Read what ``to_bytes`` wrote.

        A detector of another River version is left out and starts again.

        Raises
        ------
        StateError
            If it is newer than this program, cannot be read, or was not written under ``key``.
        """
        try:
            plain = msgspec.msgpack.decode(data)
            number = plain.pop("format")
            if number > FORMAT:
                raise StateError(
                    f"a stored input state has format {number}, this program knows {FORMAT}:"
                    " upgrade redistill"
                )
            for name in ("pane", "whole"):
                if plain[name] is not None:
                    plain[name] = _counts_of(plain[name])
            plain["shapes"] = tuple(
                np.frombuffer(shape, np.float64).reshape(3, -1) for shape in plain["shapes"]
            )
            if plain["sample"] is not None:
                plain["sample"] = Sample.of(plain["sample"])
            if plain["confidence"] is not None:
                from redistill.streams.monitor.detectors import ConfidenceWatch  # River: a second

                plain["confidence"] = ConfidenceWatch.of(plain["confidence"], key)
            plain["partition"] = (str(plain["partition"][0]), int(plain["partition"][1]))
            plain["open"] = msgspec.convert(plain["open"], dict[str, OpenFinding])
            plain["moved"] = msgspec.convert(plain["moved"], tuple[Contributor, ...])
            plain["unseen"] = {k: tuple(v) for k, v in plain["unseen"].items()}
            return cls(**plain)
        except StateError:
            raise
        except (msgspec.MsgspecError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise StateError(f"a stored input state cannot be read: {error}") from error


def _plain_counts(counts: Counts) -> dict[str, Any]:
    return {
        f.name: value.tobytes()
        if isinstance(value := getattr(counts, f.name), np.ndarray)
        else value
        for f in dataclasses.fields(counts)
    }


_TYPES = {
    "valid": np.int64,
    "below": np.int64,
    "total": np.float64,
    "squares": np.float64,
    "low": np.float32,
    "high": np.float32,
    "wrong": np.int64,
}


def _counts_of(plain: dict[str, Any]) -> Counts:
    arrays = {name: np.frombuffer(plain[name], kind) for name, kind in _TYPES.items()}
    return Counts(rows=plain["rows"], **arrays)
