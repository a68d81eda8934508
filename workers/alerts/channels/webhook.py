"""Webhook: every state of an alert as signed JSON, for programs of one's own.

The signature is that of Standard Webhooks 1.0.0 (github.com/standard-webhooks/standard-webhooks,
``spec/standard-webhooks.md``): HMAC-SHA256 over ``ID.TIMESTAMP.BODY`` in ``webhook-signature``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from redistill.workers.alerts.alert import Alert, digest
from redistill.workers.alerts.channels.called import Url
from redistill.workers.alerts.channels.channel import DeliveryFailed
from redistill.workers.alerts.channels.kind import ALERTS, HEARTBEAT, ChannelKind
from redistill.workers.alerts.channels.option import option
from redistill.workers.alerts.channels.secret import Secret, secret_of
from redistill.workers.alerts.channels.text import iso, plain

__all__ = ["KIND"]

PREFIX = "whsec_"
FEWEST_BYTES, MOST_BYTES = 24, 64
MOST_REMEMBERED = 10_000
FORM = (
    "it must hold whsec_ and 24 to 64 random bytes in base64, for example from"
    ' `echo "whsec_$(openssl rand -base64 32)"`'
)


def signing_key(text: str) -> bytes:
    """The bytes of a secret in the form of the specification.

    Raises
    ------
    ValueError
        It has another form, or so few bytes that it can be guessed.
    """
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(FORM) from None
    if not text.startswith(PREFIX) or not FEWEST_BYTES <= len(key) <= MOST_BYTES:
        raise ValueError(FORM)
    return key


def signing_secret_of(value: object) -> Secret:
    """Reader of a place where such a secret lies."""
    found = secret_of(value)
    signing_key(found.read())
    return found


@dataclass(frozen=True, kw_only=True)
class Options(Url):
    """Keys of ``kind = "webhook"``."""

    secret: Secret = option(
        signing_secret_of, "what it is signed with, as env:NAME or file:/PATH; " + FORM
    )
    old_secret: Secret | None = option(
        signing_secret_of, "the one before, while receivers change over: both sign", default=None
    )


class Webhook:
    """Sends each state; ``webhook-id`` stays until that state was taken, so that a receiver can
    tell a retry."""

    in_place = True
    repeat_seconds: float | None = None

    def __init__(self, options: Options) -> None:
        self._options = options
        self._open: dict[str, tuple[str, str]] = {}  # key -> digest and id of what was not taken

    def send(self, alert: Alert, *, seconds: float) -> None:
        """As ``Channel`` says."""
        options = self._options
        state, body = digest(alert), _body(alert)
        if self._open.get(alert.key, ("", ""))[0] != state:
            self._open[alert.key] = (state, f"msg_{uuid.uuid4().hex}")
            if len(self._open) > MOST_REMEMBERED:  # most of these are over, and are tried no more
                del self._open[next(iter(self._open))]
        answer = options.call(
            "POST",
            options.address(),
            seconds=seconds,
            headers={
                "Content-Type": "application/json",
                **options.credentials(),
                **signed(self._open[alert.key][1], int(time.time()), body, self._keys()),
            },
            body=body,
        )
        answer.check("the webhook")
        del self._open[alert.key]

    def _keys(self) -> list[bytes]:
        both = (self._options.secret, self._options.old_secret)
        try:
            return [signing_key(place.read()) for place in both if place is not None]
        except ValueError as error:
            raise DeliveryFailed(f"secret: {error}", retriable=False) from None


def signed(message: str, at: int, body: bytes, keys: Sequence[bytes]) -> dict[str, str]:
    """The three headers of the specification.

    Examples
    --------
    The example that its own libraries are tested with:

    >>> key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    >>> at, message = 1_614_265_330, "msg_p5jXN8AQM9LWM0D4loKWxJek"
    >>> signed(message, at, b'{"test": 2432232314}', [key])["webhook-signature"]
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    content = f"{message}.{at}.".encode() + body
    signatures = [hmac.digest(key, content, hashlib.sha256) for key in keys]
    return {
        "webhook-id": message,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(
            "v1," + base64.b64encode(signature).decode() for signature in signatures
        ),
    }


def _body(alert: Alert) -> bytes:
    """``type``, ``timestamp`` and ``data``: all fields of the alert, and its text."""
    name = alert.kind if alert.kind in ("change", "heartbeat") else f"alert.{alert.state}"
    data = asdict(alert) | {
        "opened_at": iso(alert.opened_at),
        "resolved_at": None if alert.resolved_at is None else iso(alert.resolved_at),
        "breakages": [asdict(broken) | {"at": iso(broken.at)} for broken in alert.breakages],
        "text": plain(alert),
    }
    happened = alert.opened_at if alert.resolved_at is None else alert.resolved_at
    content = {"type": name, "timestamp": iso(happened), "data": data}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


KIND = ChannelKind(
    name="webhook",
    said="signed JSON to a URL (Standard Webhooks)",
    options=Options,
    make=Webhook,
    carries=ALERTS | HEARTBEAT,
)
