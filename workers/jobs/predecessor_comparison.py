"""Comparison with the predecessor after a publish: its ONNX is run again on labelled rows that the
new version served, and whoever is worse goes (``redistill.workers.releases.post_release_monitor``
decides and acts)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import sqlalchemy as sa
import structlog

from redistill.compress.plan import Comparison, JobSpec, to_json
from redistill.quiet import Quiet
from redistill.streams.errors import LeaseError
from redistill.streams.store import lease
from redistill.streams.store.tables import outcomes
from redistill.workers.errors import Disagreement, WorkersError
from redistill.workers.incidents.model_context import ModelContext, SpecUnreadable, load
from redistill.workers.jobs import monitored_labels, training_window
from redistill.workers.jobs.child_outcome import ChildCancelled, ChildFailed
from redistill.workers.jobs.dependencies import Dependencies
from redistill.workers.jobs.folder import JobFolderError, fetch
from redistill.workers.jobs.monitored_labels import MonitoredLabels
from redistill.workers.jobs.retry import MAX_TRIES
from redistill.workers.releases import post_release_monitor, versions
from redistill.workers.releases.post_release_monitor import MonitoredRelease
from redistill.workers.releases.release_files import RepositoryLayout, write_whole
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.releases.versions import Version

__all__ = ["LEASE", "ComparisonRunner"]

log = structlog.get_logger(__name__)

LEASE = "guard"
"""As stored: of the one worker that compares."""
LEASE_SECONDS = 60.0
"""A comparison takes a second; the lease has to outlast the child's limit below."""

CHILD_SECONDS = 45.0

NEW_ROWS = 25
"""A comparison is made again at each so many new labelled rows, or a tenth more."""

NEVER = 2**62

