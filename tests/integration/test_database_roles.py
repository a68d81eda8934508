"""Each process with a role of PostgreSQL of its own: what deploy/postgresql-roles.sql gives suffices, and
what the threat model says that a role cannot write, it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import finished
import pytest
import sqlalchemy as sa
from processes import Worker, environment
from stream_lab import Lab
from stream_rows import label, prediction
from waiting import eventually

from redistill.streams.kafka.dev_broker import DevBroker
from redistill.streams.store import process_rows, state_key
from redistill.streams.store.database import Database
from redistill.streams.store.tables import outbox, outcomes
from redistill.workers.invariants import check
from redistill.workers.settings.settings import Settings
from redistill.workers.store import opening, signing_refusal
from redistill.workers.store.signing_refusal import SigningRefusal
from redistill.workers.store.tables import alert_deliveries, metadata

SCRIPT = Path(__file__).parents[2] / "deploy" / "postgresql-roles.sql"
ROLES = ("stream", "repair", "alerts", "reader")


@dataclass
class Site:
    """A database whose tables belong to its owner, and a role for each process."""

    owner: Database
    folder: Path
    opened: list[Database] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.owner.url.database)

    def role(self, process: str) -> str:
        return f"{process}_{self.name}"[:60]

    def url(self, process: str) -> str:
        url = self.owner.url.set(username=self.role(process), password="x")
        return url.render_as_string(hide_password=False)

    def as_role(self, process: str, home: Path) -> Database:
        """The database as a process opens it."""
        settings = Settings.load({"home": home, "database": self.url(process)})
        self.opened.append(opening.open(settings))
        return self.opened[-1]

    def count(self, table: sa.Table) -> int:
        with self.owner.read() as conn:
            return int(conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())

    def grant(self) -> None:
        """What the script says, for this database's roles."""
        lines = [line for line in SCRIPT.read_text().splitlines() if not line.startswith("--")]
        text = "\n".join(lines)
        for process in ROLES:
            text = text.replace(f"redistill_{process}", f'"{self.role(process)}"')
        with self.owner.begin() as conn:
            for statement in filter(str.strip, text.split(";")):
                conn.execute(sa.text(statement))


@pytest.fixture
def site(postgres_url: str, tmp_path: Path) -> Iterator[Site]:
    settings = Settings.load({"home": tmp_path / "owner", "database": postgres_url})
    opening.upgrade(settings)
    made = Site(opening.open_unchanged(settings), tmp_path)
    with made.owner.begin() as conn:
        for process in ROLES:
            conn.execute(sa.text(f"CREATE ROLE \"{made.role(process)}\" LOGIN PASSWORD 'x'"))
    made.grant()
    try:
        yield made
    finally:
        for database in made.opened:
            database.dispose()
        with made.owner.begin() as conn:
            for process in ROLES:
                conn.execute(sa.text(f'DROP OWNED BY "{made.role(process)}"'))
                conn.execute(sa.text(f'DROP ROLE "{made.role(process)}"'))
        made.owner.dispose()


class Divided(finished._Maker):
    """Makes everything that happens, the observing side with the role of stream workers and the rest
    with that of repair workers."""

    def __init__(self, site: Site, home: Path) -> None:
        self.stream = site.as_role("stream", home)
        super().__init__(home, site.url("repair"))
        self.accumulator._database = self.stream
        with self.stream.begin() as conn:
            state_key.claim(conn, self.settings.state_key_bytes())

    def flush(self) -> None:
        repair, self.database = self.database, self.stream
        super().flush()
        self.database = repair

    def join(self) -> None:
        repair, self.database = self.database, self.stream
        super().join()
        self.database = repair


def test_roles_suffice_for_everything_that_happens(site: Site) -> None:
    home = site.folder / "home"
    made = Divided(site, home)
    made.everything()
    reader = site.as_role("reader", home)
    checked = check.check(
        reader, now=made.now + 1, home=home, outbox_kept_us=10**15,
        state_key=made.settings.state_key_bytes(), settle_seconds=0.0,
    )  # fmt: skip
    assert [(c.number, c.problems) for c in checked if not c.holds] == []
    made.database.dispose()


