"""A real Alertmanager takes, keeps and ends what we post, and tells its own receivers."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from alertmanager_server import AlertmanagerServer, notified
from receivers import LOOPBACK, Receiver
from told_alerts import EVIL, told
from waiting import eventually

from redistill.times import now_us
from redistill.workers.alerts.channels.channel import Channel, DeliveryFailed
from redistill.workers.alerts.channels.table import make

pytestmark = pytest.mark.alertmanager


@pytest.fixture
def channel(alertmanager_server: AlertmanagerServer) -> Callable[..., Channel]:
    def made(**more: Any) -> Channel:
        given = {"kind": "alertmanager", "url": alertmanager_server.url}
        return make("am", {**given, "allow_private": LOOPBACK, **more})

    return made


def fresh(**changes: Any) -> dict[str, Any]:
    return {"key": f"incident:{uuid.uuid4()}", "opened_at": now_us() - 60_000_000, **changes}


def firing(server: AlertmanagerServer, key: str) -> list[dict[str, Any]]:
    return server.alerts(redistill_key=key)


def test_alert_fires_is_updated_in_place_and_ends(
    channel: Callable[..., Channel],
    alertmanager_server: AlertmanagerServer,
    told_by_alertmanager: Receiver,
) -> None:
    fields, sender = fresh(where=EVIL), channel()
    sender.send(told(**fields), seconds=30)
    (alert,) = eventually(lambda: firing(alertmanager_server, fields["key"]), "it fires")
    assert alert["status"]["state"] == "active"
    assert alert["annotations"]["summary"] == told().title
    assert alert["generatorURL"] == told().url
    sender.send(told(**fields, title="worse", state="acknowledged"), seconds=30)
    (alert,) = firing(alertmanager_server, fields["key"])
    assert (alert["annotations"]["summary"], alert["annotations"]["state"]) == (
        "worse", "acknowledged",
    )  # fmt: skip
    eventually(lambda: notified(told_by_alertmanager, fields["key"]), "somebody is told")
    sender.send(told(**fields, state="resolved", resolved_at=now_us()), seconds=30)
    eventually(lambda: not firing(alertmanager_server, fields["key"]), "it ends")
    eventually(
        lambda: notified(told_by_alertmanager, fields["key"])[-1] == ("resolved", "critical"),
        "somebody is told that it ended",
    )


def test_alert_of_another_severity_takes_the_place_of_the_first(
    channel: Callable[..., Channel], alertmanager_server: AlertmanagerServer
) -> None:
    fields, sender = fresh(), channel()
    sender.send(told(**fields, severity="warn"), seconds=30)
    eventually(lambda: firing(alertmanager_server, fields["key"]), "it fires")
    sender.send(told(**fields, severity="page"), seconds=30)
    found = eventually(
        lambda: [a["labels"]["severity"] for a in firing(alertmanager_server, fields["key"])],
        "it fires",
    )
    assert found == ["critical"]


def test_what_was_resolved_before_it_was_ever_told_tells_nobody(
    channel: Callable[..., Channel],
    alertmanager_server: AlertmanagerServer,
    told_by_alertmanager: Receiver,
) -> None:
    late, marker = fresh(), fresh()
    channel().send(told(**late, state="resolved", resolved_at=now_us()), seconds=30)
    channel().send(told(**marker), seconds=30)
    eventually(lambda: notified(told_by_alertmanager, marker["key"]), "the next one is told")
    assert notified(told_by_alertmanager, late["key"]) == []
    assert firing(alertmanager_server, late["key"]) == []


def test_watchdog_that_is_not_told_again_ends(
    channel: Callable[..., Channel],
    alertmanager_server: AlertmanagerServer,
    told_by_alertmanager: Receiver,
) -> None:
    """What a dead man's switch behind Alertmanager waits for."""
    fields = fresh(kind="heartbeat", severity="info", alert_class="heartbeat", model=None)
    channel(lasts_seconds=20).send(told(**fields), seconds=30)
    eventually(lambda: firing(alertmanager_server, fields["key"]), "it fires")
    eventually(lambda: not firing(alertmanager_server, fields["key"]), "it ends by itself")
    eventually(
        lambda: notified(told_by_alertmanager, fields["key"])[-1:] == [("resolved", "none")],
        "somebody is told",
    )


def test_what_alertmanager_refuses_is_told_in_its_words(channel: Callable[..., Channel]) -> None:
    sender: Any = channel()
    object.__setattr__(sender._options, "labels", {"a-b": "x"})  # our own reader refuses it
    with pytest.raises(DeliveryFailed, match=r"Alertmanager answered 400: .*invalid label"):
        sender.send(told(**fresh()), seconds=30)
