"""Earlier releases that a job brought: which of them, or the incumbent, is the best so far.

It is found on the trusted rows that only rank. Found on those that judge it would look better there
than it is, and refuse candidates that are as good.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from redistill.compress import trusted_rows
from redistill.compress.errors import BadModel
from redistill.compress.folder import JobContext
from redistill.compress.judge import measures
from redistill.compress.judge.evaluation import EvaluatedModel
from redistill.compress.judge.probe import ProbeResult
from redistill.compress.plan import Measure
from redistill.compress.rows import Rows

__all__ = ["BestRelease", "find"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BestRelease:
    """What a candidate is compared with on trusted rows, where it is not the incumbent."""

    version: str | None = None
    """``None``: the incumbent is the best, or there is none."""
    model: EvaluatedModel | None = None
    accuracy: dict[str, Measure] = field(default_factory=dict)
    """Of every earlier release on all trusted rows, by version."""


def find(
    context: JobContext, incumbent: EvaluatedModel | None, *, trusted: Rows, gate: Rows
) -> BestRelease:
    """Run the earlier releases over the rows, and take the one of the least loss.

    An equal loss changes nothing: the incumbent is compared with. A release that cannot be run any
    more is left out, with a warning.

    Parameters
    ----------
    incumbent
        As it was evaluated; ``None``: there is nothing to compare with.
    trusted, gate
        The rows of the job.
    """
    if incumbent is None:
        return BestRelease()
    ranks = trusted_rows.ranking(trusted)
    if ranks.sum() < trusted_rows.MIN_RANKING_ROWS:
        ranks = np.ones(len(trusted), np.bool_)

    def loss(model: EvaluatedModel) -> float:
        return float(context.task.loss(model.trusted[ranks], trusted.y[ranks]).mean())

    best, least = BestRelease(), loss(incumbent)
    accuracy: dict[str, Measure] = {}
    for n, version in enumerate(context.job.releases, start=1):
        role = f"best/{n}"
        try:
            model = EvaluatedModel.of(
                version,
                context.path(role),
                context.graph(role),
                trusted=trusted,
                gate=gate,
                probed=ProbeResult(name=role),
            )
        except BadModel as error:
            context.warnings.append(f"release {version} cannot be compared with: {error}")
            continue
        measured = measures.accuracy(context.task.answers(model.trusted), trusted.y)
        if measured is not None:
            accuracy[version] = measured
        if (found := loss(model)) < least:
            best, least = BestRelease(version=version, model=model), found
    return BestRelease(version=best.version, model=best.model, accuracy=accuracy)
