"""Checks of an installation: small functions from facts to findings, each of which says what to do.

To add one: a function here, and its line in ``CHECKS``. What it needs and nobody knows yet is a
field of ``Facts`` (``facts.py``), filled in ``gathering.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from redistill.times import DAY, HOUR, MINUTE, SECOND, to_seconds, utc
from redistill.workers.doctor.facts import DatabaseState, Facts

__all__ = ["CHECKS", "examine"]

Status = Literal["ok", "warn", "fail"]

FULL, NEARLY_FULL = 0.02, 0.10
"""Share of the disk that is free."""
FEW_BYTES = 1_000_000_000
CLOCK_WARN_US, CLOCK_FAIL_US = 2 * SECOND, 60 * SECOND
LAG_WARN_US, LAG_FAIL_US = MINUTE, 10 * MINUTE
"""Age of the oldest record that is not counted."""
ROOT_WARN_US = 30 * DAY
SIGNED_WARN_US = 12 * HOUR
LABELS_LATE_US = DAY
NEEDED = ("stream", "repair", "alerts", "web")
"""Kinds of processes without which something is not done."""
MOST_TROUBLES = 10
"""Told one by one."""
DATABASE_REMEDIES: Mapping[DatabaseState, str] = {
    "missing": "redistill db upgrade makes it; or set REDISTILL_DATABASE or REDISTILL_HOME",
    "away": "start it, or see what holds it up (RUNBOOK: A database that is away); or set"
    " REDISTILL_DATABASE",
    "unusable": "redistill db upgrade, if it is empty or older than this program; else mend what it"
    " says, or set REDISTILL_DATABASE",
}
WITHOUT = {
    "stream": "nothing is counted",
    "repair": "no incident is opened, nothing is repaired or announced",
    "alerts": "nobody is told anything",
    "web": "services that fetch releases over HTTP get none",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    status: Status
    said: str
    do: str = ""
    """What to type, or to do; empty where all is well."""


Check = Callable[[Facts], Iterator[Finding]]


def settings(f: Facts) -> Iterator[Finding]:
    """Variables that look like settings and are none."""
    for told in f.unknown_settings:
        yield Finding("warn", told, "rename or unset it: docs/settings.md lists all")
    if not f.unknown_settings:
        yield Finding("ok", "every variable with our prefix is a setting")


def versions(f: Facts) -> Iterator[Finding]:
    """Packages that are missing or of a version that was not tried."""
    for p in f.packages:
        if p.installed is None:
            what = f"{p.name} is missing, {p.wanted or 'any version'} is wanted"
        else:
            what = f"{p.name} is {p.installed}, {p.wanted} is wanted"
        yield Finding("fail", what, f"pip install '{p.name}{p.wanted}'")
    if not f.packages:
        yield Finding("ok", f"redistill {f.version} on Python {f.python}, with what it needs")


def disk(f: Facts) -> Iterator[Finding]:
    """Room for the database, job folders and releases."""
    if f.disk is None:
        return
    share = f.disk.free / max(1, f.disk.total)
    said = f"{f.disk.free / 1e9:,.1f} GB ({share:.0%}) free for {f.disk.home}"
    do = "make room, or move the home (REDISTILL_HOME)"
    if share < FULL or f.disk.free < FEW_BYTES:
        yield Finding("fail", said, do)
    elif share < NEARLY_FULL:
        yield Finding("warn", said, do)
    else:
        yield Finding("ok", said)


def broker(f: Facts) -> Iterator[Finding]:
    """Whether the broker answers."""
    if f.broker is None:
        yield Finding(
            "fail", "no broker is set", "export REDISTILL_BROKER=host:port (or `redistill up`)"
        )
    elif f.broker_away is not None:
        yield Finding("fail", f.broker_away, "start it, or set REDISTILL_BROKER")
    else:
        yield Finding("ok", f"{f.broker} answers")


def permissions(f: Facts) -> Iterator[Finding]:
    """Whether the broker's ACLs let a stream worker read."""
    if f.broker is None or f.broker_away is not None:
        return
    if f.broker_refuses is not None:
        yield Finding("fail", f.broker_refuses, "RUNBOOK: The broker")
    else:
        yield Finding("ok", "topics and consumer group may be read")


