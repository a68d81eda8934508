"""Channels of ``alerts.toml``, made: what is sent on, and what a plan has to know of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import get_args

from redistill.streams.wire.events import IncidentClass
from redistill.workers.alerts import alerts_file
from redistill.workers.alerts.alerts_file import AlertsConfig, near
from redistill.workers.alerts.channels import table
from redistill.workers.alerts.channels.channel import Channel
from redistill.workers.alerts.incident_alerts import CHANGES
from redistill.workers.alerts.operational.table import SEVERITY_OF
from redistill.workers.alerts.planning import Traits
from redistill.workers.errors import SettingsError

__all__ = ["ChannelSet"]

WORDS = (
    *("incident", "operational", "change"),
    *get_args(IncidentClass),
    *SEVERITY_OF,
    *CHANGES,
)
"""What a route's ``classes`` may name: kinds, and classes of each."""


@dataclass(frozen=True, slots=True)
class ChannelSet:
    """All channels by name, with the file's other settings."""

    config: AlertsConfig
    channels: Mapping[str, Channel]
    traits: Mapping[str, Traits]

    @classmethod
    def read(cls, path: Path) -> ChannelSet:
        """Read the file and make its channels; nobody is called.

        Raises
        ------
        SettingsError
            Naming everything that is wrong with the file, or with its channels.
        """
        config = alerts_file.read(path)
        channels: dict[str, Channel] = {}
        traits: dict[str, Traits] = {}
        problems = []
        for name, given in config.channels.items():
            try:
                channel = channels[name] = table.make(name, given)
                traits[name] = Traits(
                    in_place=channel.in_place,
                    repeat_seconds=channel.repeat_seconds,
                    carries=table.carries(name, given),
                )
            except SettingsError as error:
                problems.append(str(error))
        problems += _heart_problems(config, traits)
        problems += _route_problems(config, traits)
        if problems:
            listed = "".join(f"\n  {p}" for p in problems)
            raise SettingsError(f"{path} cannot be used:{listed}")
        return cls(config, channels, traits)


def _heart_problems(config: AlertsConfig, traits: Mapping[str, Traits]) -> list[str]:
    """Why the dead man's switch could not beat on its channel."""
    beats = config.heartbeat
    known = None if beats is None else traits.get(beats.channel)
    if beats is None or known is None:
        return []
    if known.carries is not None and "heartbeat" not in known.carries:
        return [
            f"[heartbeat] channel = {beats.channel!r}: its kind carries no heartbeat; write one of"
            " kind ping, alertmanager or webhook"
        ]
    if known.repeat_seconds is not None and beats.every_seconds > known.repeat_seconds:
        return [
            f"[heartbeat] every_seconds = {beats.every_seconds:g}: {beats.channel} forgets what it"
            f" is not told every {known.repeat_seconds:g} s; beat as often, or raise its"
            " lasts_seconds"
        ]
    return []


def _route_problems(config: AlertsConfig, traits: Mapping[str, Traits]) -> list[str]:
    """Routes that could tell nobody: of classes that there are not, to channels that take none."""
    problems = []
    for number, route in enumerate(config.routes, 1):
        for pattern in route.classes:
            if not any(fnmatchcase(word, pattern) for word in WORDS):
                hint = near(pattern, WORDS) or f"; there are {', '.join(WORDS)}"
                problems.append(f"[[routes]] {number}: classes: nothing is {pattern!r}{hint}")
        for name in (*route.channels, *route.escalate_to):
            known = traits.get(name)
            if known is not None and known.carries is not None and "incident" not in known.carries:
                problems.append(
                    f"[[routes]] {number}: {name} carries heartbeats only, and would tell nobody:"
                    " write another channel"
                )
    return problems
