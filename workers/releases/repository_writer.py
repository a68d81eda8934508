"""The one process that writes the signed repository: intents, metadata, renewal, announcements."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
import structlog

from redistill.streams.errors import LeaseError
from redistill.streams.store import lease, properties
from redistill.streams.store.database import Database
from redistill.streams.wire.events import Trigger
from redistill.workers.errors import KeysError, RegistryError
from redistill.workers.releases import keys as keyring
from redistill.workers.releases import registry, release_requests, repository, roles
from redistill.workers.releases.files import Place, damaged
from redistill.workers.releases.keys import Keys
from redistill.workers.releases.release_requests import Intent, Result
from redistill.workers.releases.repository import LEASE
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.store.tables import pointers, repository_roles

log = structlog.get_logger(__name__)

LEASE_SECONDS = 15.0
"""How long a crash delays the next holder; renewed when a third is over."""

ANNOUNCE_SECONDS = 60.0
"""How often a pointer is announced again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ticked:
    """What one round did."""

    holds: bool
    """Whether this process holds the repository."""
    intents: int = 0
    renewed: tuple[str, ...] = ()
    """Roles that were signed anew for their age."""
    snapshot: int | None = None
    """Snapshot that was published; ``None``: nothing had changed."""
    announced: int = 0


class Keeper:
    """Keeps the repository while it holds the lease. Call :meth:`tick` often; it is cheap.

    Parameters
    ----------
    database
        The rows.
    place
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
        Seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        place: Place,
        *,
        holder: str,
        passphrase: str | None = None,
        lifetimes: Lifetimes | None = None,
        cool_down_seconds: float = 3_600.0,
        announce_seconds: float = ANNOUNCE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._place = place
        self._holder = holder
        self._passphrase = passphrase
        self.lifetimes = lifetimes or Lifetimes()
        self._cool_down_seconds = cool_down_seconds
        self._announce_us = round(announce_seconds * 1e6)
        self._clock = clock
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

    def tick(self) -> Ticked:
        """One round: take or keep the lease, and do what is due.

        What cannot be done for want of keys or room stands in :attr:`problem`, is logged once, and
        is tried again in the next round.

        Raises
        ------
        StoreUnavailable, StoreUnusable
            The database cannot be used.
        """
        try:
            done = self.attempt()
        except LeaseError as error:
            log.warning("repository_lost", action="repository_lost", error=str(error))
            return Ticked(holds=False)
        except (KeysError, RegistryError) as error:
            if str(error) != str(self.problem):
                log.error("repository_stuck", action="repository_stuck", error=str(error))
            self.problem = error
            return Ticked(holds=self.holds)
        self.problem = None
        return done

    def attempt(self) -> Ticked:
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
        if not keyring.exist(self._place.keys):
            with self._database.read() as conn:
                wanted = (
                    bool(release_requests.pending(conn)) or properties.published_snapshot(conn) > 0
                )
            if not wanted:  # models that are only watched need no keys
                return Ticked(holds=False)
        if self._keys is None:
            self._keys = keyring.load(self._place.keys, passphrase=self._passphrase)
        try:
            return self._work(self._keys, now) if self._hold(now) else Ticked(holds=False)
        except LeaseError:
            self._token, self._ready = None, False
            raise

    def close(self) -> None:
        """Give the lease back, so that another process need not wait for its end."""
        if self._token is not None:
            with self._database.begin() as conn:
                lease.release(conn, LEASE, self._token)
            self._token, self._ready = None, False

    def _work(self, keys: Keys, now: int) -> Ticked:
        if not self._ready:
            self._prepare(keys, now)
        with self._database.read() as conn:
            waiting = release_requests.pending(conn)
            due = self._due(conn, now)
        for intent in waiting:
            self._fulfil(intent)
        renewed: list[str] = []
        if due.renewal:
            with self._database.begin() as conn:
                self._check(conn)
                renewed = roles.renew(conn, keys, now=now, lifetimes=self.lifetimes)
        snapshot = repository.publish_metadata(
            self._database, self._place, keys, token=self._token or 0, clock=self._now
        )
        for model in due.announcements:
            with self._database.begin() as conn:
                self._check(conn)
                registry.announce_pointer(conn, model, now=now)
        return Ticked(
            holds=True,
            intents=len(waiting),
            renewed=tuple(renewed),
            snapshot=snapshot,
            announced=len(due.announcements),
        )

    def _prepare(self, keys: Keys, now: int) -> None:
        """The first round after the lease was taken: nobody knows what was left behind."""
        with self._database.begin() as conn:
            self._check(conn)
            roles.ensure(conn, keys.trust, now=now, lifetimes=self.lifetimes)
            seen = repository.published_versions(self._place)
            lifted = roles.lift(conn, seen, now=now, lifetimes=self.lifetimes)
        if lifted:
            log.warning("repository_lifted", action="repository_lifted", roles=lifted)
        with self._database.read() as conn:
            found = roles.read_roles(conn)
        mended = repository.mend(self._place, found, keys)
        if mended:
            log.warning("repository_mended", action="repository_mended", files=mended)
        self._ready = True

    def _fulfil(self, intent: Intent) -> None:
        """Do what was asked, and answer, in one transaction; a refusal is an answer too."""
        now = self._now()
        try:
            with self._database.begin() as conn:
                self._check(conn)
                moved = self._move(conn, intent, now)
                row = registry.get(conn, moved.model, moved.version)
                if moved.snapshot is not None and (
                    bad := damaged(self._place, row.model, row.files)
                ):
                    raise RegistryError(
                        f"{row.model} {row.version}: damaged or missing files: {bad}"
                    )
                body = {
                    "version": moved.version,
                    "previous": moved.previous,
                    "epoch": moved.epoch,
                    "snapshot": moved.snapshot,
                    "sha256": row.sha256,
                }
                message = (
                    f"{moved.model} serves {moved.version} (epoch {moved.epoch})"
                    if moved.snapshot is not None
                    else f"{moved.model} serves {moved.version} already"
                )
                answer = Result(ok=True, message=message, body=body)
                if not release_requests.finish(conn, intent.intent_id, answer, now=now):
                    raise RegistryError("the command gave up meanwhile")
        except RegistryError as error:
            with self._database.begin() as conn:
                self._check(conn)
                refusal = Result(ok=False, message=str(error))
                release_requests.finish(conn, intent.intent_id, refusal, now=now)

    def _move(self, conn: sa.Connection, intent: Intent, now: int) -> registry.Moved:
        trigger = Trigger(kind="actor", id=intent.actor)
        reason = str(intent.body.get("reason") or f"{intent.kind} by {intent.actor}")
        if intent.kind == "publish":
            return registry.publish(
                conn,
                intent.model,
                str(intent.body.get("version")),
                trigger=trigger,
                actor=intent.actor,
                reason=reason,
                now=now,
                lifetimes=self.lifetimes,
            )
        if intent.kind == "rollback":
            return registry.rollback(
                conn,
                intent.model,
                to=intent.body.get("to"),
                trigger=trigger,
                actor=intent.actor,
                reason=reason,
                now=now,
                lifetimes=self.lifetimes,
                cool_down_seconds=self._cool_down_seconds,
            )
        raise RegistryError(f"nobody knows how to {intent.kind!r}: upgrade the repair worker")

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
        self._until = now + round(seconds * 1e6)
        return self._token is not None

    def _check(self, conn: sa.Connection) -> None:
        lease.check(conn, LEASE, self._token or 0, self._now())

    def _due(self, conn: sa.Connection, now: int) -> _Due:
        expiries = conn.execute(
            sa.select(repository_roles.c.role, repository_roles.c.expires_at)
        ).all()
        renewal = any(
            r.expires_at - now < self.lifetimes.of(r.role).total_seconds() * 1e6 / 2
            for r in expiries
            if r.role != "root" or (self._keys is not None and self._keys.root is not None)
        )
        models = conn.execute(
            sa.select(pointers.c.model).where(pointers.c.announced_at <= now - self._announce_us)
        ).scalars()
        return _Due(renewal, list(models))

    def _now(self) -> int:
        return round(self._clock() * 1e6)


@dataclass(frozen=True, slots=True)
class _Due:
    renewal: bool
    announcements: list[str]
