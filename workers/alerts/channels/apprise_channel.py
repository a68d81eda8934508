"""Apprise: Slack, Teams, e-mail and some hundred more, by the library apprise.

It runs in a process of its own for each message: a service that hangs is ended in time, a proxy is
of one channel, and no other secret is near. What apprise connects to is not judged by ``egress``;
``proxy`` is the way to confine it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from redistill.workers.alerts.alert import Alert
from redistill.workers.alerts.channels import text
from redistill.workers.alerts.channels.address import Address
from redistill.workers.alerts.channels.called import proxy_of, revealed
from redistill.workers.alerts.channels.channel import DeliveryFailed
from redistill.workers.alerts.channels.kind import ALERTS, ChannelKind
from redistill.workers.alerts.channels.option import option
from redistill.workers.alerts.channels.secret import Secret, secret_of
from redistill.workers.settings.environment import environment

__all__ = ["KIND"]

CHILD = "redistill.workers.alerts.channels.apprise_child"
NEEDED = frozenset(
    ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
     "PYTHONPATH", "PYTHONSAFEPATH")
)  # fmt: skip
"""All that the child is given of our environment: its secrets are none of apprise's business."""
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Keys of ``kind = "apprise"``."""

    url: Secret = option(
        secret_of,
        "one URL of apprise (github.com/caronc/apprise lists the services), as env:NAME or"
        " file:/PATH: it holds tokens and passwords",
    )
    proxy: Address | None = option(
        proxy_of,
        "http://HOST:PORT of a proxy for what apprise sends by HTTP (e-mail is not); default: that"
        " of the environment",
        default=None,
    )


class AppriseChannel:
    """Tells when an alert begins, needs a person and ends: what was written stays there."""

    in_place = False
    repeat_seconds: float | None = None

    def __init__(self, options: Options) -> None:
        self._options = options

    def send(self, alert: Alert, *, seconds: float) -> None:
        """As ``Channel`` says."""
        title, _, rest = text.plain(alert).partition("\n\n")
        message = {
            "url": revealed(self._options.url),
            "title": title,
            "bodies": {
                "text": rest,
                "markdown": text.markdown(alert),
                "html": text.html(alert),
            },
            "type": _type(alert),
        }
        try:
            done = subprocess.run(
                [sys.executable, "-m", CHILD],
                input=json.dumps(message),
                env=_environment(self._options.proxy),
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
                cwd="/",
            )
        except subprocess.TimeoutExpired:
            raise DeliveryFailed(f"apprise was not done within {seconds:g} s") from None
        _judge(done.stdout)


def _environment(proxy: Address | None) -> Mapping[str, str]:
    given = environment({}, process="none")
    out = {name: value for name, value in given.items() if name in NEEDED}
    if proxy is None:
        return out | {n: v for n, v in given.items() if n.lower() in PROXIES}
    return out | {n: str(proxy) for n in PROXIES if n != "no_proxy"}


def _type(alert: Alert) -> str:
    """Which colour or sign a service shows."""
    if alert.state == "resolved":
        return "success"
    return {"page": "failure", "warn": "warning", "info": "info"}[alert.severity]


def _judge(said: str) -> None:
    """What the child said of it in its last line; nothing else of its output is repeated."""
    try:
        told = json.loads(said.strip().rpartition("\n")[2])
        if told["told"] is True:
            return
        why, retriable = str(told["why"]), bool(told["retriable"])
    except (ValueError, TypeError, KeyError):
        raise DeliveryFailed("apprise ended without a word") from None
    raise DeliveryFailed(f"apprise: {text.clean(why, 300)}", retriable=retriable)


KIND = ChannelKind(
    name="apprise",
    said="Slack, Teams, e-mail and what else apprise knows",
    options=Options,
    make=AppriseChannel,
    carries=ALERTS,
)
