from __future__ import annotations

import pytest

from redistill.workers.alerts.channels.address import (
    host_name,
    networks_of,
    parse,
    url_of,
    url_or_secret_of,
)


@pytest.mark.parametrize(
    "text",
    [
        "https://user:hunter2@hooks.example/x", "https://hunter2@hooks.example/x",
        "https://hooks.example@127.0.0.1/", "https://hooks.example\\@127.0.0.1/",
        "ftp://hooks.example/", "file:///etc/passwd", "hooks.example/x", "https:///x", "",
        "https://hooks.example/x#frag", "https://hooks.example:99999/", "https://hooks.example:x/",
        "https://hooks.example/a b", "https://hooks.example/a\r\nHost: other", "https://hööks.example/",
        "https://2130706433/", "https://0177.0.0.1/", "https://0x7f.0.0.1/", "https://127.1/",
        "https://0x7f000001/", "https://127.0.0.1.0x1/", "https://[fe80::1%25eth0]/", "https://[::1/",
        "https://a..b/", "https://-a.example/", "https://" + "a." * 200 + "example/",
        "https://hooks.example/" + "x" * 3_000,
    ],
)  # fmt: skip
def test_url_that_two_programs_read_differently_is_refused(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "host", "port", "target"),
    [
        ("https://Hooks.Example./x?y=1", "hooks.example", 443, "/x?y=1"),
        ("http://10.0.0.1:9093", "10.0.0.1", 9093, "/"),
        ("https://[2001:DB8::1]:8443/x", "2001:db8::1", 8443, "/x"),
        ("https://hooks_internal/x", "hooks_internal", 443, "/x"),
    ],
)
def test_url_is_taken_apart(text: str, host: str, port: int, target: str) -> None:
    found = parse(text)
    assert (found.host, found.port, found.target) == (host, port, target)


def test_what_is_shown_has_no_token() -> None:
    found = parse("https://hooks.example/services/T0/hunter2?key=hunter2")
    assert "hunter2" not in f"{found} {found!r}"
    assert str(parse("https://[::1]/")) == "https://[::1]:443"


def test_host_of_a_list_is_compared_in_one_form() -> None:
    assert host_name("HOOKS.example.") == "hooks.example"
    assert host_name("2001:DB8:0::1") == "2001:db8::1"


@pytest.mark.parametrize("value", ["10.0.0.0/8", ["10.0.0.1/8"], [8], ["private"], 3])
def test_networks_that_are_none_are_told(value: object) -> None:
    with pytest.raises(ValueError):
        networks_of(value)


def test_url_behind_a_secret_is_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PING_URL", "https://a.example/1")
    source = url_or_secret_of("env:PING_URL")
    monkeypatch.setenv("PING_URL", "https://b.example/2\n")
    assert source.now().host == "b.example"
    monkeypatch.setenv("PING_URL", "hunter2")
    with pytest.raises(ValueError) as caught:
        url_or_secret_of("env:PING_URL")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", [3, None, ["https://a.example"]])
def test_what_is_no_text_is_no_url(value: object) -> None:
    with pytest.raises(ValueError, match="URL"):
        url_of(value)
