from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from redistill.workers.errors import SettingsError
from redistill.workers.settings import values
from redistill.workers.settings.settings import Settings


@pytest.mark.parametrize("blank", [None, "", "  "])
def test_blank_is_none(blank: str | None) -> None:
    assert values.servers(blank) is None
    assert values.database(blank) is None


@pytest.mark.parametrize(
    "text", ["127.0.0.1:9092", " kafka-1:9092,kafka-2:1 ", "[::1]:65535", "dev://127.0.0.1:7?start=x"]
)  # fmt: skip
def test_addresses_are_taken_as_they_are(text: str) -> None:
    assert values.servers(text) == text.strip()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("kafka", "'kafka'"),
        ("kafka:", "'kafka:'"),
        (":9092", "':9092'"),
        ("kafka:0", "'kafka:0'"),
        ("kafka:65536", "'kafka:65536'"),
        ("good:1, kafka:http", "'kafka:http'"),
        ("dev://127.0.0.1:7?star=1", "start=UUID"),
    ],
)
def test_address_that_is_none_is_named(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        values.servers(text)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("sqlite:///x.db", "sqlite:///x.db"),
        ("postgres://u@h/n", "postgresql+psycopg://u@h/n"),
        (" postgresql://u:p@h/n", "postgresql+psycopg://u:p@h/n"),
        ("postgresql+psycopg://u@h/n", "postgresql+psycopg://u@h/n"),
    ],
)
def test_database_is_reached_by_our_driver(text: str, url: str) -> None:
    assert values.database(text) == url


@pytest.mark.parametrize("text", ["mysql://h/n", "x.db", "sqlite:x.db", "postgresql+asyncpg://h/n"])
def test_other_databases_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="sqlite:///PATH or postgresql://"):
        values.database(text)


def test_key_has_sixteen_bytes_at_least() -> None:
    assert values.hex_key(None) is None
    key = values.hex_key(SecretStr(f" {'ab' * 16}\n"))
    assert key is not None
    assert key.get_secret_value() == "ab" * 16
    with pytest.raises(ValueError, match="16 bytes"):
        values.hex_key(SecretStr("ab" * 15))


def test_key_that_is_no_hexadecimal_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="hexadecimal digits") as caught:
        values.hex_key(SecretStr("my password"))
    assert "my password" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("postgresql://ann:secret@db/x", "postgresql://ann:***@db/x"),
        ("postgresql://ann@db/x", "postgresql://ann@db/x"),
        ("kafka:9092", "kafka:9092"),
        (7, 7),
        (None, None),
    ],
)
def test_password_of_a_url_is_hidden(value: Any, shown: Any) -> None:
    assert values.without_password(value) == shown


TOKEN = "0123456789abcdef-._~+/=01234567890"


def test_tokens_are_long_and_fit_into_a_header() -> None:
    assert values.token(None) is None
    good = values.token(SecretStr(f" {TOKEN}\r\n"))
    assert good is not None
    assert good.get_secret_value() == TOKEN


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("x" * 31, r"32 characters or more were expected, not 31, for example from `openssl"),
        ("", "not 0"),
        (TOKEN + " " + TOKEN, "without spaces"),
        (TOKEN + "\n" + TOKEN, "without spaces"),
        (TOKEN + "\x00" + TOKEN, "without spaces"),
        (TOKEN + "é", "of ASCII"),
    ],
)
def test_tokens_that_are_none_are_refused_without_being_repeated(token: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        values.token(SecretStr(token))
    assert not token or token not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:canary@host/db",
        "mysql://me:canary/canary@host/db",
        "mysql://me:canary@canary@host:5432/db",
        "mysql://me:can?canary#canary@host/db",
        "mysql://host/db?user=me&password=canary",
        "mysql://host/db?sslPassword=canary&x=1",
        "kafka://me:canary@host",
        "me:canary@host:9092",
        "REDISTILL_BROKER = 'me:canary@host': 'me:canary@host' is not that",
    ],
)
def test_no_password_of_a_url_is_said(url: str) -> None:
    assert "canary" not in values.without_password(url)
    assert "host" in values.without_password(url)


@pytest.mark.parametrize("name", ["labels", "prod.labels", "a.b.labels"])
def test_namespace_whose_topics_are_anothers_bound_sources_is_refused(name: str) -> None:
    """``labels.drift`` is the topic of a source ``drift`` for whoever has no namespace."""
    with pytest.raises(ValueError, match="bound sources of another installation"):
        values.namespace(name)
    with pytest.raises(SettingsError, match="REDISTILL_NAMESPACE = "):
        Settings.load({"namespace": name})
    assert values.namespace("my-labels") == "my-labels"
    assert values.namespace("labels.prod") == "labels.prod"
