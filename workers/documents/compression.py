"""What ``redistill compress --json`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from redistill.compress.plan import Report

__all__ = ["CompressionDocument", "document"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CompressionDocument:
    """The students that were made of a model, measured in this run on the same rows."""

    model: str
    chosen: str
    """Which of the variants is in `folder`."""
    decision: dict[str, Any]
    """Of the gates about it: `accepted`, `rejected`, `undecidable` or `needs_person`."""
    folder: str
    variants: list[dict[str, Any]]
    """Each with `name` (family and quantizer), `sha256`, `bytes`, `p50_ms`, `trusted_accuracy` with
    its 95% interval, and its `gates`: all of the chosen one's, of the others those that need no
    label."""
    incumbent: dict[str, Any] | None
    """What serves, or the teacher in its place."""
    teacher: dict[str, Any] | None
    seconds: dict[str, float]
    """Wall-clock seconds of each step; `cpu`: CPU seconds of the run."""
    notes: list[str]


def document(report: Report, *, folder: str, notes: Sequence[str]) -> CompressionDocument:
    """The document of a report."""
    return CompressionDocument(
        model=report.model,
        chosen=str(report.chosen),
        decision=msgspec.to_builtins(report.decision),
        folder=folder,
        variants=[msgspec.to_builtins(v) for v in report.variants],
        incumbent=msgspec.to_builtins(report.incumbent),
        teacher=msgspec.to_builtins(report.teacher),
        seconds=dict(report.seconds),
        notes=list(dict.fromkeys((*notes, *report.warnings))),
    )
