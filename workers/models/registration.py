"""Registration of a model: its files are read, checked, measured, and stored in one transaction.

``prepare`` does everything that can fail or takes time, without SQL; ``store`` writes the rows.
Registering the same again changes nothing: sameness is the hash of the specification with the bytes
of its files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from redistill import sentinels
from redistill.files import sha256_of_bytes
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.monitor.reference import build_profile, expected_error
from redistill.streams.monitor.slice_columns import slice_columns, slices_of
from redistill.streams.store import ledger
from redistill.streams.store.counters import add_counters
from redistill.streams.store.database import Database, insert_ignore, upsert
from redistill.streams.store.tables import model_locks, profiles, specs, unregistered
from redistill.streams.wire.block import Codes, PredictionBlock
from redistill.workers.errors import SpecError
from redistill.workers.models import binding, dataset, objects, scoring, trusted_power
from redistill.workers.models.dataset import Dataset
from redistill.workers.models.spec import ModelSpec
from redistill.workers.settings.settings import Settings
from redistill.workers.store import audit, queries
from redistill.workers.store.normal import hashes_of_normal
from redistill.workers.store.tables import pointers

__all__ = ["PreparedModel", "StoredModel", "keep_files", "prepare", "store"]

MAX_PROFILE_BYTES = 1 << 20
MISSING = "missing"
MAX_FILE_BYTES = 512 << 20
"""Largest file that is copied into the object store."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedModel:
    """A specification with everything that was found about it."""

    spec: ModelSpec
    """With the hashes of its files and what was measured."""
    profile: bytes | None
    """What the inputs of ``[model] version`` look like; ``None``: to be learned from traffic."""
    base: BaseError | None
    """How often that version is wrong; ``None``: to be learned from traffic."""
    warnings: tuple[str, ...]
    contents: tuple[bytes, ...]
    """The files themselves, for the object store."""
    expected: ExpectedError | None = None
    """How often that version is wrong on which rows; ``None``: its slices have no tests."""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """What storing a specification changed."""

    changed: bool
    """Whether anything differs from what was registered before."""
    revision: int
    was: str | None
    """Level before; ``None``: it is new."""


def prepare(spec: ModelSpec, settings: Settings, *, known: Collection[str] = ()) -> PreparedModel:
    """Read, check and measure all files of a specification; nothing is written.

    Parameters
    ----------
    known
        SHA-256 of files that were registered before: rules for new ones do not hold for them.

    Raises
    ------
    SpecError
        Naming everything that is wrong with the files.
    """
    problems: list[str] = []
    warnings: list[str] = []
    data = _read_data(spec, problems, warnings)
    calls: dict[str, scoring.ScoringCall] = {}
    graphs = {"model": spec.model, "teacher": spec.teacher}
    for role, section in graphs.items():
        if section is not None and section.onnx is not None:
            try:
                calls[role] = scoring.inspect(
                    Path(section.onnx),
                    spec.schema,
                    output=section.output,
                    kind=section.output_kind,
                    place=f"[{role}] onnx",
                    known=known,
                )
            except SpecError as error:
                problems.append(str(error))
            else:
                warnings.extend(calls[role].changes)
    if problems:
        raise SpecError(_listed(spec.name, problems))

    warnings.extend(_codes(spec, data))
    answers = _answers(spec, settings, data, calls)
    for (graph, role), given in answers.items():
        if role in data:
            told = scoring.unanswered(
                f"[{graph}] onnx", given, data[role].features, spec.schema, what=role
            )
            if told is not None:
                (problems if calls[graph].new else warnings).append(told)
    if problems:
        raise SpecError(_listed(spec.name, problems))
    if (missing := answers.get(("model", MISSING))) is not None:
        warnings.extend(scoring.silent("[model] onnx", missing, spec.schema))

    def scores(role: str, rows: Dataset) -> NDArray[np.float32] | None:
        return answers.get((role, rows.role))

    measured: dict[str, float] = {}
    base = _base_error(spec, data, scores, measured, warnings)
    expected = None if base is None else _expected_error(spec, data, scores)
    if (trusted := data.get("trusted")) is not None and trusted.labels is not None:
        measured |= trusted_power.count(trusted.features, trusted.labels).measured
    profile = _profile(spec, data, scores, warnings)
    contents = {role: rows.to_parquet(spec) for role, rows in data.items()} | _files(spec)
    contents |= {role: call.data for role, call in calls.items()}
    hashes = {role: sha256_of_bytes(content) for role, content in contents.items()}
    return PreparedModel(
        spec=replace(spec.with_objects(hashes), measured=measured),
        profile=profile,
        base=base,
        warnings=tuple(dict.fromkeys(warnings)),
        contents=tuple(contents.values()),
        expected=expected,
    )


