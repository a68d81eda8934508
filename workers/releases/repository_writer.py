"""Writer of the signed repository, one process at a time: requests, metadata, renewal,
announcements.

It obeys requests with a MAC only, and signs what agrees with the audit (``signing_guard``). What
does not is refused as a whole: clients keep what was signed before, and the refusal stands in SQL
for the alert process to tell (``signing_refusal``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
import structlog

from redistill.streams.errors import LeaseError
from redistill.streams.store import lease, properties
from redistill.streams.store.database import Database
from redistill.streams.wire.events import Trigger
from redistill.times import to_us
from redistill.workers.errors import Disagreement, KeysError, RegistryError, SigningRefused
from redistill.workers.releases import keys as keyring
from redistill.workers.releases import registry, release_requests, repository, roles
from redistill.workers.releases.keys import Keys
from redistill.workers.releases.release_files import RepositoryLayout, damaged
from redistill.workers.releases.release_requests import ReleaseRequest, RequestResult
from redistill.workers.releases.repository import LEASE
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.releases.signing_guard import Seen, SigningGuard
from redistill.workers.store import audit, audit_key, signing_refusal
from redistill.workers.store.signing_refusal import MEND, SigningRefusal
from redistill.workers.store.tables import pointers, repository_roles

__all__ = ["RepositoryWriter"]

log = structlog.get_logger(__name__)

LEASE_SECONDS = 15.0
"""How long a crash delays the next holder; renewed when a third is over."""

ANNOUNCE_SECONDS = 60.0
"""How often a pointer is announced again."""

ANCHOR_SECONDS = 3_600.0
"""While the audit chain grows the timestamp is signed so often, for its anchor's sake: what was
written since the last one could be cut off unseen."""

ANCHOR_PERSON_SECONDS = 60.0
"""The same where a person did something: commands are few, and what they did is what somebody would
want to cut off."""

LOOK_SECONDS = 5.0
"""After a refusal it is looked so often whether all agrees again."""

FORGED = (
    "find out who can write the table intents, and take the right away; commands ask with the"
    " audit key (REDISTILL_AUDIT_KEY)"
)

SIGHTS = 5
"""How often it is looked anew because a pointer moved between the look and the signature."""


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
        self._keys_state: tuple[tuple[str, int, int], ...] = ()
        self._guard = SigningGuard(layout, lifetimes=self.lifetimes)
        self._ready = False
        self._refused_at: int | None = None
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
                refused = isinstance(error, SigningRefused)
                action = "signing_refused" if refused else "repository_stuck"
                log.error(action, action=action, error=str(error))
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
        SigningRefused
            Something does not agree with the audit: nothing is signed.
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
        if (state := keyring.state_of(self._layout.keys)) != self._keys_state or self._keys is None:
            self._keys = keyring.load(self._layout.keys, passphrase=self._passphrase)
            self._keys_state, self._ready = state, False
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
        with self._database.read() as conn:
            waiting = release_requests.pending(conn)
            due = self._due(conn, now)
        if waiting or due.signing or not self._ready:
            self._look(keys, waiting, now)
        if not self._ready:
            self._prepare(keys, now)
        for request in waiting:
            self._fulfil(request)
        renewed: list[str] = []
        if due.renewal:
            renewed = self._renew(keys, now)
        snapshot = self._sign(keys, now)
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
        """The first round after the lease was taken, or after keys were replaced: nobody knows what
        was left behind."""
        with self._database.begin() as conn:
            self._check(conn)
            if roles.read_role(conn, "root") is None:
                roles.ensure(conn, keys.documents[0], now=now, lifetimes=self.lifetimes)
            replaced = roles.follow_keys(conn, keys, now=now, lifetimes=self.lifetimes)
            seen = repository.published_versions(self._layout)
            lifted = roles.lift(conn, seen, now=now, lifetimes=self.lifetimes)
            if replaced:
                audit.append(
                    conn, f"worker:{self._holder}", "keys.replaced", "", {"roles": replaced}, now
                )
        if replaced:
            log.warning("keys_replaced", action="keys_replaced", roles=replaced)
        if lifted:
            log.warning("repository_lifted", action="repository_lifted", roles=lifted)
        with self._database.read() as conn:
            by_name = roles.read_roles(conn)
        self._keep_root(keys, by_name)
        restored = repository.mend(self._layout, by_name, keys)
        if restored:
            log.warning("repository_mended", action="repository_mended", files=restored)
        if "timestamp.json" in restored:
            with self._database.begin() as conn:
                self._check(conn)
                roles.touch(conn, now=now, lifetimes=self.lifetimes)
        self._ready = True

    def _renew(self, keys: Keys, now: int) -> list[str]:
        with self._database.begin() as conn:
            self._check(conn)
            renewed = roles.renew(conn, keys, now=now, lifetimes=self.lifetimes)
            by_name = roles.read_roles(conn)
            left = roles.expiring(by_name, now=now, lifetimes=self.lifetimes)
        if left:  # the root, whose key is offline: told at each renewal until it is brought back
            log.warning("roles_not_renewed", action="roles_not_renewed", roles=left)
        if "root" in renewed:
            self._keep_root(keys, by_name)
        return renewed

    def _keep_root(self, keys: Keys, by_name: Mapping[str, roles.Role]) -> None:
        """The keys folder knows the newest root document: the next one is made from it."""
        documents = [text.encode() for text in by_name["root"].body["documents"]]
        if documents[-1] not in keys.documents:
            keyring.keep(self._layout.keys, keyring.merged(documents, keys.documents))

    def _look(self, keys: Keys, waiting: Sequence[ReleaseRequest], now: int) -> Seen:
        """Whether all agrees.

        Raises
        ------
        SigningRefused
            It does not. Requests that wait are answered so.
        """
        refused, again = self.problem, self._refused_at
        if (
            isinstance(refused, SigningRefused)
            and again is not None
            and not waiting
            and 0 <= now - again < to_us(LOOK_SECONDS)
        ):
            raise refused
        self._read_audit()
        with self._database.view() as conn:
            seen = self._guard.look(conn, keys, now=now)
            told = signing_refusal.get(conn)
        if seen.problems:
            self._refused_at = now
            self._refuse(seen, waiting, told, now)
        self._refused_at = None
        if told is not None and (told.until is None or not told.lasts(now)):
            with self._database.begin() as conn:
                self._check(conn)
                signing_refusal.clear(conn)
            log.info("signing_agrees", action="signing_agrees")
        if seen.behind:
            self._ready = False
        return seen

    def _read_audit(self) -> None:
        """Read what is new in the audit, and keep the lease meanwhile: after a start it is all of
        it, which takes longer than the lease where there are very many entries.

        Raises
        ------
        LeaseError
            Another process has taken over meanwhile.
        """
        more = True
        while more:
            with self._database.read() as conn:
                more = self._guard.read_ahead(conn)
            if more and not self._hold(self._now()):
                raise LeaseError("another process keeps the repository now")

    def _refuse(
        self,
        seen: Seen,
        waiting: Sequence[ReleaseRequest],
        told: SigningRefusal | None,
        now: int,
    ) -> None:
        many = f", and {len(seen.problems) - 3} more" if len(seen.problems) > 3 else ""
        why = "; ".join(seen.problems[:3]) + many
        error = SigningRefused(
            f"nothing is signed, clients keep what they have: {why}. What to do: {seen.remedy}"
        )
        since = now if told is None or told.until is not None else told.since
        refusal = SigningRefusal(
            why=why, remedy=seen.remedy, since=since, until=None, holder=self._holder
        )
        with self._database.begin() as conn:
            self._check(conn)
            if refusal != told:
                signing_refusal.put(conn, refusal)
            for request in waiting:
                answer = RequestResult(ok=False, message=str(error))
                release_requests.finish(conn, request.request_id, answer, now=now)
        raise error

    def _sign(self, keys: Keys, now: int) -> int | None:
        """Sign and write what the rows ask for, if it is not there already and if it may be; the
        snapshot that was published."""
        for _ in range(SIGHTS):
            with self._database.read() as conn:
                wanted = repository.outstanding(conn, self._layout)
                stale = not wanted and self._anchor_is_old(conn, now)
            if stale:
                with self._database.begin() as conn:
                    self._check(conn)
                    roles.touch(conn, now=now, lifetimes=self.lifetimes)
            elif not wanted:
                return None
            seen = self._look(keys, (), now)
            by_name, stamp = seen.by_name, seen.by_name["timestamp"]
            if stamp.version != repository.stamped_version(self._layout):
                with self._database.begin() as conn:
                    self._check(conn)
                    if not roles.anchor(conn, stamp, seen.head):
                        continue  # a pointer moved meanwhile
                by_name = roles.with_anchor(by_name, seen.head)
            return repository.publish_metadata(
                self._database,
                self._layout,
                by_name,
                keys,
                token=self._token or 0,
                clock=self._now,
            )
        return None  # the next round

    def _anchor_is_old(self, conn: sa.Connection, now: int) -> bool:
        """Whether the audit chain has grown since an anchor of an hour ago, or of a minute ago if a
        person did something."""
        stamp = roles.read_role(conn, "timestamp")
        if stamp is None:
            return False
        at = roles.anchored({"timestamp": stamp})
        signed_at = stamp.expires_at - to_us(self.lifetimes.of("timestamp").total_seconds())
        if at is None:
            return True
        if audit.head(conn)[0] == at.length or now - signed_at < to_us(ANCHOR_PERSON_SECONDS):
            return False
        hour = now - signed_at >= to_us(ANCHOR_SECONDS)
        return hour or audit.has_persons(conn, after=at.length)

    def _fulfil(self, request: ReleaseRequest) -> None:
        """Do what was asked, and answer, in one transaction; a refusal is an answer too."""
        now = self._now()
        try:
            with self._database.begin() as conn:
                self._check(conn)
                self._want_authentic(conn, request, now)
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
            forged = isinstance(error, _Forged)
            if forged:
                log.error("request_refused", action="request_refused", error=str(error))
            with self._database.begin() as conn:
                self._check(conn)
                refusal = RequestResult(ok=False, message=str(error))
                release_requests.finish(conn, request.request_id, refusal, now=now)
                if forged or isinstance(error, Disagreement):
                    told = SigningRefusal.once(
                        str(error),
                        now=now,
                        holder=self._holder,
                        remedy=FORGED if forged else MEND,
                        before=signing_refusal.get(conn),
                    )
                    signing_refusal.put(conn, told)

    def _want_authentic(self, conn: sa.Connection, request: ReleaseRequest, now: int) -> None:
        """Refuse a request that nobody made who has the audit key, or an old one put back.

        Raises
        ------
        RegistryError
            It is not obeyed.
        """
        key = audit_key.known(conn)
        asked = f"{request.kind} of {request.model} by {request.actor}"
        told = f"the row {request.request_id} of intents ({asked})"
        if key is None or not request.is_authentic(key):
            raise _Forged(f"{told} has no MAC of the audit key: it was not obeyed")
        if self._guard.did(request.model, request.request_id):
            raise _Forged(f"{told} was done before, and was put back: it was not obeyed")
        if request.is_over(now):
            raise RegistryError(f"{told} is over an hour old: ask again")

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
                request=request.request_id,
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
                request=request.request_id,
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
        wanted = repository.outstanding(conn, self._layout)
        return _Due(renewal, renewal or wanted or self._anchor_is_old(conn, now), list(models))

    def _now(self) -> int:
        return to_us(self._clock())


@dataclass(frozen=True, slots=True)
class _Due:
    renewal: bool
    signing: bool
    announcements: list[str]


class _Forged(RegistryError):
    """A request that nobody made who may."""
