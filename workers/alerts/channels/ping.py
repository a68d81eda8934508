"""Ping: a URL that is called as long as all of redistill lives, and whose owner tells somebody
when no call comes (healthchecks, Dead Man's Snitch, an Uptime monitor)."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.workers.alerts.alert import Alert
from redistill.workers.alerts.channels.called import Url
from redistill.workers.alerts.channels.channel import DeliveryFailed
from redistill.workers.alerts.channels.kind import HEARTBEAT, ChannelKind
from redistill.workers.alerts.channels.option import option
from redistill.workers.alerts.channels.text import title

__all__ = ["KIND"]


def method_of(value: object) -> str:
    """Reader of a method."""
    if value not in ("GET", "POST", "HEAD"):
        raise ValueError("GET, HEAD or POST was expected")
    return str(value)


@dataclass(frozen=True, kw_only=True)
class Options(Url):
    """Keys of ``kind = "ping"``."""

    method: str = option(method_of, "GET, HEAD or POST", default="POST")


class Ping:
    """Calls the URL; what it says is no more than that somebody lives."""

    in_place = True
    repeat_seconds: float | None = None

    def __init__(self, options: Options) -> None:
        self._options = options

    def send(self, alert: Alert, *, seconds: float) -> None:
        """As ``Channel`` says; of any other alert than a heartbeat, ``DeliveryFailed``."""
        if alert.kind != "heartbeat":
            raise DeliveryFailed("a ping says that we live, and carries no alert", retriable=False)
        options = self._options
        posted = options.method == "POST"
        options.call(
            options.method,
            options.address(),
            seconds=seconds,
            headers={
                **options.credentials(),
                **({"Content-Type": "text/plain; charset=utf-8"} if posted else {}),
            },
            body=title(alert).encode(errors="replace") if posted else None,
        ).check("the URL of the heartbeat")


KIND = ChannelKind(
    name="ping",
    said="a URL that is called while all is alive; heartbeats only",
    options=Options,
    make=Ping,
    carries=HEARTBEAT,
)