def keep_files(prepared: PreparedModel, settings: Settings) -> None:
    """Put the files into the object store; ``store`` does it too, and twice is once.

    Raises
    ------
    WorkersError
        The object store cannot be written.
    """
    for content in prepared.contents:
        objects.put_bytes(settings.objects_folder, content)


def store(
    database: Database,
    prepared: PreparedModel,
    settings: Settings,
    *,
    actor: str,
    now: int,
    label_ends: Mapping[str, int] | None = None,
) -> StoredModel:
    """Keep the files, then write the rows that make a model watched, in one transaction.

    The pointer is never moved here, and the profile of a version that was made by a repair stays.

    Parameters
    ----------
    now
        Microseconds since 1970.
    label_ends
        End of each partition of the topic ``labels``, where the model binds its first sources:
        what lies before counts as it did. ``None``: it counts no more.

    Raises
    ------
    SpecError
        The columns of a model that is being served were changed.
    WorkersError
        The object store cannot be written; nothing was registered.
    """
    keep_files(prepared, settings)
    spec = prepared.spec
    sha256 = spec.config_sha256()
    version, expected = spec.model.version, prepared.expected
    with database.begin() as conn:
        conn.execute(insert_ignore(model_locks).values(model=spec.name))
        # Two registrations of one model wait for each other here.
        conn.execute(
            sa.select(model_locks.c.model).where(model_locks.c.model == spec.name).with_for_update()
        )
        old = conn.execute(sa.select(specs).where(specs.c.model == spec.name)).one_or_none()
        budget = queries.rows_per_alarm(
            conn, spec.name, alarms_per_week=settings.alarms_per_week, now=now
        )
        watch = spec.watch_config(settings, rows_per_alarm=budget)
        if old is not None and old.config_sha256 == sha256:
            return StoredModel(False, int(old.revision), str(old.level))
        before = None if old is None else ModelSpec.from_json(old.spec)
        was = None if old is None else WatchConfig.from_json(old.watch)
        watch = replace(watch, cutover=binding.next_cutover(before, was, spec, label_ends))
        if before is not None:
            _check_schema(conn, spec, before)
            binding.rebind(conn, before, spec, trust=label_ends is not None, now=now)
        values: dict[str, Any] = {
            "model": spec.name,
            "revision": 1 if old is None else int(old.revision) + 1,
            "config_sha256": sha256,
            "level": spec.level,
            "watch": watch.to_json().decode(),
            "spec": spec.to_json(),
            "registered_at": now if old is None else old.registered_at,
            "updated_at": now,
        }
        conn.execute(upsert(specs, ["model"]).values(values))
        if version is not None and (prepared.profile is not None or prepared.base is not None):
            conn.execute(
                upsert(
                    profiles,
                    ["model", "version"],
                    update=["profile", "base_error", "expected_error", "provisional"],
                ).values(
                    model=spec.name,
                    version=version,
                    profile=prepared.profile,
                    base_error=None if prepared.base is None else prepared.base.to_json(),
                    expected_error=None if expected is None else expected.to_json(),
                    provisional=spec.origin == "traffic",
                )
            )
        # From now on its rows are counted as the model's own.
        gone = sa.delete(unregistered).where(unregistered.c.model == spec.name)
        rows = sum(conn.execute(gone.returning(unregistered.c.rows)).scalars())
        add_counters(conn, {("", ledger.UNREGISTERED_EXPIRED): rows}, now=now)
        audit.append(
            conn,
            actor,
            "model.registered" if old is None else "model.changed",
            spec.name,
            {
                "level": spec.level,
                "config_sha256": sha256,
                "objects": spec.objects,
                "spec_sha256": sha256_of_bytes(values["spec"].encode()),
                "watch_sha256": sha256_of_bytes(values["watch"].encode()),
                "version": version,
                **hashes_of_normal(
                    prepared.profile,
                    None if prepared.base is None else prepared.base.to_json(),
                    None if expected is None else expected.to_json(),
                    provisional=spec.origin == "traffic",
                ),
                **_trust(before, spec, watch),
            },
            now,
        )
    return StoredModel(True, int(values["revision"]), None if old is None else str(old.level))


