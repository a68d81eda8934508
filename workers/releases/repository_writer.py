"""Writer of the signed repository, one process at a time: requests, metadata, renewal,
announcements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
import structlog

from redistill.streams.errors import LeaseError
from redistill.streams.store import lease, properties
from redistill.streams.store.database import Database
from redistill.streams.wire.events import Trigger
from redistill.times import to_us
from redistill.workers.errors import KeysError, RegistryError
from redistill.workers.releases import keys as keyring
from redistill.workers.releases import registry, release_requests, repository, roles
from redistill.workers.releases.keys import Keys
from redistill.workers.releases.release_files import RepositoryLayout, damaged
from redistill.workers.releases.release_requests import ReleaseRequest, RequestResult
from redistill.workers.releases.repository import LEASE
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.store.tables import pointers, repository_roles

__all__ = ["RepositoryWriter"]

log = structlog.get_logger(__name__)

LEASE_SECONDS = 15.0
"""How long a crash delays the next holder; renewed when a third is over."""

ANNOUNCE_SECONDS = 60.0
"""How often a pointer is announced again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WriterRound:
    """What one round did."""

    holds: bool
    """Whether this process holds the repository."""
    requests: int = 0
    renewed: tuple[str, ...] = ()
    """Roles that were signed anew for their age."""
    snapshot: int | None = None
    """Snapshot that was published; ``None``: nothing had changed."""
    announced: int = 0


