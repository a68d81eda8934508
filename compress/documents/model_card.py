"""Model card: what a model is for, and how it was seen to behave, section by section as Mitchell et
al. 2019 ask for it. What nobody told or measured is ``None``, and is never made up. Pure.

References
----------
Mitchell, Wu, Zaldivar, Barnes, Vasserman, Hutchinson, Spitzer, Raji, Gebru 2019, Model cards for
model reporting (FAT*).
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from redistill.compress.documents.lineage import Lineage
from redistill.compress.plan import (
    CardText,
    Cost,
    DataSource,
    Gate,
    GroupGap,
    JobSpec,
    Measure,
    Report,
    Variant,
)

__all__ = ["Figure", "ModelCard", "gather", "to_json"]

DECISION = "the class with the largest score is the answer"
COSTS = "; mistakes are weighed by the costs of [model] costs"
UNCERTAINTY = (
    "Intervals are of 95%: of shares exact (Clopper and Pearson), of the calibration error and of"
    " gaps between groups by a bootstrap, of a mean cost by its score interval, of a temperature by"
    " its standard error; bounds of gates are at levels of their own. They tell how sure a figure"
    " is on rows like these, not on others."
)
INTERSECTIONAL = "not measured: slices and groups are looked at one at a time"
ESTIMATED_ENERGY = "the job's part of the energy, by its share of the machine's CPU time"
ROWS_NEEDED = "labelled rows with which gate {gate} would be decided, if the difference stays"


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One measured figure."""

    name: str
    """``accuracy``."""
    model: str
    """``candidate``, ``incumbent``, ``teacher``."""
    rows: str
    """On which rows: ``trusted``, ``fresh``."""
    part: str | None
    """``class default`` or a slice, ``region=EU``; ``None``: all of them."""
    measure: Measure


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A figure that was not measured itself."""

    what: str
    value: float
    unit: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelDetails:
    """What the model is."""

    name: str
    sha256: str
    bytes: int
    kind: str | None
    """How it was made; ``None``: elsewhere, and nobody said how."""
    variant: str | None
    operators: dict[str, int]
    parameters: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    license: str | None
    contact: str | None
    temperature: Measure | None
    """What its scores were divided by."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IntendedUse:
    """As model.toml says it."""

    primary_uses: str | None
    primary_users: str | None
    out_of_scope: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Factors:
    """Along which lines it was looked at."""

    slices: tuple[str, ...]
    groups: tuple[str, ...]
    machine: str
    """What speed and rounding were measured on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metrics:
    """What is measured, and what is made of scores."""

    names: tuple[str, ...]
    decision: str
    uncertainty: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantitative:
    """What was measured, and apart from it what was only estimated."""

    measured: tuple[Figure, ...]
    groups: tuple[GroupGap, ...]
    estimated: tuple[Estimate, ...]
    intersectional: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Caveats:
    """What to know before using it."""

    from_owner: str | None
    warnings: tuple[str, ...]
    waived: dict[str, str]
    """Gates that a person took upon themselves: who and why, by gate."""
    open: tuple[str, ...]
    """Gates that the rows at hand did not decide."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """``model_card.json``."""

    format: int = 1
    details: ModelDetails
    intended_use: IntendedUse
    factors: Factors
    metrics: Metrics
    evaluation_data: tuple[DataSource, ...]
    label_sources: tuple[str, ...]
    """Who labelled the fresh rows; empty: none were looked at, or it is not known."""
    training_data: tuple[DataSource, ...]
    """Empty: not known."""
    labels_in_loss: bool | None
    quantitative: Quantitative
    gates: tuple[Gate, ...]
    cost: Cost | None
    """Measured, of the job that made it."""
    latency: dict[str, tuple[float, float]]
    """Median and 95th percentile of one call at the serving batch, in ms of thread CPU time, by
    model; one run, without an interval."""
    ethical_considerations: str | None
    caveats: Caveats


def gather(job: JobSpec, report: Report, lineage: Lineage, *, made_by: str | None) -> ModelCard:
    """The card of a candidate, from what its job knows.

    Parameters
    ----------
    made_by
        What its recipe does, in words; ``None``: it was not made here.
    """
    chosen = next((v for v in report.variants if v.name == report.chosen), None)
    text, figures = job.card, report.figures
    return ModelCard(
        details=_details(job, lineage, chosen, made_by),
        intended_use=IntendedUse(
            primary_uses=text.intended_use,
            primary_users=text.users,
            out_of_scope=text.out_of_scope,
        ),
        factors=Factors(
            slices=tuple(sorted({s for of in figures.slices.values() for s in of}))
            if figures
            else (),
            groups=job.graph.groups,
            machine=", ".join([lineage.machine, *lineage.cpu_flags]),
        ),
        metrics=Metrics(
            names=tuple(chosen.measures) if chosen else (),
            decision=DECISION + ("" if job.graph.costs is None else COSTS),
            uncertainty=UNCERTAINTY,
        ),
        evaluation_data=lineage.judged_on
        if report.faced
        else tuple(s for s in lineage.judged_on if s.role != "fresh"),
        label_sources=report.label_sources,
        training_data=lineage.trained_on,
        labels_in_loss=lineage.labels_in_loss,
        quantitative=Quantitative(
            measured=_measured(report, chosen),
            groups=report.gaps,
            estimated=_estimated(report),
            intersectional=INTERSECTIONAL,
        ),
        gates=report.gates,
        cost=report.cost,
        latency={name: (v.p50_ms, v.p95_ms) for name, v in _beside(report, chosen)},
        ethical_considerations=text.ethical_considerations,
        caveats=_caveats(report, text),
    )


def to_json(card: ModelCard) -> bytes:
    """Canonical JSON (sorted keys)."""
    return msgspec.json.encode(card, order="sorted")


def _details(
    job: JobSpec, lineage: Lineage, chosen: Variant | None, made_by: str | None
) -> ModelDetails:
    return ModelDetails(
        name=job.model,
        sha256=lineage.sha256,
        bytes=lineage.bytes,
        kind=made_by,
        variant=lineage.variant,
        operators=lineage.operators,
        parameters=lineage.parameters,
        inputs=job.graph.features,
        outputs=job.graph.classes,
        license=job.card.license,
        contact=job.card.contact,
        temperature=None if chosen is None else chosen.temperature,
    )


def _beside(report: Report, chosen: Variant | None) -> list[tuple[str, Variant]]:
    found = (("candidate", chosen), ("incumbent", report.incumbent), ("teacher", report.teacher))
    return [(name, v) for name, v in found if v is not None]


def _measured(report: Report, chosen: Variant | None) -> tuple[Figure, ...]:
    """Of all rows first, then of classes and slices."""
    out = []
    for model, v in _beside(report, chosen):
        for name, m in v.measures.items():
            out.append(Figure(name=name, model=model, rows="trusted", part=None, measure=m))
        if v.fresh_accuracy is not None and report.faced:
            m = v.fresh_accuracy
            out.append(Figure(name="accuracy", model=model, rows="fresh", part=None, measure=m))
    if report.figures is None:
        return tuple(out)
    for rows, classes in report.figures.classes.items():
        out += [
            Figure(name="accuracy", model=model, rows=rows, part=f"class {c}", measure=m)
            for c, found in classes.items()
            for model, m in found.items()
        ]
    for rows, slices in report.figures.slices.items():
        out += [
            Figure(name="accuracy", model=model, rows=rows, part=part, measure=m)
            for part, found in slices.items()
            for model, m in found.items()
        ]
    return tuple(out)


def _estimated(report: Report) -> tuple[Estimate, ...]:
    out = [
        Estimate(what=ROWS_NEEDED.format(gate=g.name), value=float(g.need), unit="rows")
        for g in report.gates
        if g.need is not None
    ]
    if report.cost is not None and report.cost.estimated_joules is not None:
        joules = report.cost.estimated_joules
        out.append(Estimate(what=ESTIMATED_ENERGY, value=joules, unit="J"))
    return tuple(out)


def _caveats(report: Report, text: CardText) -> Caveats:
    passed_by = {g.name for g in report.gates if g.passed and g.why.startswith("waived by ")}
    return Caveats(
        from_owner=text.caveats,
        warnings=report.warnings,
        waived={gate: who for gate, who in report.waived.items() if gate in passed_by},
        open=tuple(f"{g.name}: {g.why}" for g in report.gates if g.passed is None),
    )
