"""What Faust is told: the mode that loses nothing, and how the broker is reached."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka import client as aiokafka_client
from aiokafka.consumer import fetcher

from redistill.streams.engine import faust_app as module
from redistill.streams.engine.consumer import HOST, BulkTransport
from redistill.streams.engine.faust_app import StreamConfig, make_app
from redistill.streams.engine.fetched import RawRecords, RawSet
from redistill.streams.kafka.broker import Broker, Security


def config(**more: Any) -> StreamConfig:
    values = {
        "broker": Broker("kafka:9092,other:9092"),
        "database_url": "sqlite://",
        "state_key": b"k" * 32,
    }
    return StreamConfig(**(values | more))


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    asyncio.set_event_loop(made)
    yield made
    asyncio.set_event_loop(None)
    made.close()


@pytest.fixture
def unpatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the transport replaces in aiokafka is put back afterwards."""
    for name in ("MemoryRecords", "PartitionRecords"):
        monkeypatch.setattr(fetcher, name, getattr(fetcher, name))
    monkeypatch.setattr(aiokafka_client, "create_conn", aiokafka_client.create_conn)


@pytest.mark.usefixtures("unpatched")
def test_faust_runs_in_the_mode_that_loses_nothing(loop: asyncio.AbstractEventLoop) -> None:
    worker: Any = SimpleNamespace(topics=frozenset({"predictions"}))
    made = make_app(
        config(group="g", instance_id="a", session_seconds=6.0), worker, ["predictions"]
    )
    assert getattr(made, HOST) is worker
    assert isinstance(made.transport, BulkTransport)
    assert (fetcher.MemoryRecords, fetcher.PartitionRecords) == (RawSet, RawRecords)
    conf = made.conf
    assert (conf.id, [str(u) for u in conf.broker]) == (
        "g", ["aiokafka://kafka:9092", "aiokafka://other:9092"],
    )  # fmt: skip
    assert (conf.consumer_group_instance_id, conf.broker_session_timeout) == ("a", 6.0)
    assert conf.broker_heartbeat_interval <= conf.broker_session_timeout / 3
    assert conf.consumer_auto_offset_reset == "earliest"
    assert (conf.topic_allow_declare, conf.web_enabled) == (False, False)
    assert conf.broker_max_poll_interval > 86_400, "a database may be away for a day"
    assert list(made.agents) == ["redistill.predictions"]


@pytest.mark.parametrize(
    ("security", "kind"),
    [
        (None, type(None)),
        (Security(protocol="PLAINTEXT"), type(None)),
        (Security(protocol="SSL"), faust.SSLCredentials),
        (Security(protocol="SASL_PLAINTEXT", username="u", password="p"), faust.SASLCredentials),
        (Security(protocol="SASL_SSL", username="u", password="p"), faust.SASLCredentials),
    ],
)
def test_credentials_are_those_of_the_broker(security: Security | None, kind: type) -> None:
    made = module._credentials(Broker("kafka:9092", security))
    assert isinstance(made, kind)
    if security is not None and kind is faust.SASLCredentials:
        assert (made.username, made.password, made.mechanism.value) == (
            "u", "p", security.mechanism,
        )  # fmt: skip
        assert (made.ssl_context is not None) is (security.protocol == "SASL_SSL")
