"""Details of one model for ``redistill models NAME``: its versions, how the pointer came to where
it is, how the new version does against its predecessor, who labels, and what is stored for a
repair."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from redistill.streams.store.tables import feature_rows, labels
from redistill.times import DAY, utc
from redistill.workers.store.tables import monitored_releases, pointer_history, pointers, versions

__all__ = [
    "comparison_of",
    "detail",
    "judged_of",
    "labels_of",
    "moves_of",
    "stored_rows",
    "versions_of",
]

MOVES_SHOWN = 5
SOURCES_SHOWN = 20
"""Anybody may make up names of sources."""


def detail(conn: sa.Connection, model: str, now: int) -> dict[str, Any]:
    """Everything that is shown of one model beside its overview.

    Returns
    -------
    dict
        ``versions``, ``moves``, ``comparison``, ``labels``, ``stored``: see the functions of this
        module.
    """
    return {
        "versions": versions_of(conn, model),
        "moves": moves_of(conn, model),
        "comparison": comparison_of(conn, model),
        "labels": labels_of(conn, model, now),
        "stored": stored_rows(conn, model),
    }


def versions_of(conn: sa.Connection, model: str) -> list[dict[str, Any]]:
    """A model's versions for people and programs, newest first."""
    stable = conn.execute(
        sa.select(pointers.c.stable).where(pointers.c.model == model)
    ).scalar_one_or_none()
    rows = conn.execute(
        sa.select(versions)
        .where(versions.c.model == model)
        .order_by(versions.c.created_at.desc(), versions.c.version)
    )
    out = []
    for row in rows:
        files = json.loads(row.files)
        report = json.loads(row.report)
        gates = report.get("gates", ())
        out.append(
            {
                "version": row.version,
                "serves": row.version == stable,
                "status": row.status,
                "kind": row.kind,
                "sha256": row.sha256,
                "gate_passed": bool(row.gate_passed),
                "failed_gates": [str(g["name"]) for g in gates if g.get("passed") is not True],
                "waived": report.get("waived") or {},
                "bytes": files.get("model.onnx", {}).get("bytes"),
                "predecessor": row.predecessor,
                "published_at": _iso(row.published_at),
            }
        )
    return out


def judged_of(conn: sa.Connection, model: str, version: str) -> dict[str, Any] | None:
    """What judged one version; ``None``: there is no such version.

    Returns
    -------
    dict or None
        ``version``, ``status``, ``kind``, ``sha256``; ``measured``: what the judged variant costs
        and is worth (empty where the report does not say); ``gates`` and ``gaps`` of its report;
        ``documents``: SHA-256 of what was written about it, by name (older releases have none).
    """
    from redistill.compress.plan import DOCUMENTS  # what a list does not need

    c = versions.c
    row = conn.execute(
        sa.select(c.status, c.kind, c.sha256, c.report, c.files).where(
            c.model == model, c.version == version
        )
    ).one_or_none()
    if row is None:
        return None
    report = json.loads(row.report)
    variants = [v for v in report.get("variants", ()) if v["sha256"] == row.sha256]
    return {
        "version": version,
        "status": row.status,
        "kind": row.kind,
        "sha256": row.sha256,
        "measured": {k: v for k, v in variants[0].items() if k != "gates"} if variants else {},
        "gates": report.get("gates", []),
        "gaps": report.get("gaps", []),
        "documents": {
            name: entry["sha256"]
            for name, entry in json.loads(row.files).items()
            if name.startswith(f"{DOCUMENTS}/")
        },
    }


def moves_of(conn: sa.Connection, model: str) -> list[dict[str, Any]]:
    """The last moves of a model's pointer, newest first: when, how, to what, and why."""
    h = pointer_history.c
    rows = conn.execute(
        sa.select(h.at, h.change, h.stable, h.reason)
        .where(h.model == model)
        .order_by(h.epoch.desc())
        .limit(MOVES_SHOWN)
    )
    return [
        {"at": _iso(r.at), "change": r.change, "version": r.stable, "reason": r.reason}
        for r in rows
    ]


def comparison_of(conn: sa.Connection, model: str) -> dict[str, Any] | None:
    """The newest comparison of a published version with its predecessor; ``None``: there is none.

    Returns
    -------
    dict or None
        ``version``, ``predecessor``, ``state``, ``until``, and ``result``: wins and losses on the
        same labelled rows with their e-values; ``None`` before the first look.
    """
    g = monitored_releases.c
    row = conn.execute(
        sa.select(g.version, g.predecessor, g.state, g.until, g.result)
        .where(g.model == model)
        .order_by(g.epoch.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    return {
        "version": row.version,
        "predecessor": row.predecessor,
        "state": row.state,
        "until": _iso(row.until),
        "result": None if row.result is None else json.loads(row.result),
    }


def labels_of(conn: sa.Connection, model: str, now: int) -> list[dict[str, Any]]:
    """Who labelled rows of a model within the last day, whether or not that counts.

    Returns
    -------
    list of dict
        ``source``, ``bound`` (on a topic of its own, or before its cut-over), ``counts`` and
        ``labels``, by source.
    """
    c = labels.c
    let_in = (c.state != "ignored").label("let_in")
    rows = conn.execute(
        sa.select(c.source, c.bound, let_in, sa.func.count().label("n"))
        .where(c.model == model, c.received_at > now - DAY)
        .group_by(c.source, c.bound, let_in)
        .order_by(sa.func.count().desc(), c.source, c.bound)
        .limit(SOURCES_SHOWN)
    )
    return [
        {"source": r.source, "bound": bool(r.bound), "counts": bool(r.let_in), "labels": int(r.n)}
        for r in rows
    ]


def stored_rows(conn: sa.Connection, model: str) -> dict[str, Any]:
    """Rows with features that a repair can draw on, of all versions.

    Returns
    -------
    dict
        ``rows``, ``bytes``, and ``since``: when the oldest of them was served.
    """
    f = feature_rows.c
    rows, size, since = conn.execute(
        sa.select(sa.func.sum(f.rows), sa.func.sum(f.bytes), sa.func.min(f.first_served_at)).where(
            f.model == model
        )
    ).one()
    return {"rows": int(rows or 0), "bytes": int(size or 0), "since": _iso(since)}


def _iso(us: int | None) -> str | None:
    if us is None:
        return None
    return utc(us).isoformat(timespec="seconds")
