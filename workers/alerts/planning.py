"""Plan: what every channel is owed now, from alerts, routes, holds and what it was told. Pure.

Each alert is routed by itself; what a channel would then get of a storm is grouped for it, so that
a team sees the members that are its own. Whoever was told that an alert fires is told how it ends,
whatever routes, quiet hours or storms say by then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from redistill.times import to_us
from redistill.workers.alerts import delivery, routes, storms
from redistill.workers.alerts.alert import CHANNEL_FAILING, Alert, Kind, Severity
from redistill.workers.alerts.alerts_file import AlertsConfig
from redistill.workers.alerts.holds import again, held, rests
from redistill.workers.store.alert_deliveries import Delivery
from redistill.workers.store.alert_holds import Hold

__all__ = ["Facts", "Plan", "Sending", "Traits", "plan"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Traits:
    """What a plan has to know of a channel."""

    in_place: bool
    """Whether a later state takes the place of an earlier one."""
    repeat_seconds: float | None = None
    """After so long what is open has to be told again, or the receiver takes it for resolved."""
    carries: frozenset[Kind] | None = None
    """Kinds of alerts that it takes; ``None``: all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a plan is made of."""

    alerts: Sequence[Alert]
    """Those that are open or ended lately, each by itself."""
    storms: Mapping[str, str]
    """Key of the storm by the key of each of its members."""
    holds: Mapping[str, Hold]
    deliveries: Mapping[tuple[str, str], Delivery]
    """By channel and key of the alert."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sending:
    """An alert that a channel is owed, with the row that says so."""

    alert: Alert
    delivery: Delivery


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What has to be stored, and what is owed."""

    write: list[Delivery] = field(default_factory=list)
    delete: list[tuple[str, str]] = field(default_factory=list)
    owed: dict[str, list[Sending]] = field(default_factory=dict)
    """By channel, the most urgent first; some may have to wait for their time."""
    shown: list[Alert] = field(default_factory=list)
    """All alerts with their holds, grouped nowhere."""
    unrouted: list[str] = field(default_factory=list)
    """Keys of pages that no route takes."""


def plan(facts: Facts, config: AlertsConfig, channels: Mapping[str, Traits], *, now: int) -> Plan:
    """What every channel is owed now.

    Parameters
    ----------
    channels
        Those that can be told.
    now
        Microseconds since 1970.
    """
    made = Plan(owed={name: [] for name in channels})
    made.shown.extend(_with_holds(facts, now))
    planner = _Planner(facts, config, channels, made, now)
    per_channel: dict[str, dict[str, tuple[Alert, Severity]]] = defaultdict(dict)
    for alert in made.shown:
        found = planner.targets(alert)
        if not found and alert.severity == "page" and alert.state == "firing":
            made.unrouted.append(alert.key)
        for name, severity in found.items():
            per_channel[name][alert.key] = (alert, severity)
    for name in channels:
        planner.channel(name, per_channel[name])
        made.owed[name].sort(key=lambda s: (-routes.rank(s.delivery.severity), s.alert.opened_at))
    return made


def _with_holds(facts: Facts, now: int) -> Iterable[Alert]:
    for alert in facts.alerts:
        storm = facts.holds.get(facts.storms.get(alert.key, ""))
        yield held(held(alert, storm, now), facts.holds.get(alert.key), now)


class _Planner:
    def __init__(
        self,
        facts: Facts,
        config: AlertsConfig,
        channels: Mapping[str, Traits],
        made: Plan,
        now: int,
    ) -> None:
        self._facts, self._config, self._channels = facts, config, channels
        self._plan, self._now = made, now
        self._rows = facts.deliveries
        self._rows_of: dict[str, list[Delivery]] = defaultdict(list)
        self._took_at: dict[str, int] = defaultdict(int)
        for row in self._rows.values():
            self._rows_of[row.channel].append(row)
            self._took_at[row.channel] = max(self._took_at[row.channel], row.sent_at or 0)
        self._members: dict[str, list[Alert]] = defaultdict(list)
        for alert in made.shown:
            if (key := facts.storms.get(alert.key)) is not None:
                self._members[key].append(alert)
        self._settle = to_us(config.storm.settle_seconds)

    def targets(self, alert: Alert) -> dict[str, Severity]:
        """The channels of one alert: by the routes, and those that have to hear of its end."""
        keys = [alert.key, self._facts.storms.get(alert.key, "")]
        ended = max(again(self._facts.holds.get(key), self._now) for key in keys)

        def since(channel: str) -> int | None:
            rows = [row for k in keys if (row := self._rows.get((channel, k))) is not None]
            begun = [r.since for r in rows if r.severity == "page" and r.told_state != "resolved"]
            return max(ended, min(begun)) if begun else None

        found = routes.targets(alert, self._config.ways, now=self._now, since=since)
        if alert.kind == "operational" and alert.alert_class == CHANNEL_FAILING:
            found.pop(alert.where, None)
            if not set(found) & set(self._channels):
                others = set(self._config.channels) - {alert.where}
                found = dict.fromkeys(sorted(others), alert.severity)
        for name in self._channels:
            row = self._rows.get((name, alert.key))
            if row is not None and row.told_open:
                found.setdefault(name, alert.severity)
        return {name: found[name] for name in found if self._takes(name, alert.kind)}

    def _takes(self, name: str, kind: Kind) -> bool:
        traits = self._channels.get(name)
        return traits is not None and (traits.carries is None or kind in traits.carries)

    def channel(self, name: str, found: Mapping[str, tuple[Alert, Severity]]) -> None:
        """Plan one channel, given the alerts that it gets by themselves."""
        touched: set[str] = set()
        groups: dict[str, list[tuple[Alert, Severity]]] = defaultdict(list)
        for key, one in found.items():
            if (storm_key := self._facts.storms.get(key)) is not None:
                groups[storm_key].append(one)
        grouped = {key for key, those in groups.items() if self._is_grouped(name, key, those)}
        for key, (alert, severity) in found.items():
            touched.add(key)
            inside = self._facts.storms.get(key) in grouped
            self._one(name, alert, severity, only_its_end=inside)
        for key in sorted(grouped):
            members = [replace(alert, severity=severity) for alert, severity in groups[key]]
            storm = storms.grouped(key, members)
            touched.add(key)
            self._one(name, storm, storm.severity)
        for row in self._rows_of[name]:
            key = row.alert_key
            if row.told_open and key in self._members and key not in touched:
                # none of its members concerns this channel any more: for it the storm is over
                last = storms.grouped(key, self._members[key])
                over = replace(last, state="resolved", resolved_at=last.resolved_at or self._now)
                self._one(name, over, row.severity)
            elif row.told is None and key not in touched:
                self._plan.delete.append((name, key))  # no route gives it, or it is long over
            elif not row.told_open and key not in touched:
                self._settle_for(row)

    def _is_grouped(self, name: str, key: str, those: Sequence[tuple[Alert, Severity]]) -> bool:
        models = {alert.model for alert, _ in those}
        return len(models) >= storms.fewest(key, self._config.storm) or (name, key) in self._rows

    def _one(
        self, name: str, alert: Alert, severity: Severity, *, only_its_end: bool = False
    ) -> None:
        row = self._rows.get((name, alert.key))
        if alert.state == "resolved" and alert.kind != "change" and row is not None:
            severity = row.severity  # that it was told at
        alert = replace(alert, severity=severity)
        if not self._wants(name, alert, row, only_its_end=only_its_end):
            self._put_aside(alert, row, keep=not only_its_end)
            return
        made = delivery.owed(
            alert,
            row,
            channel=name,
            in_place=self._channels[name].in_place,
            repeat_seconds=self._channels[name].repeat_seconds,
            again=again(self._facts.holds.get(alert.key), self._now),
            settle=self._settle,
            now=self._now,
            took_at=self._took_at[name],
        )
        if made != row:
            self._plan.write.append(made)
        if made.state in ("owed", "given_up"):
            self._plan.owed[name].append(Sending(alert=alert, delivery=made))

    def _wants(self, name: str, alert: Alert, row: Delivery | None, *, only_its_end: bool) -> bool:
        told_open = row is not None and row.told_open
        if routes.is_quiet(self._config.quiet, alert.severity, self._now):
            return False
        if alert.kind == "change":
            return row is None or row.told is None
        if alert.state == "resolved":
            return told_open
        if only_its_end:
            return False
        if alert.state == "acknowledged":  # nobody new is told; those who were see it change
            resting = rests(self._facts.holds.get(alert.key), self._now)
            return told_open and (self._channels[name].in_place or not resting)
        return True

    def _put_aside(self, alert: Alert, row: Delivery | None, *, keep: bool) -> None:
        """A row that is not to be told now: kept for later, or gone where there is no later."""
        if row is None:
            return
        if row.told is None and (alert.state == "resolved" or not keep):
            self._plan.delete.append((row.channel, row.alert_key))
        elif alert.state == "resolved" and not row.told_open:
            self._settle_for(row)
        elif row.state in ("owed", "given_up"):
            self._plan.write.append(replace(row, state="held"))

    def _settle_for(self, row: Delivery) -> None:
        """What the channel was told last is all that there is to tell: that it ended, before it
        began anew and ended again untold."""
        if row.told is not None and row.state != "told":
            self._plan.write.append(replace(row, state="told", digest=row.told))
