"""Specifications of models: what is watched, and what is normal, is what was registered."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from redistill.files import sha256_of_bytes
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.monitor.input_profile import Profile
from redistill.streams.store.tables import profiles, specs
from redistill.workers.invariants.audit_trail import Told
from redistill.workers.invariants.rule import Rule, RuleInput, RuleResult
from redistill.workers.models.spec import ModelSpec
from redistill.workers.store.tables import versions

__all__ = ["RULES"]


def registered(inputs: RuleInput) -> RuleResult:
    """Invariant 11: specifications."""
    violations: list[str] = []
    trail, known = inputs.trail.registered, set()
    for row in inputs.conn.execute(sa.select(specs)):
        known.add(row.model)
        told = trail.get(row.model)
        if not told:
            violations.append(f"{row.model}: the audit chain does not say who registered it")
        elif other := _differences(row, told):
            violations.append(
                f"{row.model}: the audit chain says otherwise about {', '.join(other)}"
            )
        violations += [f"{row.model}: {why}" for why in _settings(row)]
    violations += [
        f"the audit chain tells of model {model}, which is not registered"
        for model in sorted(trail.keys() - known)
    ]
    return RuleResult(figures={"models": len(known)}, violations=violations)


def _differences(row: Any, told: list[Told]) -> list[str]:
    last = told[-1].body
    said = {"level": row.level, "config_sha256": row.config_sha256}
    other = [n for n, value in said.items() if last.get(n) != value]
    for name, text in (("spec_sha256", row.spec), ("watch_sha256", row.watch)):
        digest = sha256_of_bytes(text.encode())
        if last.get(name, digest) != digest:  # entries of older programs do not say these
            other.append(name.removesuffix("_sha256"))
    if told[0].action == "model.registered" and row.registered_at != told[0].at:
        other.append("registered_at")
    if row.updated_at < told[-1].at:
        other.append("updated_at")
    return other


def _settings(row: Any) -> list[str]:
    """What the stream workers are told is what the specification says."""
    try:
        watch = WatchConfig.from_json(row.watch)
        spec = ModelSpec.from_json(row.spec)
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        return [f"its specification cannot be read: {error}"]
    told = (watch.model, watch.level, spec.name, spec.level)
    if told != (row.model, row.level, row.model, row.level):
        return ["its specification is of another model or level"]
    return []


def normal(inputs: RuleInput) -> RuleResult:
    """Invariant 11: what is normal for a version is what was measured when it came. What is learned
    from traffic afterwards is nobody's word."""
    violations: list[str] = []
    told: dict[tuple[str, str], Told] = {}
    for entries in inputs.trail.registered.values():
        for entry in entries:
            if entry.body.get("version"):
                told[entry.subject, str(entry.body["version"])] = entry
    for (model, version), entered in inputs.trail.entered.items():
        told.setdefault((model, version), entered[0])
    there: set[tuple[str, str]] = set()
    for row in inputs.conn.execute(sa.select(profiles)):
        there.add((row.model, row.version))
        name = f"{row.model} {row.version}"
        known = told.get((row.model, row.version))
        try:
            if row.profile is not None:
                Profile.from_bytes(bytes(row.profile))
            if row.base_error is not None:
                BaseError.from_json(row.base_error)
            if row.expected_error is not None:
                ExpectedError.from_json(row.expected_error)
        except Exception as error:  # whatever a changed byte makes a decoder raise
            violations.append(f"{name}: what is normal for it cannot be read: {error}")
            continue
        if known is None:
            continue
        for what, value in (
            ("profile", row.profile),
            ("base_error", row.base_error),
            ("expected_error", row.expected_error),
        ):
            digest = known.body.get(f"{what}_sha256")
            # only a profile is learned later; older entries do not tell of expected errors
            settled = what == "expected_error" and f"{what}_sha256" in known.body
            if (settled or digest is not None) and digest != _sha(value):
                violations.append(f"{name}: the audit chain says otherwise about its {what}")
        provisional = known.body.get("provisional")
        if provisional is not None and bool(row.provisional) != provisional:
            violations.append(f"{name}: the audit chain says otherwise about provisional")
    certain = {  # of which every registration is told with the version that it named
        model
        for model, entries in inputs.trail.registered.items()
        if all("spec_sha256" in e.body for e in entries) and entries[-1].body["level"] != "watch"
    }
    violations += [
        f"{m} {v}: nobody registered it, and something is normal for it"
        for m, v in sorted(there - told.keys())
        if m in certain
    ]
    lost = {key for key, entry in told.items() if entry.body.get("base_error_sha256")} - there
    violations += [f"{m} {v}: what is normal for it is gone" for m, v in sorted(lost)]
    entered_too = {(r.model, r.version) for r in inputs.conn.execute(sa.select(versions))}
    return RuleResult(
        figures={"profiles": len(there), "of_releases": len(there & entered_too)},
        violations=violations,
    )


def _sha(value: Any) -> str | None:
    if value is None:
        return None
    return sha256_of_bytes(value.encode() if isinstance(value, str) else bytes(value))


RULES = (
    Rule(
        number=11,
        text="models are watched as they were registered, by what was measured then",
        parts=(registered, normal),
    ),
)
