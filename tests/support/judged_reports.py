"""Reports of judged candidates, as jobs write them, with names that somebody chose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from redistill.compress.documents import model_card
from redistill.compress.documents.lineage import Ancestor, Code, Lineage
from redistill.compress.documents.model_card import ModelCard
from redistill.compress.plan import (
    Accepted,
    CalibrationBin,
    CardText,
    Cost,
    DataSource,
    Figures,
    Gate,
    GraphSpec,
    GroupGap,
    JobSpec,
    Look,
    Measure,
    Report,
    Variant,
)

SHA = "ab" * 32


def measure(value: float, half: float = 0.02, n: int = 500) -> Measure:
    """With a plain interval."""
    return Measure(value=value, low=value - half, high=value + half, n=n)


def variant(name: str, accuracy: float, size: int, p50: float, **fields: Any) -> Variant:
    """As measured on 500 trusted rows."""
    given: dict[str, Any] = {
        "fresh_accuracy": None,
        "agreement": 0.99,
        "measures": {"accuracy": measure(accuracy), "calibration_error": measure(0.05)},
    }
    return Variant(
        name=name, sha256=SHA, bytes=size, p50_ms=p50, p95_ms=1.2 * p50,
        trusted_accuracy=measure(accuracy), **given | fields,
    )  # fmt: skip


def report(name: str = "region=EU", **fields: Any) -> Report:
    """Of an accepted int8 candidate; ``name`` stands wherever a slice, class or person is named."""
    gates = (
        Gate(name="size", value=0.3, limit=1.5, passed=True, why="small", split="machine"),
        Gate(
            name="fresh", value=512.0, limit=200.0, passed=True, why="better", split="fresh", have=90
        ),
        Gate(
            name="trusted", value=-0.4, limit=-2.0, passed=True, why=f"waived by {name}",
            split="trusted", low=-0.4, high=1.1, have=500,
        ),
    )  # fmt: skip
    bins = tuple(CalibrationBin(confidence=0.1 * k, right=measure(0.1 * k)) for k in range(5, 10))
    by_role = {"candidate": measure(0.9), "incumbent": measure(0.85), "teacher": measure(0.93)}
    looks = tuple(
        Look(rows=k, points=measure(5.0, 30.0 / k, k), e_value=1.1**k) for k in (10, 40, 90)
    )
    gap = GroupGap(
        key=name,
        accuracy={"candidate": {name: measure(0.9), "m": measure(0.86)}},
        gap={"candidate": measure(0.04)},
        added={"teacher": measure(0.01)},
        chance=0.02,
    )
    given: dict[str, Any] = {
        "job_id": "00000000-0000-0000-0000-000000000012",
        "model": "credit",
        "mode": "repair",
        "decision": Accepted(variant="static_int8"),
        "chosen": "static_int8",
        "gates": gates,
        "variants": (
            variant("fp32", 0.95, 400_000, 0.2),
            variant("static_int8", 0.945, 110_000, 0.08, gates=gates),
        ),
        "incumbent": variant("incumbent", 0.9, 120_000, 0.09),
        "teacher": variant("teacher", 0.97, 3_000_000, 2.5),
        "gaps": (gap,),
        "waived": {"trusted": name},
        "policy_sha256": SHA,
        "recipe_name": "warm",
        "faced": True,
        "label_sources": (name,),
        "rows": {"train": 1_500, "gate": 200, "gate_labelled": 90, "trusted": 1_000},
        "cost": Cost(
            cpu_seconds=2.5, earlier_cpu_seconds=0.0, wall_seconds=3.0, peak_bytes=410_000_000,
            package_joules=90.0, estimated_joules=40.0, no_energy=None,
        ),
        "figures": Figures(
            classes={"trusted": {name: by_role}, "fresh": {name: by_role}},
            slices={"trusted": {name: by_role}},
            calibration={"trusted": {"candidate": bins, "incumbent": bins}},
            looks=looks,
        ),
        "environment": {
            "python": "3.11.9", "machine": "x86_64", "cpu_flags": ["avx2", "avx512_vnni"],
            "numpy": "2.1.0", "onnx": "1.18.0", "onnxruntime": "1.22.0", "torch": None,
        },
        "warnings": (f"odd rows of {name}",),
        "seed": 7,
    }  # fmt: skip
    return Report(**given | fields)


def lineage_of(**fields: Any) -> Lineage:
    """Of the candidate of ``report``."""
    rows = DataSource(
        role="training window", sha256="cd" * 32, rows=1_500, first="2026-01-01T00:00:00+00:00",
        last="2026-01-08T00:00:00+00:00",
    )  # fmt: skip
    given: dict[str, Any] = {
        "model": "credit",
        "sha256": SHA,
        "bytes": 110_000,
        "operators": {"MatMul": 3, "Relu": 2},
        "parameters": 100_000,
        "variant": "static_int8",
        "recipe": "warm",
        "parent": Ancestor(sha256="11" * 32, version="r11-11111111"),
        "teacher": Ancestor(sha256="22" * 32),
        "trained_on": (rows,),
        "judged_on": (replace(rows, role="trusted", sha256="ef" * 32, first=None, last=None),),
        "seed": 7,
        "training": {"epochs": 16},
        "labels_in_loss": False,
        "policy_sha256": SHA,
        "code": Code(version="0.1.0", sha256="33" * 32),
        "libraries": {"numpy": "2.1.0", "torch": "2.8.0+cpu", "onnx": None},
        "python": "3.11.9",
        "machine": "x86_64",
        "cpu_flags": ("avx2",),
    }
    return Lineage(**given | fields)


def carded(
    name: str = "region=EU", *, text: CardText | None = None, **fields: Any
) -> tuple[ModelCard, Lineage]:
    """The card of ``report``'s candidate and its lineage."""
    graph = GraphSpec(features=(name, "age"), classes=("no", name), groups=(name,))
    job = JobSpec(job_id="", model=name, graph=graph, card=text or CardText())
    lineage = lineage_of(model=name)
    made_by = "distilled again, from the weights that serve"
    return model_card.gather(job, report(name, **fields), lineage, made_by=made_by), lineage
