"""``redistill keys``: make, replace and export the keys that sign releases, and accept a restored
database."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from redistill.workers.cli import common

if TYPE_CHECKING:
    from redistill.workers.releases.key_rotation import Signatures
    from redistill.workers.settings.settings import Settings

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Make, replace or export the keys that sign releases (ed25519).",
)


@app.command(short_help="Make the signing keys and the trust file.")
def init() -> None:
    """Make the signing keys and the trust file of this installation.

    Five keys: root, targets, snapshot, timestamp and models. Root signs nothing but the list of
    the others: move keys/root.pem offline, and bring it back once a year. With
    REDISTILL_KEY_PASSPHRASE set the keys are stored encrypted. Existing keys are never replaced:
    every client trusts them.
    """
    from redistill.workers.releases import keys

    settings = common.load()
    passphrase = _passphrase(settings)
    folder = settings.keys_folder
    trust = keys.init(folder, passphrase=passphrase, now=datetime.now(UTC))
    how = "encrypted" if passphrase else "not encrypted, mode 0600"
    common.echo(f"made 5 keys in {folder} ({how})")
    common.echo(f"clients trust {trust}: copy it with `redistill keys export FILE`")
    common.echo(
        f"{folder / 'root.pem'} may be kept offline: only renewing the trust file and replacing"
        " a key"
        " need it"
    )


@app.command(short_help="Write the trust file for services.")
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
        common.echo_text(keys.trust(settings.keys_folder).decode())
        return
    keys.export(settings.keys_folder, file)
    common.echo(f"wrote {file}")


@app.command(short_help="Replace a signing key; clients follow.")
def rotate(
    role: str = typer.Argument(..., help="root, targets, snapshot, timestamp or models."),
    root_keys: int = typer.Option(1, "--root-keys", help="With root: how many keys it gets."),
    threshold: int = typer.Option(1, "--threshold", help="With root: how many of them must sign."),
    abandon: bool = typer.Option(False, "--abandon", help="Take back one that lacks signatures."),
) -> None:
    """Replace the key of a role. Clients follow by themselves, whatever trust file they hold.

    A running repair worker sees it, and signs anew what the old key signed. All but models need a
    new root document. Where root keys are elsewhere it waits in keys/next.root.json: take that file
    to where they are, run `redistill keys sign next.root.json` there, bring it back, and give this
    command again. To replace root itself, run this where its keys are (root.json and root.pem in
    keys/ are enough), and bring keys/root.json back. Keys of several people: --root-keys 3
    --threshold 2, and move root.pem, root-2.pem, root-3.pem apart.
    """
    from redistill.workers.releases import key_rotation

    settings = common.load()
    folder = settings.keys_folder
    if abandon:
        done = key_rotation.abandon(folder)
        common.echo("taken back: the old key signs on" if done else "there is none to take back")
        return
    state = key_rotation.rotate(
        folder,
        role,
        passphrase=_passphrase(settings),
        now=datetime.now(UTC),
        root_keys=root_keys,
        threshold=threshold,
    )
    if state.draft is not None:
        _tell_missing(state, state.draft, then=f"redistill keys rotate {role}")
        return
    common.echo(f"{role} has another key; the repair worker signs with it from now on")
    if state.version:
        common.echo(
            f"{folder / 'root.json'} is version {state.version}: services follow by themselves, new"
            " ones take it (`redistill keys export`)"
        )
    if role == "root":
        common.echo(f"back {folder} up, and move its root keys offline: {_root_names(folder)}")


@app.command(short_help="Sign a new root document elsewhere.")
def sign(
    file: Path = typer.Argument(..., help="next.root.json of a rotation; it is changed in place."),
) -> None:
    """Sign a new root document (next.root.json) where root keys are, online or not.

    Needs keys/root.json, as it is before the rotation, and one or more root keys (root.pem,
    root-2.pem, ...) in the home; no database, no network, no other key.
    """
    from redistill.workers.releases import key_rotation

    settings = common.load()
    state = key_rotation.sign(file, settings.keys_folder, passphrase=_passphrase(settings))
    common.echo(f"signed: version {state.version} gives another key to {', '.join(state.replaced)}")
    if state.missing:
        common.echo(f"it still lacks signatures: {', '.join(state.missing)}")
        return
    common.echo(
        f"it is complete: put it back as keys/next.root.json, and run `redistill keys rotate"
        f" {state.replaced[0]}` there"
    )


@app.command("accept-restore", short_help="Let a restored database count.")
def accept_restore(
    reason: str = typer.Option(..., "--reason", help="Why, for the record."),
    vouch: bool = typer.Option(
        False,
        "--vouch",
        help="All rows of releases count as they are, also those that the audit contradicts.",
    ),
    new_audit_key: bool = typer.Option(
        False,
        "--new-audit-key",
        help="The audit key is lost: take the one that is here, or make one. Implies --vouch.",
    ),
) -> None:
    """Let the audit chain count that is in the database, in place of the one that was signed.

    The signed timestamp says how long the chain was. After a backup was restored it is shorter, and
    nothing is signed until somebody who knows of the restore says so here. Look at `redistill
    check-history` and `redistill models` first: with --vouch you take upon yourself what they show.
    """
    from redistill.workers.releases import adoption
    from redistill.workers.releases.release_files import RepositoryLayout
    from redistill.workers.releases.roles import Lifetimes

    reason = common.want_reason(reason)
    settings = common.load()
    with common.opened(settings) as database, database.begin() as conn:
        done = adoption.accept_restore(
            conn,
            RepositoryLayout(settings.root),
            reason=reason,
            vouch=vouch or new_audit_key,
            new_key=new_audit_key,
            actor=common.actor(),
            now=database.clock(),
            lifetimes=Lifetimes.of_pointer(settings.pointer_ttl_hours),
        )
    common.echo(
        f"the audit chain with {done.entries} entries counts (signed was: {done.given_up}); the"
        " repair"
        " worker signs on within some seconds"
    )
    if vouch or new_audit_key:
        common.echo(f"{done.versions} versions of {done.models} models count as they are")


def _passphrase(settings: Settings) -> str | None:
    secret = settings.key_passphrase
    return None if secret is None else secret.get_secret_value()


def _root_names(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in folder.glob("root*.pem")))


def _tell_missing(state: Signatures, draft: Path, *, then: str) -> None:
    common.echo(f"version {state.version} of the root document lacks: {', '.join(state.missing)}")
    common.echo("nothing is replaced yet. Where a root key is:")
    common.echo(f"  1. take {draft} there")
    common.echo("  2. there: redistill keys sign next.root.json")
    common.echo(f"  3. bring it back to {draft}")
    common.echo(f"  4. here: {then}")
    common.echo("or take it back: add --abandon")
