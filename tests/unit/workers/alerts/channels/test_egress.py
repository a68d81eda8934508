"""A channel connects to what was judged, and to nothing that only we can reach."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest
from receivers import LOOPBACK, Receiver, receiver

from redistill.workers.alerts.channels import egress
from redistill.workers.alerts.channels.egress import EgressRefused, connect, refusal

ALLOWED = [ip_network(n) for n in LOOPBACK]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1",
        "169.254.1.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "192.88.99.1", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "::", "::1", "::7f00:1", "::ffff:127.0.0.1",
        "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "2002:7f00:1::",
        "2002:a00:1::1", "2001:0:1::1", "2001:db8::1", "fc00::1", "fd12::1", "fe80::1", "fec0::1",
        "fe80::1%eth0", "ff02::1", "100::1", "5f00::1", "2001:4860::5efe:10.0.0.1",
        "2001:4860::200:5efe:127.0.0.1", "fd12::5efe:8.8.8.8", "2001:4860:0:1:0:5efe:a9fe:a9fe",
    ],
)  # fmt: skip
def test_what_is_not_public_is_refused(address: str) -> None:
    assert refusal(address, []) is not None


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "2001:4860:4860::8888",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2001:4860::5efe:8.8.8.8",
    ],
)
def test_what_is_public_may_be_called(address: str) -> None:
    assert refusal(address, []) is None


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3"])
def test_network_that_the_channel_names_may_be_called(address: str) -> None:
    assert refusal(address, [ip_network("10.1.0.0/16")]) is None
    assert refusal(address, [ip_network("10.2.0.0/16")]) is not None


@pytest.mark.parametrize(
    "address",
    [*sorted(map(str, egress.METADATA)), "::ffff:169.254.169.254", "64:ff9b::169.254.169.254"],
)
def test_metadata_are_refused_in_any_network(address: str) -> None:
    everything = [ip_network("0.0.0.0/0"), ip_network("::/0")]
    assert "credentials" in (refusal(address, everything) or "")


class Resolver:
    """Names and what they resolve to, one answer after the other, the last for ever."""

    def __init__(self, answers: dict[str, list[list[str]]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked.append(host)
        left = self.answers[host]
        found = left.pop(0) if len(left) > 1 else left[0]
        kinds = [socket.AF_INET6 if ":" in a else socket.AF_INET for a in found]
        return [
            (k, socket.SOCK_STREAM, 6, "", (a, port)) for k, a in zip(kinds, found, strict=True)
        ]


@pytest.fixture
def server() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def resolve(monkeypatch: pytest.MonkeyPatch, **answers: list[list[str]]) -> Resolver:
    resolver = Resolver({name.replace("_", "."): found for name, found in answers.items()})
    monkeypatch.setattr(egress.socket, "getaddrinfo", resolver)
    return resolver


def test_name_that_resolves_to_a_private_address_is_refused(
    monkeypatch: pytest.MonkeyPatch, server: Receiver
) -> None:
    resolve(monkeypatch, hooks_example=[["127.0.0.1"]])
    with pytest.raises(EgressRefused, match=r"hooks\.example: 127\.0\.0\.1 is no public address"):
        connect("hooks.example", server.port, allowed=[], seconds=5)
    assert server.connections == 0


@pytest.mark.parametrize("both", [["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"]])
def test_one_private_address_refuses_the_name(
    monkeypatch: pytest.MonkeyPatch, server: Receiver, both: list[str]
) -> None:
    resolve(monkeypatch, hooks_example=[both])
    with pytest.raises(EgressRefused):
        connect("hooks.example", server.port, allowed=[], seconds=5)
    assert server.connections == 0


def test_what_was_judged_is_what_is_connected_to(
    monkeypatch: pytest.MonkeyPatch, server: Receiver
) -> None:
    """DNS rebinding: an address that is allowed at first, another one a moment later."""
    resolver = resolve(monkeypatch, hooks_example=[["127.0.0.1"], ["127.0.0.2"]])
    with connect(
        "hooks.example", server.port, allowed=[ip_network("127.0.0.1/32")], seconds=5
    ) as s:
        assert s.getpeername()[0] == "127.0.0.1"
    assert resolver.asked == ["hooks.example"]
    with pytest.raises(EgressRefused, match=r"127\.0\.0\.2"):
        connect("hooks.example", server.port, allowed=[ip_network("127.0.0.1/32")], seconds=5)


@pytest.mark.parametrize("host", ["2130706433", "0177.0.0.1", "0x7f000001", "127.1", "localhost"])
def test_other_spellings_of_loopback_are_judged_by_their_address(host: str) -> None:
    """``address`` refuses most of them before; the system's resolver takes them."""
    with pytest.raises((EgressRefused, OSError)) as caught:
        connect(host, 9, allowed=[], seconds=5)
    if isinstance(caught.value, EgressRefused):
        assert "no public address" in str(caught.value)


def test_next_address_is_tried(monkeypatch: pytest.MonkeyPatch, server: Receiver) -> None:
    resolve(monkeypatch, hooks_example=[["::1", "127.0.0.1"]])
    with connect("hooks.example", server.port, allowed=ALLOWED, seconds=5) as sock:
        assert sock.getpeername()[0] == "127.0.0.1"


def test_resolver_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    monkeypatch.setattr(egress.socket, "getaddrinfo", lambda *_, **__: done.wait(60))
    with pytest.raises(TimeoutError, match="name"):
        connect("hooks.example", 443, allowed=[], seconds=0.1)
    done.set()


def test_unknown_name_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(egress.socket, "getaddrinfo", unknown)
    with pytest.raises(OSError, match="not known"):
        connect("hooks.example", 443, allowed=[], seconds=5)
