"""The web process with a role of PostgreSQL that may only read, and say that it lives."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from redistill.streams.errors import StreamsError
from redistill.streams.store import process_rows
from redistill.streams.store.process_rows import Presence
from redistill.workers.settings.settings import Settings
from redistill.workers.store import opening
from redistill.workers.web import app as web

RUNBOOK = Path(__file__).parents[2] / "deploy" / "RUNBOOK.md"


def grants(role: str, database: str) -> list[str]:
    """The statements that the runbook gives, for a role and a database of the test's."""
    text = RUNBOOK.read_text().partition("```sql\n")[2].partition("```")[0]
    given = text.replace("redistill_web", role).replace(
        "DATABASE redistill", f"DATABASE {database}"
    )
    return [line for line in given.splitlines() if line]


def test_web_process_needs_to_read_only(postgres_url: str, tmp_path: Path) -> None:
    settings = Settings.load({"home": tmp_path, "database": postgres_url})
    opening.upgrade(settings)
    url = sa.make_url(settings.database_url)
    role = f"web_{url.database}"[:60]
    owner = opening.open(settings)
    try:
        with owner.begin() as conn:
            for statement in grants(role, str(url.database)):
                conn.execute(sa.text(statement))
        reads = url.set(username=role, password="x").render_as_string(hide_password=False)
        database = opening.open(Settings.load({"home": tmp_path, "database": reads}))
        try:
            with pytest.raises(StreamsError), database.begin() as conn:
                conn.execute(sa.text("DELETE FROM pointers"))
            presence = Presence(database, "web", "web:1")
            presence.say()
            with database.read() as conn:
                assert [row.process_id for row in process_rows.seen(conn)] == ["web:1"]
            presence.leave()
            app = web.create_app(settings, database)

            async def answers() -> list[httpx.Response]:
                transport = httpx.ASGITransport(app=app)
                async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                    return [await client.get(path) for path in ("/health/ready", "/metrics")]

            ready, metrics = asyncio.run(answers())
            assert (ready.status_code, ready.json()["problems"]) == (200, [])
            assert "redistill_" in metrics.text
        finally:
            database.dispose()
    finally:
        with owner.begin() as conn:
            conn.execute(sa.text(f'DROP OWNED BY "{role}"'))
            conn.execute(sa.text(f'DROP ROLE "{role}"'))
        owner.dispose()
