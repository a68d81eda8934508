"""Gathering of the facts that the doctor's checks judge: asks the broker, the database and this
machine, and changes nothing. What cannot be asked is a fact, too."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from redistill import extras
from redistill.streams.errors import StreamsError
from redistill.streams.kafka import broker as brokers
from redistill.streams.kafka.broker import Broker
from redistill.streams.store import process_rows, properties
from redistill.streams.store.database import Database, connect
from redistill.streams.store.label_topics import bound_sources
from redistill.streams.wire.events import bound_topic
from redistill.times import microseconds, now_us
from redistill.workers.alerts import alerts_file
from redistill.workers.alerts.channel_set import ChannelSet
from redistill.workers.doctor.facts import (
    AlertFacts,
    DatabaseState,
    Disk,
    Facts,
    KeyFacts,
    ModelFacts,
    PackageFault,
    StoreFacts,
    TopicFacts,
    Trouble,
)
from redistill.workers.errors import KeysError, SettingsError, WorkersError
from redistill.workers.releases import keys, roles
from redistill.workers.settings.environment import unknown_variables, variable
from redistill.workers.settings.settings import Settings
from redistill.workers.store import audit_key, clock_problem, names, opening, queries
from redistill.workers.store.tables import operational_alerts

__all__ = ["gather"]

READ = ("predictions", "labels")
"""Topics that every stream worker reads."""


def gather(settings: Settings) -> Facts:
    """Everything that can be known of an installation, from here."""
    store, fault, state = _store(settings)
    found: dict[str, Any] = {} if store is None else {"store": store[0], "now": store[1]}
    bound = frozenset[str]() if store is None else store[0].bound
    return Facts(
        **{"now": now_us(), **found, **_broker(settings, bound)},
        unknown_settings=tuple(unknown_variables()),
        version=extras.version(),
        python=platform.python_version(),
        packages=tuple(package_faults()),
        disk=_disk(settings),
        database=connect(settings.database_url).url.render_as_string(hide_password=True),
        database_fault=fault,
        database_state=state,
        alerts=_alerts(settings.alerts_path),
        keys=_keys(settings, None if store is None else store[2]),
    )


def package_faults(extra: str = "worker") -> Iterator[PackageFault]:
    """Packages that an extra of redistill names, and that are missing or of another version."""
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires("redistill") or []
    except importlib.metadata.PackageNotFoundError:
        return
    wanted = extras.distributions(extra)
    for requirement in map(Requirement, lines):
        if requirement.name == "redistill" or (
            requirement.marker and requirement.name not in wanted
        ):
            continue
        try:
            installed = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield PackageFault(
                name=requirement.name, installed=None, wanted=str(requirement.specifier)
            )
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            yield PackageFault(
                name=requirement.name, installed=installed, wanted=str(requirement.specifier)
            )


def _disk(settings: Settings) -> Disk | None:
    place = settings.root
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        usage = shutil.disk_usage(place)
    except OSError:
        return None
    return Disk(home=settings.root, free=usage.free, total=usage.total)


def _broker(settings: Settings, bound: frozenset[str]) -> dict[str, Any]:
    if not settings.has_broker:
        return {}
    try:
        broker = settings.broker()
    except WorkersError as error:
        return {"broker": settings.servers, "broker_away": str(error)}
    told: dict[str, Any] = {"broker": broker.servers}
    if (away := brokers.check(broker)) is not None:
        return {**told, "broker_away": str(away)}
    if broker.is_dev:  # it has every topic, and lets everybody in
        return told
    return {**told, **_asked(settings, broker, bound)}


def _asked(settings: Settings, broker: Broker, bound: frozenset[str]) -> dict[str, Any]:
    from redistill.streams.engine import start
    from redistill.workers.processes import topic_writers, topics

    told: dict[str, Any] = {}
    try:
        found = topics.apply(broker, topics.wanted(broker, bound=bound), create=False)
    except StreamsError as error:
        told["topics_unknown"] = str(error)
    else:
        told["topics"] = tuple(
            TopicFacts(name=t.name, state=t.state, notes=t.notes)
            for t in found
            if t.state in ("missing", "differs")
        )
    missing = {t.name for t in told.get("topics", ()) if t.state == "missing"}
    read = {broker.topic(name) for name in (*READ, *map(bound_topic, bound))} - missing
    refused = start.why_not(broker, read, group=settings.consumer_group)
    there = [s for s in sorted(bound) if broker.topic(bound_topic(s)) not in missing]
    return told | {
        "broker_refuses": None if refused is None else str(refused),
        "writers_doubted": tuple(topic_writers.doubts(broker, there)),
    }


def _alerts(path: Path) -> AlertFacts:
    try:
        config = alerts_file.read(path)
    except SettingsError as error:
        return AlertFacts(path=path, fault=str(error))
    told = {name for way in config.ways for name in (*way.channels, *way.escalate_to)}
    fault = None
    try:
        ChannelSet.read(path)
    except SettingsError as error:
        fault = str(error)
    return AlertFacts(
        path=path,
        there=path.exists(),
        fault=fault,
        absent=tuple(sorted(n for n in config.variables if variable(n) is None)),
        channels=tuple(sorted(told)),
        heartbeat=config.heartbeat is not None,
    )


def _store(
    settings: Settings,
) -> tuple[tuple[StoreFacts, int, int | None] | None, str | None, DatabaseState]:
    """What the database says, its time, and until when signatures hold; or why it says nothing."""
    try:
        if (file := opening.missing(settings)) is not None:
            return None, f"there is none yet: {file}", "missing"
        database = opening.open_unchanged(settings)
        try:
            return _read(database), None, "away"
        finally:
            database.dispose()
    except (StreamsError, WorkersError) as error:
        return None, str(error), "away" if error.retriable else "unusable"


def _read(database: Database) -> tuple[StoreFacts, int, int | None]:
    with database.read() as conn:
        now, here = database.clock(), now_us()
        rows = process_rows.seen(conn)
        streams = [r.process_id for r in rows if r.kind == "stream" and r.lives(now)]
        problem = clock_problem.get(conn)
        return (
            StoreFacts(
                revision=opening.HEAD,
                clock_offset_us=here - now,
                clock_problem=None if problem is None else problem.why,
                processes=tuple(rows),
                lag=process_rows.lag_by_topic(process_rows.lags(conn, streams)),
                models=tuple(_model(conn, name, now) for name in names.model_names(conn)),
                bound=bound_sources(conn),
                **_audit_key(conn),
                troubles=_troubles(conn),
            ),
            now,
            roles.valid_until(conn),
        )


def _audit_key(conn: sa.Connection) -> dict[str, Any]:
    """Whether what is written from here would count."""
    file = audit_key.of_file(conn)
    needed = properties.get(conn, audit_key.AUDIT_KEY) is not None
    try:
        audit_key.known(conn)
    except KeysError as error:
        here = file is not None and file.path.exists()
        return {"audit_key_here": here or not needed, "audit_key_fault": str(error)}
    return {}


def _troubles(conn: sa.Connection) -> tuple[Trouble, ...]:
    o = operational_alerts.c
    rows = conn.execute(
        sa.select(o.kind, o.severity, o.said, o.remedy, o.opened_at)
        .where(o.open_mark == 1)
        .order_by(o.severity, o.opened_at, o.alert_id)  # `page` comes before `warn`
    ).mappings()
    return tuple(Trouble(**row) for row in rows)


def _model(conn: sa.Connection, name: str, now: int) -> ModelFacts:
    o = queries.overview(conn, name, now)
    return ModelFacts(
        model=name,
        level=o.level,
        last_served_at=o.last_served_at,
        last_label_at=o.last_label_at,
        label_lag_us=o.label_lag_us,
    )


def _keys(settings: Settings, repository_until: int | None) -> KeyFacts:
    folder = settings.keys_folder
    secret = settings.key_passphrase
    fault = root_until = None
    try:
        loaded = keys.load(folder, passphrase=None if secret is None else secret.get_secret_value())
        root_until = _expiry(loaded.trust)
    except KeysError as error:
        fault = str(error)
        if keys.exist(folder):
            root_until = _expiry(keys.trust(folder))
    return KeyFacts(fault=fault, root_until=root_until, repository_until=repository_until)


def _expiry(document: bytes) -> int | None:
    from tuf.api.metadata import Metadata, Root

    try:
        return microseconds(Metadata[Root].from_bytes(document).signed.expires)
    except Exception:  # python-tuf raises a class for each layer of the format
        return None