def topics(f: Facts) -> Iterator[Finding]:
    """Whether every topic is there, as it should be."""
    if f.broker is None or f.broker_away is not None:
        return
    if f.topics_unknown is not None:
        yield Finding(
            "warn", f"not looked at: {f.topics_unknown}", "redistill topics apply --dry-run"
        )
        return
    if missing := [t.name for t in f.topics if t.state == "missing"]:
        yield Finding("fail", f"missing: {', '.join(missing)}", "redistill topics apply")
    for t in f.topics:
        if t.state != "missing":
            yield Finding(
                "warn", f"{t.name}: {'; '.join(t.notes)}", "redistill topics apply --dry-run"
            )
    for doubt in f.writers_doubted:
        yield Finding("warn", doubt, "grant Write there to the source's user alone (kafka-acls)")
    if not f.topics and not f.writers_doubted:
        yield Finding("ok", "every topic is there, as it should be")


def database(f: Facts) -> Iterator[Finding]:
    """Whether the database can be read, and is of this program's revision."""
    if f.store is None:
        said = f.database_fault or "it cannot be read"
        yield Finding("fail", said, DATABASE_REMEDIES[f.database_state])
    else:
        yield Finding("ok", f"{f.database}, revision {f.store.revision}")


def clock(f: Facts) -> Iterator[Finding]:
    """Whether this machine and the database agree on the time."""
    if f.store is None:
        return
    off = f.store.clock_offset_us
    way = "ahead of" if off > 0 else "behind"
    said = f"this machine's clock is {abs(to_seconds(off)):.1f} s {way} the database's"
    if f.store.clock_problem is not None:
        yield Finding("fail", f.store.clock_problem, "RUNBOOK: A clock that is wrong")
    elif abs(off) >= CLOCK_FAIL_US:
        yield Finding(
            "fail", said, "start a time service here and there (chrony, systemd-timesyncd)"
        )
    elif abs(off) >= CLOCK_WARN_US:
        yield Finding("warn", said, "look at the time service (chronyc tracking)")
    else:
        yield Finding("ok", "this machine and the database agree")


def keys(f: Facts) -> Iterator[Finding]:
    """Whether releases can be signed, and what is signed is believed for a while."""
    wanted = f.store is not None and any(m.level != "watch" for m in f.store.models)
    if f.keys.root_until is None and not wanted:
        yield Finding("ok", "none, and no model has releases (level watch needs none)")
        return
    found = False
    if f.keys.fault is not None:
        found = True
        yield Finding("fail", f.keys.fault, "redistill keys init, once; or bring the keys back")
    for what, until, warn, do in (
        ("the trust file", f.keys.root_until, ROOT_WARN_US, "RUNBOOK: keys; bring root.pem back"),
        ("what was signed last", f.keys.repository_until, SIGNED_WARN_US, "redistill run repair"),
    ):
        if until is None or until - f.now > warn:
            continue
        found = True
        when = f"{utc(until):%Y-%m-%d %H:%M}Z"
        if until <= f.now:
            yield Finding(
                "fail", f"{what} expired on {when}: services go on with what they have", do
            )
        else:
            yield Finding("warn", f"{what} expires on {when}", do)
    if not found:
        yield Finding("ok", "releases can be signed")


def audit_key(f: Facts) -> Iterator[Finding]:
    """Whether what is written from here counts: each audit entry and request has a MAC of one key,
    which is the same on every machine that writes."""
    if f.store is None:
        return
    fault = f.store.audit_key_fault
    if fault is None:
        yield Finding("ok", "what is written from here counts")
    elif not f.store.audit_key_here:
        yield Finding(
            "warn", fault, "nothing, on a machine that only looks; else see the line above"
        )
    else:
        yield Finding("fail", fault, "until then a repair worker does not start here")


def processes(f: Facts) -> Iterator[Finding]:
    """Whether each kind of process lives and is ready."""
    if f.store is None:
        return
    live = [r for r in f.store.processes if r.lives(f.now)]
    for kind in NEEDED:
        own = [r for r in live if r.kind == kind]
        if not own:
            status: Status = "warn" if kind in ("alerts", "web") else "fail"
            said = f"no {kind} process lives: {WITHOUT[kind]}"
            yield Finding(status, said, f"redistill run {kind} (or `redistill up`)")
        elif not any(r.ready for r in own):
            yield Finding("fail", f"{kind} waits: {own[0].said}", f"see the log of {kind}")
    if {r.kind for r in live if r.ready} >= set(NEEDED):
        kinds = sorted({r.kind for r in live})
        yield Finding("ok", ", ".join(f"{sum(r.kind == k for r in live)} {k}" for k in kinds))


