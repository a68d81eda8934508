"""Models run over the rows of a job: measures and evidence, one variant after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from redistill.compress import data, groups, trusted_rows
from redistill.compress.judge import measures
from redistill.compress.judge.evidence import (
    NOBODY,
    Evidence,
    Machine,
    Requirement,
    Role,
    Sample,
)
from redistill.compress.judge.graph import Graph
from redistill.compress.judge.probe import ProbeResult
from redistill.compress.judge.task import Scores, Task
from redistill.compress.plan import Comparison, GraphSpec, Measure, Variant
from redistill.compress.rows import Rows
from redistill.files import sha256_of

__all__ = ["EvaluatedModel", "Evaluation", "comparison"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EvaluatedModel:
    """One model and what it scores."""

    name: str
    path: Path
    trusted: Scores  # (trusted rows, K)
    gate: Scores  # (gate rows, K), labelled or not
    fresh: Scores  # (fresh rows, K), those that were trained on too; empty where nobody asks
    probed: ProbeResult
    integers: bool = True
    """Whether it is to compute on integers, where it was quantized."""

    @classmethod
    def of(
        cls,
        name: str,
        path: Path,
        graph: Graph,
        *,
        trusted: Rows,
        gate: Rows,
        probed: ProbeResult,
        fresh: Rows | None = None,
        integers: bool = True,
    ) -> EvaluatedModel:
        """Run a graph over the rows."""
        return cls(
            name=name,
            path=path,
            trusted=graph.scores(trusted),
            gate=graph.scores(gate),
            fresh=graph.scores(gate.take(np.empty(0, np.intp)) if fresh is None else fresh),
            probed=probed,
            integers=integers,
        )

    @property
    def machine(self) -> Machine:
        """What it costs."""
        return Machine(
            bytes=self.path.stat().st_size,
            p50_ms=self.probed.p50_ms,
            p95_ms=self.probed.p95_ms,
            rows_per_s=self.probed.rows_per_s,
            peak_bytes=self.probed.peak_bytes,
        )

    def unanswered(self) -> list[str]:
        """A sentence for rows to which it answers NaN or infinity: they count as wrong."""
        return [
            f"{self.name} answers NaN for {silent:,} of {len(scores):,} {what} rows: they count"
            " as wrong"
            for what, scores in (("trusted", self.trusted), ("gate", self.gate))
            if (silent := int((~np.isfinite(scores).all(axis=1)).sum()))
        ]


Rivals = Mapping[Role, EvaluatedModel | None]
"""Whom a candidate is measured beside: ``incumbent``, ``best``, ``fp32``, ``teacher``; ``None``:
there is none."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Evaluation:
    """The rows and terms under which all variants of a job are judged."""

    spec: GraphSpec
    task: Task
    requirement: Requirement
    trusted: Rows
    gate: Rows
    best: str | None = None
    recipe: int = 1
    """Number of a candidate that is not among ``faced``."""
    faced: Mapping[str, int] = field(default_factory=dict)
    """Numbers of candidates that faced these fresh rows before, by SHA-256."""
    incident_loss: Measure | None = None
    cause: str | None = None
    labels_in_loss: bool = False
    training_sources: tuple[str, ...] = ()
    domain_auc: Measure | None = None

    def variant(self, model: EvaluatedModel, fp32: EvaluatedModel | None = None) -> Variant:
        """What the report says of a model, its gates aside.

        Raises
        ------
        ValueError
            No trusted rows.
        """
        answered = self.task.answers(model.trusted)
        accuracy = measures.accuracy(answered, self.trusted.y)
        ranks = trusted_rows.ranking(self.trusted)
        if accuracy is None:
            raise ValueError("a variant is measured on trusted rows, and there are none")
        return Variant(
            name=model.name,
            sha256=sha256_of(model.path),
            bytes=model.path.stat().st_size,
            p50_ms=model.probed.p50_ms or 0.0,
            p95_ms=model.probed.p95_ms or 0.0,
            rows_per_s=model.probed.rows_per_s,
            peak_bytes=model.probed.peak_bytes,
            trusted_accuracy=accuracy,
            ranking_accuracy=measures.accuracy(answered[ranks], self.trusted.y[ranks]),
            fresh_accuracy=measures.accuracy(self.task.answers(model.gate), self.gate.y),
            agreement=None
            if fp32 is None
            else measures.agreement(answered, self.task.answers(fp32.trusted)).value,
            measures={name: m for name, m in self._measured(model) if m is not None},
        )

    def _measured(self, model: EvaluatedModel) -> Iterator[tuple[str, Measure | None]]:
        for name, measure in self.task.measures.items():
            yield name, measure(self.task, model.trusted, self.trusted.y)

    def unloaded(self, name: str, error: str) -> Evidence:
        """Of a candidate that the limited child refused there is nothing more to say."""
        return Evidence(
            variant=name,
            task=self.task,
            requirement=self.requirement,
            load_error=error,
            recipe=self.recipe,
        )

    def evidence(self, model: EvaluatedModel, rivals: Rivals) -> Evidence:
        """What the gates are told of a candidate."""
        models: dict[Role, EvaluatedModel] = {"candidate": model}
        models |= {role: m for role, m in rivals.items() if m is not None}
        fp32 = models.get("fp32")
        ranks = trusted_rows.ranking(self.trusted)
        labelled = self.gate.labelled
        return Evidence(
            variant=model.name,
            task=self.task,
            requirement=self.requirement,
            machine={role: m.machine for role, m in models.items()},
            quantized=fp32 is not None and fp32.name != model.name,
            integers=model.integers,
            integer_operators=model.probed.integer_operators,
            fresh=self._sample(self.gate, {r: m.gate for r, m in models.items()}, labelled),
            trusted=self._sample(self.trusted, {r: m.trusted for r, m in models.items()}, ~ranks),
            ranking=self._sample(self.trusted, {r: m.trusted for r, m in models.items()}, ranks),
            unlabelled=Sample(
                truth=np.full(len(model.fresh), -1, np.int64),
                scores={r: m.fresh for r, m in models.items() if len(m.fresh)},
            ),
            best=self.best,
            recipe=self.faced.get(sha256_of(model.path), self.recipe),
            incident_loss=self.incident_loss,
            cause=self.cause,
            labels_in_loss=self.labels_in_loss,
            training_sources=self.training_sources,
            domain_auc=self.domain_auc,
        )

    def _sample(self, rows: Rows, scores: Mapping[Role, Scores], use: NDArray[np.bool_]) -> Sample:
        if not len(rows):
            return NOBODY
        return Sample(
            truth=rows.y,
            scores=scores,
            source=tuple(rows.source),
            groups=groups.by_slice(rows, self.spec, groups.bands(self.trusted, self.spec)),
            classes=groups.by_class(rows, self.spec),
            hashes=data.digests(rows.x),
        ).take(use)


def comparison(evidence: Evidence, sample: Sample) -> Comparison | None:
    """Candidate against incumbent on labelled rows, for the report; ``None``: there is no
    incumbent."""
    if "incumbent" not in sample:
        return None
    return measures.comparison(sample.difference(evidence.task))
