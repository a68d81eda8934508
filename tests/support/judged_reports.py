"""Reports of judged candidates, as jobs write them, with names that somebody chose."""

from __future__ import annotations

from typing import Any

from redistill.compress.plan import (
    Accepted,
    CalibrationBin,
    Cost,
    Figures,
    Gate,
    GroupGap,
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