def alerts(f: Facts) -> Iterator[Finding]:
    """Whether anybody is told of anything."""
    a = f.alerts
    if a.fault is not None:
        ready = f.store is not None and any(
            r.kind == "alerts" and r.ready and r.lives(f.now) for r in f.store.processes
        )
        if not a.absent:
            yield Finding("fail", a.fault, "mend it; then redistill alerts test")
            return
        names = " ".join(f"{name}=..." for name in a.absent)
        yield Finding(
            # who tells people has them: they are kept from everybody else
            "warn" if ready else "fail",
            a.fault,
            f"export {names} for `redistill run alerts`, and here; then redistill alerts test",
        )
    elif not a.channels:
        said = "has no channel" if a.there else "is not there"
        yield Finding(
            "warn",
            f"nobody is told of anything: {a.path} {said}",
            "write it (docs/alerts.md); then redistill alerts test",
        )
    else:
        beats = "with" if a.heartbeat else "without"
        yield Finding("ok", f"{', '.join(a.channels)}; {beats} a dead man's switch")


def troubles(f: Facts) -> Iterator[Finding]:
    """What the alert process found wrong with the installation."""
    if f.store is None:
        return
    found = f.store.troubles
    for t in found[:MOST_TROUBLES]:
        since = f"{utc(t.opened_at):%Y-%m-%d %H:%M}Z"
        status: Status = "fail" if t.severity == "page" else "warn"
        yield Finding(status, f"{t.said} ({t.kind}, since {since})", t.remedy)
    if rest := found[MOST_TROUBLES:]:
        worst: Status = "fail" if any(t.severity == "page" for t in rest) else "warn"
        yield Finding(worst, f"{len(rest)} more operational alerts", "redistill alerts list")
    if not found:
        yield Finding("ok", "no operational alert is open")


def lag(f: Facts) -> Iterator[Finding]:
    """How far the stream workers are behind."""
    if f.store is None or not f.store.lag:
        return
    for topic, behind in sorted(f.store.lag.items()):
        age = 0 if behind.oldest_at is None else max(0, f.now - behind.oldest_at)
        said = f"{topic}: {behind.behind:,} records are not counted yet"
        if age:
            said += f", the oldest of them {to_seconds(age):,.0f} s old"
        status: Status = "fail" if age > LAG_FAIL_US else "warn" if age > LAG_WARN_US else "ok"
        yield Finding(
            status, said, "" if status == "ok" else "start more stream workers, or see their logs"
        )


def labels(f: Facts) -> Iterator[Finding]:
    """Whether rows and labels arrive."""
    if f.store is None:
        return
    if not f.store.models:
        yield Finding("warn", "no model is registered", "redistill register NAME --from-traffic")
    for m in f.store.models:
        if m.last_served_at is None:
            yield Finding(
                "warn", f"{m.model}: no row was ever seen", "log its predictions: docs/services.md"
            )
        elif m.last_label_at is None:
            yield Finding(
                "warn",
                f"{m.model}: no label was ever joined",
                f"redistill label import FILE --model {m.model}",
            )
        elif f.now - m.last_label_at > max(LABELS_LATE_US, 3 * (m.label_lag_us or 0)):
            hours = to_seconds(f.now - m.last_label_at) / 3_600
            yield Finding(
                "warn",
                f"{m.model}: no label for {hours:,.0f} h",
                "see whether its source still sends",
            )
        else:
            yield Finding("ok", f"{m.model}: rows and labels arrive")


CHECKS: Mapping[str, Check] = {
    "settings": settings,
    "versions": versions,
    "disk": disk,
    "broker": broker,
    "permissions": permissions,
    "topics": topics,
    "database": database,
    "clock": clock,
    "keys": keys,
    "audit key": audit_key,
    "processes": processes,
    "alerts": alerts,
    "troubles": troubles,
    "lag": lag,
    "labels": labels,
}
"""In the order in which they are told: what comes first is often why the rest fails."""


def examine(facts: Facts) -> list[tuple[str, Finding]]:
    """What every check says, in the order of the table."""
    return [(name, finding) for name, check in CHECKS.items() for finding in check(facts)]
