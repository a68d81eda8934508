"""A broker's address and credentials as values, and what is really wrong when a client raises."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from ports import free_port

from redistill.quiet import Quiet
from redistill.streams.errors import BrokerRefused, BrokerUnavailable, StreamsError
from redistill.streams.kafka import broker as module
from redistill.streams.kafka import handshake
from redistill.streams.kafka.broker import (
    Broker,
    Security,
    admin,
    cause,
    check,
    consumer,
    explain,
    producer,
)

DEV = Broker("dev://127.0.0.1:9?start=11111111-1111-1111-1111-111111111111", namespace="ns")
AWAY, NO = BrokerUnavailable("away"), BrokerRefused("no")


class TopicAuthorizationFailedError(Exception):
    """As kafka-python names them."""


class UnknownTopicOrPartitionError(Exception):
    pass


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[StreamsError | None]:
    """What servers answer, one after the other; each that was asked."""
    left: list[StreamsError | None] = []

    def probe(host: str, port: int, login: Any, *, timeout: float) -> StreamsError | None:
        asked.append((host, port, login))
        return left.pop(0)

    asked: list[Any] = []
    left_and_asked = left
    monkeypatch.setattr(handshake, "probe", probe)
    monkeypatch.setattr(module, "asked", asked, raising=False)
    return left_and_asked


def asked() -> list[Any]:
    return module.asked  # type: ignore[attr-defined, no-any-return]


# --- values -------------------------------------------------------------------------------------


def test_password_is_in_no_representation() -> None:
    security = Security(username="svc", password="hunter2")
    for text in (repr(security), str(security), repr(Broker("b:1", security))):
        assert "svc" in text
        assert "hunter2" not in text


def test_address_is_taken_apart() -> None:
    assert Broker(" a:1 , b:2,").bootstrap == ["a:1", "b:2"]
    assert (DEV.is_dev, DEV.dev_start) == (True, "11111111-1111-1111-1111-111111111111")
    assert (Broker("a:1").is_dev, Broker("a:1").dev_start) == (False, None)
    assert (DEV.topic("labels"), Broker("a:1").topic("labels")) == ("ns.labels", "labels")


def test_options_are_those_of_every_client(tmp_path: Path) -> None:
    assert Broker("a:1").options() == {"bootstrap_servers": ["a:1"]}
    assert DEV.options()["api_version"] == (2, 0)
    plain = Broker("a:1", Security(protocol="SASL_PLAINTEXT", username="u", password="p")).options()
    assert plain == {
        "bootstrap_servers": ["a:1"], "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-256", "sasl_plain_username": "u", "sasl_plain_password": "p",
    }  # fmt: skip
    tls = Broker("a:1", Security(protocol="SSL")).options()
    assert tls["ssl_context"].check_hostname
    assert "sasl_mechanism" not in tls


# --- why not ------------------------------------------------------------------------------------


def test_first_server_that_lets_in_is_enough(answers: list[StreamsError | None]) -> None:
    answers[:] = [AWAY, None, NO]
    assert check(Broker("a:1,[::1]:2,c:3")) is None
    assert [(host, port) for host, port, _ in asked()] == [("a", 1), ("::1", 2)]


def test_refusal_tells_more_than_a_server_that_is_away(answers: list[StreamsError | None]) -> None:
    answers[:] = [AWAY, NO]
    assert check(Broker("a:1,b:2")) is NO
    answers[:] = [AWAY, BrokerUnavailable("too")]
    assert check(Broker("a:1,b:2")) is AWAY


def test_login_is_what_the_clients_would_say(answers: list[StreamsError | None]) -> None:
    answers[:] = [None, None]
    check(Broker("a:1"))
    check(Broker("a:1", Security(protocol="SASL_SSL", mechanism="PLAIN", username="u")))
    (_, _, plain), (_, _, sasl) = asked()
    assert (plain.protocol, plain.context) == ("PLAINTEXT", None)
    assert (sasl.protocol, sasl.mechanism, sasl.username, sasl.password) == (
        "SASL_SSL", "PLAIN", "u", "",
    )  # fmt: skip
    assert sasl.context is not None


@pytest.mark.parametrize("servers", ["kafka", "kafka:port", ":9092", "", " , "])
def test_malformed_servers_are_refused(servers: str) -> None:
    why = check(Broker(servers))
    assert isinstance(why, BrokerRefused)
    assert "host:port" in str(why)


def test_missing_ca_is_named() -> None:
    why = check(Broker("a:1", Security(protocol="SSL", ca="/nowhere.pem")))
    assert isinstance(why, BrokerRefused)
    assert "/nowhere.pem" in str(why)


def test_cause_is_what_the_client_said_where_it_is_clear() -> None:
    broker = Broker("a:1", Security(username="svc"))
    assert cause(NO, broker) is NO
    why = cause(TopicAuthorizationFailedError("labels"), broker)
    assert isinstance(why, BrokerRefused)
    assert "user 'svc' lacks a permission: labels" in str(why)
    why = cause(UnknownTopicOrPartitionError("labels"), broker)
    assert isinstance(why, BrokerRefused)
    assert "redistill topics apply" in str(why)


def test_cause_is_asked_for_where_the_client_is_silent(answers: list[StreamsError | None]) -> None:
    answers[:] = [AWAY, None]
    assert cause(RuntimeError("unable to bootstrap"), Broker("a:1")) is AWAY
    assert explain(RuntimeError("earlier"), Broker("a:1")) == (
        "a:1 answers now, but RuntimeError was raised: earlier"
    )


# --- clients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [producer, consumer, admin])
def test_client_of_a_broker_that_is_away_raises_the_cause(make: Any) -> None:
    with pytest.raises(BrokerUnavailable, match="is the broker running"):
        make(Broker(f"127.0.0.1:{free_port()}"))


def test_clients_settings_win_and_their_failure_is_explained(
    answers: list[StreamsError | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, Any]] = []

    def client(*topics: str, **options: Any) -> str:
        made.append(options)
        if options.get("acks") == "none":
            raise ValueError("no such acks")
        return "client"

    monkeypatch.setattr("kafka.KafkaProducer", client)
    answers[:] = [None]
    assert producer(Broker("a:1"), linger_ms=7) == "client"
    assert (made[0]["linger_ms"], made[0]["acks"]) == (7, "all")
    assert made[0]["bootstrap_servers"] == ["a:1"]
    answers[:] = [None, None]
    with pytest.raises(BrokerUnavailable, match="ValueError was raised: no such acks"):
        producer(Broker("a:1"), acks="none")


def test_consumer_reads_what_is_committed_unless_it_is_told_otherwise(
    answers: list[StreamsError | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kafka.KafkaConsumer", lambda *topics, **options: options)
    answers[:] = [None, None]
    assert consumer(Broker("a:1"))["isolation_level"] == "read_committed"
    whole = consumer(Broker("a:1"), isolation_level="read_uncommitted")
    assert whole["isolation_level"] == "read_uncommitted"


def test_message_without_words_reaches_the_handler_and_not_who_wrote_it() -> None:
    class Mute:
        def __str__(self) -> str:
            raise ZeroDivisionError("no words")

    limit = module._OncePerMinute(Quiet())
    line = logging.LogRecord("kafka.conn", logging.ERROR, "", 0, Mute(), (), None)
    assert [limit.filter(line) for _ in range(2)] == [True, False]


def test_client_that_repeats_itself_is_heard_once_a_minute() -> None:
    now = 0.0
    limit = module._OncePerMinute(Quiet(clock=lambda: now))

    def line(at: float, text: str = "away %s") -> bool:
        nonlocal now
        now = at
        return limit.filter(logging.LogRecord("kafka.net.manager", 40, "", 0, text, ("x",), None))

    assert [line(100), line(110), line(159.9), line(160.0)] == [True, False, False, True]
    assert line(161, "another")
