"""Policy: the limits of all gates, as model.toml sets them and as a report names them.

Stored and hashed as plain JSON: gate -> limit -> value. What is set is kept as it was set; what is
judged by is complete, with the defaults of this release filled in, and its hash is the *policy
hash* of what it let through.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from redistill.compress.judge import limits
from redistill.compress.judge.gates.rule import GateRule
from redistill.compress.judge.gates.table import RULES

__all__ = ["OLD_KEYS", "Policy", "became", "complete", "migrated", "of", "sha256", "wished"]

Policy = Mapping[str, Any]
"""Gate -> its limits, an instance of the rule's own dataclass."""

OLD_KEYS: Mapping[str, tuple[str, str, Any]] = {
    "min_e_value": ("fresh", "e_value", 100.0),
    "trusted_margin_points": ("trusted", "margin_points", 1.0),
    "max_worst_slice_loss_points": ("worst_group", "max_loss_points", 5.0),
    "min_slice_rows": ("worst_group", "min_rows", 50),
    "max_f1_loss_points": ("f1", "max_loss_points", 2.0),
    "max_latency_ratio": ("latency", "max_fp32_ratio", 1.05),
    "max_size_ratio_noop": ("quantized", "max_size_ratio", 0.9),
    "min_agreement": ("agreement", "least", 0.97),
    "domain_auc_blind": ("verified", "blind_auc", 0.8),
    "min_verified_rows": ("verified", "min_rows", 100),
    "scheduled_margin_points": ("kept", "margin_points", 1.0),
    "scheduled_min_gain": ("gain", "least", 0.10),
    "max_bytes": ("size", "max_bytes", None),
    "max_p95_ms": ("latency", "max_p95_ms", None),
    "trade": ("trusted", "trade", False),
}
"""Keys of ``[gates]`` itself: gate, limit, and the default. All but ``trade``, which is short for
``[gates.trusted] trade``, are of the time before each gate had a section."""
ALSO: Mapping[str, tuple[tuple[str, str], ...]] = {
    "scheduled_margin_points": (("trusted", "scheduled_margin_points"),),
    "max_worst_slice_loss_points": (("worst_class", "max_loss_points"),),
}
"""Limits that one key set in two gates: the second."""


def of(given: Mapping[str, Mapping[str, Any]], rules: tuple[GateRule, ...] = RULES) -> Policy:
    """Limits of every gate, with defaults where nothing is set.

    Raises
    ------
    ValueError
        Values are of a wrong type, or make no sense; the message names them all.

    Examples
    --------
    >>> of({"trusted": {"margin_points": 3}})["trusted"].margin_points
    3.0
    """
    out: dict[str, Any] = {}
    problems: list[str] = []
    for rule in rules:
        kind, values = type(rule.limit), given.get(rule.name, {})
        problems += [f"{rule.name}.{name} = {told}" for name, told in limits.wrong(kind, values)]
        if not problems:
            known = {f.name for f in dataclasses.fields(rule.limit)} & values.keys()
            filled = dataclasses.asdict(rule.limit) | {k: values[k] for k in known}
            out[rule.name] = msgspec.convert(filled, kind)
    if problems:
        raise ValueError("; ".join(problems))
    return out


def complete(policy: Policy) -> dict[str, dict[str, Any]]:
    """As plain values: what a job is told, and what is hashed."""
    return {name: dataclasses.asdict(limit) for name, limit in policy.items()}


def sha256(policy: Policy) -> str:
    """The policy hash: of canonical JSON, so that equal limits have equal hashes."""
    text = msgspec.json.encode(complete(policy), order="sorted")
    return hashlib.sha256(text).hexdigest()


def wished(given: Mapping[str, Any]) -> dict[str, Any]:
    """``[gates]`` as an older release stored it, but for what nobody had set.

    Older releases stored all of it, defaults too: a value that was the default then was nobody's
    wish, and today's default takes its place.

    Examples
    --------
    >>> wished({"min_agreement": 0.9, "min_e_value": 100.0, "fresh": {"e_value": 400}})
    {'min_agreement': 0.9, 'fresh': {'e_value': 400}}
    """
    defaults = {old: default for old, (_, _, default) in OLD_KEYS.items()}
    return {k: v for k, v in given.items() if k not in defaults or v != defaults[k]}


def migrated(given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """``[gates]`` with every limit in its gate's section: older releases had one flat table.

    Where a limit is set in both ways the section is right.

    Examples
    --------
    >>> migrated({"min_agreement": 0.9, "min_e_value": 100.0, "fresh": {"e_value": 400}})
    {'fresh': {'e_value': 400}, 'agreement': {'least': 0.9}}
    """
    out = {k: dict(v) for k, v in given.items() if isinstance(v, Mapping)}
    for old in (k for k in OLD_KEYS if k in given):
        for gate, limit in became(old):
            out.setdefault(gate, {}).setdefault(limit, given[old])
    return out


def became(old: str) -> tuple[tuple[str, str], ...]:
    """Gates and limits that an old key set."""
    gate, limit, _ = OLD_KEYS[old]
    return (gate, limit), *ALSO.get(old, ())
