"""Pointer moves by command: ``publish`` and ``rollback`` ask the repository's holder alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from redistill.workers.cli import common

if TYPE_CHECKING:
    from redistill.streams.store.database import Database
    from redistill.workers.releases.repository_writer import RepositoryWriter
    from redistill.workers.settings.settings import Settings

__all__ = ["move", "writer_of"]


def writer_of(settings: Settings, database: Database, *, holder: str) -> RepositoryWriter:
    """A writer of the repository, as the settings describe it."""
    from redistill.workers.releases.release_files import RepositoryLayout
    from redistill.workers.releases.repository_writer import RepositoryWriter
    from redistill.workers.releases.roles import Lifetimes

    secret = settings.key_passphrase
    return RepositoryWriter(
        database,
        RepositoryLayout(settings.root),
        holder=holder,
        passphrase=None if secret is None else secret.get_secret_value(),
        lifetimes=Lifetimes.of_pointer(settings.pointer_ttl_hours),
        cool_down_seconds=settings.cool_down_minutes * 60,
    )


def move(
    kind: Literal["publish", "rollback"], model: str, body: Mapping[str, Any], *, as_json: bool
) -> None:
    """Move a pointer and wait until clients can see it.

    Raises
    ------
    RegistryUsageError
        There is no such model or version, or it is only watched.
    RegistryError
        It was refused.
    NotInTime
        Nobody did it in time.
    KeysError
        No repair worker runs, and the keys cannot be read here.
    """
    from redistill.workers.errors import RegistryError
    from redistill.workers.releases import submission, versions

    settings = common.load()
    named = body.get("version", body.get("to"))
    given = {key: value for key, value in body.items() if value not in (None, "")}
    with common.opened(settings) as database:
        with database.read() as conn:
            # a wrong name, and what has no releases, are said before keys that are missing
            versions.want_releases(conn, model)
            if named is not None:  # an empty one as well, as of an unset variable of a shell
                versions.get(conn, model, named)
        writer = writer_of(settings, database, holder=f"{settings.instance}-cli")
        try:
            result = submission.perform(
                database,
                writer,
                kind,
                model,
                given,
                actor=common.actor(),
                wait_seconds=settings.command_wait_seconds,
            )
        finally:
            writer.close()
    if not result.ok:
        raise RegistryError(result.message)
    common.say({"model": model, **result.body}, result.message, as_json=as_json)
