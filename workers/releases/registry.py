"""Registry of releases: the rules by which a model's pointer moves.

Every function works in the caller's transaction, so that a job's end, the registry, the pointer,
the signed roles, the announcements and the audit entry are one change or none. The files of a
release were stored and synced before (``package``); its metadata are written afterwards by the
holder of the lease ``repository``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from redistill.streams.client.release import KnownRelease, PointerFile
from redistill.streams.store.database import insert_ignore, upsert
from redistill.streams.wire.events import Trigger
from redistill.times import to_us
from redistill.workers.errors import RegistryError, RegistryUsageError
from redistill.workers.releases import publication_history, roles
from redistill.workers.releases.announce import announce_pointer_move, announce_release
from redistill.workers.releases.roles import Lifetimes, tuf_time
from redistill.workers.releases.versions import (
    Version,
    add_version,
    get,
    revise,
    want_releases,
)
from redistill.workers.releases.vouched import want_vouched
from redistill.workers.store import audit
from redistill.workers.store.tables import (
    barred,
    monitored_releases,
    pauses,
    pointer_history,
    pointers,
    versions,
)

__all__ = [
    "PointerMove",
    "Unbarred",
    "add_version",
    "announce_pointer",
    "bar",
    "get",
    "pause",
    "publish",
    "publish_again",
    "rollback",
    "sign_again",
    "unbar",
]

MONITOR_SECONDS = 7 * 86_400.0
"""How long a new version is compared with its predecessor at most."""

Change = Literal["publish", "rollback", "automatic_rollback"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PointerMove:
    """What a publish or roll back did."""

    model: str
    version: str
    """What the pointer names now."""
    previous: str | None
    """What it named before."""
    epoch: int
    snapshot: int | None
    """Snapshot with which clients see it; ``None``: the pointer stood there already."""


def publish(
    conn: sa.Connection,
    model: str,
    version: str,
    *,
    trigger: Trigger,
    actor: str,
    reason: str,
    now: int,
    lifetimes: Lifetimes,
    monitor_seconds: float = MONITOR_SECONDS,
    request: str | None = None,
) -> PointerMove:
    """Move a model's pointer to a version that passed its gates.

    Publishing what serves already changes nothing. From then on the version is compared with its
    predecessor (``post_release_monitor``).

    Parameters
    ----------
    request
        The release request by which it was asked for.

    Raises
    ------
    RegistryError
        There is no such version, it did not pass, its bytes are barred or gone, the model is only
        watched, or there are no signing keys. Nothing was changed.
    Disagreement
        Its rows are not what the audit says of it.
    """
    want_releases(conn, model)
    row = get(conn, model, version)
    current = _pointer(conn, model)
    if current is not None and current.stable == version:
        return PointerMove(
            model=model, version=version, previous=version, epoch=current.epoch, snapshot=None
        )
    _check_publishable(conn, row, first=current is None)
    return _move(
        conn,
        row,
        current,
        change="publish",
        trigger=trigger,
        actor=actor,
        reason=reason,
        now=now,
        lifetimes=lifetimes,
        monitor_seconds=monitor_seconds,
        request=request,
    )


def publish_again(
    conn: sa.Connection,
    model: str,
    version: str,
    *,
    sha256: str,
    trigger: Trigger,
    actor: str,
    reason: str,
    now: int,
    lifetimes: Lifetimes,
    monitor_seconds: float = MONITOR_SECONDS,
) -> PointerMove:
    """Move a model's pointer to a version that served before, since a job judged its bytes anew.

    Other than a roll back it was shown to be better on today's rows: repair is not paused, and it
    is compared with what it replaces as any published version is. A first model may come back in
    this way, though its own report counts for the first pointer only.

    Parameters
    ----------
    sha256
        Of the file that was judged.

    Raises
    ------
    RegistryError
        It never served, has other bytes, or its bytes are barred or gone. Nothing was changed.
    Disagreement
        Its rows are not what the audit says of it.
    """
    want_releases(conn, model)
    row = get(conn, model, version)
    current = _pointer(conn, model)
    if version not in publication_history.published(conn, model):
        raise RegistryError(f"{model} {version} never served: it cannot be gone back to")
    if row.sha256 != sha256:
        raise RegistryError(f"{model} {version} has other bytes than those that were judged")
    _check_bytes(conn, row)
    return _move(
        conn,
        row,
        current,
        change="publish",
        trigger=trigger,
        actor=actor,
        reason=reason,
        now=now,
        lifetimes=lifetimes,
        monitor_seconds=monitor_seconds,
    )


def rollback(
    conn: sa.Connection,
    model: str,
    *,
    trigger: Trigger,
    actor: str,
    reason: str,
    now: int,
    lifetimes: Lifetimes,
    cool_down_seconds: float,
    to: str | None = None,
    change: Literal["rollback", "automatic_rollback"] = "rollback",
    request: str | None = None,
) -> PointerMove:
    """Move a model's pointer back to bytes that served before, and pause automatic repair.

    Parameters
    ----------
    to
        Which version; ``None``: what the present one replaced.
    change
        ``automatic_rollback`` also bars the bytes that are taken away: they are not published again
        unless a person lifts it (``unbar``).

    Raises
    ------
    RegistryError
        Nothing was published before, or the version asked for cannot serve. Nothing was changed.
    """
    current = _pointer(conn, model)
    if current is None:
        want_releases(conn, model)  # an unknown name is told as one
        raise RegistryError(f"{model} has no published version: there is nothing to roll back")
    target = publication_history.predecessor(conn, model) if to is None else to
    if target is None:
        known = [v.version for v in publication_history.servable(conn, model)]
        others = ", ".join(v for v in known if v != current.stable)
        taken = f"; --to takes any that served: {others}" if others else ""
        raise RegistryError(
            f"{model}: nothing that can serve was published before {current.stable}{taken}"
        )
    row = get(conn, model, target)
    if target == current.stable:
        return PointerMove(
            model=model, version=target, previous=target, epoch=current.epoch, snapshot=None
        )
    if target not in publication_history.published(conn, model):
        raise RegistryError(f"{model} {target} never served: use `redistill publish` for it")
    _check_bytes(conn, row)
    if change == "automatic_rollback":
        bar(conn, model, get(conn, model, current.stable).sha256, reason=reason, now=now)
    move = _move(
        conn,
        row,
        current,
        change=change,
        trigger=trigger,
        actor=actor,
        reason=reason,
        now=now,
        lifetimes=lifetimes,
        request=request,
    )
    pause(conn, model, until=now + to_us(cool_down_seconds), reason=f"rolled back: {reason}")
    return move


def bar(conn: sa.Connection, model: str, sha256: str, *, reason: str, now: int) -> None:
    """Publish these bytes no more; an earlier reason is kept."""
    conn.execute(insert_ignore(barred).values(model=model, sha256=sha256, reason=reason, at=now))


@dataclass(frozen=True, kw_only=True, slots=True)
class Unbarred:
    """Bytes that may be published again."""

    sha256: str
    """Of ``model.onnx``."""
    versions: tuple[str, ...]
    """Those that have these bytes."""
    barred_for: str
    """Why they were barred."""


def unbar(
    conn: sa.Connection, model: str, sha256: str, *, actor: str, reason: str, now: int
) -> Unbarred:
    """Take the bar away that an automatic roll back set: a person has found that the labels were
    wrong, not the version. The pointer stays where it is.

    Parameters
    ----------
    sha256
        Of the bytes, or how it begins.
    actor, reason
        For the audit chain.

    Raises
    ------
    RegistryUsageError
        There is no such model, or several hashes begin like this.
    RegistryError
        No such bytes are barred. Nothing was changed.
    """
    want_releases(conn, model)
    _pointer(conn, model)  # no roll back bars them again meanwhile
    query = sa.select(barred).where(barred.c.model == model).order_by(barred.c.at)
    known = {row.sha256: row.reason for row in conn.execute(query)}
    found = [known_sha for known_sha in known if known_sha.startswith(sha256.lower())]
    if not found:
        there = ", ".join(k[:12] for k in known)
        raise RegistryError(
            f"{model}: no bytes are barred whose SHA-256 begins with {sha256}"
            + (f"; barred are {there}" if there else ", nor any others")
        )
    if len(found) > 1:
        raise RegistryUsageError(
            f"{model}: {len(found)} barred hashes begin with {sha256}: give more of it"
        )
    (whole,) = found
    mine = (versions.c.model == model) & (versions.c.sha256 == whole)
    named = conn.execute(sa.select(versions.c.version).where(mine).order_by(versions.c.created_at))
    of_these = tuple(named.scalars())
    conn.execute(sa.delete(barred).where(barred.c.model == model, barred.c.sha256 == whole))
    conn.execute(
        sa.update(versions).where(mine, versions.c.status == "barred").values(status="rolledback")
    )
    audit.append(
        conn,
        actor,
        "release.unbar",
        model,
        {
            "sha256": whole,
            "versions": list(of_these),
            "barred_for": known[whole],
            "reason": reason,
        },
        now,
    )
    return Unbarred(sha256=whole, versions=of_these, barred_for=known[whole])


def pause(conn: sa.Connection, model: str, *, until: int, reason: str) -> None:
    """Pause automatic repair of a model; a longer pause is not shortened."""
    conn.execute(
        upsert(pauses, ["model"], where=lambda new: new.until > pauses.c.until).values(
            model=model, until=until, reason=reason
        )
    )


def announce_pointer(conn: sa.Connection, model: str, *, now: int) -> None:
    """Say again what serves: for consumers that missed it, and for new ones."""
    current = _pointer(conn, model)
    if current is not None:
        row = get(conn, model, current.stable)
        announce_pointer_move(conn, row, current.epoch, current.reason, now=now)
        conn.execute(sa.update(pointers).where(pointers.c.model == model).values(announced_at=now))


def sign_again(conn: sa.Connection, model: str, *, now: int, lifetimes: Lifetimes) -> int | None:
    """List anew what services may fetch, after retention removed some; the pointer stays.

    Returns
    -------
    int or None
        The snapshot with which clients see it; ``None`` without a pointer.
    """
    current = _pointer(conn, model)
    if current is None:
        return None
    return _sign_pointer(
        conn,
        get(conn, model, current.stable),
        epoch=current.epoch,
        reason=current.reason,
        moved_at=current.moved_at,
        now=now,
        lifetimes=lifetimes,
    )


def _move(
    conn: sa.Connection,
    row: Version,
    current: sa.Row[Any] | None,
    *,
    change: Change,
    trigger: Trigger,
    actor: str,
    reason: str,
    now: int,
    lifetimes: Lifetimes,
    monitor_seconds: float = 0.0,
    request: str | None = None,
) -> PointerMove:
    model, previous = row.model, None if current is None else str(current.stable)
    # The repository writer asks again before it signs, of what was read in one view.
    servable = [v.version for v in publication_history.servable(conn, model)]
    want_vouched(conn, model, named=[row.version, *servable])
    epoch = 1 if current is None else int(current.epoch) + 1
    conn.execute(
        upsert(pointers, ["model"]).values(
            model=model,
            stable=row.version,
            epoch=epoch,
            reason=reason,
            moved_at=now,
            announced_at=now,
        )
    )
    conn.execute(
        sa.insert(pointer_history).values(
            model=model,
            epoch=epoch,
            stable=row.version,
            sha256=row.sha256,
            change=change,
            reason=reason,
            trigger=msgspec.json.encode(trigger).decode(),
            at=now,
        )
    )
    mark = (versions.c.model == model) & (versions.c.version == row.version)
    conn.execute(
        sa.update(versions)
        .where(mark)
        .values(status="published", published_at=sa.func.coalesce(versions.c.published_at, now))
    )
    if change != "publish":
        left = "rolledback" if change == "rollback" else "barred"
        gone = (versions.c.model == model) & (versions.c.version == previous)
        conn.execute(sa.update(versions).where(gone).values(status=left))
    conn.execute(
        sa.update(monitored_releases)
        .where(monitored_releases.c.model == model, monitored_releases.c.state == "watching")
        .values(state="superseded")
    )
    if change == "publish" and previous is not None:
        conn.execute(
            sa.insert(monitored_releases).values(
                model=model,
                epoch=epoch,
                version=row.version,
                predecessor=previous,
                state="watching",
                last_seq=0,
                result=None,
                since=now,
                until=now + to_us(monitor_seconds),
            )
        )
    revise(conn, model, now)
    snapshot = _sign_pointer(
        conn, row, epoch=epoch, reason=reason, moved_at=now, now=now, lifetimes=lifetimes
    )
    if change == "publish":
        announce_release(
            conn, row, status="published", trigger=trigger, now=now, epoch=epoch, after=snapshot
        )
    elif previous is not None:
        gone_row = get(conn, model, previous)
        announce_release(
            conn,
            gone_row,
            status="rolledback",
            trigger=trigger,
            now=now,
            epoch=epoch,
            after=snapshot,
        )
    announce_pointer_move(conn, row, epoch, reason, now=now, after=snapshot)
    taken_away = change == "automatic_rollback" and previous is not None
    barred_sha256 = get(conn, model, str(previous)).sha256 if taken_away else None
    audit.append(
        conn,
        actor,
        f"release.{change}",
        model,
        {
            "version": row.version,
            "previous": previous,
            "sha256": row.sha256,
            "epoch": epoch,
            "reason": reason,
            "request": request,
            "barred": barred_sha256,
            "trigger": msgspec.to_builtins(trigger),
        },
        now,
    )
    return PointerMove(
        model=model, version=row.version, previous=previous, epoch=epoch, snapshot=snapshot
    )


def _sign_pointer(
    conn: sa.Connection,
    row: Version,
    *,
    epoch: int,
    reason: str,
    moved_at: int,
    now: int,
    lifetimes: Lifetimes,
) -> int:
    """Write what the model's role shall sign; the snapshot with which clients see it."""
    servable = publication_history.servable(conn, row.model)
    pointer = PointerFile(
        model=row.model,
        stable=row.version,
        manifest_sha256=row.manifest_sha256,
        sha256=row.sha256,
        epoch=epoch,
        reason=reason,
        moved_at=tuf_time(moved_at),
        known={
            v.version: KnownRelease(sha256=v.sha256, manifest_sha256=v.manifest_sha256)
            for v in servable
        },
    )
    files = [item for v in servable for item in v.files.items()]
    return roles.point(conn, pointer, files, now=now, lifetimes=lifetimes)


