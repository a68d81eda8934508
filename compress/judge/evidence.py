"""Evidence about one candidate: the input of the gates. It keeps scores, not verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from redistill.compress.judge.task import Floats, Scores, Task
from redistill.compress.plan import Measure

__all__ = ["NOBODY", "Evidence", "Machine", "Requirement", "Role", "Sample"]

Requirement = Literal["beat", "keep", "admit", "first"]
"""What a candidate has to show. ``beat``: repairs after an incident; better than the incumbent on
fresh rows, not worse on trusted ones. ``keep``: scheduled and manual jobs; not worse on either, and
better, smaller or faster. ``admit``: a version that a person added; not worse where there are rows.
``first``: the first model, which has nothing to be compared with."""

Role = Literal["candidate", "incumbent", "best", "fp32", "teacher"]
"""Whose scores. ``best``: the best release so far, on trusted rows. ``fp32``: the student that the
candidate was quantized from."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """Rows of one split, with what each model scored on them."""

    truth: NDArray[Any]  # (n,) index of the class, or the value
    scores: Mapping[Role, Scores]  # each (n, K)
    p: Floats | None = None
    """``(n,)`` probability with which our own requests drew the row; ``None``: all rows the same.
    What a label's writer says about it does not belong here."""
    missing: Floats = field(default_factory=lambda: np.empty(0))
    """``(m,)`` the same of rows that were asked for and never answered."""
    source: tuple[str | None, ...] = ()
    """n, who labelled the row; empty: not known."""
    groups: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    """``region=EU``: which rows belong to it, each ``(n,)``; slices and declared groups."""
    classes: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    """``class=default``: the same of the true classes."""
    hashes: NDArray[np.uint64] | None = None
    """``(n,)`` of what a row is, not of how it was scored: an order that nobody chose."""

    def __len__(self) -> int:
        return len(self.truth)

    def __contains__(self, role: Role) -> bool:
        return role in self.scores

    def take(self, rows: NDArray[np.bool_]) -> Sample:
        """Some of the rows, by a mask ``(n,)``."""
        return replace(
            self,
            truth=self.truth[rows],
            scores={role: s[rows] for role, s in self.scores.items()},
            p=None if self.p is None else self.p[rows],
            source=tuple(s for s, use in zip(self.source, rows, strict=False) if use),
            groups={name: member[rows] for name, member in self.groups.items()},
            classes={name: member[rows] for name, member in self.classes.items()},
            hashes=None if self.hashes is None else self.hashes[rows],
        )

    def difference(self, task: Task, against: Role = "incumbent") -> Floats:
        """Loss of another model minus the candidate's, ``(n,)`` in -1..1: above 0 where the
        candidate is better.

        Raises
        ------
        ValueError
            Nobody ran one of the two over these rows.
        """
        if missing := [r for r in (against, "candidate") if r not in self.scores]:
            raise ValueError(f"there are no scores of {' and '.join(missing)} on these rows")
        other = task.loss(self.scores[against], self.truth)
        return other - task.loss(self.scores["candidate"], self.truth)


NOBODY = Sample(truth=np.empty(0, np.int64), scores={})
"""No rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What a model costs: measured in this job, on this machine."""

    bytes: int
    """Size of its file."""
    p50_ms: float | None = None
    """Thread CPU time of one call at the serving batch."""
    p95_ms: float | None = None
    rows_per_s: float | None = None
    """Rows of calls at the serving batch in a second of thread CPU time."""
    peak_bytes: int | None = None
    """Resident memory that loading and calling it adds to a process of its own, at its peak."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Evidence:
    """All that was found about one candidate."""

    variant: str
    task: Task
    requirement: Requirement
    load_error: str | None = None
    """Why the limited child refused it; then nothing below was measured."""
    machine: Mapping[Role, Machine] = field(default_factory=dict)
    quantized: bool = False
    integers: bool = True
    """Whether a quantized one is to compute on integers."""
    integer_operators: tuple[str, ...] = ()
    fresh: Sample = NOBODY
    """Labelled rows that were served after the change, and trained on by nobody."""
    trusted: Sample = NOBODY
    """Trusted rows, but those of ``ranking``."""
    ranking: Sample = NOBODY
    """Trusted rows that no gate looks at: variants are ranked by them."""
    unlabelled: Sample = NOBODY
    """All fresh rows, those that were trained on too; their truth says nothing."""
    best: str | None = None
    """Version of the best release so far, where it is not the incumbent."""
    recipe: int = 1
    """Which of the incident's recipes this is: the first, the second or the third that faces fresh
    rows."""
    incident_loss: Measure | None = None
    """Points that the incumbent has lost and a candidate can give back, as the diagnosis measured
    them."""
    cause: str | None = None
    """What the diagnosis found."""
    labels_in_loss: bool = False
    training_sources: tuple[str, ...] = ()
    """Who labelled the rows that were trained on."""
    domain_auc: Measure | None = None
    """Fresh rows told from trusted ones; measured when labels entered the loss."""

    @property
    def own(self) -> Machine:
        """What the candidate costs."""
        return self.machine["candidate"]

    def verified(self) -> Sample:
        """Fresh rows that somebody else labelled than those who labelled the training rows."""
        known = set(self.training_sources)
        other = np.zeros(len(self.fresh), np.bool_)
        for i, source in enumerate(self.fresh.source):
            other[i] = source is not None and source not in known
        return self.fresh.take(other)

    def blind_at(self, limit: float) -> bool:
        """Whether labels entered the loss and fresh rows are more separable than ``limit``, or
        nobody knows: trusted rows then cannot tell whether the labels are right."""
        told = self.domain_auc
        return self.labels_in_loss and not (told is not None and told.value <= limit)
