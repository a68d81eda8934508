"""``redistill db``: create, upgrade and look at the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from redistill.workers.cli import common

if TYPE_CHECKING:
    from redistill.streams.store.database import Database
    from redistill.workers.settings.settings import Settings

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Create or upgrade the database, or look at it.",
)


@app.command()
def upgrade(
    new_state_key: bool = typer.Option(
        False,
        "--new-state-key",
        help="The state key is lost: take the one that is here, and let detectors start anew.",
    ),
) -> None:
    """Create the database, or bring it to this program's revision.

    A SQLite file is made by the first command that needs it; PostgreSQL needs this once, and both
    after an upgrade of redistill: with the workers stopped, and where the state key of the stream
    workers is, since what an older redistill stored of its detectors is sealed with it, and where
    the signed repository is, since what it wrote of releases is taken in under the audit key. It is
    safe to run twice at the same time, and after it was killed.
    """
    from redistill.workers.store import opening
    from redistill.workers.store.sealing import seal_states, take_new_key

    settings = common.load()
    done = opening.upgrade(settings)
    if done.before is None:
        common.echo(f"created, revision {done.after}")
    elif done.changed:
        common.echo(f"upgraded from revision {done.before} to {done.after}")
    else:
        common.echo(f"revision {done.after}: nothing to do")
    with common.opened(settings) as database:
        _take_in(settings, database)
        if new_state_key:
            take_new_key(database, settings.state_key_bytes(), actor=common.actor())
            common.echo("the state key that is here counts from now on: detectors start anew")
        states = seal_states(database, settings.state_key_here())
    if states.sealed:
        common.echo(f"sealed {states.sealed} stored states of detectors")
    if states.refused:
        common.echo(
            f"{states.refused} stored states of detectors were changed, moved or damaged: they stay"
            " closed, and their detectors start anew"
        )


def _take_in(settings: Settings, database: Database) -> None:
    """What an older redistill wrote without a MAC counts from now on, as it stands."""
    from redistill.workers.releases import adoption
    from redistill.workers.releases.release_files import RepositoryLayout

    with database.begin() as conn:
        if not adoption.is_due(conn):
            return
        layout = RepositoryLayout(settings.root)
        taken = adoption.take_in(conn, layout, actor=common.actor(), now=database.clock())
    common.echo(
        f"took {taken.entries} audit entries and {taken.versions} versions of {taken.models} models"
        f" in as they stand, under the audit key {settings.audit_key_path}: back it up, and give it"
        " to every machine on which a repair worker or a command writes"
    )


@app.command(short_help="Show where it is, its revision, its rows.")
def show(
    as_json: bool = typer.Option(False, "--json", help="One JSON document instead of a table."),
) -> None:
    """Show where the database is, its revision, and how many rows each table has."""
    import sqlalchemy as sa

    from redistill.workers.documents.installation import DatabaseDocument
    from redistill.workers.store import opening
    from redistill.workers.store.tables import metadata

    settings = common.load()
    with common.opened(settings) as database, database.read() as conn:
        rows = {
            table.name: conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in sorted(metadata.tables.values(), key=lambda t: t.name)
        }
        url = database.url.render_as_string(hide_password=True)
    if as_json:
        common.print_json(DatabaseDocument(url=url, revision=opening.HEAD, rows=rows))
        return
    common.echo(f"{url}, revision {opening.HEAD}")
    for name, count in rows.items():
        if count:
            common.echo(f"  {name:<20} {count:>12,}")
