"""Agreement of what is about to be signed with what the audit says: registry, gate reports,
policies, decisions, pointers and the rows of the signed roles.

The rows of the roles were read before and are what will be signed, whatever becomes of them in SQL
meanwhile; trails come from an audit book, which only the audit key can write. Each disagreement
says which row it is about, and in what.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from redistill.streams.client.release import KnownRelease, PointerFile, target_name
from redistill.streams.errors import ReleaseError
from redistill.streams.store.tables import specs
from redistill.times import to_us
from redistill.workers.errors import Disagreement
from redistill.workers.releases.release_files import PRIVATE_NAMES
from redistill.workers.releases.roles import PREFIX, Lifetimes, Role, tuf_time
from redistill.workers.releases.trail import Trail, text_sha256
from redistill.workers.releases.versions import files_of
from redistill.workers.store.tables import pointer_history, pointers, versions

__all__ = ["disagreements"]

FARTHEST = 10_000
"""By so much at most a version of signed metadata grows between two signatures. Whoever could make
it jump to the largest number that there is would lock every client out for ever."""
SLACK_US = to_us(60)
"""By which an expiry may be later than the lifetime says: clocks of two machines differ."""


def disagreements(
    conn: sa.Connection,
    by_name: Mapping[str, Role],
    trails: Mapping[str, Trail],
    *,
    seen: Mapping[str, int],
    now: int,
    lifetimes: Lifetimes,
) -> list[str]:
    """What does not agree; empty: it may be signed.

    Parameters
    ----------
    by_name
        All roles, as they will be signed.
    trails
        What authentic audit entries say, by model.
    seen
        Newest version of each role that clients may have seen.
    """
    found = [*_numbers(by_name, seen, now, lifetimes)]
    moved = {model for model, trail in trails.items() if trail.moves}
    listed = set(by_name["targets"].body["models"]) if "targets" in by_name else set()
    own = {name.removeprefix(PREFIX) for name in by_name if name.startswith(PREFIX)}
    for role, models, why in (
        ("", own - moved, "the audit knows of no pointer of it"),
        ("", moved - own, "it is gone, and the audit knows of its pointer"),
        ("targets", listed - moved, "whose pointer no audit entry moved, is listed"),
        ("targets", moved - listed, "which has a pointer, is not listed"),
    ):
        for model in sorted(models):
            row = f"the row of {role or PREFIX + model} in repository_roles"
            found.append(f"{row}: {model + ', ' if role else ''}{why}")
    stands = {row.model: row._asdict() for row in conn.execute(sa.select(pointers))}
    history, entered = _history(conn), _entered(conn)
    stored = conn.execute(sa.select(specs.c.model, specs.c.spec))
    registered = {model: text_sha256(spec) for model, spec in stored}
    for model in sorted(moved | set(stands)):
        trail = trails.get(model) or Trail()
        try:
            trail.want_pointer(model, stands.get(model))
            if trail.spec_sha256 not in (None, registered.get(model)):
                raise Disagreement(f"the row of {model} in specs: it is not what was registered")
            _want_history(model, trail, history.get(model, []))
            if model in own:
                _want_role(trail, by_name[PREFIX + model], entered.get(model, {}))
        except Disagreement as error:
            found.append(str(error))
    return found


def _numbers(
    by_name: Mapping[str, Role], seen: Mapping[str, int], now: int, lifetimes: Lifetimes
) -> Iterator[str]:
    for role in by_name.values():
        if role.name == "root":  # its documents are signed elsewhere, and verified
            continue
        row, before = f"the row of {role.name} in repository_roles", seen.get(role.name, 0)
        if role.version > max(before, 1) + FARTHEST:
            yield f"{row}: version {role.version} is far beyond {before}, which clients have seen"
        latest = now + to_us(lifetimes.of(role.name).total_seconds()) + SLACK_US
        if role.expires_at > latest:
            until = f"{tuf_time(role.expires_at):%Y-%m-%d}"
            yield f"{row}: it would be believed until {until}, which is too long"


def _history(conn: sa.Connection) -> dict[str, list[tuple[Any, ...]]]:
    out: dict[str, list[tuple[Any, ...]]] = {}
    h = pointer_history.c
    columns = (h.model, h.epoch, h.stable, h.sha256, h.change)
    for model, *move in conn.execute(sa.select(*columns).order_by(h.model, h.epoch)):
        out.setdefault(model, []).append(tuple(move))
    return out


def _entered(conn: sa.Connection) -> dict[str, dict[str, dict[str, Any]]]:
    """Rows of the registry that may be named, by model and version; with the report, which is
    large, where it is what serves."""
    v = versions.c
    columns = [c for c in v if c.name != "report"]
    report = sa.case((v.version == pointers.c.stable, v.report)).label("report")
    query = (
        sa.select(*columns, report)
        .join_from(versions, pointers, v.model == pointers.c.model)
        .where(v.published_at.is_not(None))
    )
    out: dict[str, dict[str, dict[str, Any]]] = {}
    for row in conn.execute(query):
        out.setdefault(row.model, {})[row.version] = row._asdict()
    return out


def _want_history(model: str, trail: Trail, rows: list[tuple[Any, ...]]) -> None:
    said = [(m.epoch, m.version, m.sha256, m.change) for m in trail.moves]
    if rows == said:
        return
    first = next((a or b for a, b in zip(rows, said, strict=False) if a != b), None)
    epoch = first[0] if first else min(len(rows), len(said)) + 1
    raise Disagreement(
        f"the rows of {model} in pointer_history: from epoch {epoch} on they are not what the"
        " audit has"
    )


def _want_role(trail: Trail, role: Role, entered: Mapping[str, Mapping[str, Any]]) -> None:
    """Whether what a model's role signs is what its trail says, and its rows with it.

    Raises
    ------
    Disagreement
        It is not.
    """
    row = f"the row of {role.name} in repository_roles"
    try:
        pointer = PointerFile.from_json(str(role.body["pointer"]).encode())
    except (ReleaseError, KeyError) as error:
        raise Disagreement(f"{row}: its pointer cannot be read: {error}") from error
    last, model = trail.moves[-1], role.name.removeprefix(PREFIX)
    expected = PointerFile(
        model=model,
        stable=last.version,
        manifest_sha256=pointer.manifest_sha256,
        sha256=last.sha256,
        epoch=last.epoch,
        reason=last.reason,
        moved_at=tuf_time(last.at),
        known=pointer.known,
    )
    if role.body["pointer"] != expected.to_json().decode():
        raise Disagreement(
            f"{row}: its pointer is at epoch {pointer.epoch}, {pointer.stable}; the audit has epoch"
            f" {last.epoch}, {last.version}, or it says more than pointers do"
        )
    served = {m.version for m in trail.moves}
    allowed: dict[str, list[Any]] = {}
    own = KnownRelease(sha256=pointer.sha256, manifest_sha256=pointer.manifest_sha256)
    for name, release in {**pointer.known, pointer.stable: own}.items():
        if name not in served:
            raise Disagreement(f"{row}: it names {name}, which never served")
        if release.sha256 in trail.barred:
            raise Disagreement(f"{row}: it names {name}, which is barred")
        stored = entered.get(name)
        if stored is None:
            raise Disagreement(f"the row of {model} {name} in versions is gone")
        trail.want(model, stored)
        if (stored["sha256"], stored["manifest_sha256"]) != (
            release.sha256,
            release.manifest_sha256,
        ):
            raise Disagreement(f"{row}: it names other bytes than {name} has")
        if name == pointer.stable:
            _want_decision(model, stored, trail)
        for file, entry in files_of(stored).items():
            if file not in PRIVATE_NAMES:
                allowed[target_name(model, file, entry.sha256)] = [entry.sha256, entry.bytes]
    for path, entry in role.body["files"].items():
        if allowed.get(path) != entry:
            raise Disagreement(f"{row}: it lists {path}, which is no file of a release that served")


def _want_decision(model: str, row: Mapping[str, Any], trail: Trail) -> None:
    """Whether what serves passed its gates, under the policy that it names; what a person took upon
    themselves stands in the audit."""
    name, report = f"{model} {row['version']}", json.loads(row["report"])
    if not row["gate_passed"]:
        raise Disagreement(f"{name} did not pass its gates")
    if report.get("policy_sha256") != row["policy_sha256"]:
        raise Disagreement(f"{name} was judged under another policy than its row names")
    failed = [g.get("name") for g in report.get("gates", ()) if g.get("passed") is not True]
    if failed:
        raise Disagreement(
            f"{name}: its report says that {', '.join(map(str, failed))} did not pass"
        )
    for gate, told in report.get("waived", {}).items():
        if not any(
            (of, gate, told) in trail.waived for of in (row["job_id"], row["version"]) if of
        ):
            raise Disagreement(
                f"{name}: gate {gate} was waived, and the audit does not say by whom"
            )