def _trust(old: ModelSpec | None, new: ModelSpec, watch: WatchConfig) -> dict[str, Any]:
    """For the audit: whose labels count, where it is bound, or was, and what of the past does."""
    bound = new.labels.bound
    if bound == (() if old is None else old.labels.bound):
        return {}
    return {"bound": list(bound), "past_counts_of": list(watch.cutover.sources)}


def _check_schema(conn: sa.Connection, spec: ModelSpec, old: ModelSpec) -> None:
    """Columns and classes may change only while nothing is published; learned profiles then go.

    Releases carry the schema with which services fill their inputs: under another one the pointer
    would name a model that nobody can call.
    """
    if _columns(spec) == _columns(old):
        return
    served = conn.execute(
        sa.select(pointers.c.stable).where(pointers.c.model == spec.name)
    ).scalar_one_or_none()
    if served is not None:
        raise SpecError(
            f"{spec.name} serves {served}: the names, kinds, values and order of its features and"
            " its classes cannot change any more; register the new model under another name"
        )
    learned = profiles.c.provisional.is_(True)
    conn.execute(sa.delete(profiles).where(profiles.c.model == spec.name, learned))


def _columns(spec: ModelSpec) -> tuple[Any, ...]:
    """What a graph's input and output mean."""
    features = tuple((f.name, f.kind, f.values) for f in spec.schema.features)
    return features, spec.schema.classes


def _read_data(spec: ModelSpec, problems: list[str], warnings: list[str]) -> dict[str, Dataset]:
    out: dict[str, Dataset] = {}
    for role, path in (("reference", spec.data.reference), ("trusted", spec.data.trusted)):
        if path is None:
            continue
        needed = role == "trusted" or spec.level == "repair"
        rows, wrong = dataset.read(Path(path), spec, role, need_labels=needed)
        problems.extend(wrong)
        if rows is not None:
            out[role] = rows
            warnings.extend(rows.warnings)
    return out


def _codes(spec: ModelSpec, data: Mapping[str, Dataset]) -> list[str]:
    """Numbers that look like codes for missing, by column."""
    rows = data.get("reference") or data.get("trusted")
    if rows is None:
        return []
    numeric = [j for j, f in enumerate(spec.schema.features) if f.kind != "category"]
    names = [spec.schema.names[j] for j in numeric]
    found = sentinels.said(names, (rows.features[:, j] for j in numeric))
    return [f"{rows.role}: {text}" for text in found]


def _answers(
    spec: ModelSpec,
    settings: Settings,
    data: Mapping[str, Dataset],
    calls: Mapping[str, scoring.ScoringCall],
) -> dict[tuple[str, str], NDArray[np.float32]]:
    """Probabilities by graph (``model``, ``teacher``) and rows: ``reference``, ``trusted``, and
    ``MISSING``, where one row lacks each feature in turn.
    """
    asked = [
        (graph, role)
        for graph in calls
        for role in data
        if graph == "model" or role == "trusted" or "trusted" not in data
    ]
    if not asked:
        return {}
    rows = {role: found.features for role, found in data.items()}
    if "model" in calls:
        asked.append(("model", MISSING))
        first = next(iter(rows.values()))[:1]
        rows[MISSING] = np.where(np.eye(first.shape[1], dtype=bool), np.float32(np.nan), first)
    found = scoring.answers(
        [(calls[graph], rows[role]) for graph, role in asked],
        classes=len(spec.schema.classes),
        memory_mb=settings.load_memory_mb,
        seconds=settings.load_seconds,
    )
    return dict(zip(asked, found, strict=True))


