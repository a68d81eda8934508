"""Input state of one (model, version, partition), and how it is stored: arrays and plain values,
no pickle but River's. Stored names are older than the names in the program, and stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec import structs

from redistill.streams.errors import StateError
from redistill.streams.monitor.counts import Counts
from redistill.streams.monitor.finding_tracker import OpenFinding, Tracked
from redistill.streams.monitor.input_profile import Profile
from redistill.streams.monitor.sample import Learning, Sample
from redistill.streams.monitor.seal import Place, seal, unseal
from redistill.streams.monitor.subwindows import Counted, WindowCounts
from redistill.streams.monitor.verdicts import Recent
from redistill.streams.wire.events import Contributor

if TYPE_CHECKING:
    from redistill.streams.monitor.detectors import ConfidenceWatch

__all__ = ["InputState"]

FORMAT = 3
"""Older ones had no seal; ``redistill db upgrade`` makes them what they would be today."""


class InputState(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What is remembered of one (model, version, partition): a value, of a part for each stage of
    ``observe``."""

    model: str
    version: str
    partition: tuple[str, int]
    digest: str | None = None
    """Of the profile under which rows were counted and judged."""
    counted: Counted = Counted()
    recent: Recent = Recent()
    tracked: Tracked = Tracked()
    learning: Learning = Learning()

    @classmethod
    def anew(
        cls,
        model: str,
        version: str,
        partition: tuple[str, int],
        *,
        rows: int,
        first_served_at: int | None,
        last_served_at: int | None,
        window: int,
    ) -> InputState:
        """In place of one that was lost: without what it knew, and with numbers beyond all that it
        may have given away. A finding or window of a number that was there before would be taken
        for that one, and dropped.

        Parameters
        ----------
        rows, first_served_at, last_served_at
            What its row says it had counted.
        window
            Number of the next window.
        """
        return cls(
            model=model,
            version=version,
            partition=partition,
            counted=Counted(
                rows=rows,
                first_served_at=first_served_at,
                last_served_at=last_served_at,
                window=WindowCounts(number=window),
            ),
            tracked=Tracked(before=rows),  # no finding opens without a row
        )

    def under(self, profile: Profile | None) -> InputState:
        """The state in which rows are counted under a profile: under another one than before
        counting starts again, while the window and the open findings go on."""
        digest = None if profile is None else profile.digest
        if digest == self.digest:
            return self
        return structs.replace(
            self,
            digest=digest,
            counted=self.counted.restarted(),
            recent=self.recent.restarted(),
            tracked=self.tracked.restarted(),
            learning=self.learning if profile is None else Learning(done=True),
        )

    def to_bytes(self, key: bytes) -> bytes:
        """As stored in ``input_states.state``: sealed for its model, version and partition.

        Parameters
        ----------
        key
            Secret of this installation.
        """
        counted, window, recent, tracked = (
            self.counted,
            self.counted.window,
            self.recent,
            self.tracked,
        )
        confidence, sample = recent.confidence, self.learning.sample
        body = msgspec.msgpack.encode(
            {
                "format": FORMAT,
                "model": self.model,
                "version": self.version,
                "partition": self.partition,
                "rows": counted.rows,
                "first_served_at": counted.first_served_at,
                "last_served_at": counted.last_served_at,
                "window": window.number,
                "window_rows": window.rows,
                "window_first": window.first_served_at,
                "window_last": window.last_served_at,
                "digest": self.digest,
                "pane": _plain_counts(window.partial),
                "whole": _plain_counts(window.complete),
                "shapes": [quartiles.tobytes() for quartiles in recent.quartiles],
                "streaks": recent.streaks,
                "open": tracked.open,
                "opened": tracked.opened,
                "opened_before": tracked.before,
                "moved": tracked.drifted,
                "moving": recent.drifting,
                "unseen": counted.unseen,
                "confidence": None if confidence is None else confidence.plain(),
                "healthy": [_plain_counts(counts) for counts in recent.healthy],
                "sample": None if sample is None else sample.plain(),
                "learned": self.learning.done,
            }
        )
        return seal(body, key, _place(self.model, self.version, self.partition))

    @classmethod
    def from_bytes(
        cls, data: bytes, key: bytes, *, model: str, version: str, partition: tuple[str, int]
    ) -> InputState:
        """Read what ``to_bytes`` wrote for this model, version and partition.

        A detector of another River version is left out and starts again.

        Raises
        ------
        StateError
            If it was not sealed for this place under ``key``, which is asked before anything of it
            is decoded; if it is newer than this program, or cannot be read.
        """
        body = unseal(data, key, _place(model, version, partition))
        try:
            plain = msgspec.msgpack.decode(body)
            number = plain["format"]
            if number != FORMAT:
                raise StateError(
                    f"a stored input state has format {number}, this program knows {FORMAT}:"
                    " upgrade redistill"
                )
            return cls(
                model=model,
                version=version,
                partition=(str(partition[0]), int(partition[1])),
                digest=plain["digest"],
                counted=Counted(
                    rows=plain["rows"],
                    first_served_at=plain["first_served_at"],
                    last_served_at=plain["last_served_at"],
                    window=WindowCounts(
                        number=plain["window"],
                        rows=plain["window_rows"],
                        first_served_at=plain["window_first"],
                        last_served_at=plain["window_last"],
                        partial=_counts_of(plain["pane"]),
                        complete=_counts_of(plain["whole"]),
                    ),
                    unseen={name: tuple(values) for name, values in plain["unseen"].items()},
                ),
                recent=Recent(
                    quartiles=tuple(
                        np.frombuffer(shape, np.float64).reshape(3, -1) for shape in plain["shapes"]
                    ),
                    streaks=plain["streaks"],
                    drifting=plain["moving"],
                    confidence=_confidence_of(plain["confidence"]),
                    healthy=_several(plain.get("healthy", ())),  # not in states of 0.1
                ),
                tracked=Tracked(
                    open=msgspec.convert(plain["open"], dict[str, OpenFinding]),
                    opened=plain["opened"],
                    before=plain["opened_before"],
                    drifted=msgspec.convert(plain["moved"], tuple[Contributor, ...]),
                ),
                learning=Learning(
                    sample=None if plain["sample"] is None else Sample.of(plain["sample"]),
                    done=plain["learned"],
                ),
            )
        except StateError:
            raise
        except (msgspec.MsgspecError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise StateError(f"a stored input state cannot be read: {error}") from error


def _place(model: str, version: str, partition: tuple[str, int]) -> Place:
    return Place("input", model, version, *partition)


def _confidence_of(plain: dict[str, Any] | None) -> ConfidenceWatch | None:
    if plain is None:
        return None
    from redistill.streams.monitor.detectors import ConfidenceWatch  # River: a second

    return ConfidenceWatch.of(plain)


def _plain_counts(counts: Counts | None) -> dict[str, Any] | None:
    if counts is None:
        return None
    arrays = {name: getattr(counts, name).tobytes() for name in _TYPES}
    return {"rows": counts.rows, **arrays}


_TYPES = {
    "valid": np.int64,
    "below": np.int64,
    "low": np.float32,
    "high": np.float32,
    "wrong": np.int64,
}


def _several(plain: Sequence[dict[str, Any]]) -> tuple[Counts, ...]:
    return tuple(counts for p in plain if (counts := _counts_of(p)) is not None)


def _counts_of(plain: dict[str, Any] | None) -> Counts | None:
    if plain is None:
        return None
    arrays = {name: np.frombuffer(plain[name], kind) for name, kind in _TYPES.items()}
    return Counts(rows=plain["rows"], **arrays)
