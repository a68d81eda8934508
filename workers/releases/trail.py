"""Trail of a model's releases: what authentic audit entries say of it. Pure, but for :func:`read`.

Rows of the registry can be changed by whoever writes SQL, audit entries cannot be made without the
audit key: what is signed has to agree with the trail, whatever the rows say (``agreement``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from redistill.files import sha256_of_bytes
from redistill.streams.store.tables import specs
from redistill.workers.errors import Disagreement
from redistill.workers.store import audit
from redistill.workers.store.audit import Entry
from redistill.workers.store.audit_key import AuditKey
from redistill.workers.store.tables import barred, pointer_history, pointers, versions

__all__ = [
    "ADOPTED",
    "Trail",
    "as_it_stands",
    "facts_of",
    "read",
    "text_sha256",
]

ADOPTED = "release.adopted"
"""Action by which a person vouched for a model's rows as they stood: its trail begins anew
there."""
CHANGES = ("publish", "rollback", "automatic_rollback")
FACTS = (
    "version", "sha256", "manifest", "kind", "gate_passed", "policy_sha256", "report_sha256",
    "files_sha256",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class VouchedVersion:
    """What was entered under a version's name."""

    facts: Mapping[str, Any]
    """By ``FACTS``."""

    def differs(self, row: Mapping[str, Any]) -> list[str]:
        """Facts in which a row of the registry is another. Retention may empty ``files``; a report
        that was not read is ``None``.
        """
        now, unsaid = facts_of(row), set()
        if row["report"] is None:
            unsaid.add("report_sha256")
        if row["files"] == "{}":
            unsaid.add("files_sha256")
        return [name for name in FACTS if now[name] != self.facts[name] and name not in unsaid]


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """What a model's pointer was moved to."""

    epoch: int
    version: str
    sha256: str
    change: str
    reason: str
    at: int


@dataclass(slots=True)
class Trail:
    """What is known of one model."""

    versions: dict[str, VouchedVersion] = field(default_factory=dict)
    moves: list[Move] = field(default_factory=list)
    barred: set[str] = field(default_factory=set)
    """SHA-256 of graphs that are never published again."""
    requests: set[str] = field(default_factory=set)
    """Release requests that were done."""
    waived: set[tuple[str, str, str]] = field(default_factory=set)
    """Job or version, gate, and who took it upon themselves, and why."""

    spec_sha256: str | None = None
    """Of the specification as it was registered last; ``None``: not known."""

    def take(self, entry: Entry) -> None:
        """Add what an authentic entry says."""
        body = json.loads(entry.body)
        match entry.action:
            case "release.candidate" | "release.rejected" if "report_sha256" in body:
                self.versions.setdefault(body["version"], VouchedVersion(body))
            case "release.publish" | "release.rollback" | "release.automatic_rollback":
                change = entry.action.removeprefix("release.")
                self.moves.append(_move(body | {"change": change, "at": entry.at}))
                if body.get("barred"):
                    self.barred.add(body["barred"])
                if body.get("request"):
                    self.requests.add(body["request"])
            case "release.unbar":
                self.barred.discard(body["sha256"])
            case "job.gates_waived" | "release.gates_waived":
                of = str(body.get("job_id") or body.get("version"))
                self.waived |= {(of, gate, told) for gate, told in body["waived"].items()}
            case "model.registered" | "model.changed":
                self.spec_sha256 = body.get("spec_sha256")
            case "release.adopted":
                self.spec_sha256 = body["spec_sha256"]
                self.versions = {v["version"]: VouchedVersion(v) for v in body["versions"]}
                self.moves = [_move(move) for move in body["moves"]]
                self.barred = set(body["barred"])
                self.waived = {(of, gate, told) for of, gate, told in body["waived"]}

    def want(self, model: str, row: Mapping[str, Any]) -> None:
        """Refuse a row of the registry that is not what was entered under its name.

        Raises
        ------
        Disagreement
            It was changed, or added by somebody without the audit key.
        """
        name = f"{model} {row['version']}"
        entered = self.versions.get(row["version"])
        if entered is None:
            raise Disagreement(
                f"the row of {name} in versions: no audit entry says that it was entered"
            )
        if changed := entered.differs(row):
            raise Disagreement(
                f"the row of {name} in versions: {', '.join(changed)} changed since it was entered"
            )

    def want_pointer(self, model: str, row: Mapping[str, Any] | None) -> None:
        """Refuse a row of ``pointers`` (``None``: there is none) that is not where the pointer was
        moved last.

        Raises
        ------
        Disagreement
            It stands elsewhere.
        """
        last = self.moves[-1] if self.moves else None
        stands = (
            None if row is None else (row["epoch"], row["stable"], row["reason"], row["moved_at"])
        )
        moved = None if last is None else (last.epoch, last.version, last.reason, last.at)
        if stands != moved:
            raise Disagreement(
                f"the row of {model} in pointers: it is at {_place(stands)}, the audit has"
                f" {_place(moved)}"
            )


