"""``redistill unbar``: let bytes be published again that an automatic roll back took away."""

from __future__ import annotations

import typer

from redistill.workers.cli import common

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Let bytes be published again that an automatic roll back took away.",
)


@app.command()
def unbar(
    model: str = common.MODEL,
    sha256: str = typer.Argument(
        ..., metavar="SHA", help="SHA-256 of the bytes, or how it begins: at least 8 digits."
    ),
    reason: str = typer.Option(..., "--reason", help="Why, for the record."),
    as_json: bool = common.AS_JSON,
) -> None:
    """Let bytes be published again that an automatic roll back took away.

    For when the labels that made a version look worse were wrong, and not the version. It moves no
    pointer: that is `redistill publish`. The record says who did it and why; `redistill models
    NAME` shows each version with its hash.

    \b
    redistill unbar credit 9f86d081884c --reason "labels of 3 May were forged"
    """
    import re

    from redistill.workers.documents.model import UnbarredBytes
    from redistill.workers.errors import UsageError
    from redistill.workers.releases import registry

    reason = common.want_reason(reason, "say why these bytes may be published again")
    if not re.fullmatch(r"[0-9a-fA-F]{8,64}", sha256):
        raise UsageError(f"{sha256!r} is no SHA-256: give 8 to 64 hexadecimal digits")
    with common.opened(common.load()) as database, database.begin() as conn:
        done = registry.unbar(
            conn,
            model,
            sha256,
            actor=common.actor(),
            reason=reason,
            now=database.clock(),
        )
    told = UnbarredBytes(
        model=model,
        sha256=done.sha256,
        versions=list(done.versions),
        barred_for=done.barred_for,
        reason=reason,
    )
    names = " and ".join(done.versions) or "these bytes"
    common.say(
        told,
        f"{model}: {names} may be published again (barred for: {done.barred_for})",
        as_json=as_json,
    )
