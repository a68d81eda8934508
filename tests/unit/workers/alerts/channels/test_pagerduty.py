"""PagerDuty is simulated: by a server that checks the schema that PagerDuty publishes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from receivers import LOOPBACK, Receiver, SimulatedPagerDuty, answers, receiver
from told_alerts import EVIL, told

from redistill.workers.alerts.channels.channel import Channel, DeliveryFailed
from redistill.workers.alerts.channels.table import make

KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def simulated() -> SimulatedPagerDuty:
    return SimulatedPagerDuty(KEY)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, simulated: SimulatedPagerDuty) -> Iterator[Receiver]:
    monkeypatch.setenv("PAGERDUTY_KEY", KEY)
    with receiver(simulated) as made:
        yield made


def channel(server: Receiver, **more: Any) -> Channel:
    given = {"kind": "pagerduty", "routing_key": "env:PAGERDUTY_KEY", "url": server.url}
    return make("oncall", {**given, "allow_private": LOOPBACK, **more})


def test_incident_there_follows_the_alert(server: Receiver, simulated: SimulatedPagerDuty) -> None:
    sender, states = channel(server), []
    for state in ("firing", "firing", "acknowledged", "resolved"):
        sender.send(told(state=state), seconds=30)
        states.append(dict(simulated.states))
    key = told().key
    assert states == [{key: s} for s in ("triggered", "triggered", "acknowledged", "resolved")]


def test_event_says_what_the_alert_says(server: Receiver) -> None:
    channel(server, source="redistill-eu").send(told(), seconds=30)
    event = server.requests[0].json
    assert event["payload"]["summary"] == "[page] credit r38: error 4.4% → 18.7%"
    assert event["payload"]["severity"] == "critical"
    assert event["payload"]["source"] == "redistill-eu"
    assert event["payload"]["component"] == "credit"
    assert event["payload"]["class"] == "harm"
    assert event["payload"]["timestamp"] == "2023-11-14T22:13:20.000000Z"
    assert event["payload"]["custom_details"]["type"] == list(told().commands)
    assert event["links"][0]["href"] == event["client_url"] == told().url


def test_release_is_a_change_event(server: Receiver, simulated: SimulatedPagerDuty) -> None:
    change = told(kind="change", key="change:credit:7", state="resolved", severity="info",
                  title="credit: r39 published in place of r38")  # fmt: skip
    channel(server).send(change, seconds=30)
    (event,) = simulated.changes
    assert event["payload"]["summary"] == "credit: r39 published in place of r38"
    assert simulated.states == {}


@pytest.mark.parametrize("kind", ["incident", "change"])
def test_foreign_text_of_any_length_is_taken(server: Receiver, kind: str) -> None:
    long = EVIL * 1_000
    alert = told(kind=kind, key="storm:" + "k" * 300, title=long, how_bad=long, where=long,
                 done=long, began=long, members=(long,) * 5_000, commands=(long,) * 10,
                 model=long, alert_class=long, url=None)  # fmt: skip
    channel(server).send(alert, seconds=30)


def test_server_that_is_simulated_refuses_what_pagerduty_would(
    server: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = channel(server)
    monkeypatch.setenv("PAGERDUTY_KEY", "f" * 32)
    with pytest.raises(
        DeliveryFailed, match=r"PagerDuty answered 400.*Invalid routing key"
    ) as caught:
        sender.send(told(), seconds=30)
    assert not caught.value.retriable
    assert "f" * 32 not in str(caught.value)


def test_limit_of_requests_is_kept(server: Receiver) -> None:
    server.behaviour = answers(429, Retry_After="30")
    with pytest.raises(DeliveryFailed, match="429") as caught:
        channel(server).send(told(), seconds=30)
    assert caught.value.retriable
    assert caught.value.after_seconds == 30


@pytest.mark.parametrize(
    "body", [b"", b"[1]", b"\xff", b'{"message": 3, "errors": 4}', b"9" * 9_999]
)
def test_reason_that_is_none_is_left_out(server: Receiver, body: bytes) -> None:
    server.behaviour = answers(500, body)
    with pytest.raises(DeliveryFailed, match=r"^PagerDuty answered 500$"):
        channel(server).send(told(), seconds=30)
