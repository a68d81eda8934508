from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Iterator
from typing import Any

import pytest
from receivers import LOOPBACK, Receiver, answers, receiver
from told_alerts import EVIL, told

from redistill.workers.alerts.channels.channel import Channel, DeliveryFailed
from redistill.workers.alerts.channels.table import make
from redistill.workers.errors import SettingsError

KEY, OLD = bytes(range(32)), bytes(range(1, 33))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("HOOK_KEY", "whsec_" + base64.b64encode(KEY).decode())
    monkeypatch.setenv("HOOK_OLD", "whsec_" + base64.b64encode(OLD).decode() + "\n")
    with receiver(answers(204)) as made:
        yield made


def channel(server: Receiver, **more: Any) -> Channel:
    given = {"kind": "webhook", "url": server.url + "/hook", "secret": "env:HOOK_KEY"}
    return make("mine", {**given, "allow_private": LOOPBACK, **more})


def expected(request: Any, key: bytes) -> str:
    content = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode()
    made = hmac.new(key, content + request.body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(made).decode()


def test_message_is_signed_as_the_specification_says(server: Receiver) -> None:
    channel(server).send(told(), seconds=30)
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/hook")
    assert request.headers["content-type"] == "application/json"
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60
    assert "." not in request.headers["webhook-id"]
    assert request.headers["webhook-signature"] == expected(request, KEY)


def test_both_keys_sign_while_receivers_change_over(server: Receiver) -> None:
    channel(server, old_secret="env:HOOK_OLD").send(told(), seconds=30)
    (request,) = server.requests
    both = f"{expected(request, KEY)} {expected(request, OLD)}"
    assert request.headers["webhook-signature"] == both


def test_message_holds_the_alert_and_its_text(server: Receiver) -> None:
    alert = told(state="resolved", resolved_at=1_700_000_600_000_000, where=EVIL + "\ud800")
    channel(server).send(alert, seconds=30)
    message = server.requests[0].json
    assert message["type"] == "alert.resolved"
    assert message["timestamp"] == "2023-11-14T22:23:20.000000Z"
    assert message["data"]["opened_at"] == "2023-11-14T22:13:20.000000Z"
    assert message["data"]["key"] == alert.key
    assert message["data"]["commands"] == list(alert.commands)
    assert message["data"]["text"].startswith("[resolved] credit r38")


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"kind": "change"}, "change"), ({"kind": "heartbeat"}, "heartbeat"),
     ({"kind": "test"}, "alert.firing"), ({"state": "acknowledged"}, "alert.acknowledged")],
)  # fmt: skip
def test_type_names_what_happened(server: Receiver, changes: Any, name: str) -> None:
    channel(server).send(told(**changes), seconds=30)
    assert server.requests[0].json["type"] == name


def test_id_is_kept_until_a_state_was_taken(server: Receiver) -> None:
    sender = channel(server)
    server.behaviour = answers(503)
    for _ in range(2):
        with pytest.raises(DeliveryFailed, match="the webhook answered 503"):
            sender.send(told(), seconds=30)
    server.behaviour = answers(200)
    sender.send(told(), seconds=30)
    sender.send(told(), seconds=30)  # the same, told again: another event
    sender.send(told(title="worse"), seconds=30)
    ids = [request.headers["webhook-id"] for request in server.requests]
    assert ids[0] == ids[1] == ids[2]
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    "key", ["hunter2", "whsec_hunter2!", "whsec_" + base64.b64encode(b"short").decode(),
            base64.b64encode(KEY).decode(), "whsec_" + base64.b64encode(bytes(65)).decode()]
)  # fmt: skip
def test_key_that_can_be_guessed_is_refused(
    server: Receiver, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("HOOK_KEY", key)
    with pytest.raises(
        SettingsError, match=r"channels\.mine\.secret: it must hold whsec_"
    ) as caught:
        channel(server)
    assert key not in str(caught.value)


def test_key_that_went_away_is_told_and_nothing_is_sent(
    server: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = channel(server)
    monkeypatch.delenv("HOOK_KEY")
    with pytest.raises(DeliveryFailed, match="no HOOK_KEY") as caught:
        sender.send(told(), seconds=30)
    assert not caught.value.retriable
    assert server.requests == []
