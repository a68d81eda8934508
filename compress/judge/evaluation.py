"""Models run over the rows of a job: measures and evidence, one variant after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from redistill.compress import data
from redistill.compress.judge import measures
from redistill.compress.judge.evidence import Evidence
from redistill.compress.judge.graph import Graph
from redistill.compress.judge.measures import Classes
from redistill.compress.judge.probe import ProbeResult
from redistill.compress.plan import GraphSpec, Limits, Measure, Variant
from redistill.compress.rows import Rows
from redistill.files import sha256_of

__all__ = ["EvaluatedModel", "Evaluation"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EvaluatedModel:
    """One model and what it answers."""

    name: str
    path: Path
    trusted: Classes  # (trusted rows,)
    gate: Classes  # (gate rows,), labelled or not
    fresh: Classes  # (fresh rows,), those that were trained on too; empty where nobody asks
    probed: ProbeResult

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
    ) -> EvaluatedModel:
        """Run a graph over the rows."""
        return cls(
            name=name,
            path=path,
            trusted=graph.classes(trusted.x),
            gate=graph.classes(gate.x),
            fresh=graph.classes(gate.x[:0] if fresh is None else fresh.x),
            probed=probed,
        )

    def unanswered(self) -> list[str]:
        """A sentence for rows to which it answers NaN or infinity: they count as wrong."""
        return [
            f"{self.name} answers NaN for {silent:,} of {len(answered):,} {what} rows: they count"
            " as wrong"
            for what, answered in (("trusted", self.trusted), ("gate", self.gate))
            if (silent := int((answered < 0).sum()))
        ]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Evaluation:
    """The rows and terms under which all variants of a job are judged."""

    spec: GraphSpec
    limits: Limits
    trusted: Rows
    gate: Rows
    seed: int
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
        accuracy = measures.accuracy(model.trusted, self.trusted.y)
        if accuracy is None:
            raise ValueError("a variant is measured on trusted rows, and there are none")
        return Variant(
            name=model.name,
            sha256=sha256_of(model.path),
            bytes=model.path.stat().st_size,
            p50_ms=model.probed.p50_ms or 0.0,
            p95_ms=model.probed.p95_ms or 0.0,
            trusted_accuracy=accuracy,
            fresh_accuracy=measures.accuracy(
                model.gate, self.gate.y, self.gate.weight.astype(np.float64)
            ),
            agreement=None
            if fp32 is None
            else measures.agreement(model.trusted, fp32.trusted).value,
        )

    def evidence(
        self,
        model: EvaluatedModel,
        *,
        incumbent: EvaluatedModel | None,
        fp32: EvaluatedModel | None,
    ) -> Evidence:
        """What the gates are told of a candidate.

        Parameters
        ----------
        incumbent
            What serves now; ``None``: this is the first model.
        fp32
            The student that the candidate was quantized from; ``None``: it was not.
        """
        y, own = self.trusted.y, model.probed
        quantized = fp32 is not None and fp32.name != model.name
        out = Evidence(
            variant=model.name,
            quantized=quantized,
            bytes=model.path.stat().st_size,
            fp32_bytes=None if fp32 is None else fp32.path.stat().st_size,
            integer_operators=own.integer_operators,
            p50_ms=own.p50_ms,
            p95_ms=own.p95_ms,
            fp32_p50_ms=None if fp32 is None else fp32.probed.p50_ms,
            accuracy=measures.accuracy(model.trusted, y),
            labels_in_loss=self.labels_in_loss,
            domain_auc=self.domain_auc,
            agreement=measures.agreement(model.trusted, fp32.trusted)
            if fp32 is not None and quantized
            else None,
            fresh_agreement=measures.agreement(model.fresh, fp32.fresh)
            if fp32 is not None and quantized and len(model.fresh)
            else None,
        )
        return out if incumbent is None else self._against(out, model, incumbent)

    def _against(
        self, evidence: Evidence, model: EvaluatedModel, incumbent: EvaluatedModel
    ) -> Evidence:
        y, n_classes = self.trusted.y, len(self.spec.classes)
        trained_on = set(self.training_sources)
        verified = np.array(
            [s is not None and s not in trained_on for s in self.gate.source], np.bool_
        )
        return replace(
            evidence,
            incumbent_bytes=incumbent.path.stat().st_size,
            incumbent_p50_ms=incumbent.probed.p50_ms,
            trusted=measures.compare(model.trusted, incumbent.trusted, y),
            f1=measures.f1_difference(
                model.trusted, incumbent.trusted, y, n_classes, seed=self.seed
            ),
            slices=tuple(
                measures.slice_losses(
                    model.trusted,
                    incumbent.trusted,
                    y,
                    data.slice_groups(self.trusted, self.spec),
                    min_rows=self.limits.min_slice_rows,
                )
            ),
            fresh=measures.compare(model.gate, incumbent.gate, self.gate.y),
            verified=measures.compare(
                model.gate, incumbent.gate, np.where(verified, self.gate.y, -1)
            ),
        )
