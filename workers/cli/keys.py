"""``redistill keys``: make the keys that sign releases, and export what clients trust."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import typer

from redistill.workers.cli import common

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Make or export the keys that sign releases (ed25519).",
)


@app.command()
def init() -> None:
    """Make the signing keys and the trust file of this installation.

    Five keys: root, targets, snapshot, timestamp and models. Root signs nothing but the list of
    the others: move keys/root.pem offline, and bring it back once a year. With
    REDISTILL_KEY_PASSPHRASE set the keys are stored encrypted. Existing keys are never replaced:
    every client trusts them.
    """
    from redistill.workers.releases import keys

    settings = common.load()
    secret = settings.key_passphrase
    passphrase = None if secret is None else secret.get_secret_value()
    folder = settings.keys_folder
    trust = keys.init(folder, passphrase=passphrase, now=datetime.now(UTC))
    how = "encrypted" if passphrase else "not encrypted, mode 0600"
    common.echo(f"made 5 keys in {folder} ({how})")
    common.echo(f"clients trust {trust}: copy it with `redistill keys export FILE`")
    common.echo(f"{folder / 'root.pem'} may be kept offline: only renewing the trust file needs it")


@app.command()
def export(
    file: Path = typer.Argument(
        Path("root.json"), help="Where to write it; - for standard output."
    ),
) -> None:
    """Write the public trust file that ModelClient(trust=...) takes.

    It holds public keys only, and is safe to build into an image.
    """
    from redistill.workers.releases import keys

    settings = common.load()
    if str(file) == "-":
        common.echo(keys.trust(settings.keys_folder).decode())
        return
    keys.export(settings.keys_folder, file)
    common.echo(f"wrote {file}")