class RepositoryWriter:
    """Keeps the repository while it holds the lease. Call :meth:`tick` often; it is cheap.

    Parameters
    ----------
    database
        The rows.
    layout
        Where files and keys are.
    holder
        Name for the lease: unique per process.
    passphrase
        Of the keys.
    lifetimes
        Of the metadata.
    cool_down_seconds
        Pause of automatic repair after a roll back.
    clock
        Seconds since 1970; ``None``: the database's.
    """

    def __init__(
        self,
        database: Database,
        layout: RepositoryLayout,
        *,
        holder: str,
        passphrase: str | None = None,
        lifetimes: Lifetimes | None = None,
        cool_down_seconds: float = 3_600.0,
        announce_seconds: float = ANNOUNCE_SECONDS,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._database = database
        self._layout = layout
        self._holder = holder
        self._passphrase = passphrase
        self.lifetimes = lifetimes or Lifetimes()
        self._cool_down_seconds = cool_down_seconds
        self._announce_us = to_us(announce_seconds)
        self._clock = clock or database.clock.seconds
        self._token: int | None = None
        self._until = 0
        self._keys: Keys | None = None
        self._ready = False
        self.problem: KeysError | RegistryError | None = None
        """Why the repository cannot be kept at present."""

    @property
    def holds(self) -> bool:
        """Whether this process held the lease at its last tick."""
        return self._token is not None

    def tick(self) -> WriterRound:
        """One round: take or keep the lease, and do what is due.

        What cannot be done for want of keys or room stands in :attr:`problem`, is logged once, and
        is tried again in the next round.

        Raises
        ------
        StoreUnavailable, StoreUnusable
            The database cannot be used.
        """
        try:
            finished = self.attempt()
        except LeaseError as error:
            log.warning("repository_lost", action="repository_lost", error=str(error))
            return WriterRound(holds=False)
        except (KeysError, RegistryError) as error:
            if str(error) != str(self.problem):
                log.error("repository_stuck", action="repository_stuck", error=str(error))
            self.problem = error
            return WriterRound(holds=self.holds)
        self.problem = None
        return finished

    def attempt(self) -> WriterRound:
        """One round, for a command: what cannot be done is raised.

        Raises
        ------
        KeysError
            The keys are missing or cannot be read, and there is something to sign.
        RegistryError
            A file cannot be written, or the database belongs to other keys.
        LeaseError
            Another process has taken over meanwhile.
        """
        now = self._now()
        if not keyring.exist(self._layout.keys):
            with self._database.read() as conn:
                needed = (
                    bool(release_requests.pending(conn)) or properties.published_snapshot(conn) > 0
                )
            if not needed:  # models that are only watched need no keys
                return WriterRound(holds=False)
        if self._keys is None:
            self._keys = keyring.load(self._layout.keys, passphrase=self._passphrase)
        try:
            return self._work(self._keys, now) if self._hold(now) else WriterRound(holds=False)
        except LeaseError:
            self._token, self._ready = None, False
            raise

    def close(self) -> None:
        """Give the lease back, so that another process need not wait for its end."""
        if self._token is not None:
            with self._database.begin() as conn:
                lease.release(conn, LEASE, self._token)
            self._token, self._ready = None, False

    def _work(self, keys: Keys, now: int) -> WriterRound:
        if not self._ready:
            self._prepare(keys, now)
        with self._database.read() as conn:
            waiting = release_requests.pending(conn)
            due = self._due(conn, now)
        for request in waiting:
            self._fulfil(request)
        renewed: list[str] = []
        if due.renewal:
            with self._database.begin() as conn:
                self._check(conn)
                renewed = roles.renew(conn, keys, now=now, lifetimes=self.lifetimes)
                left = roles.expiring(roles.read_roles(conn), now=now, lifetimes=self.lifetimes)
            if (
                left
            ):  # the root, whose key is offline: told at each renewal until it is brought back
                log.warning("roles_not_renewed", action="roles_not_renewed", roles=left)
        snapshot = repository.publish_metadata(
            self._database, self._layout, keys, token=self._token or 0, clock=self._now
        )
        for model in due.announcements:
            with self._database.begin() as conn:
                self._check(conn)
                registry.announce_pointer(conn, model, now=now)
        return WriterRound(
            holds=True,
            requests=len(waiting),
            renewed=tuple(renewed),
            snapshot=snapshot,
            announced=len(due.announcements),
        )

    def _prepare(self, keys: Keys, now: int) -> None:
        """The first round after the lease was taken: nobody knows what was left behind."""
        with self._database.begin() as conn:
            self._check(conn)
            roles.ensure(conn, keys.trust, now=now, lifetimes=self.lifetimes)
            seen = repository.published_versions(self._layout)
            lifted = roles.lift(conn, seen, now=now, lifetimes=self.lifetimes)
        if lifted:
            log.warning("repository_lifted", action="repository_lifted", roles=lifted)
        with self._database.read() as conn:
            by_name = roles.read_roles(conn)
        restored = repository.mend(self._layout, by_name, keys)
        if restored:
            log.warning("repository_mended", action="repository_mended", files=restored)
        self._ready = True

    def _fulfil(self, request: ReleaseRequest) -> None:
        """Do what was asked, and answer, in one transaction; a refusal is an answer too."""
        now = self._now()
        try:
            with self._database.begin() as conn:
                self._check(conn)
                move = self._move(conn, request, now)
                row = registry.get(conn, move.model, move.version)
                if move.snapshot is not None and (
                    damaged_files := damaged(self._layout, row.model, row.files)
                ):
                    raise RegistryError(
                        f"{row.model} {row.version}: damaged or missing files: {damaged_files}"
                    )
                body = {
                    "version": move.version,
                    "previous": move.previous,
                    "epoch": move.epoch,
                    "snapshot": move.snapshot,
                    "sha256": row.sha256,
                }
                message = (
                    f"{move.model} serves {move.version} (epoch {move.epoch})"
                    if move.snapshot is not None
                    else f"{move.model} serves {move.version} already"
                )
                answer = RequestResult(ok=True, message=message, body=body)
                if not release_requests.finish(conn, request.request_id, answer, now=now):
                    raise RegistryError("the command gave up meanwhile")
        except RegistryError as error:
            with self._database.begin() as conn:
                self._check(conn)
                refusal = RequestResult(ok=False, message=str(error))
                release_requests.finish(conn, request.request_id, refusal, now=now)

    def _move(self, conn: sa.Connection, request: ReleaseRequest, now: int) -> registry.PointerMove:
        trigger = Trigger(kind="actor", id=request.actor)
        reason = str(request.body.get("reason") or f"{request.kind} by {request.actor}")
        if request.kind == "publish":
            return registry.publish(
                conn,
                request.model,
                str(request.body.get("version")),
                trigger=trigger,
                actor=request.actor,
                reason=reason,
                now=now,
                lifetimes=self.lifetimes,
            )
        if request.kind == "rollback":
            return registry.rollback(
                conn,
                request.model,
                to=request.body.get("to"),
                trigger=trigger,
                actor=request.actor,
                reason=reason,
                now=now,
                lifetimes=self.lifetimes,
                cool_down_seconds=self._cool_down_seconds,
            )
        raise RegistryError(f"nobody knows how to {request.kind!r}: upgrade the repair worker")

    def _hold(self, now: int) -> bool:
        seconds = LEASE_SECONDS
        if self._token is not None:
            if now < self._until - round(seconds * 2e6 / 3):
                return True
            with self._database.begin() as conn:
                kept = lease.renew(conn, LEASE, self._token, now=now, seconds=seconds)
            if not kept:
                self._token, self._ready = None, False
                return False
        else:
            with self._database.read() as conn:
                if lease.holder_of(conn, LEASE, now) not in (None, self._holder):
                    return False
            with self._database.begin() as conn:
                self._token = lease.acquire(conn, LEASE, self._holder, now=now, seconds=seconds)
        self._until = now + to_us(seconds)
        return self._token is not None

    def _check(self, conn: sa.Connection) -> None:
        lease.check(conn, LEASE, self._token or 0, self._now())

    def _due(self, conn: sa.Connection, now: int) -> _Due:
        expiries = conn.execute(
            sa.select(repository_roles.c.role, repository_roles.c.expires_at)
        ).all()
        renewal = any(
            roles.is_due(r.role, r.expires_at, now, self.lifetimes)
            for r in expiries
            if r.role != "root" or (self._keys is not None and self._keys.root is not None)
        )
        models = conn.execute(
            sa.select(pointers.c.model).where(pointers.c.announced_at <= now - self._announce_us)
        ).scalars()
        return _Due(renewal, list(models))

    def _now(self) -> int:
        return to_us(self._clock())


@dataclass(frozen=True, slots=True)
class _Due:
    renewal: bool
    announcements: list[str]
