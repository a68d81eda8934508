"""Models run over the rows of a job: measures and evidence, one variant after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from redistill.compress import data
from redistill.compress.judge import evaluate
from redistill.compress.judge.evaluate import Classes
from redistill.compress.judge.evidence import Evidence
from redistill.compress.judge.graph import Graph
from redistill.compress.judge.probe import Answer
from redistill.compress.plan import GraphSpec, Limits, Measure, Variant
from redistill.compress.rows import Rows
from redistill.compress.steps import sha256_of


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Subject:
    """One model and what it answers."""

    name: str
    path: Path
    trusted: Classes  # (trusted rows,)
    gate: Classes  # (gate rows,), labelled or not
    fresh: Classes  # (fresh rows,), those that were trained on too; empty where nobody asks
    probed: Answer

    @classmethod
    def of(
        cls,
        name: str,
        path: Path,
        graph: Graph,
        *,
        trusted: Rows,
        gate: Rows,
        probed: Answer,
        fresh: Rows | None = None,
    ) -> Subject:
        """Run a graph over the rows."""
        return cls(
            name=name,
            path=path,
            trusted=graph.classes(trusted.x),
            gate=graph.classes(gate.x),
            fresh=graph.classes(gate.x[:0] if fresh is None else fresh.x),
            probed=probed,
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bench:
    """The rows and terms under which all variants of a job are judged."""

    spec: GraphSpec
    limits: Limits
    trusted: Rows
    gate: Rows
    seed: int
    labels_in_loss: bool = False
    training_sources: tuple[str, ...] = ()
    domain_auc: Measure | None = None

    def variant(self, subject: Subject, fp32: Subject | None = None) -> Variant:
        """What the report says of a model, its gates aside.

        Raises
        ------
        ValueError
            No trusted rows.
        """
        accuracy = evaluate.accuracy(subject.trusted, self.trusted.y)
        if accuracy is None:
            raise ValueError("a variant is measured on trusted rows, and there are none")
        return Variant(
            name=subject.name,
            sha256=sha256_of(subject.path),
            bytes=subject.path.stat().st_size,
            p50_ms=subject.probed.p50_ms or 0.0,
            p95_ms=subject.probed.p95_ms or 0.0,
            trusted_accuracy=accuracy,
            fresh_accuracy=evaluate.accuracy(
                subject.gate, self.gate.y, self.gate.weight.astype(np.float64)
            ),
            agreement=None
            if fp32 is None
            else evaluate.agreement(subject.trusted, fp32.trusted).value,
        )

    def evidence(
        self, subject: Subject, *, incumbent: Subject | None, fp32: Subject | None
    ) -> Evidence:
        """What the gates are told of a candidate.

        Parameters
        ----------
        incumbent
            What serves now; ``None``: this is the first model.
        fp32
            The student that the candidate was quantized from; ``None``: it was not.
        """
        y, own = self.trusted.y, subject.probed
        quantized = fp32 is not None and fp32.name != subject.name
        out = Evidence(
            variant=subject.name,
            quantized=quantized,
            bytes=subject.path.stat().st_size,
            fp32_bytes=None if fp32 is None else fp32.path.stat().st_size,
            integer_operators=own.integer_operators,
            p50_ms=own.p50_ms,
            p95_ms=own.p95_ms,
            fp32_p50_ms=None if fp32 is None else fp32.probed.p50_ms,
            accuracy=evaluate.accuracy(subject.trusted, y),
            labels_in_loss=self.labels_in_loss,
            domain_auc=self.domain_auc,
            agreement=evaluate.agreement(subject.trusted, fp32.trusted)
            if fp32 is not None and quantized
            else None,
            fresh_agreement=evaluate.agreement(subject.fresh, fp32.fresh)
            if fp32 is not None and quantized and len(subject.fresh)
            else None,
        )
        return out if incumbent is None else self._against(out, subject, incumbent)

    def _against(self, evidence: Evidence, subject: Subject, incumbent: Subject) -> Evidence:
        y, n_classes = self.trusted.y, len(self.spec.classes)
        trained_on = set(self.training_sources)
        verified = np.array(
            [s is not None and s not in trained_on for s in self.gate.source], np.bool_
        )
        return replace(
            evidence,
            incumbent_bytes=incumbent.path.stat().st_size,
            incumbent_p50_ms=incumbent.probed.p50_ms,
            trusted=evaluate.compare(subject.trusted, incumbent.trusted, y),
            f1=evaluate.f1_difference(
                subject.trusted, incumbent.trusted, y, n_classes, seed=self.seed
            ),
            slices=tuple(
                evaluate.slice_losses(
                    subject.trusted,
                    incumbent.trusted,
                    y,
                    data.slice_groups(self.trusted, self.spec),
                    min_rows=self.limits.min_slice_rows,
                )
            ),
            fresh=evaluate.compare(subject.gate, incumbent.gate, self.gate.y),
            verified=evaluate.compare(
                subject.gate, incumbent.gate, np.where(verified, self.gate.y, -1)
            ),
        )
