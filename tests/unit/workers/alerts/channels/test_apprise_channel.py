"""Apprise tells a real SMTP server and a real HTTP server."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from typing import Any

import pytest
import receivers
from receivers import Receiver, answers, mailbox, receiver
from told_alerts import EVIL, told

from redistill.workers.alerts.channels import apprise_channel
from redistill.workers.alerts.channels.channel import Channel, DeliveryFailed
from redistill.workers.alerts.channels.table import make
from redistill.workers.errors import SettingsError

SECONDS = 120.0


@pytest.fixture
def to(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A channel to a URL of apprise."""

    def made(url: str, **more: Any) -> Channel:
        monkeypatch.setenv("TEAM_URL", url)
        return make("team", {"kind": "apprise", "url": "env:TEAM_URL", **more})

    return made


def service(server: Receiver, more: str = "") -> str:
    return f"json://me:hunter2@127.0.0.1:{server.port}/secret-path{more}"


def mail_url(port: int, more: str = "") -> str:
    return f"mailto://127.0.0.1:{port}/?from=redistill@shop.example&to=oncall@shop.example{more}"


def test_mail_has_subject_html_and_text(to: Any) -> None:
    with mailbox() as box:
        to(mail_url(box.port)).send(told(where=EVIL), seconds=SECONDS)
    (mail,) = box.mails
    assert mail["Subject"] == "[page] credit r38: error 4.4% → 18.7%"
    assert mail["To"] == "oncall@shop.example"
    html = mail.get_body(("html",)).get_content()
    assert "redistill rollback credit" in html
    assert f'href="{told().url}"' in html
    assert "<script" not in html
    assert "measured on 492 labels" in mail.get_body(("plain",)).get_content()


def test_title_of_a_chat_mentions_nobody(to: Any) -> None:
    with receiver() as server:
        to(service(server)).send(told(title="@everyone see http://evil.example"), seconds=SECONDS)
    title = server.requests[0].json["title"]
    assert "everyone" in title
    assert "@everyone" not in title
    assert "http://" not in title


def test_nothing_is_fetched_from_the_makers_of_apprise(to: Any) -> None:
    with mailbox() as box, receiver() as server:
        to(mail_url(box.port)).send(told(), seconds=SECONDS)
        to(service(server)).send(told(), seconds=SECONDS)
    assert "github" not in box.mails[0].as_string()
    assert b"github" not in server.requests[0].body


def test_mail_that_is_refused_is_tried_again_later(to: Any) -> None:
    with mailbox() as box:
        box.refuse = "451 later"
        with pytest.raises(DeliveryFailed, match="apprise: ") as caught:
            to(mail_url(box.port)).send(told(), seconds=SECONDS)
    assert caught.value.retriable
    assert box.mails == []


def test_service_is_told_state_and_text(to: Any) -> None:
    with receiver() as server:
        to(service(server)).send(told(), seconds=SECONDS)
        to(service(server)).send(told(state="resolved"), seconds=SECONDS)
    first, second = (request.json for request in server.requests)
    assert first["title"] == "[page] credit r38: error 4.4% → 18.7%"
    assert first["message"].startswith("How bad: ")
    assert "redistill rollback credit" in first["message"]
    assert (first["type"], second["type"]) == ("failure", "success")


def test_refusal_names_no_secret(to: Any) -> None:
    with receiver(answers(403)) as server, pytest.raises(DeliveryFailed) as caught:
        to(service(server)).send(told(), seconds=SECONDS)
    assert "403" in str(caught.value) or "Forbidden" in str(caught.value)
    for secret in ("hunter2", "secret-path"):
        assert secret not in str(caught.value)


def test_redirect_is_not_followed(to: Any) -> None:
    with receiver() as other, receiver(receivers.redirects(other.url)) as server:
        with pytest.raises(DeliveryFailed):
            to(service(server)).send(told(), seconds=SECONDS)
        assert server.requests
        assert other.requests == []


