"""Registry: a version is what was judged, packaged and entered, as its manifest, the audit chain
and the announcements tell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from redistill.files import sha256_of_bytes
from redistill.streams.client.release import MANIFEST_FILE, Manifest
from redistill.streams.errors import ReleaseError
from redistill.streams.store.tables import outbox
from redistill.times import microseconds
from redistill.workers.invariants.audit_trail import Told
from redistill.workers.invariants.rule import RuleInput, RuleResult
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.store.tables import jobs, pointer_history, versions

__all__ = ["versions_recorded"]

PACKED = ("sha256", "kind", "policy_sha256", "predecessor", "job_id")
"""What a manifest says as well as its row."""
LEFT = {"rollback": "rolledback", "automatic_rollback": "barred"}
"""What a version becomes that the pointer leaves."""


def versions_recorded(inputs: RuleInput) -> RuleResult:
    """Part of invariant 4."""
    conn, violations = inputs.conn, list[str]()
    layout = RepositoryLayout(inputs.home)
    status = _statuses(conn)
    first: dict[tuple[str, str], int] = {}
    for move in conn.execute(sa.select(pointer_history).order_by(pointer_history.c.epoch)):
        first.setdefault((move.model, move.stable), move.at)
    gates = _announced_gates(conn)
    frozen = {r.job_id: r.frozen_at or _made_at(inputs, r) for r in conn.execute(sa.select(jobs))}
    known: set[tuple[str, str]] = set()
    for row in conn.execute(sa.select(versions)):
        key = (row.model, row.version)
        known.add(key)
        name = f"{row.model} {row.version}"
        entered = inputs.trail.entered.get(key)
        if not entered:
            violations.append(f"{name} was never entered, as the audit chain has it")
        elif other := _differences(row, entered[0]):
            violations.append(f"{name}: the audit chain says otherwise about {', '.join(other)}")
        if row.published_at != first.get(key):
            violations.append(f"{name} was published at another time than it first served")
        expected = status.get(key, "candidate" if row.gate_passed else "rejected")
        lifted = expected == "barred" and (row.model, row.sha256) in inputs.trail.lifted
        if row.status != expected and not (lifted and row.status == "rolledback"):
            violations.append(f"{name} is {row.status}, by its history it is {expected}")
        violations += [f"{name}: {why}" for why in _judged(row, gates.get(key))]
        violations += [
            f"{name}: {why}"
            for why in _packed(layout, row, key in inputs.trail.pruned, frozen.get(row.job_id))
        ]
    violations += [
        f"the audit chain tells of {model} {version}, which is not in the registry"
        for model, version in sorted(inputs.trail.entered.keys() - known)
    ]
    return RuleResult(violations=violations)


def _made_at(inputs: RuleInput, job: Any) -> int:
    """When a job was made, as what it made says: a manifest is not brought back."""
    told = inputs.trail.jobs.get(job.job_id)
    return int(job.created_at if told is None else told.written_at)


def _statuses(conn: sa.Connection) -> dict[tuple[str, str], str]:
    """Status of each version that served, by the moves of its pointer."""
    out: dict[tuple[str, str], str] = {}
    serving: dict[str, str] = {}
    for move in conn.execute(sa.select(pointer_history).order_by(pointer_history.c.epoch)):
        left = serving.get(move.model)
        if left is not None and move.change in LEFT:
            out[move.model, left] = LEFT[move.change]
        out[move.model, move.stable] = "published"
        serving[move.model] = move.stable
    return out


def _differences(row: Any, told: Told) -> list[str]:
    body = told.body
    other = []
    vouched = told.action == "release.adopted"
    passed = body.get("gate_passed") if vouched else told.action == "release.candidate"
    if passed != bool(row.gate_passed):
        other.append("its gates")
    said = {"sha256": row.sha256, "manifest": row.manifest_sha256}
    since = {  # entries of older programs do not say these
        "report_sha256": sha256_of_bytes(row.report.encode()),
        "kind": row.kind,
        "policy_sha256": row.policy_sha256,
        "predecessor": row.predecessor,
        "job_id": row.job_id,
    }
    other += [n for n, value in said.items() if body.get(n) != value]
    other += [n for n, value in since.items() if body.get(n, value) != value]
    if row.created_at != told.at and not vouched:
        other.append("created_at")
    return other


def _announced_gates(conn: sa.Connection) -> dict[tuple[str, str], list[Any]]:
    """Gates as they were announced, where the announcement is still there."""
    out: dict[tuple[str, str], list[Any]] = {}
    for (value,) in conn.execute(sa.select(outbox.c.value).where(outbox.c.topic == "releases")):
        try:
            event = json.loads(bytes(value))
            if event["status"] in ("candidate", "published"):
                out[event["model"], event["version"]] = event["gates"]
        except (ValueError, KeyError, TypeError):
            continue  # said by the rule of announcements
    return out


def _judged(row: Any, announced: list[Any] | None) -> list[str]:
    try:
        report = json.loads(row.report)
        gates = list(report.get("gates", ()))
    except (ValueError, AttributeError, TypeError):
        return []  # said by another part
    out = []
    if announced is not None:
        told = [_gate(g) for g in announced]
        if [_gate(g) for g in gates] != told:
            out.append("its gates were announced otherwise")
    decision = report.get("decision")
    if isinstance(decision, Mapping) and row.gate_passed:
        word = decision.get("decision", decision.get("type"))
        if word != "accepted":
            out.append(f"it passed its gates, and its report says {word}")
    if row.gate_passed and row.kind != "baseline" and not gates:
        out.append("it passed without any gate")
    return out


def _gate(gate: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(gate.get(n) for n in ("name", "value", "limit", "passed", "why"))


def _packed(layout: RepositoryLayout, row: Any, pruned: bool, frozen: int | None) -> list[str]:
    """What contradicts the manifest, whose hash is in the audit chain and in what is signed."""
    try:
        files = json.loads(row.files)
    except ValueError:
        return ["its files cannot be read"]
    if not files:
        return [] if pruned else ["its files are gone, and retention did not remove them"]
    entry = files.pop(MANIFEST_FILE, None)
    if entry is None:
        return []
    if entry["sha256"] != row.manifest_sha256:
        return ["its files name another manifest"]
    path = layout.path(row.model, MANIFEST_FILE, row.manifest_sha256)
    try:
        data = path.read_bytes()
        manifest = Manifest.from_json(data)
    except (OSError, ReleaseError) as error:
        return [f"its manifest cannot be read: {error}"]
    if sha256_of_bytes(data) != row.manifest_sha256:
        return ["its manifest has other bytes than were signed"]
    other = [n for n in PACKED if getattr(manifest, n) != getattr(row, n)]
    if (manifest.model, manifest.version) != (row.model, row.version):
        other.append("its name")
    packed = {n: {"sha256": f.sha256, "bytes": f.bytes} for n, f in manifest.files.items()}
    if packed != files:
        other.append("files")
    if frozen is not None and microseconds(manifest.created_at) != frozen:
        other.append("when it was made")
    return [f"its manifest says otherwise about {', '.join(other)}"] if other else []
