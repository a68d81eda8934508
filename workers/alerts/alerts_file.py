"""Reader of ``alerts.toml``: who is told what, when, and on which channels.

All that is wrong with it is found at once, each with its place and what to write. Secrets are never
in it: they are ``env:NAME`` or ``file:PATH``, which a channel reads.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import time
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from redistill.workers.alerts.alert import Severity
from redistill.workers.errors import SettingsError
from redistill.workers.models.spec_schema import unknown_key

__all__ = ["AlertsConfig", "Quiet", "Route", "Storm", "parse", "read"]


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("there is no such time zone: write one like 'Europe/Berlin'") from None
    return name


def _clock_time(text: str) -> str:
    try:
        time.fromisoformat(text)
    except ValueError:
        raise ValueError("a time of day like '22:00' was expected") from None
    return text


Names = Annotated[tuple[str, ...], Field(min_length=1)]
ClockTime = Annotated[str, AfterValidator(_clock_time)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Route(_Section):
    """One ``[[routes]]``: alerts that match all of its conditions go to its channels."""

    models: Names = ("*",)
    """Patterns of model names (``credit*``). What concerns no one model passes only ``*``."""
    classes: Names = ("*",)
    """Patterns of classes: of an incident (``harm``, ``data_bug``, ...), of trouble with the
    installation (``disk``, ...), or a kind: ``incident``, ``operational``, ``change``."""
    min_severity: Severity = "warn"
    """Alerts below are not this route's."""
    channels: Names
    """Names of ``[channels.NAME]``."""
    severity: Severity | None = None
    """At which this route's channels are told, whatever the alert's own is."""
    escalate_after_minutes: Annotated[float, Field(gt=0)] | None = None
    """A page that nobody acknowledged for so long goes to ``escalate_to`` as well."""
    escalate_to: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _both(self) -> Route:
        if (self.escalate_after_minutes is None) != (not self.escalate_to):
            raise ValueError("escalate_after_minutes and escalate_to: set both or neither")
        return self


class Quiet(_Section):
    """``[quiet]``: hours in which only what is severe is told; the rest follows at their end."""

    begin: ClockTime = Field(alias="from")
    end: ClockTime = Field(alias="to")
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    only_below: Severity = "page"
    """Alerts below this wait."""


class Storm(_Section):
    """``[storm]``: when alerts of one class are told as one."""

    within_seconds: Annotated[float, Field(gt=0)] = 120.0
    """Longest pause between two of them."""
    alerts: Annotated[int, Field(ge=2)] = 5
    """Models that it takes."""
    settle_seconds: Annotated[float, Field(ge=0, le=60)] = 0.5
    """An alert waits so long before it is told first, so that a storm's first ones join it."""


class Heartbeat(_Section):
    """``[heartbeat]``: the dead man's switch, which rings where it is told nothing."""

    channel: str
    """Name of a ``[channels.NAME]`` that is told so often that all is well."""
    every_seconds: Annotated[float, Field(ge=5)] = 60.0


class AlertsConfig(_Section):
    """All of ``alerts.toml``."""

    channels: Mapping[str, Mapping[str, object]] = Field(default_factory=dict)
    """Settings by name; each kind says which it takes."""
    routes: tuple[Route, ...] = ()
    quiet: Quiet | None = None
    storm: Storm = Storm()
    heartbeat: Heartbeat | None = None
    """Its channel is told nothing else, unless a route names it."""

    @property
    def variables(self) -> frozenset[str]:
        """Environment variables that hold secrets of channels; only who tells people needs them."""
        return frozenset(_variables(self.channels))

    @property
    def ways(self) -> Sequence[Route]:
        """The routes; without any, each channel but the heartbeat's is told from ``warn`` on."""
        if self.routes:
            return self.routes
        beats = None if self.heartbeat is None else self.heartbeat.channel
        names = tuple(name for name in self.channels if name != beats)
        return (Route(channels=names),) if names else ()


def _variables(value: object) -> Iterator[str]:
    match value:
        case str() if value.startswith("env:"):
            yield value.removeprefix("env:")
        case Mapping():
            yield from (name for part in value.values() for name in _variables(part))
        case list() | tuple():
            yield from (name for part in value for name in _variables(part))


def read(path: Path) -> AlertsConfig:
    """Read ``alerts.toml``; one that is not there tells nobody.

    Raises
    ------
    SettingsError
        Naming everything that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return AlertsConfig()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error
    return parse(text, path)


def parse(text: str, path: Path) -> AlertsConfig:
    """The same from its text.

    Examples
    --------
    >>> made = parse('[channels.team]\\nkind = "webhook"', Path("alerts.toml"))
    >>> [(r.channels, r.min_severity) for r in made.ways]
    [(('team',), 'warn')]
    >>> parse('[[routes]]\\nchannel = ["team"]', Path("alerts.toml"))
    Traceback (most recent call last):
    ...
    redistill.workers.errors.SettingsError: alerts.toml cannot be used:
      [[routes]] 1: channel: there is no such key; did you mean channels?
      [[routes]] 1: channels is missing
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error
    problems: list[str] = []
    made: AlertsConfig | None = None
    try:
        made = AlertsConfig.model_validate(document)
    except ValidationError as error:
        problems += [_sentence(e) for e in error.errors(include_url=False)]
    problems += _unknown_channels(document)
    if problems or made is None:
        listed = "".join(f"\n  {p}" for p in sorted(problems))
        raise SettingsError(f"{path} cannot be used:{listed}")
    return made


_SECTIONS: Mapping[str, type[_Section]] = {
    "routes": Route,
    "quiet": Quiet,
    "storm": Storm,
    "heartbeat": Heartbeat,
}


def _keys(section: type[_Section]) -> list[str]:
    return [f.alias or name for name, f in section.model_fields.items()]


def _sentence(error: Any) -> str:
    """One sentence about one of pydantic's errors, with its place in the file."""
    loc = list(error["loc"])
    top, place = str(loc[0]), ""
    if len(loc) > 1:
        loc.pop(0)
        if isinstance(loc[0], int):
            place = f"[[{top}]] {loc.pop(0) + 1}: "
        else:
            place = f"[{top}] "
    key = ".".join(str(part) for part in loc) or top
    if error["type"] == "extra_forbidden":
        section = _SECTIONS.get(top, AlertsConfig) if place else AlertsConfig
        return unknown_key(place, key, _keys(section))
    if error["type"] == "missing":
        return f"{place}{key} is missing"
    said = str(error["msg"]).removeprefix("Value error, ")
    if place and not loc:
        return f"{place}{said}"
    return f"{place}{key} = {error.get('input')!r}: {said[:1].lower()}{said[1:]}"


def _unknown_channels(document: Mapping[str, Any]) -> list[str]:
    """Names that a route or the heartbeat uses and no ``[channels.NAME]`` has."""
    known = document.get("channels")
    routes, beat = document.get("routes"), document.get("heartbeat")
    named: list[tuple[str, object]] = []
    for number, route in enumerate(routes if isinstance(routes, list) else [], 1):
        for key in ("channels", "escalate_to") if isinstance(route, dict) else ():
            listed = route.get(key)
            found = listed if isinstance(listed, list) else []
            named += [(f"[[routes]] {number}: {key}", name) for name in found]
    if isinstance(beat, dict) and "channel" in beat:
        named.append(("[heartbeat] channel", beat["channel"]))
    there = known if isinstance(known, dict) else {}
    return [
        f"{place} names {name!r}: there is no [channels.{name}]"
        for place, name in named
        if name not in there
    ]
