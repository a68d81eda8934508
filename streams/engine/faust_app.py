"""Faust app of the stream worker: what Faust is told so that it keeps membership, loses nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import faust

from redistill.streams.engine.consumer import HOST, POLL_CHUNKS, BulkTransport, Host
from redistill.streams.engine.metrics_address import MetricsAddress
from redistill.streams.kafka.broker import Broker
from redistill.streams.store.batch import NameLimits
from redistill.streams.store.named_models import MOST

__all__ = ["StreamConfig", "make_app"]

LONGEST_WAIT_SECONDS = 7 * 86_400.0
"""After so long without a fetch aiokafka leaves the group, and Faust does not find back into it.
Nothing is fetched while the queue is full because the database is away; who is stuck otherwise is
ended by the watchdog."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamConfig:
    """Everything a stream worker is told."""

    broker: Broker
    database_url: str = field(repr=False)
    state_key: bytes = field(repr=False)
    """Authenticates the pickled part of stored states; the same for all workers of an installation.
    """
    group: str = "redistill-stream"
    """Consumer group, with the namespace if there is one."""
    instance_id: str | None = None
    """Kafka's ``group.instance.id``: a restart within the session timeout moves no partition. Two
    workers with one id would take turns; a lease refuses the second."""
    metrics: MetricsAddress | None = None
    """Where ``/metrics`` is served; ``None``: nowhere."""
    metrics_models: int = MOST
    """So many models are named in them."""
    flush_seconds: float = 0.5
    session_seconds: float = 6.0
    """How long Kafka waits for a worker that died: the broker's minimum, usually."""
    stop_seconds: float = 8.0
    """After SIGTERM: time to store what was taken. Supervisors often kill after ten."""
    patience_seconds: float = 30.0
    """How long a worker may be stuck before the watchdog ends it."""
    names: NameLimits = field(default_factory=NameLimits)
    """How many names from the wire are kept."""
    log_level: str = "info"


class _App(faust.App):
    """Faust without folders: there are no tables to keep, and the current folder is not ours."""

    def _create_directories(self) -> None:
        """Make none."""


def make_app(config: StreamConfig, worker: Host, topics: list[str]) -> Any:
    """Faust in the mode that loses nothing: no tables, no acks of its own, no web, no declared
    topics.
    """
    broker = config.broker
    app = _App(
        config.group,
        broker=[f"aiokafka://{server}" for server in broker.bootstrap],
        broker_credentials=_credentials(broker),
        store="memory://",
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=4,
        stream_wait_empty=False,
        stream_buffer_maxsize=131_072,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=4 * 1024 * 1024,
        consumer_metadata_max_age_ms=5_000,
        consumer_group_instance_id=config.instance_id,
        broker_session_timeout=config.session_seconds,
        broker_heartbeat_interval=max(0.2, min(1.0, config.session_seconds / 5)),
        broker_commit_interval=1.0,
        broker_max_poll_interval=LONGEST_WAIT_SECONDS,
        broker_max_poll_records=POLL_CHUNKS,
        table_standby_replicas=0,
        logging_config=None,
    )
    setattr(app, HOST, worker)
    app.transport = BulkTransport(app.conf.broker_consumer, app, loop=app.loop)

    async def never(stream: Any) -> None:
        # Makes Faust subscribe; records go to the bulk consumer's queue and never come here.
        async for _ in stream:
            pass

    for topic in topics:
        app.agent(app.topic(topic, value_type=bytes), name=f"redistill.{topic}")(never)
    return app


def _credentials(broker: Broker) -> Any:
    security = broker.security
    if security is None or security.protocol == "PLAINTEXT":
        return None
    context = security.ssl_context()
    if not security.protocol.startswith("SASL"):
        return faust.SSLCredentials(context=context)
    return faust.SASLCredentials(
        username=security.username,
        password=security.password,
        mechanism=security.mechanism,
        ssl_context=context,
    )
