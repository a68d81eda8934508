"""Publisher of candidates: an accepted one becomes a release, a rejected one is announced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa

from redistill.compress.plan import Report, column_of, read_report, to_json
from redistill.files import sha256_of
from redistill.stats import softmax
from redistill.streams.client.session import Session
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.reference import build_profile
from redistill.streams.store import outbox
from redistill.streams.wire.block import Codes, PredictionBlock, Schema
from redistill.streams.wire.events import GateResult, ReleaseChanged, Trigger
from redistill.times import utc
from redistill.workers.jobs.error_rows import read_expected_error
from redistill.workers.jobs.job_spec import JobInputs
from redistill.workers.releases import registry
from redistill.workers.releases.announce import SOURCE
from redistill.workers.releases.package import ReleasePackage, build_package, version_name
from redistill.workers.releases.registry import PointerMove
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.store import event_counts

__all__ = ["EarlierRelease", "Publisher", "trigger_of"]

PROFILE_ROWS = 20_000
"""Rows of the fresh window from which a new version's profile is learned, the newest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackagedCandidate:
    """A candidate as a release's package, and what is normal for it."""

    package: ReleasePackage
    sha256: str
    """Of ``model.onnx``."""
    report: bytes
    profile: bytes
    base_error: str | None
    expected_error: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlierRelease:
    """A candidate that is a release already: its package, report and profile stay what they are."""

    version: str
    sha256: str
    """Of the file that the gates judged."""


class Publisher:
    """Makes releases.

    Parameters
    ----------
    layout
        Where releases are kept.
    lifetimes
        Of the signed metadata.
    wake_writer
        Called after a publish: whoever signs should not wait for its next round.
    load_memory_bytes, load_seconds
        Limits of the child in which a release is first loaded.
    """

    def __init__(
        self,
        layout: RepositoryLayout,
        *,
        lifetimes: Lifetimes,
        wake_writer: Callable[[], None],
        load_memory_bytes: int,
        load_seconds: float,
    ) -> None:
        self._layout = layout
        self._lifetimes = lifetimes
        self._wake_writer = wake_writer
        self._load_memory_bytes = load_memory_bytes
        self._load_seconds = load_seconds

    def prepare(self, folder: Path, context: JobInputs) -> PackagedCandidate | EarlierRelease:
        """Package the candidate in a job's folder, unless it is an earlier release. Files only: the
        same folder gives the same release.

        Raises
        ------
        ReleaseError, RegistryError
            It does not load, fails its golden test, or cannot be stored.
        """
        job, spec = context.job, context.model_context.spec
        report = read_report((folder / "report.json").read_bytes())
        if report.reused is not None:
            (judged,) = (v.sha256 for v in report.variants if v.name == report.chosen)
            return EarlierRelease(version=report.reused, sha256=judged)
        candidate = folder / "candidate"
        sha256 = sha256_of(candidate / "model.onnx")
        package = build_package(
            candidate,
            layout=self._layout,
            model=job.model,
            version=version_name(job.number, sha256),
            kind="scheduled" if job.trigger_kind == "schedule" else "repaired",
            schema=spec.schema,
            output=None,
            output_kind="logits",
            created_at=utc(job.frozen_at or job.created_at),
            policy_sha256=report.policy_sha256,
            predecessor=context.version,
            job_id=job.job_id,
            cpu_flags=_cpu_flags(report),
            load_memory_bytes=self._load_memory_bytes,
            load_seconds=self._load_seconds,
        )
        session = Session((candidate / "model.onnx").read_bytes(), package.manifest)
        profile = _profile(folder / "fresh.parquet", session, spec.schema, context)
        base = _base_error(report)
        expected = None
        if base is not None:
            expected = read_expected_error(folder, spec, package.manifest.version)
        return PackagedCandidate(
            package=package,
            sha256=sha256,
            report=to_json(report),
            profile=profile,
            base_error=base,
            expected_error=expected,
        )

    def publish(
        self,
        conn: sa.Connection,
        candidate: PackagedCandidate | EarlierRelease,
        context: JobInputs,
        *,
        actor: str,
        now: int,
    ) -> PointerMove:
        """Enter the candidate, if it is new, and move the pointer to it, in the caller's
        transaction.

        Raises
        ------
        RegistryError
            Its bytes are barred, or there are no signing keys.
        """
        if isinstance(candidate, EarlierRelease):
            return registry.publish_again(
                conn,
                context.job.model,
                candidate.version,
                sha256=candidate.sha256,
                trigger=trigger_of(context),
                actor=actor,
                reason=f"{_reason(context)} by going back to {candidate.version}",
                now=now,
                lifetimes=self._lifetimes,
            )
        registry.add_version(
            conn,
            candidate.package,
            report=candidate.report,
            gate_passed=True,
            trigger=trigger_of(context),
            actor=actor,
            now=now,
            profile=candidate.profile,
            base_error=candidate.base_error,
            expected_error=candidate.expected_error,
            provisional=True,
        )
        return registry.publish(
            conn,
            context.job.model,
            candidate.package.manifest.version,
            trigger=trigger_of(context),
            actor=actor,
            reason=_reason(context),
            now=now,
            lifetimes=self._lifetimes,
        )

    def published(self) -> None:
        """After the commit: have it signed and announced."""
        self._wake_writer()

    def rejected(
        self, conn: sa.Connection, report: Report, context: JobInputs, *, now: int
    ) -> str | None:
        """Announce a candidate that failed its gates: the one that came nearest, with its gates.

        Its files stay in the job's folder and go with it.

        Returns
        -------
        str or None
            Its SHA-256; ``None``: there was no candidate.
        """
        if not report.variants:
            return None
        nearest = max(
            report.variants,
            key=lambda v: (v.name == report.chosen, sum(g.passed is True for g in v.gates)),
        )
        gates = nearest.gates or report.gates
        event = ReleaseChanged(
            model=context.job.model,
            version=version_name(context.job.number, nearest.sha256),
            sha256=nearest.sha256,
            status="rejected",
            gates=[
                GateResult(name=g.name, value=g.value, limit=g.limit, passed=g.passed, why=g.why)
                for g in gates
            ],
            trigger=trigger_of(context),
            job_id=UUID(context.job.job_id),
            policy_sha256=report.policy_sha256,
            at=utc(now),
        )
        outbox.add(conn, event, source=SOURCE, now=now)
        refused = (g.name for g in gates if g.passed is False)
        event_counts.count_refusals(conn, refused, now=now)
        return nearest.sha256