def facts_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """``FACTS`` of a row of ``versions``, as an audit entry has them."""
    return {
        "version": row["version"],
        "sha256": row["sha256"],
        "manifest": row["manifest_sha256"],
        "kind": row["kind"],
        "gate_passed": row["gate_passed"],
        "policy_sha256": row["policy_sha256"],
        "report_sha256": None if row["report"] is None else text_sha256(row["report"]),
        "files_sha256": text_sha256(row["files"]),
    }


def read(conn: sa.Connection, key: AuditKey, model: str) -> Trail:
    """The trail of a model, for whoever is about to move its pointer.

    Raises
    ------
    Disagreement
        An entry about it is not authentic.
    """
    trail, strange = Trail(), None
    for entry in audit.of_subject(conn, model):
        if not entry.is_authentic(key):
            strange = strange or entry
            continue
        trail.take(entry)
        if entry.action == ADOPTED:
            strange = None
    if strange is not None:
        raise Disagreement(f"{strange}: the audit key did not make its MAC")
    return trail


def as_it_stands(conn: sa.Connection, model: str) -> dict[str, Any]:
    """The body of an ``ADOPTED`` entry: the rows of a model, for which a person vouches."""
    entered = conn.execute(
        sa.select(versions).where(versions.c.model == model).order_by(versions.c.version)
    ).mappings()
    rows = [{str(k): v for k, v in row.items()} for row in entered]
    moves = conn.execute(
        sa.select(pointer_history)
        .where(pointer_history.c.model == model)
        .order_by(pointer_history.c.epoch)
    )
    now = conn.execute(sa.select(pointers).where(pointers.c.model == model)).one_or_none()
    stands = {} if now is None else {now.epoch: now.moved_at}  # its history's may be brought back
    spec = conn.execute(sa.select(specs).where(specs.c.model == model)).one_or_none()
    return {
        "spec_sha256": None if spec is None else text_sha256(spec.spec),
        "watch_sha256": None if spec is None else text_sha256(spec.watch),
        "config_sha256": None if spec is None else spec.config_sha256,
        "level": None if spec is None else spec.level,
        "versions": [facts_of(row) for row in rows],
        "moves": [
            {
                "epoch": m.epoch, "version": m.stable, "sha256": m.sha256, "change": m.change,
                "reason": m.reason, "at": stands.get(m.epoch, m.at),
            }
            for m in moves
        ],
        "barred": sorted(
            conn.execute(sa.select(barred.c.sha256).where(barred.c.model == model)).scalars()
        ),
        "waived": [
            [of, gate, told]
            for row in rows
            for gate, told in json.loads(row["report"]).get("waived", {}).items()
            for of in (row["job_id"], row["version"])
            if of
        ],
    }  # fmt: skip


def _move(body: Mapping[str, Any]) -> Move:
    return Move(**{name: body[name] for name in Move.__slots__})


def text_sha256(text: str) -> str:
    """Hash of a text as it is stored."""
    return sha256_of_bytes(text.encode("utf-8", "surrogatepass"))


def _place(place: tuple[Any, ...] | None) -> str:
    return "none" if place is None else f"epoch {place[0]}, {place[1]} ({place[2]})"
