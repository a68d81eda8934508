"""``redistill db``: create, upgrade and look at the database."""

from __future__ import annotations

import typer

from redistill.workers.cli import common

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Create or upgrade the database, or look at it.",
)


@app.command()
def upgrade() -> None:
    """Create the database, or bring it to this program's revision.

    A SQLite file is made by the first command that needs it; PostgreSQL needs this once, and both
    after an upgrade of redistill. It is one transaction, and safe to run twice at the same time.
    """
    from redistill.workers.store import opening

    settings = common.load()
    done = opening.upgrade(settings)
    if done.before is None:
        common.echo(f"created, revision {done.after}")
    elif done.changed:
        common.echo(f"upgraded from revision {done.before} to {done.after}")
    else:
        common.echo(f"revision {done.after}: nothing to do")


@app.command(short_help="Show where it is, its revision, its rows.")
def show(
    as_json: bool = typer.Option(False, "--json", help="One JSON document instead of a table."),
) -> None:
    """Show where the database is, its revision, and how many rows each table has."""
    import sqlalchemy as sa

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
        common.print_json({"url": url, "revision": opening.HEAD, "rows": rows})
        return
    common.echo(f"{url}, revision {opening.HEAD}")
    for name, count in rows.items():
        if count:
            common.echo(f"  {name:<20} {count:>12,}")
