"""Signed repository against the registry: a client that reads it, from the trust file on, sees
what SQL says, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from redistill.streams.client.release import PointerFile, target_name
from redistill.streams.errors import ReleaseError
from redistill.times import utc
from redistill.workers.invariants.rule import Figures, Rule, RuleInput, RuleResult
from redistill.workers.invariants.signed_view import MODEL, SignedView
from redistill.workers.releases.anchor import Anchor
from redistill.workers.releases.release_files import PRIVATE_NAMES, RepositoryLayout
from redistill.workers.store.tables import pointers, repository_roles, versions

__all__ = ["RULES"]


def signed_as_registered(inputs: RuleInput) -> RuleResult:
    """Invariant 10."""
    view, violations = inputs.signed, list[str]()
    rows = {r.role: r for r in inputs.conn.execute(sa.select(repository_roles))}
    if view is None:
        return RuleResult(figures={"signed": "not looked at"})
    if not rows and not inputs.published_snapshot:  # models that are only watched need no keys
        pointed = inputs.conn.execute(sa.select(pointers.c.model)).scalars().all()
        if view.snapshot:
            violations.append("the repository is signed, and no row says so")
        return RuleResult(
            figures={"signed": "nothing", "pointed": len(pointed)}, violations=violations
        )
    violations += [f"keys/{name} is missing" for name in view.keys_missing]
    if view.problem is not None and inputs.published_snapshot:
        violations.append(f"a client refuses the repository: {view.problem}")
    newest = rows["snapshot"].version if "snapshot" in rows else 0
    published = inputs.published_snapshot
    figures: Figures = {"snapshot": view.snapshot, "signed_models": len(view.pointers)}
    if published > newest:
        violations.append(f"snapshot {published} was published, the newest is {newest}")
    if view.problem is None and view.snapshot < published:
        violations.append(
            f"clients see snapshot {view.snapshot}, which is older than the published {published}"
        )
    if view.snapshot > newest:
        violations.append(f"clients see snapshot {view.snapshot}, the newest is {newest}")
    if view.problem is None and view.snapshot == newest:
        violations += _roles(rows, view)
        violations += _pointers(inputs, rows, view)
        violations += _files(inputs, view)
        until = min(expiry for _, expiry in view.roles.values())
        figures["believed_until"] = utc(until).isoformat(timespec="seconds")
    else:
        figures["unsigned"] = newest - view.snapshot
        stamps = [rows[n].version - view.roles.get(n, (0, 0))[0] for n in ("snapshot", "timestamp")]
        if view.problem is None and stamps[0] > stamps[1]:
            violations.append("the role snapshot was raised without the timestamp")
    return RuleResult(figures=figures, violations=violations)


def _roles(rows: dict[str, Any], view: SignedView) -> list[str]:
    out = [
        f"role {name}: version {row.version} is noted with its expiry, clients see another"
        for name, row in rows.items()
        if name != "root"
        and view.roles.get(name) != (row.version, row.expires_at)
        and not (name == "timestamp" and _is_ahead(rows, view))
    ]
    out += [f"clients see a role {name}, which is not noted" for name in view.roles.keys() - rows]
    root = rows.get("root")
    if root is None:
        return [*out, "role root is not noted"]
    try:
        documents = json.loads(root.body)["documents"]
        signed = json.loads(documents[-1])["signed"]
        noted = (int(signed["version"]), len(documents))
        models = set(json.loads(rows["targets"].body)["models"])
        anchor = Anchor.of(json.loads(rows["timestamp"].body).get("audit"))
    except (ValueError, KeyError, TypeError, IndexError):
        return [*out, "what the roles root and targets sign cannot be read"]
    if noted[0] != view.roles["root"][0] or root.version != noted[0]:
        out.append(
            f"role root: version {root.version} is noted, clients see {view.roles['root'][0]}"
        )
    elif view.root is not None and documents[-1].encode() != view.root:
        out.append("role root: another document is noted than clients see")
    elif root.expires_at != view.roles["root"][1]:
        out.append("role root: another expiry is noted than clients see")
    if models != set(view.files):
        out.append("role targets: other models are noted than clients see")
    if anchor != view.anchor and not _is_ahead(rows, view):
        out.append("role timestamp: another length of the audit chain is noted than clients see")
    if rows["snapshot"].body != "{}":
        out.append("the role snapshot signs nothing of its own, and a body is noted")
    return out


def _is_ahead(rows: dict[str, Any], view: SignedView) -> bool:
    """Whether the timestamp is to be signed anew."""
    return bool(rows["timestamp"].version > view.roles["timestamp"][0])


def _pointers(inputs: RuleInput, rows: dict[str, Any], view: SignedView) -> list[str]:
    out = []
    known = {(v.model, v.version): v for v in inputs.conn.execute(sa.select(versions))}
    pointed = {p.model: p for p in inputs.conn.execute(sa.select(pointers))}
    for model in sorted({*pointed, *view.pointers}):
        data, row = view.pointers.get(model), pointed.get(model)
        if data is None or row is None:
            where = "signed" if data is not None else "in SQL"
            out.append(f"{model}: its pointer is only {where}")
            continue
        try:
            signed = PointerFile.from_json(data)
            body = json.loads(rows[MODEL + model].body)
        except (ReleaseError, ValueError, KeyError) as error:
            out.append(f"{model}: what is signed cannot be read: {error}")
            continue
        version = known.get((model, row.stable))
        said = (signed.model, signed.stable, signed.epoch, signed.reason)
        if said != (model, row.stable, row.epoch, row.reason):
            out.append(
                f"{model}: {signed.stable} is signed (epoch {signed.epoch}), the pointer names"
                f" {row.stable} (epoch {row.epoch})"
            )
        elif signed.moved_at != utc(row.moved_at).replace(microsecond=0):
            out.append(f"{model}: its pointer was signed with another time")
        if version is not None and (signed.sha256, signed.manifest_sha256) != (
            version.sha256,
            version.manifest_sha256,
        ):
            out.append(f"{model}: other bytes are signed than {row.stable} has")
        out += [
            f"{model}: {name} is signed with other bytes than it has"
            for name, release in signed.known.items()
            if (v := known.get((model, name))) is None
            or (v.sha256, v.manifest_sha256) != (release.sha256, release.manifest_sha256)
        ]
        files = {p: [digest, size] for p, (digest, size) in view.files[model].items()}
        if body != {"pointer": data.decode(), "files": files}:
            out.append(f"{model}: its role is noted with other files or another pointer")
        out += _listed(model, known, signed, files)
    return out


def _listed(
    model: str, known: dict[tuple[str, str], Any], signed: PointerFile, files: dict[str, Any]
) -> list[str]:
    """What may be fetched is what the known releases consist of."""
    wanted: dict[str, Any] = {}
    for name in signed.known:
        row = known.get((model, name))
        try:
            entries = {} if row is None else json.loads(row.files)
        except ValueError:
            return [f"{model} {name}: its files cannot be read"]
        for file, entry in entries.items():
            if file not in PRIVATE_NAMES:
                path = target_name(model, file, entry["sha256"])
                wanted[path] = [entry["sha256"], entry["bytes"]]
    return [] if wanted == files else [f"{model}: other files are signed than its releases have"]


def _files(inputs: RuleInput, view: SignedView) -> list[str]:
    """Every signed file is there, in its size; whether it has its bytes, the rule of pointers asks
    of the releases that may be loaded next."""
    targets = RepositoryLayout(inputs.home).targets
    return [
        f"{model}: {path} is signed and is not there in its size"
        for model, files in view.files.items()
        for path, (_, size) in files.items()
        if not (targets / path).is_file() or (targets / path).stat().st_size != size
    ]


RULES = (
    Rule(
        number=10,
        text="a client believes the signed repository, and it says what the registry says",
        parts=(signed_as_registered,),
    ),
)