def test_service_that_hangs_is_ended_in_time(to: Any) -> None:
    with receiver(receivers.hangs) as server:
        sender, since = to(service(server, "?rto=600")), time.monotonic()
        with pytest.raises(DeliveryFailed, match="not done within 3 s") as caught:
            sender.send(told(), seconds=3)
    assert caught.value.retriable
    assert time.monotonic() - since < 60


@pytest.mark.parametrize("says", [b"", b"220 mail.example ESMTP\r\n"])
def test_mail_server_that_hangs_is_left_in_time(to: Any, says: bytes) -> None:
    """Before its greeting, or after it: it takes the connection and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.append(server.accept()[0])
                    held[-1].sendall(says)

        threading.Thread(target=accept, daemon=True).start()
        sender, since = to(mail_url(server.getsockname()[1], "&rto=600")), time.monotonic()
        with pytest.raises(DeliveryFailed, match="not done within 3 s") as caught:
            sender.send(told(), seconds=3)
    assert caught.value.retriable
    assert time.monotonic() - since < 60
    for each in held:
        each.close()


def test_proxy_of_the_channel_is_asked_for_what_goes_out(to: Any) -> None:
    with receiver(answers(403)) as proxy:
        sender = to("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/", proxy=proxy.url)
        with pytest.raises(DeliveryFailed) as caught:
            sender.send(told(), seconds=SECONDS)
    assert {(r.method, r.path) for r in proxy.requests} == {("CONNECT", "hooks.slack.com:443")}
    assert "TIiajkdnlazkcOXrIdevi7FQ" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["hunter2", "nothing://hunter2", "json://127.0.0.1:1/hunter2,json://127.0.0.1:2/"]
)
def test_url_that_is_none_of_apprise_is_not_tried_again(to: Any, url: str) -> None:
    with pytest.raises(DeliveryFailed, match="the URL is none of apprise's") as caught:
        to(url).send(told(), seconds=SECONDS)
    assert not caught.value.retriable
    assert "hunter2" not in str(caught.value)


def test_child_has_none_of_our_secrets(to: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDISTILL_KAFKA_PASSWORD", "PAGERDUTY_KEY", "https_proxy"):
        monkeypatch.setenv(name, "hunter2")
    seen: list[Any] = []

    def run(words: list[str], **given: Any) -> Any:
        seen.append((words, given))
        return subprocess.CompletedProcess(words, 0, '{"told": true}\n', "")

    monkeypatch.setattr(apprise_channel.subprocess, "run", run)
    to("json://hunter3@127.0.0.1/").send(told(), seconds=SECONDS)
    to("json://127.0.0.1/", proxy="http://proxy:3128").send(told(), seconds=SECONDS)
    (words, own), (_, proxied) = seen
    assert "hunter3" not in " ".join(words)
    assert {name for name, value in own["env"].items() if "hunter" in value} == {"https_proxy"}
    assert own["env"]["PYTHONSAFEPATH"] == "1"
    assert proxied["env"]["https_proxy"] == "http://proxy:3128"


@pytest.mark.parametrize("said", ["", "Traceback", "[]\n", "noise\n{}\n"])
def test_child_that_dies_is_no_success(to: Any, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setattr(
        apprise_channel.subprocess, "run",
        lambda words, **_: subprocess.CompletedProcess(words, 1, said, "hunter2"),
    )  # fmt: skip
    with pytest.raises(DeliveryFailed, match="ended without a word") as caught:
        to("json://127.0.0.1/").send(told(), seconds=SECONDS)
    assert caught.value.retriable


def test_url_itself_is_no_setting() -> None:
    with pytest.raises(SettingsError, match=r"channels\.team\.url: .*never the value") as caught:
        make("team", {"kind": "apprise", "url": "slack://hunter2/x/y"})
    assert "hunter2" not in str(caught.value)
