"""Verdicts, the second stage of ``observe``: what is wrong with subwindows and windows that ended,
and with the confidence of every row, given those before them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from itertools import groupby
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.contract import SUBWINDOWS_NEEDED, Breach, breaches, quiet
from redistill.streams.monitor.counts import Counts
from redistill.streams.monitor.drifted_features import DriftedFeature, drifted_features
from redistill.streams.monitor.findings import Span
from redistill.streams.monitor.input_profile import Profile
from redistill.streams.monitor.subwindows import SMALLEST_WINDOW, Segment
from redistill.streams.monitor.units import STEP_SUBWINDOWS, quartiles
from redistill.streams.wire.events import FindingKind

if TYPE_CHECKING:
    from redistill.streams.monitor.detectors import ConfidenceWatch

__all__ = [
    "ConfidenceFell",
    "ConfidenceLevel",
    "Drift",
    "Judged",
    "Recent",
    "SubwindowVerdict",
    "Verdict",
    "WindowVerdict",
    "judge",
]


HEALTHY_WINDOWS = 5
"""Windows that are remembered to be compared with."""


class Recent(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What this stage remembers of the subwindows and windows before. A value."""

    quartiles: tuple[NDArray[np.float64], ...] = ()
    """Of the last subwindows, ``(3, S)`` each, see ``units.steps``."""
    streaks: Mapping[str, int] = {}
    """``rule|column`` -> bad subwindows in a row."""
    drifting: Mapping[str, int] = {}
    """Kind of drift -> windows in a row in which some column had drifted."""
    confidence: ConfidenceWatch | None = None
    healthy: tuple[Counts, ...] = ()
    """The last windows in which nothing was broken and nothing had drifted; kept where they are
    what contributors are compared with."""

    def restarted(self) -> Recent:
        """Without what was seen under another profile."""
        return Recent(confidence=self.confidence)


