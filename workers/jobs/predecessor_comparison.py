"""After a publish: the predecessor's ONNX is run again on labelled rows that the new version
served, and whoever is worse goes (``redistill.workers.releases.post_release_monitor`` decides and acts)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from uuid import NAMESPACE_URL, UUID, uuid5

import sqlalchemy as sa
import structlog

from redistill.compress.plan import Comparison, to_json
from redistill.compress.plan import Job as Order
from redistill.streams.errors import LeaseError
from redistill.streams.store import lease
from redistill.streams.store.tables import outcomes
from redistill.workers.incidents.model_context import Terms, load
from redistill.workers.jobs import training_window
from redistill.workers.jobs.child import ChildCancelled, ChildFailed
from redistill.workers.jobs.dependencies import Tools
from redistill.workers.jobs.folder import fetch
from redistill.workers.releases import post_release_monitor, versions
from redistill.workers.releases.files import Place, write_whole
from redistill.workers.releases.post_release_monitor import Guard
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.releases.versions import Version

log = structlog.get_logger(__name__)

LEASE = "guard"
LEASE_SECONDS = 60.0
"""A comparison takes a second; the lease has to outlast the child's limit below."""

CHILD_SECONDS = 45.0

NEW_ROWS = 25
"""A comparison is made again at each so many new labelled rows, or a tenth more."""

NEVER = 2**62


class Guarding:
    """Compares what was published with what it replaced, one model after the other.

    Parameters
    ----------
    tools
        Of the worker.
    lifetimes, cool_down_seconds
        For the roll back.
    moved
        Called after a roll back: whoever signs should not wait for its next round.
    """

    def __init__(
        self,
        tools: Tools,
        *,
        lifetimes: Lifetimes,
        cool_down_seconds: float,
        moved: Callable[[], None],
    ) -> None:
        self._tools = tools
        self._lifetimes = lifetimes
        self._cool_down_seconds = cool_down_seconds
        self._moved = moved
        self._next_look: dict[tuple[str, int], int] = {}

    def run_once(self) -> int:
        """Look at every comparison that runs; how many were settled one way or the other."""
        with self._tools.database.read() as conn:
            running = post_release_monitor.due(conn)
        if not running:
            self._next_look.clear()
        if not running or not self._tools.child().ready:
            return 0
        now = self._tools.clock()
        with self._tools.database.begin() as conn:
            token = lease.acquire(conn, LEASE, self._tools.holder, now=now, seconds=LEASE_SECONDS)
            if token is None:
                return 0
            post_release_monitor.expire(conn, now=now)
        settled = 0
        for one in running:
            if one.until > now and not self._tools.stop.is_set():
                settled += self._look(one, token)
        return settled

    def _look(self, one: Guard, token: int) -> bool:
        key = (one.model, one.epoch)
        with self._tools.database.read() as conn:
            terms = load(conn, one.model)
            labelled = training_window.labelled_outcomes(conn, one.model, one.version, one.since)
            newest = _newest(conn, one)
            if terms is None or labelled < self._next_look.get(key, NEW_ROWS):
                return False
            current = versions.get(conn, one.model, one.version)
            before = versions.get(conn, one.model, one.predecessor)
            # every label that there is: nobody was trained on rows served afterwards
            wanted = training_window.Wanted(
                model=one.model,
                version=one.version,
                features=terms.spec.schema.names,
                salt=str(one.epoch),
                train_rows=0,
                since=one.since,
            )
            rows = training_window.read(conn, wanted)
        have = rows.counts["labelled"]
        # Evidence grows with the rows, so looks may become rarer; and what the most rows that a
        # window holds cannot decide is too small to matter: then only the guard's end is waited for.
        full = have >= 2 * training_window.MAX_LABELLED
        self._next_look[key] = NEVER if full else labelled + max(NEW_ROWS, labelled // 10)
        if have < NEW_ROWS:
            return False
        try:
            comparison = self._compare(one, terms, current, before, rows)
        except ChildCancelled:
            return False
        except ChildFailed as error:
            log.warning(
                "guard_failed",
                action="guard_failed",
                model=one.model,
                version=one.version,
                error=str(error),
            )
            return False
        now = self._tools.clock()
        with self._tools.database.begin() as conn:
            load(conn, one.model, lock=True)
            try:
                lease.check(conn, LEASE, token, now)
            except LeaseError as error:
                log.warning("guard_lost", action="guard_lost", error=str(error))
                return False
            done = post_release_monitor.settle(
                conn,
                one,
                comparison,
                last_seq=newest,
                actor=self._tools.actor,
                now=now,
                lifetimes=self._lifetimes,
                cool_down_seconds=self._cool_down_seconds,
            )
        log.info(
            "guard_looked",
            action="guard_looked",
            model=one.model,
            version=one.version,
            verdict=done.verdict,
            note=done.note,
            wins=comparison.wins,
            losses=comparison.losses,
            e_better=comparison.e_better,
            e_worse=comparison.e_worse,
        )
        if done.moved is not None:
            self._moved()
        return done.verdict != "go_on"

    def _compare(
        self,
        one: Guard,
        terms: Terms,
        current: Version,
        before: Version,
        rows: training_window.Window,
    ) -> Comparison:
        folder = self._tools.home / "jobs" / f"guard-{one.model}-{one.epoch}"
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
                source = Place(self._tools.home).path(one.model, "model.onnx", entry.sha256)
                fetch(source, folder / name / "model.onnx", entry.sha256, what=version.version)
            training_window.write(rows, folder / "fresh.parquet")
            made_here = tuple(role for role, version in both.items() if version.made_here)
            write_whole(folder / "job.json", to_json(_order(one, terms, made_here)))
            ran = self._tools.child().run(
                folder,
                deadline_s=CHILD_SECONDS,
                memory_bytes=self._tools.memory_bytes,
                cancelled=self._tools.stop,
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if ran.report.fresh is None:
            raise ChildFailed("the report compares nothing", kind="BadJob", retriable=False)
        return ran.report.fresh


def _order(one: Guard, terms: Terms, made_here: tuple[str, ...]) -> Order:
    return Order(
        job_id=str(uuid5(NAMESPACE_URL, f"guard|{one.model}|{one.epoch}")),
        model=one.model,
        mode="compare",
        trigger="incident",
        graph=terms.spec.graph(),
        made_here=made_here,
        limits=terms.spec.limits(),
        serving_batch=terms.spec.serving.batch,
        seed=UUID(int=one.epoch).int,
        deadline_s=CHILD_SECONDS,
    )


def _newest(conn: sa.Connection, one: Guard) -> int:
    o = outcomes.c
    query = sa.select(sa.func.coalesce(sa.func.max(o.seq), 0)).where(
        o.model == one.model, o.version == one.version
    )
    return int(conn.execute(query).scalar_one())
