"""Evidence about one variant: the input of the gates."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.compress.judge.measures import SliceLoss
from redistill.compress.plan import Comparison, Measure

__all__ = ["Evidence", "rows_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """All that was found about one variant."""

    variant: str
    quantized: bool = False
    load_error: str | None = None
    """Why the limited child refused it; then nothing below was measured."""
    bytes: int = 0
    fp32_bytes: int | None = None
    """Of the fp32 student that it was quantized from."""
    integer_operators: tuple[str, ...] = ()
    p50_ms: float | None = None
    p95_ms: float | None = None
    fp32_p50_ms: float | None = None
    incumbent_bytes: int | None = None
    incumbent_p50_ms: float | None = None
    accuracy: Measure | None = None
    """On trusted rows."""
    trusted: Comparison | None = None
    """Against the incumbent; ``None``: there is none."""
    f1: Measure | None = None
    """Macro F1 minus the incumbent's, on trusted rows, in 0..1."""
    slices: tuple[SliceLoss, ...] = ()
    agreement: Measure | None = None
    """With the fp32 student, on trusted rows."""
    fresh_agreement: Measure | None = None
    """The same on the fresh rows, where the ranges of a calibration may no longer fit; those that
    were trained on count too, since nobody asks who is right."""
    fresh: Comparison | None = None
    """Against the incumbent on labelled gate rows."""
    verified: Comparison | None = None
    """The same on gate rows labelled by another source than the training rows."""
    labels_in_loss: bool = False
    domain_auc: Measure | None = None
    """Fresh rows told from trusted ones; measured when labels entered the loss."""

    def blind_at(self, limit: float) -> bool:
        """Whether labels entered the loss and fresh rows are more separable than ``limit``."""
        return self.labels_in_loss and self.domain_auc is not None and self.domain_auc.value > limit


def rows_of(comparison: Comparison | None) -> int:
    """Labelled rows behind a comparison."""
    return 0 if comparison is None else comparison.wins + comparison.losses + comparison.ties
