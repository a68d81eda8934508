"""Table of the gates, in the order in which they are asked and told."""

from __future__ import annotations

from redistill.compress.judge.gates import (
    agreement,
    auc,
    calibration,
    f1,
    fresh,
    futility,
    gain,
    kept,
    latency,
    loads,
    memory,
    negative_flips,
    quantized,
    recipe,
    size,
    throughput,
    trusted,
    verified,
    worst_class,
    worst_group,
)
from redistill.compress.judge.gates.rule import GateRule

__all__ = ["RULES"]

RULES: tuple[GateRule, ...] = (
    loads.RULE,
    size.RULE,
    quantized.RULE,
    latency.RULE,
    throughput.RULE,
    memory.RULE,
    agreement.RULE,
    recipe.RULE,
    verified.RULE,
    fresh.RULE,
    futility.RULE,
    kept.RULE,
    trusted.RULE,
    worst_class.RULE,
    worst_group.RULE,
    negative_flips.RULE,
    calibration.RULE,
    f1.RULE,
    auc.RULE,
    gain.RULE,
)