SECRET = "whsec_" + "QUFB" * 12
ALERTS = """
[channels.team]
kind = "webhook"
url = "http://127.0.0.1:9/x"
secret = "env:TEAM_SECRET"
allow_private = ["127.0.0.0/8"]
"""


def test_stream_worker_counts_joins_and_announces_with_its_role(site: Site) -> None:
    url = site.owner.url.render_as_string(hide_password=False)
    with DevBroker(namespace="dev") as broker:
        lab = Lab(broker.servers, url, site.folder, namespace="dev")
        lab.env["REDISTILL_DATABASE"] = site.url("stream")
        try:
            n = 400
            lab.send(prediction(i, right=i % 4 == 0) for i in range(n))
            lab.send(label(i) for i in range(n))
            worker = lab.worker().start()
            lab.wait_counted(n)
            eventually(lambda: len(lab.rows(outcomes)) == n, f"outcomes\n{lab.logs()}")
            eventually(lambda: lab.rows(outbox), f"an announcement\n{lab.logs()}")
        finally:
            lab.close()
    assert "permission denied" not in worker.log.read_text()


@pytest.mark.parametrize("process", ["repair", "alerts"])
def test_process_runs_with_its_role(site: Site, process: str) -> None:
    home = site.folder / "home"
    home.mkdir()
    (home / "alerts.toml").write_text(ALERTS)
    with DevBroker(namespace="dev") as broker:
        env = environment(
            home=str(home), database=site.url(process), broker=broker.servers, namespace="dev",
        )  # fmt: skip
        env |= {"TEAM_SECRET": SECRET}
        worker = Worker(process, ["run", process], env, site.folder / "logs").start()
        try:

            def ready() -> bool:
                with site.owner.read() as conn:
                    rows = process_rows.seen(conn)
                return any(r.kind == process and r.ready for r in rows) or not worker.alive

            eventually(ready, "the process is ready")
            assert worker.alive, worker.tail()
            if process == "alerts":  # trouble is seen, opened, and owed to the channel
                with site.owner.begin() as conn:
                    told = SigningRefusal.once("w", now=site.owner.clock(), holder="h", before=None)
                    signing_refusal.put(conn, told)
                eventually(lambda: site.count(alert_deliveries), f"it tells\n{worker.tail()}")
        finally:
            worker.stop()
    assert "permission denied" not in worker.log.read_text()


MAY_NOT = {
    "stream": {
        "activations", "alembic_version", "alert_deliveries", "alert_holds", "audit", "barred", "fresh_tests", "guards",
        "incident_findings", "incidents", "intents", "job_steps", "jobs", "operational_alerts", "pauses",
        "pointer_history", "pointers", "repository_roles", "specs", "storm_members", "versions", "deletion_budgets",
    },
    "repair": {"alembic_version"},
    "alerts": {t.name for t in metadata.sorted_tables}
    - {"alert_deliveries", "alert_holds", "facts", "leases", "operational_alerts", "processes", "storm_members"},
    "reader": {t.name for t in metadata.sorted_tables},
}  # fmt: skip


@pytest.mark.parametrize("process", ROLES)
def test_role_writes_no_table_that_is_not_its_own(site: Site, process: str) -> None:
    with site.owner.read() as conn:
        query = sa.text("SELECT has_table_privilege(:role, :name, :what)")

        def may(table: str, what: str) -> bool:
            given = {"role": site.role(process), "name": table, "what": what}
            return bool(conn.execute(query, given).scalar_one())

        tables = {t.name for t in metadata.sorted_tables} | {"alembic_version"}
        closed = {t for t in tables if not may(t, "INSERT, UPDATE, DELETE")}
        assert closed >= MAY_NOT[process]
        assert all(may(t, "SELECT") for t in tables)
        assert not any(may("audit", what) for what in ("UPDATE", "DELETE", "TRUNCATE"))
        rights = "SELECT has_schema_privilege(:role, 'public', 'CREATE')"
        assert not conn.execute(sa.text(rights), {"role": site.role(process)}).scalar_one()