def trigger_of(context: JobInputs) -> Trigger:
    """Who or what asked for the job."""
    return Trigger(kind=context.trigger, id=context.job.trigger_id)


def _reason(context: JobInputs) -> str:
    if context.incident is not None:
        return f"repair of incident {context.incident['incident_id']}"
    return f"{context.job.trigger_kind} job {context.job.number}"


def _cpu_flags(report: Report) -> tuple[str, ...]:
    flags: Any = report.environment.get("cpu_flags", ())
    return tuple(str(f) for f in flags)


def _base_error(report: Report) -> str | None:
    """The candidate's error on the labelled gate rows; their order is not known any more, so runs
    of errors cannot be seen. The version's own first outcomes replace it."""
    chosen = next((v for v in report.variants if v.name == report.chosen), None)
    if chosen is None or chosen.fresh_accuracy is None or not chosen.fresh_accuracy.n:
        return None
    n = chosen.fresh_accuracy.n
    wrong = min(n, round((1 - chosen.fresh_accuracy.value) * n))
    errors = np.repeat(np.array([1, 0], np.uint8), [wrong, n - wrong])
    return BaseError.from_errors(errors, ordered=False, provisional=True).to_json()


def _profile(path: Path, session: Session, schema: Schema, context: JobInputs) -> bytes:
    """What is normal for the new version: the fresh rows, with what it answers to them."""
    table = pq.read_table(path)
    table = table.slice(max(0, len(table) - PROFILE_ROWS))
    features = np.stack(
        [table[column_of(name)].to_numpy().astype(np.float32) for name in schema.names], axis=1
    )
    scores = softmax(session.run(np.ascontiguousarray(features))).astype(np.float32)
    best = np.where(np.isnan(scores).any(axis=1), -1, scores.argmax(axis=1))
    answers = [schema.classes[i] if i >= 0 else None for i in best.tolist()]
    block = PredictionBlock(
        model=context.job.model,
        version=context.version,
        ids=[str(h) for h in table["id_hash"].to_pylist()],
        served_at=pc.cast(table["served_at"], "int64").to_numpy(),
        feature_names=schema.names,
        features=features,
        prediction=Codes.of(answers),
        scores=scores,
    )
    return build_profile(block, schema).to_bytes()
