"""Causes and their remedies: what is done about a loss, by what it comes from. A table, which a new
cause joins with a line. Pure."""

from __future__ import annotations

from collections.abc import Callable

from redistill.compress.plan import Cause, Diagnosis, Measure
from redistill.workers.incidents.remedy import AskPerson, Nothing, Remedy, Repair, WaitForLabels

__all__ = ["REMEDIES"]


def _none(d: Diagnosis) -> Remedy:
    """Closed where the loss is surely within the tolerance. A finding that goes on does not open
    its incident again, so anything less goes on looking."""
    lost, limit = d.student_loss_points, d.tolerance_points
    if lost is None or lost.high is None or limit is None or lost.high < limit:
        return Nothing(f"nothing to repair: {d.why}")
    return WaitForLabels(f"nothing found to repair, labels go on being watched: {d.why}")


def _data_bug(d: Diagnosis) -> Remedy:
    return AskPerson(f"data bug, not repaired by training: {d.why}")


def _compression_gap(d: Diagnosis) -> Remedy:
    return Repair(f"compression gap: {d.why}")


def _stale_quantization(d: Diagnosis) -> Remedy:
    return Repair(f"stale quantization, made anew with ranges of fresh rows: {d.why}")


def _prior_shift(d: Diagnosis) -> Remedy:
    lost = d.student_loss_points
    if lost is not None and lost.low is not None and lost.low > 0.0:
        return _recoverable(d, "prior shift") or Repair(
            "prior shift: the teacher loses as much, so distilling it again would not help; the"
            f" scores are corrected to the new mix of classes: {d.why}"
        )
    return AskPerson(
        "prior shift: it is not sure that anything is lost; thresholds or the teacher have to"
        f" follow the new mix of classes: {d.why}"
    )


def _harder_mix(d: Diagnosis) -> Remedy:
    return _recoverable(d, "a harder mix of rows") or AskPerson(
        "a harder mix of rows: the model is as good as it was on rows of the same kind, so neither"
        " a repair nor a roll back brings the loss back; see which slices grew, and whether that"
        f" traffic belongs here: {d.why}"
    )


def _unknown_covariate(d: Diagnosis) -> Remedy:
    return _recoverable(d, "inputs that the teacher does not know") or AskPerson(
        "inputs that the teacher does not know, it cannot teach them: label rows like these and"
        f" train a teacher on them: {d.why}"
    )


def _concept_change(d: Diagnosis) -> Remedy:
    return _recoverable(d, "concept change") or AskPerson(
        f"concept change: the teacher is as wrong as its student and cannot teach it: {d.why}."
        " Trusted rows that were labelled before the change hold what was right then. Choose:"
        " (1) bring a teacher trained on new labels: `redistill register model.toml`, then"
        " `redistill incidents approve ID`; (2) learn from the labels: label trusted rows anew,"
        " then `redistill recompress MODEL --train-on labels`; (3) learn from the labels and take"
        " the trusted rows upon yourself: `redistill recompress MODEL --train-on labels --waive"
        " trusted --reason TEXT`; (4) take an older release, which may do better: `redistill"
        " rollback MODEL --to VERSION`"
    )


def _labels_suspect(d: Diagnosis) -> Remedy:
    return AskPerson(f"labels are suspect, nothing is trained or judged by them: {d.why}")


def _unclear(d: Diagnosis) -> Remedy:
    return WaitForLabels(d.why)


def _recoverable(d: Diagnosis, changed: str) -> Repair | None:
    """A part that the teacher kept is repaired even where the world changed, too."""
    if not d.repairable:
        return None
    assert d.recoverable_points is not None
    return Repair(f"{changed}; {_points(d.recoverable_points)} can be recovered: {d.why}")


def _points(m: Measure) -> str:
    return f"{m.value:.1f} points [{m.low:.1f}, {m.high:.1f}]"


REMEDIES: dict[Cause, Callable[[Diagnosis], Remedy]] = {
    "none": _none,
    "data_bug": _data_bug,
    "compression_gap": _compression_gap,
    "stale_quantization": _stale_quantization,
    "prior_shift": _prior_shift,
    "harder_mix": _harder_mix,
    "unknown_covariate": _unknown_covariate,
    "concept_change": _concept_change,
    "labels_suspect": _labels_suspect,
    "unclear": _unclear,
    # words of 0.1
    "harmless": _none,
    "undecided": _unclear,
    "world_changed": _concept_change,
}
"""Cause -> what is done, and the text that people read."""
