"""Whatever a receiver does, an exchange ends in time, and says what happened without a secret."""

from __future__ import annotations

import time
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import receivers
from certificates import certificate
from receivers import LOOPBACK, Behaviour, Receiver, answers, receiver

from redistill.times import now_us
from redistill.workers.alerts.channels import egress
from redistill.workers.alerts.channels.address import parse
from redistill.workers.alerts.channels.channel import DeliveryFailed
from redistill.workers.alerts.channels.exchange import Answer, exchange

ALLOWED = [ip_network(n) for n in LOOPBACK]
TOKEN = "/secret-path"


def ask(server: Receiver, *, seconds: float = 30, **more: Any) -> Answer:
    to = parse(server.url + TOKEN)
    return exchange(
        "POST", to, seconds=seconds, body=b"{}", **{"headers": {}, "allow_private": ALLOWED, **more}
    )


def failure(server: Receiver, **more: Any) -> DeliveryFailed:
    with pytest.raises(DeliveryFailed) as caught:
        ask(server, **more).check("the receiver")
    assert "secret" not in str(caught.value)
    return caught.value


def test_request_comes_as_it_was_sent() -> None:
    with receiver(answers(202)) as server:
        answer = ask(server, headers={"X-One": "1"})
    (request,) = server.requests
    assert (request.method, request.path, request.body) == ("POST", TOKEN, b"{}")
    assert request.headers["x-one"] == "1"
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert "accept-encoding" not in request.headers or "gzip" not in request.headers
    assert answer.status == 202
    assert abs((answer.clock or 0) - now_us()) < 60_000_000


@pytest.mark.parametrize(
    "behaviour", [receivers.hangs, receivers.drips, receivers.continues], ids=lambda b: b.__name__
)
def test_receiver_that_does_not_end_its_answer_is_given_up(behaviour: Behaviour) -> None:
    since = time.monotonic()
    with receiver(behaviour) as server:
        error = failure(server, seconds=1.0)
    assert "did not answer within 1 s" in str(error)
    assert error.retriable
    assert time.monotonic() - since < 60


def test_tls_that_is_never_spoken_is_given_up(tmp_path: Path) -> None:
    with receiver(receivers.hangs) as server:
        server.scheme = "https"
        error = failure(server, seconds=1.0)
    assert error.retriable


@pytest.mark.parametrize("status", [200, 500])
def test_answer_without_end_is_read_to_a_bound(status: int) -> None:
    with receiver(receivers.endless(status)) as server:
        answer = ask(server, seconds=30)
    assert answer.status == status
    assert len(answer.body) == (0 if status == 200 else 65_536)


@pytest.mark.parametrize("to", ["http://169.254.169.254/latest/meta-data/", "/other"])
def test_redirect_is_not_followed(to: str) -> None:
    with receiver(receivers.redirects(to)) as server:
        error = failure(server)
    assert "elsewhere" in str(error)
    assert not error.retriable
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "retriable"),
    [(400, False), (401, False), (403, False), (404, True), (408, True), (410, False), (413, False),
     (429, True), (500, True), (502, True), (503, True)],
)  # fmt: skip
def test_status_says_whether_it_is_worth_another_try(status: int, retriable: bool) -> None:
    with receiver(answers(status)) as server:
        error = failure(server)
    assert str(status) in str(error)
    assert error.retriable is retriable


@pytest.mark.parametrize(
    ("given", "low", "high"),
    [("7", 7, 7), ("Fri, 31 Dec 9999 23:59:59 GMT", 3_600, 3_600), ("999999999", 3_600, 3_600),
     ("Thu, 01 Jan 1970 00:00:00 GMT", 0, 0)],
)  # fmt: skip
def test_receiver_may_ask_us_to_wait(given: str, low: float, high: float) -> None:
    with receiver(answers(429, Retry_After=given)) as server:
        after = failure(server).after_seconds
    assert after is not None
    assert low <= after <= high


@pytest.mark.parametrize("given", ["soon", "-1", "1e9", "²", "9" * 400, ""])
def test_wish_that_nobody_understands_is_none(given: str) -> None:
    with receiver(lambda _, talk: talk.raw(
        b"HTTP/1.1 429 Any\r\nContent-Length: 0\r\nRetry-After: " + given.encode() + b"\r\n\r\n"
    )) as server:  # fmt: skip
        assert failure(server).after_seconds is None


