"""Reader of ``alerts.toml``: who is told what, when, and on which channels.

All that is wrong with it is found at once, each with its place and what to write. Secrets are never
in it: they are ``env:NAME`` or ``file:PATH``, which a channel reads.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import time
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from redistill import tomlfile
from redistill.workers.alerts.alert import Severity
from redistill.workers.errors import SettingsError
from redistill.workers.models.spec_schema import unknown_key

__all__ = ["AlertsConfig", "Quiet", "Route", "Storm", "near", "parse", "read"]


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("there is no such time zone: write one like 'Europe/Berlin'") from None
    return name


def _clock_time(value: object) -> str:
    try:
        found = time.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        found = None
    if not isinstance(value, str) or found is None or found.tzinfo is not None:
        raise ValueError("a time of day like '22:00' was expected, of `timezone`")
    return value


def _channel_names(channels: Mapping[str, object]) -> Mapping[str, object]:
    for name in channels:
        if not NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} is no name of a channel: it has 1 to 64 letters, digits, _ and -"
            )
    return channels


NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Names of channels stand in commands, metrics and sentences."""
Names = Annotated[tuple[str, ...], Field(min_length=1)]
ClockTime = Annotated[str, BeforeValidator(_clock_time)]
Channels = Annotated[Mapping[str, Mapping[str, object]], AfterValidator(_channel_names)]


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
    escalate_after_minutes: Annotated[float, Field(gt=0, le=10_080)] | None = None
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

    @model_validator(mode="after")
    def _some(self) -> Quiet:
        if time.fromisoformat(self.begin) == time.fromisoformat(self.end):
            raise ValueError("from and to are the same: which hours are quiet?")
        return self


class Storm(_Section):
    """``[storm]``: when alerts of one class are told as one."""

    within_seconds: Annotated[float, Field(gt=0, le=86_400)] = 120.0
    """Longest pause between two of them."""
    alerts: Annotated[int, Field(ge=2)] = 5
    """Models that it takes."""
    settle_seconds: Annotated[float, Field(ge=0, le=60)] = 0.5
    """An alert waits so long before it is told first, so that a storm's first ones join it."""


class Heartbeat(_Section):
    """``[heartbeat]``: the dead man's switch, which rings where it is told nothing."""

    channel: str
    """Name of a ``[channels.NAME]`` that is told so often that all is well."""
    every_seconds: Annotated[float, Field(ge=5, le=86_400)] = 60.0


class AlertsConfig(_Section):
    """All of ``alerts.toml``."""

    channels: Channels = Field(default_factory=dict)
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
        text = tomlfile.read(path)
    except FileNotFoundError:
        return AlertsConfig()
    except tomlfile.TomlError as error:
        raise SettingsError(str(error)) from error
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
        document = tomlfile.parse(text, path)
    except tomlfile.TomlError as error:
        raise SettingsError(str(error)) from error
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


_FORMS: Mapping[str, str] = {"channels": "[channels.NAME]", "routes": "[[routes]]"}
_EXPECTED: Mapping[str, str] = {
    "tuple_type": 'a list like ["one", "two"] was expected',
    "string_type": "a text in quotes was expected",
    "too_short": "at least one was expected",
}
"""Kinds of pydantic's errors whose own words are about Python."""


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
    wrong = error["type"]
    if wrong in ("dict_type", "model_type") or (wrong == "tuple_type" and not place):
        return f"{place}{key}: {_FORMS.get(top, f'[{top}]')} was expected"
    said = str(error["msg"]).removeprefix("Value error, ")
    said = _EXPECTED.get(wrong, said)
    if wrong == "value_error" and not place and top in _SECTIONS:
        return f"[{top}] {said}"
    if (place and not loc) or top == "channels":  # a secret may stand there, although it must not
        return f"{place or 'channels: '}{said}"
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
        f"{place} names {name!r}: there is no [channels.{name}]{near(str(name), there)}"
        for place, name in named
        if isinstance(name, str) and name not in there
    ]


def near(name: str, known: Iterable[str]) -> str:
    """The name that was probably meant, as the end of a sentence; empty where none is near.

    Examples
    --------
    >>> near("oncal", ["team", "oncall"]), near("x", ["team"])
    ('; did you mean oncall?', '')
    """
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""