def _base_error(
    spec: ModelSpec,
    data: Mapping[str, Dataset],
    scores: Any,
    measured: dict[str, float],
    warnings: list[str],
) -> BaseError | None:
    """Base error of the model on the most honest rows there are, and the teacher's beside it."""
    rows = data.get("trusted") or data.get("reference")
    if rows is None or rows.labels is None or not (rows.labels >= 0).any():
        if spec.model.version is not None and data:
            warnings.append(
                "no labels: how often the model is wrong is learned from its first 1,000 labelled"
                " rows, and everything said until then is provisional"
            )
        return None
    predicted = _predicted(rows, scores("model", rows))
    if predicted is None:
        warnings.append(
            f"no predictions: neither [model] onnx nor a column {spec.data.prediction!r}; how often"
            " the model is wrong is learned from its first 1,000 labelled rows"
        )
        return None
    if rows.role == "reference" and spec.model.onnx is not None:
        warnings.append(
            "the base error is measured on the reference: if the model was trained on these rows it"
            " is too good to be true, and good traffic will look harmful; name [data] trusted"
        )
    known, classes = rows.labels >= 0, spec.schema.classes
    if spec.model.onnx is not None:
        scoring.check_order("[model] onnx", predicted[known], rows.labels[known], classes)
    errors = (predicted != rows.labels)[known]
    base = BaseError.from_errors(
        errors.astype(np.int64),
        ordered=spec.data.ordered,
        times=None if spec.data.time is None else rows.served_at[known],
    )
    if not spec.data.ordered:
        warnings.append(
            f"{rows.role}: the order of the rows is not known to be that of time ([data] time, or"
            ' order = "time"): errors that come in runs cannot be seen, so nothing is done against'
            " them, and false alarms may be more frequent"
        )
    measured["error"] = base.rate
    if (teacher := scores("teacher", rows)) is not None:
        answered = _predicted(rows, teacher)
        if answered is not None:
            scoring.check_order("[teacher] onnx", answered[known], rows.labels[known], classes)
            wrong = float((answered != rows.labels)[known].mean())
            measured["teacher_error"] = wrong
            if wrong > base.rate:
                warnings.append(
                    f"the teacher is wrong on {wrong:.1%} of the {rows.role} rows, the model on"
                    f" {base.rate:.1%} only: distilling from it will rarely help"
                )
    return base


def _expected_error(
    spec: ModelSpec, data: Mapping[str, Dataset], scores: Any
) -> ExpectedError | None:
    """What errors to expect of which rows, from those that the base error is measured on."""
    rows = data.get("trusted") or data["reference"]
    given = scores("model", rows)
    predicted = _predicted(rows, given)
    assert rows.labels is not None  # as for the base error
    assert predicted is not None
    block = _block(spec, rows, given)
    return expected_error(
        block,
        slices_of(block, spec.schema, slice_columns(spec.schema, spec.privacy.store_features)),
        predicted != rows.labels,
        rows.labels >= 0,
        ordered=spec.data.ordered,
    )


def _block(spec: ModelSpec, rows: Dataset, scores: NDArray[np.float32] | None) -> PredictionBlock:
    """Rows of a file as the monitor takes them."""
    predicted = _predicted(rows, scores)
    codes = np.full(len(rows), -1, np.int32) if predicted is None else np.maximum(predicted, -1)
    return PredictionBlock(
        model=spec.name,
        version=spec.model.version or "",
        ids=[str(i) for i in range(len(rows))],
        served_at=rows.served_at,
        feature_names=spec.schema.names,
        features=rows.features,
        prediction=Codes(codes.astype(np.int32), spec.schema.classes),
        scores=scores,
        segments={k: Codes.of(v) for k, v in rows.segments.items()},
    )


def _predicted(rows: Dataset, scores: NDArray[np.float32] | None) -> NDArray[np.int32] | None:
    if scores is not None:
        return scoring.most_likely(scores)
    if rows.predictions is None or not (rows.predictions >= 0).any():
        return None
    return rows.predictions


def _profile(
    spec: ModelSpec, data: Mapping[str, Dataset], scores: Any, warnings: list[str]
) -> bytes | None:
    rows = data.get("reference") or data.get("trusted")
    if rows is None or spec.model.version is None:
        return None
    block = _block(spec, rows, scores("model", rows))
    profile = build_profile(block, spec.schema)
    warnings.extend(f"{rows.role}: {what}" for what in profile.uncompared)
    data_bytes = profile.to_bytes()
    if len(data_bytes) > MAX_PROFILE_BYTES:
        raise SpecError(
            f"the profile of {spec.name} has {len(data_bytes):,} bytes, {MAX_PROFILE_BYTES:,} are"
            " allowed: declare fewer features or categories with fewer values"
        )
    return data_bytes


def _files(spec: ModelSpec) -> dict[str, bytes]:
    """The files that are stored as they are, by role."""
    paths: dict[str, Path] = {}
    if spec.model.training is not None:
        training = Path(spec.model.training)
        for path in sorted(p for p in training.iterdir() if p.is_file()):
            if path.suffix in (".json", ".safetensors"):  # never pickle
                paths[f"training/{path.name}"] = path
    if spec.teacher is not None and spec.teacher.weights is not None:
        paths["teacher_weights"] = Path(spec.teacher.weights)
    out: dict[str, bytes] = {}
    for role, path in paths.items():
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise SpecError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB")
            out[role] = path.read_bytes()
        except OSError as error:
            raise SpecError(f"{path} cannot be read: {error.strerror}") from error
    return out


def _listed(name: str, problems: list[str]) -> str:
    return f"{name} cannot be registered:" + "".join(f"\n  {p}" for p in problems)
