"""What is posted; ``tests/integration/test_alertmanager.py`` asks a real Alertmanager."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from receivers import LOOPBACK, Receiver, answers, receiver
from told_alerts import told

from redistill.workers.alerts.channels.channel import Channel, DeliveryFailed
from redistill.workers.alerts.channels.table import make
from redistill.workers.errors import SettingsError


def channel(server: Receiver, **more: Any) -> Channel:
    given = {"kind": "alertmanager", "url": server.url + "/prefix/", "allow_private": LOOPBACK}
    return make("am", {**given, **more})


def ends_in(posted: Any) -> timedelta:
    return datetime.fromisoformat(posted["endsAt"]) - datetime.now(UTC)


def test_alert_has_labels_annotations_and_an_end() -> None:
    with receiver() as server:
        channel(server, labels={"team": "ml"}, lasts_seconds=200).send(told(), seconds=30)
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/prefix/api/v2/alerts")
    (posted,) = request.json
    assert posted["labels"] == {
        "alertname": "RedistillIncident", "redistill_key": told().key, "severity": "critical",
        "class": "harm", "model": "credit", "team": "ml",
    }  # fmt: skip
    assert posted["annotations"]["summary"] == told().title
    assert posted["annotations"]["how_bad"] == told().how_bad
    assert "redistill rollback credit" in posted["annotations"]["description"]
    assert posted["startsAt"] == "2023-11-14T22:13:20.000000Z"
    assert timedelta(seconds=100) < ends_in(posted) <= timedelta(seconds=200)
    assert posted["generatorURL"] == told().url


def test_what_goes_on_is_told_four_times_in_its_time() -> None:
    with receiver() as server:
        assert channel(server).repeat_seconds == 60
        assert channel(server, lasts_seconds=20).repeat_seconds == 5


def test_resolved_alert_ends_when_it_ended() -> None:
    with receiver() as server:
        sender = channel(server)
        sender.send(told(state="resolved", resolved_at=1_700_000_600_000_000), seconds=30)
        sender.send(told(state="resolved", resolved_at=1), seconds=30)  # clocks that went back
    ends = [request.json[0]["endsAt"] for request in server.requests]
    assert ends == ["2023-11-14T22:23:20.000000Z", "2023-11-14T22:13:20.000000Z"]


def test_change_is_no_resolved_alert() -> None:
    with receiver() as server:
        channel(server).send(told(kind="change", state="resolved"), seconds=30)
    assert ends_in(server.requests[0].json[0]) > timedelta(seconds=100)


def test_alert_with_the_old_labels_is_ended() -> None:
    with receiver() as server:
        sender = channel(server)
        sender.send(told(severity="warn"), seconds=30)
        sender.send(told(severity="page"), seconds=30)
        sender.send(told(severity="page"), seconds=30)
    posted = [
        [(a["labels"]["severity"], ends_in(a) > timedelta(0)) for a in request.json]
        for request in server.requests
    ]
    page = ("critical", True)
    assert posted == [[("warning", True)], [page, ("warning", False)], [page]]


def test_heartbeat_is_a_watchdog() -> None:
    with receiver() as server:
        beat = told(kind="heartbeat", key="heartbeat", model=None, alert_class="heartbeat")
        channel(server).send(beat, seconds=30)
    (posted,) = server.requests[0].json
    assert posted["labels"] == {
        "alertname": "RedistillWatchdog", "redistill_key": "heartbeat", "severity": "none",
        "class": "heartbeat",
    }  # fmt: skip


def test_refusal_is_told_in_its_words() -> None:
    with receiver(answers(400, b'"start time must be before end time"')) as server:
        with pytest.raises(DeliveryFailed, match="answered 400: start time must be") as caught:
            channel(server).send(told(), seconds=30)
        assert not caught.value.retriable


def ahead(seconds: float) -> Any:
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    text = f"{at:%a, %d %b %Y %H:%M:%S} GMT".encode()
    return lambda _, talk: talk.raw(
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: " + text + b"\r\n\r\n"
    )


def test_clock_by_which_what_fires_has_ended_is_told() -> None:
    with receiver(ahead(600)) as server:
        with pytest.raises(DeliveryFailed, match="s ahead of this machine's"):
            channel(server).send(told(), seconds=30)
        channel(server).send(told(state="resolved", resolved_at=2), seconds=30)
    with receiver(ahead(-600)) as server:
        channel(server).send(told(), seconds=30)


@pytest.mark.parametrize("labels", [{"severity": "x"}, {"a-b": "x"}, {"a": 3}, ["a"], "a"])
def test_labels_that_are_none_are_refused(labels: object) -> None:
    with receiver() as server, pytest.raises(SettingsError, match=r"channels\.am\.labels"):
        channel(server, labels=labels)


def test_names_of_labels_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from redistill.workers.alerts.channels import alertmanager

    monkeypatch.setattr(alertmanager, "MOST_REMEMBERED", 3)
    with receiver() as server:
        sender: Any = channel(server)
        for i in range(6):
            sender.send(told(key=f"incident:{i}"), seconds=30)
        assert list(sender._told) == ["incident:3", "incident:4", "incident:5"]