def _check_publishable(conn: sa.Connection, row: Version, *, first: bool) -> None:
    name = f"{row.model} {row.version}"
    if not row.gate_passed:
        failed = [g["name"] for g in row.report.get("gates", ()) if g.get("passed") is not True]
        why = f": {', '.join(failed)}" if failed else ""
        raise RegistryError(f"{name} did not pass its gates{why}; see `redistill jobs`")
    if row.kind == "baseline" and not first:
        served = row.version in publication_history.published(conn, row.model)
        hint = "use `redistill rollback --to` to go back to it" if served else "use `redistill add`"
        raise RegistryError(
            f"{name} is a baseline: its report counts for the first pointer only; {hint}"
        )
    _check_bytes(conn, row)


def _check_bytes(conn: sa.Connection, row: Version) -> None:
    """Whether a version's bytes may serve, and are still there."""
    reason = conn.execute(
        sa.select(barred.c.reason).where(barred.c.model == row.model, barred.c.sha256 == row.sha256)
    ).scalar_one_or_none()
    if reason is not None:
        raise RegistryError(
            f"{row.model} {row.version} is barred: {reason}; if that was wrong, `redistill unbar"
            f" {row.model} {row.sha256[:12]} --reason TEXT` lets it be published again"
        )
    if not row.files:
        raise RegistryError(f"the files of {row.model} {row.version} were removed by retention")


def _pointer(conn: sa.Connection, model: str) -> sa.Row[Any] | None:
    """The pointer, locked until the transaction ends."""
    return conn.execute(
        sa.select(pointers).where(pointers.c.model == model).with_for_update()
    ).one_or_none()