LOOK_AGAIN = 50
"""Of so many labels one has to be new before it is looked whether they count."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _NextLook:
    """How many labels a comparison waits for."""

    came: int = NEW_ROWS
    """Labels of any source, however fast."""
    labelled: int = NEW_ROWS
    """Those that count."""


class ComparisonRunner:
    """Compares what was published with what it replaced, one model after the other.

    Parameters
    ----------
    deps
        Of the worker.
    lifetimes, cool_down_seconds
        For the roll back.
    on_rollback
        Called after a roll back: whoever signs should not wait for its next round.
    """

    def __init__(
        self,
        deps: Dependencies,
        *,
        lifetimes: Lifetimes,
        cool_down_seconds: float,
        on_rollback: Callable[[], None],
    ) -> None:
        self._deps = deps
        self._lifetimes = lifetimes
        self._cool_down_seconds = cool_down_seconds
        self._on_rollback = on_rollback
        self._next_look: dict[tuple[str, int], _NextLook] = {}
        self._quiet = Quiet()
        self._failures: dict[tuple[str, int], int] = {}
        """In a row, by comparison."""
        self._told: dict[tuple[str, int], dict[str, Any]] = {}
        """What was told last while nothing could be compared."""

    def run_once(self) -> int:
        """Look at every comparison that runs; how many were settled one way or the other."""
        with self._deps.database.read() as conn:
            running = post_release_monitor.due(conn)
        if not running:
            self._next_look.clear()
            self._failures.clear()
            self._told.clear()
        if not running or not self._deps.child().ready:
            return 0
        now = self._deps.clock()
        with self._deps.database.begin() as conn:
            token = lease.acquire(conn, LEASE, self._deps.holder, now=now, seconds=LEASE_SECONDS)
            if token is None:
                return 0
            post_release_monitor.expire(conn, now=now)
        settled = 0
        for release in running:
            if release.until > now and not self._deps.stop.is_set():
                settled += self._look_if_sound(release, token)
        return settled

    def _look_if_sound(self, release: MonitoredRelease, token: int) -> bool:
        """A row of a model that cannot be read keeps no other model from being compared."""
        try:
            return self._look(release, token)
        except (Disagreement, SpecUnreadable) as error:
            if (more := self._quiet.ask(release.model)) is not None:
                log.error(
                    "rows_refused", action="rows_refused", error=str(error), more_like_this=more
                )
            return False

    def _look(self, release: MonitoredRelease, token: int) -> bool:
        key = (release.model, release.epoch)
        due = self._next_look.setdefault(key, _NextLook())
        with self._deps.database.read() as conn:
            model_context = load(conn, release.model)
            came = training_window.labelled_outcomes(
                conn, release.model, release.version, release.since
            )
            newest = _newest(conn, release)
            if model_context is None or came < due.came:
                return False
            current = versions.get(conn, release.model, release.version)
            before = versions.get(conn, release.model, release.predecessor)
            believed = monitored_labels.read(conn, release, model_context.watch, current.report)
        labelled = len(believed.counted)
        why = believed.waits_for
        if labelled < due.labelled or why is not None:
            # looked at again when it can be otherwise, and where labels pour in not at each of them
            missing = max(1, due.labelled - labelled)
            self._next_look[key] = replace(due, came=came + max(missing, came // LOOK_AGAIN))
            self._tell(release, believed, why)
            return False
        # nobody was trained on rows served afterwards, so all labels that count may judge
        query = training_window.WindowQuery(
            model=release.model,
            version=release.version,
            features=model_context.spec.schema.names,
            salt=str(release.epoch),
            train_rows=0,
            since=release.since,
            only=believed.counted,
        )
        with self._deps.database.read() as conn:
            rows = training_window.read(conn, query)
        have = rows.counts["labelled"]
        # Evidence grows with the rows, so looks may become rarer; and what the most rows that a
        # window holds cannot decide is too small to matter: then only the end of the comparison's
        # time is waited for.
        full = have >= 2 * training_window.MAX_LABELLED
        more = NEVER if full else max(NEW_ROWS, labelled // 10)
        self._next_look[key] = _NextLook(came=came + more, labelled=labelled + more)
        if have < NEW_ROWS:
            return False
        try:
            comparison = self._compare(release, model_context, current, before, rows)
        except ChildCancelled:
            return False
        except (ChildFailed, JobFolderError) as error:  # of this model: others are still compared
            log.warning(
                "comparison_failed",
                action="comparison_failed",
                model=release.model,
                version=release.version,
                error=str(error),
            )
            self._look_again(key, came, labelled, error)
            return False
        self._failures.pop(key, None)
        now = self._deps.clock()
        with self._deps.database.begin() as conn:
            load(conn, release.model, lock=True)
            try:
                lease.check(conn, LEASE, token, now)
            except LeaseError as error:
                log.warning(
                    "comparison_lease_lost", action="comparison_lease_lost", error=str(error)
                )
                return False
            settlement = post_release_monitor.settle(
                conn,
                release,
                comparison,
                last_seq=newest,
                actor=self._deps.actor,
                now=now,
                lifetimes=self._lifetimes,
                cool_down_seconds=self._cool_down_seconds,
                told=believed.told(),
            )
        log.info(
            "comparison_made",
            action="comparison_made",
            model=release.model,
            version=release.version,
            verdict=settlement.verdict,
            note=settlement.note,
            wins=comparison.wins,
            losses=comparison.losses,
            e_better=comparison.e_better,
            e_worse=comparison.e_worse,
            **believed.told(),
        )
        if settlement.rollback is not None:
            self._on_rollback()
        return settlement.verdict != "go_on"

    def _look_again(
        self, key: tuple[str, int], came: int, labelled: int, error: WorkersError
    ) -> None:
        """After a failure that may pass the same rows are compared again, as often as a job is
        tried; afterwards more rows are waited for."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        if error.retriable and failures % MAX_TRIES:
            self._next_look[key] = _NextLook(came=came, labelled=labelled)

    def _tell(self, release: MonitoredRelease, believed: MonitoredLabels, why: str | None) -> None:
        """Say why nothing is compared yet, where something stands in the way; each thing once."""
        if why is None and not believed.left_out:
            return
        told = {**believed.told(), "waits_for": why or f"{NEW_ROWS} more labels that count"}
        key = (release.model, release.epoch)
        if self._told.get(key) == told:
            return
        self._told[key] = told
        with self._deps.database.begin() as conn:
            post_release_monitor.note(conn, release, told)
        log.info(
            "comparison_waits",
            action="comparison_waits",
            model=release.model,
            version=release.version,
            **told,
        )

    def _compare(
        self,
        release: MonitoredRelease,
        model_context: ModelContext,
        current: Version,
        before: Version,
        rows: training_window.TrainingWindow,
    ) -> Comparison:
        folder = self._deps.home / "jobs" / f"guard-{release.model}-{release.epoch}"
        both = {"incumbent": current, "predecessor": before}
        try:
            for name, version in both.items():
                entry = version.files.get("model.onnx")
                if entry is None:
                    raise ChildFailed(
                        f"the files of {version.version} are not kept any more",
                        kind="gone",
                        retriable=False,
                    )
                source = RepositoryLayout(self._deps.home).path(
                    release.model, "model.onnx", entry.sha256
                )
                fetch(source, folder / name / "model.onnx", entry.sha256, what=version.version)
            training_window.write(rows, folder / "fresh.parquet")
            made_here = tuple(role for role, version in both.items() if version.made_here)
            write_whole(
                folder / "job.json", to_json(_comparison_spec(release, model_context, made_here))
            )
            ran = self._deps.child().run(
                folder,
                deadline_s=CHILD_SECONDS,
                memory_bytes=self._deps.memory_bytes,
                cancelled=self._deps.stop,
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if ran.report.fresh is None:
            raise ChildFailed("the report compares nothing", kind="BadJob", retriable=False)
        return ran.report.fresh


def _comparison_spec(
    release: MonitoredRelease, model_context: ModelContext, made_here: tuple[str, ...]
) -> JobSpec:
    return JobSpec(
        job_id=str(uuid5(NAMESPACE_URL, f"guard|{release.model}|{release.epoch}")),
        model=release.model,
        mode="compare",
        trigger="incident",
        graph=model_context.spec.graph(),
        made_here=made_here,
        policy=model_context.spec.policy(),
        serving_batch=model_context.spec.serving.batch,
        seed=UUID(int=release.epoch).int,
        deadline_s=CHILD_SECONDS,
    )


def _newest(conn: sa.Connection, release: MonitoredRelease) -> int:
    o = outcomes.c
    query = sa.select(sa.func.coalesce(sa.func.max(o.seq), 0)).where(
        o.model == release.model, o.version == release.version
    )
    return int(conn.execute(query).scalar_one())