def test_what_is_no_http_is_told_and_not_quoted() -> None:
    with receiver(receivers.no_http) as server:
        assert "no HTTP" in str(failure(server))


def test_nobody_there_is_told() -> None:
    with receiver() as server:
        port = server.port
    to = parse(f"http://127.0.0.1:{port}{TOKEN}")
    with pytest.raises(DeliveryFailed, match="cannot be reached") as caught:
        exchange("POST", to, seconds=5, headers={}, allow_private=ALLOWED)
    assert "secret" not in str(caught.value)


def test_private_address_is_refused_with_what_would_allow_it() -> None:
    with receiver() as server:
        error = failure(server, allow_private=[])
    assert "`allow_private`" in str(error)
    assert server.connections == 0


def test_plain_http_is_spoken_to_named_networks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "refusal", lambda address, allowed: None)  # as if it were public
    with receiver() as server:
        error = failure(server, allow_private=[])
    assert "write https" in str(error)
    assert not error.retriable
    assert server.requests == []


def named(monkeypatch: pytest.MonkeyPatch, server: Receiver, name: str) -> Any:
    """The server's address under a name."""
    real = egress.socket.getaddrinfo
    monkeypatch.setattr(
        egress.socket, "getaddrinfo", lambda host, port, **k: real("127.0.0.1", port, **k)
    )
    return parse(f"https://{name}:{server.port}{TOKEN}")


def test_tls_is_verified_against_the_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = certificate(tmp_path, "hooks.example")
    with receiver(answers(204), tls=files) as server:
        to = named(monkeypatch, server, "hooks.example")
        kept: Any = {"headers": {}, "allow_private": ALLOWED, "ca": files[0], "seconds": 30}
        assert exchange("POST", to, **kept).status == 204
        assert server.requests[0].headers["host"] == f"hooks.example:{server.port}"
        other = named(monkeypatch, server, "other.example")
        with pytest.raises(DeliveryFailed, match=r"not to be trusted.*other\.example"):
            exchange("POST", other, **kept)
        with pytest.raises(DeliveryFailed, match="not to be trusted"):
            exchange("POST", to, **(kept | {"ca": None}))
    assert len(server.requests) == 1


def test_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with receiver(answers(204)) as server:
        assert ask(server).status == 204


def test_proxy_opens_a_tunnel_in_which_tls_is_verified(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = certificate(tmp_path, "hooks.example")
    monkeypatch.setattr(egress, "_resolve", _only_loopback(egress._resolve))
    with (
        receiver(answers(204), tls=files) as server,
        receiver(receivers.tunnels(server.port)) as proxy,
    ):
        kept: Any = {"headers": {"Authorization": "Bearer secret"}, "ca": files[0], "seconds": 30}
        to, by = parse(f"https://hooks.example{TOKEN}"), parse(proxy.url)
        assert exchange("POST", to, proxy=by, **kept).status == 204
        with pytest.raises(DeliveryFailed, match=r"not to be trusted.*other\.example"):
            exchange("POST", parse("https://other.example/"), proxy=by, **kept)
    first = proxy.requests[0]
    assert (first.method, first.path) == ("CONNECT", "hooks.example:443")
    assert "secret" not in str(first)
    assert [(r.method, r.path) for r in server.requests] == [("POST", TOKEN)]


def _only_loopback(real: Any) -> Any:
    def resolve(host: str, port: int, seconds: float) -> Any:
        assert host == "127.0.0.1", "the proxy looks names up"
        return real(host, port, seconds)

    return resolve


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("https://hooks.example/", "the proxy answered 403"),
        ("http://hooks.example/", "write https"),
        ("https://169.254.169.254/latest", "keeps credentials"),
        ("https://10.0.0.1/", "no public address"),
    ],
)
def test_proxy_that_refuses_and_what_is_not_asked_of_it(to: str, said: str) -> None:
    with receiver(answers(403)) as proxy, pytest.raises(DeliveryFailed, match=said):
        exchange("POST", parse(to), seconds=30, headers={}, proxy=parse(proxy.url))
    assert len(proxy.requests) == ("403" in said)


def test_proxy_that_hangs_is_given_up() -> None:
    to = parse("https://hooks.example/")
    with (
        receiver(receivers.hangs) as proxy,
        pytest.raises(DeliveryFailed, match="did not answer within 1 s"),
    ):
        exchange("POST", to, seconds=1, headers={}, proxy=parse(proxy.url))
