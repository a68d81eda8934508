"""``redistill doctor``: is everything there that redistill needs, and what to type where it is
not."""

from __future__ import annotations

import typer

from redistill.workers.cli import common
from redistill.workers.exit_codes import ExitCode

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Check broker, topics, database, keys, clock, disk and the rest; say what to type.",
)


@app.command()
def doctor(as_json: bool = common.AS_JSON) -> None:
    """Check an installation, and say what to type where something is wrong.

    Looks at settings, versions of packages, disk, broker, its permissions and topics, database,
    clock, keys and their expiry, processes, alerts.toml, open operational alerts, lag, and whether
    labels arrive; changes nothing. Exit
    code 0: nothing fails (warnings may stand); 3: something does.

    \b
    redistill doctor
    redistill doctor --json
    """
    from redistill.workers.doctor import checks, gathering
    from redistill.workers.documents.doctor import DoctorCheck, DoctorReport

    found = checks.examine(gathering.gather(common.load()))
    failed = any(f.status == "fail" for _, f in found)
    if as_json:
        common.print_json(
            DoctorReport(
                well=not failed,
                checks=[
                    DoctorCheck(check=name, status=f.status, said=f.said, do=f.do or None)
                    for name, f in found
                ],
            )
        )
    else:
        for name, f in found:
            common.echo(f"{f.status:<4}  {name:<11}  {f.said}")
            if f.do:
                common.echo(f"      {'':<11}  -> {f.do}")
        counts = {s: sum(f.status == s for _, f in found) for s in ("ok", "warn", "fail")}
        common.echo(", ".join(f"{n} {status}" for status, n in counts.items()))
    if failed:
        raise typer.Exit(ExitCode.REFUSED)
