from __future__ import annotations

from typing import Any

import pytest
from receivers import LOOPBACK, Receiver, answers, receiver
from told_alerts import told

from redistill.workers.alerts.channels.channel import Channel, DeliveryFailed
from redistill.workers.alerts.channels.table import make
from redistill.workers.errors import SettingsError

BEAT = told(kind="heartbeat", key="heartbeat", severity="info", title="all processes live")


def channel(server: Receiver, **more: Any) -> Channel:
    given = {"kind": "ping", "url": server.url + "/ping/hunter2", "allow_private": LOOPBACK}
    return make("switch", {**given, **more})


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_url_is_called(method: str) -> None:
    with receiver() as server:
        channel(server, method=method).send(BEAT, seconds=30)
    (request,) = server.requests
    assert (request.method, request.path) == (method, "/ping/hunter2")
    assert request.body.decode() == ("[heartbeat] all processes live" if method == "POST" else "")


def test_url_that_does_not_take_it_is_told_without_its_token() -> None:
    with receiver(answers(500)) as server, pytest.raises(DeliveryFailed, match="500") as caught:
        channel(server).send(BEAT, seconds=30)
    assert "hunter2" not in str(caught.value)


def test_an_alert_is_no_heartbeat() -> None:
    with receiver() as server, pytest.raises(DeliveryFailed, match="carries no alert"):
        channel(server).send(told(), seconds=30)
    assert server.requests == []


def test_other_methods_are_refused() -> None:
    with receiver() as server, pytest.raises(SettingsError, match=r"channels\.switch\.method"):
        channel(server, method="DELETE")