class ConfidenceFell(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """ADWIN saw the confidence fall in a row."""

    row: int
    span: Span
    before: float
    now: float
    width: int
    """Rows since the fall."""
    delta: float


class ConfidenceLevel(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The confidence since ADWIN's last change, at the end of a subwindow."""

    row: int
    span: Span
    level: float
    width: int
    """Rows since that change."""


class SubwindowVerdict(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What is blatantly broken in a subwindow."""

    row: int
    span: Span
    breaches: list[Breach]


class Drift(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """How far the columns of one kind are from the reference in a window."""

    kind: FindingKind
    columns: list[DriftedFeature]
    """All that are compared, those that drifted most first."""
    far: list[DriftedFeature]
    """Those that have drifted."""
    windows: int
    """Windows in a row, this one included, in which some column had drifted."""
    bins: int
    """Bins of the finest histogram."""


class WindowVerdict(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What is broken in a whole window, and what drifted."""

    row: int
    span: Span
    breaches: list[Breach]
    lasting: list[Breach]
    """By relaxed limits: what is not among these is over."""
    drifted: list[DriftedFeature]
    """All columns that are compared, those that drifted most first."""
    drifts: tuple[Drift, Drift]


Verdict = ConfidenceFell | ConfidenceLevel | SubwindowVerdict | WindowVerdict


class Judged(msgspec.Struct, frozen=True, eq=False):
    """What this stage hands on."""

    after: Recent
    verdicts: list[Verdict]
    """In the order of their rows."""


def judge(
    before: Recent,
    segments: Sequence[Segment],
    *,
    profile: Profile | None,
    config: WatchConfig,
) -> Judged:
    """Judge the segments of a block.

    Parameters
    ----------
    before
        What is remembered of the segments before; it is not changed.
    profile
        The one under which they were counted; ``None``: only the confidence is judged.
    config
        The model's settings. Another ``confidence_delta`` than before starts ADWIN again.
    """
    if not segments:
        return Judged(before, [])
    verdicts: list[Verdict] = []
    confidence = None if before.confidence is None else before.confidence.copy()
    last, streaks, drifting = before.quartiles, before.streaks, before.drifting
    healthy = before.healthy if config.compare_with == "recent" else ()
    screened = iter(_screened([s.subwindow for s in segments if s.subwindow is not None], profile))
    for segment in segments:
        confidence, falls = _falls(confidence, segment, config.confidence_delta)
        verdicts += falls
        if not segment.ends_subwindow:
            continue
        row, span = segment.last, segment.window.span
        if confidence is not None:
            confidence.settle()
            width = int(confidence.adwin.width)
            verdicts.append(
                ConfidenceLevel(row=row, span=span, level=confidence.level, width=width)
            )
        if profile is not None and segment.subwindow is not None:
            shape, nothing_broken = next(screened)
            last = (*last[1 - STEP_SUBWINDOWS :], shape)
            now = (
                []
                if nothing_broken
                else breaches(segment.subwindow, profile, whole_window=False, history=last)
            )
            streaks = {b.key: streaks.get(b.key, 0) + 1 for b in now}
            broken = [b for b in now if streaks[b.key] >= SUBWINDOWS_NEEDED.get(b.rule, 1)]
            if broken:
                verdicts.append(SubwindowVerdict(row=row, span=span, breaches=broken))
        if segment.ends_window:
            whole = segment.window.complete
            if profile is not None and whole is not None and whole.rows >= SMALLEST_WINDOW:
                verdict = _window(segment, whole, profile, drifting, healthy, config)
                drifting = {d.kind: d.windows for d in verdict.drifts}
                verdicts.append(verdict)
                if config.compare_with == "recent" and not (
                    verdict.lasting or any(drifting.values())
                ):
                    healthy = (*healthy[1 - HEALTHY_WINDOWS :], whole)
    after = Recent(
        quartiles=last,
        streaks=streaks,
        drifting=drifting,
        confidence=confidence,
        healthy=healthy,
    )
    return Judged(after, verdicts)


def _falls(
    watch: ConfidenceWatch | None, segment: Segment, delta: float
) -> tuple[ConfidenceWatch | None, list[ConfidenceFell]]:
    """Watch the confidence row by row."""
    known = ~np.isnan(segment.confidence)
    if not known.any():
        return watch, []
    if watch is None or watch.delta != delta:
        from redistill.streams.monitor.detectors import ConfidenceWatch

        watch = ConfidenceWatch(delta)
    where = np.flatnonzero(known)
    falls = []
    for i, before, now, width in watch.update(segment.confidence[known].tolist()):
        at = int(where[i])
        left = len(known) - 1 - at  # rows of the segment behind it
        if now < before:
            falls.append(
                ConfidenceFell(
                    row=segment.last - left,
                    span=Span(
                        segment.window.first_served_at,
                        int(segment.served_at[at]),
                        segment.window.rows - left,
                    ),
                    before=before,
                    now=now,
                    width=width,
                    delta=delta,
                )
            )
    return watch, falls


def _screened(
    subwindows: Sequence[Counts], profile: Profile | None
) -> Iterable[tuple[NDArray[np.float64], bool]]:
    """Quartiles of subwindows, and whether it is known that no rule is broken: to ask for all of
    one size costs little more than for one."""
    if profile is None:
        return
    for _, run in groupby(subwindows, key=lambda counts: counts.rows):
        some = list(run)
        if len(some) == 1:
            yield quartiles(some[0], profile), False
            continue
        counts = Counts.stacked(some)
        unbroken = quiet(counts, profile).tolist()
        for shape, nothing_broken in zip(quartiles(counts, profile), unbroken, strict=True):
            yield (
                shape.copy(),
                nothing_broken,
            )  # a state may be kept for long, and hold this shape alone


def _window(
    segment: Segment,
    whole: Counts,
    profile: Profile,
    drifting: Mapping[str, int],
    healthy: Sequence[Counts],
    config: WatchConfig,
) -> WindowVerdict:
    lasting = breaches(whole, profile, whole_window=True, relaxed=True)
    # what breaks no relaxed limit breaks no other one
    broken = breaches(whole, profile, whole_window=True) if lasting else []
    recent = reduce(Counts.plus, healthy) if healthy else None
    drifted = drifted_features(whole, profile, distance=config.distance, recent=recent)
    features = len(profile.columns) - 2
    drifts = (
        _drift("input", [m for m in drifted if m.index < features], drifting, profile),
        _drift("prediction", [m for m in drifted if m.index >= features], drifting, profile),
    )
    return WindowVerdict(
        row=segment.last,
        span=segment.window.span,
        breaches=broken,
        lasting=lasting,
        drifted=drifted,
        drifts=drifts,
    )


def _drift(
    kind: FindingKind, columns: list[DriftedFeature], drifting: Mapping[str, int], profile: Profile
) -> Drift:
    far = [m for m in columns if m.far]
    return Drift(
        kind=kind,
        columns=columns,
        far=far,
        windows=drifting.get(kind, 0) + 1 if far else 0,
        bins=int(profile.bins.sizes.max()),
    )
