"""Findings about slices: what a change of a slice's test is announced as, and where the loss of the
whole model lies."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec

from redistill.stats import clopper_pearson
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.expected_error import ExpectedError, SliceReference
from redistill.streams.monitor.findings import finding_id
from redistill.streams.monitor.localisation import SliceLoss, localise
from redistill.streams.monitor.mix import Excess, split
from redistill.streams.monitor.slice_memory import LabelledRows
from redistill.streams.monitor.slice_run import SliceChange
from redistill.streams.monitor.slice_tests import TOLERANCE
from redistill.streams.wire import sentences
from redistill.streams.wire.events import (
    Basis,
    ChangePoint,
    Detector,
    DriftFound,
    Impact,
    LossPart,
    SliceEffect,
    Statistic,
    Window,
)
from redistill.times import utc

__all__ = ["of_slice", "where_and_why"]


def where_and_why(
    rows: LabelledRows, expected: ExpectedError, *, reference: float
) -> tuple[dict[str, Any], str]:
    """Where a loss of the whole model lies and what it is made of.

    Parameters
    ----------
    rows
        Random labelled rows since the change.
    reference
        Error rate of the reference.

    Returns
    -------
    tuple
        Fields of the finding, and words for its reason; empty without rows.
    """
    parts = split(rows.error, rows.expected, reference)
    if parts is None:
        return {}, ""
    found = localise(rows, len(expected.slices))
    fields: dict[str, Any] = {
        "mix_moved": _part(parts.moved, "estimated"),
        "got_worse": _part(parts.worse, "measured"),
        "slices": [_effect(expected.slices[loss.index], loss) for loss in found.ranked],
        "localised_to": None,
        "outside": None,
    }
    if found.slice is not None and found.outside is not None:
        fields["localised_to"] = expected.slices[found.slice.index].name
        fields["outside"] = _part(found.outside, "measured")
    told = {**msgspec.to_builtins(fields), "impact": {"metric": "accuracy"}}
    return fields, "; ".join(filter(None, (sentences.where(told), sentences.parts(told))))


def of_slice(
    c: SliceChange,
    before: DriftFound | None,
    *,
    expected: ExpectedError,
    config: WatchConfig,
    version: str,
    opened: int,
    columns: int,
    share: float,
    provisional: bool,
    served_at: int,
    received_at: int,
) -> DriftFound:
    """The finding of a slice after a change.

    Parameters
    ----------
    before
        What was said of it last; ``None``: it opens.
    opened
        How many findings the version opened before.
    columns
        Columns of slices, which the threshold counts.
    share
        Share of the rows that get a label.
    served_at, received_at
        Of the row and label that brought the change about: microseconds since 1970.
    """
    s, change = expected.slices[c.index], c.change
    low, high = clopper_pearson(change.n - change.errors, change.n)
    reference = s.errors / s.n
    effect = SliceEffect(
        key=s.column,
        value=s.value,
        n=change.n,
        reference=1 - reference,
        current=1 - change.rate,
        low=low,
        high=high,
        expected=1 - c.expected,
    )
    ended = change.status == "resolved"
    at = utc(received_at)
    bounds = (1 - high, 1 - low)
    text = (
        sentences.recovery(reference, change.rate, bounds, change.n)
        if ended
        else sentences.loss(reference, change.rate, bounds, change.n, _when(change.high))
    )
    reason = f"in {s.name}: {text}; {sentences.percent(c.expected)} expected"
    if not c.localised and not ended:
        reason = f"{reason}; {sentences.EVERYWHERE}"
    told: dict[str, Any] = {
        "status": change.status,
        "severity": "info" if ended else "critical",
        "detector": Detector(
            name="shiryaev_roberts",
            parameters={
                "test": change.test,
                "null": change.null,
                "kappa": s.kappa,
                "columns": columns,
                "tolerance_points": TOLERANCE * 100,
                "label_share": share,
            },
        ),
        "statistic": Statistic(value=change.value, threshold=change.threshold),
        "window": Window(
            start=utc(change.low),
            end=utc(served_at),
            rows=round(change.n / share),
            labelled=change.n,
        ),
        "slices": [effect],
        "localised_to": s.name if c.localised and not ended else None,
        "impact": Impact(
            metric="accuracy",
            reference=1 - reference,
            current=1 - change.rate,
            low=low,
            high=high,
            basis="measured",
            n=change.n,
            harmful=True,
        ),
        "reason": reason,
        "at": at,
    }
    if before is not None:
        return dataclasses.replace(
            before,
            **told,
            revision=before.revision + 1,
            resolution="recovered" if ended else None,
        )
    scope = f"slice:{s.name}"
    return DriftFound(
        finding_id=finding_id(config.model, version, "accuracy", "harm", scope, opened),
        model=config.model,
        version=version,
        kind="accuracy",
        scope=scope,
        change_point=ChangePoint(low=utc(change.low), high=utc(change.high)),
        provisional=provisional,
        opened_at=at,
        **told,
    )


def _effect(s: SliceReference, loss: SliceLoss) -> SliceEffect:
    low, high = clopper_pearson(loss.n - loss.errors, loss.n)
    return SliceEffect(
        key=s.column,
        value=s.value,
        n=loss.n,
        reference=1 - s.errors / s.n,
        current=1 - loss.errors / loss.n,
        low=low,
        high=high,
        expected=1 - loss.expected / loss.n,
        share=loss.share,
    )


def _part(e: Excess, basis: Basis) -> LossPart:
    return LossPart(value=e.value, low=e.low, high=e.high, basis=basis, n=e.n)


def _when(at: int) -> str:
    return utc(at).strftime("%Y-%m-%d %H:%M:%S UTC")
