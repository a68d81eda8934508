"""Table of the channels: each kind, its keys, and the channel that a section of ``alerts.toml``
makes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from redistill.workers.alerts import alert
from redistill.workers.alerts.channels import (
    alertmanager,
    apprise_channel,
    pagerduty,
    ping,
    webhook,
)
from redistill.workers.alerts.channels.channel import Channel
from redistill.workers.alerts.channels.kind import ChannelKind
from redistill.workers.alerts.channels.option import read, texts
from redistill.workers.errors import SettingsError

__all__ = ["KINDS", "carries", "keys", "make"]

KINDS: tuple[ChannelKind, ...] = (
    alertmanager.KIND,
    apprise_channel.KIND,
    pagerduty.KIND,
    ping.KIND,
    webhook.KIND,
)
_BY_NAME = {kind.name: kind for kind in KINDS}


def make(name: str, given: Mapping[str, object]) -> Channel:
    """The channel of ``[channels.NAME]``.

    Secrets are looked for, and nobody is called.

    Raises
    ------
    SettingsError
        The kind is unknown, or keys are unknown, missing or wrong: all are named, with what they
        should hold. No secret is repeated.
    """
    at = f"channels.{name}"
    kind = _kind(at, given)
    rest = {key: value for key, value in given.items() if key != "kind"}
    channel: Channel = kind.make(read(kind.options, rest, at=at))
    return channel


def carries(name: str, given: Mapping[str, object]) -> frozenset[alert.Kind]:
    """Which kinds of alerts the channel takes; ``SettingsError`` as above."""
    return _kind(f"channels.{name}", given).carries


def keys(kind: str) -> Mapping[str, str]:
    """What a section of this kind may hold, and what each key means; ``KeyError`` if unknown."""
    return texts(_BY_NAME[kind].options)


def _kind(at: str, given: Mapping[str, object]) -> ChannelKind:
    name = given.get("kind")
    if isinstance(name, str) and name in _BY_NAME:
        return _BY_NAME[name]
    all_ = ", ".join(_BY_NAME)
    if name is None:
        raise SettingsError(f"{at}.kind is missing: one of {all_}")
    near = difflib.get_close_matches(str(name), _BY_NAME, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {all_}"
    raise SettingsError(f"{at}.kind: there is no {name!r}; {hint}")
