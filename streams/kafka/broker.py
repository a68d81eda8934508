"""Broker: how to reach it, in one frozen value, and what the Kafka clients want to hear of it.

``servers`` is ``host:port[,host:port]``, or ``dev://host:port?start=UUID`` for the in-memory dev
broker, whose topics have no ids of their own: theirs are uuid5 of the broker's start and the
topic's name.
"""

from __future__ import annotations

import logging
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from redistill.quiet import Quiet
from redistill.streams.errors import BrokerRefused, BrokerUnavailable, StreamsError

__all__ = [
    "Broker",
    "Mechanism",
    "Protocol",
    "Security",
    "admin",
    "cause",
    "check",
    "close_producer",
    "consumer",
    "explain",
    "preload",
    "producer",
]

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

_FOR_EVER_MS = 2**31 - 1
_NOISY = (
    "kafka.cluster",
    "kafka.consumer.fetcher",
    "kafka.net.connection",
    "kafka.net.manager",
    "kafka.net.transport",
    "kafka.producer.sender",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Security:
    """Credentials and trust for a broker. The password never appears in ``repr``."""

    protocol: Protocol = "SASL_SSL"
    mechanism: Mechanism = "SCRAM-SHA-256"
    username: str | None = None
    password: str | None = None
    ca: str | None = None
    """Path of the CA certificates in PEM; ``None``: the system's."""

    def __repr__(self) -> str:
        return (
            f"Security(protocol={self.protocol!r}, mechanism={self.mechanism!r}, "
            f"username={self.username!r})"
        )

    def ssl_context(self) -> ssl.SSLContext | None:
        """A verifying TLS context, or ``None`` where the protocol has none."""
        return ssl.create_default_context(cafile=self.ca) if self.protocol.endswith("SSL") else None


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker's address, credentials and namespace."""

    servers: str
    security: Security | None = None
    namespace: str = ""

    @property
    def is_dev(self) -> bool:
        """Whether this is the in-memory dev broker."""
        return self.servers.startswith("dev://")

    @property
    def dev_start(self) -> str | None:
        """Id of the dev broker's start."""
        return parse_qs(urlsplit(self.servers).query)["start"][0] if self.is_dev else None

    @property
    def bootstrap(self) -> list[str]:
        """``host:port`` of each server.

        Examples
        --------
        >>> Broker("a:1,b:2").bootstrap, Broker("dev://127.0.0.1:9?start=x").bootstrap
        (['a:1', 'b:2'], ['127.0.0.1:9'])
        """
        text = urlsplit(self.servers).netloc if self.is_dev else self.servers
        return [s.strip() for s in text.split(",") if s.strip()]

    def topic(self, name: str) -> str:
        """Name of a topic in this broker's namespace."""
        from redistill.streams.wire.events import topic_name  # 0.1 s: not for every command

        return topic_name(name, self.namespace)

    def options(self) -> dict[str, Any]:
        """Keyword arguments that every class of kafka-python takes."""
        out: dict[str, Any] = {"bootstrap_servers": self.bootstrap}
        if self.is_dev:
            out["api_version"] = (2, 0)  # the mock cluster answers newer requests wrongly
        if self.security is not None:
            out["security_protocol"] = self.security.protocol
            if (context := self.security.ssl_context()) is not None:
                out["ssl_context"] = context
            if self.security.protocol.startswith("SASL"):
                out |= {
                    "sasl_mechanism": self.security.mechanism,
                    "sasl_plain_username": self.security.username,
                    "sasl_plain_password": self.security.password,
                }
        return out


def producer(broker: Broker, **over: Any) -> Any:
    """A ``kafka.KafkaProducer`` that waits for all replicas and tries again for ever.

    Parameters
    ----------
    broker
        Where, and as whom.
    over
        Settings of kafka-python that replace the ones chosen here.

    Raises
    ------
    BrokerUnavailable, BrokerRefused
        With the cause, after at most three seconds for each step and server.
    """
    from kafka import KafkaProducer

    return _connect(
        KafkaProducer,
        broker,
        {
            "acks": "all",
            "linger_ms": 5,
            "batch_size": 262_144,
            "max_request_size": 2 << 20,  # a batch of records may exceed one event's megabyte
            "delivery_timeout_ms": _FOR_EVER_MS,  # the caller keeps what is unsent and decides
            "max_block_ms": 10_000,  # a missing topic is an error to report, not to wait for
            "reconnect_backoff_max_ms": 1_000,  # a broker that is back is found within a second
            "allow_auto_create_topics": False,
        }
        | over,
    )


def close_producer(made: Any) -> None:
    """Close a ``kafka.KafkaProducer`` within about two seconds, whatever is unsent.

    Its own ``close`` raises where something is unsent, and closes nothing then: its thread goes on,
    with a connection, and sends what others have sent again meanwhile; its destructor complains.
    """
    with suppress(Exception):
        made.close(timeout=1)
    thread = getattr(made, "_sender", None)
    if thread is not None and not getattr(made, "_closed", True):
        made._closed = True  # for its destructor
        thread.force_close()
        thread.join(1)


def consumer(broker: Broker, *topics: str, **over: Any) -> Any:
    """A ``kafka.KafkaConsumer`` without auto-commit that starts at the beginning of the log, and
    reads what is committed: nothing of transactions that were aborted, and nothing behind one that
    is open.

    Raises
    ------
    BrokerUnavailable, BrokerRefused
        With the cause.
    """
    from kafka import KafkaConsumer

    from redistill.streams.kafka.lenient import read_leniently

    made = _connect(
        KafkaConsumer,
        broker,
        {
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "isolation_level": "read_committed",
            "check_crcs": not broker.is_dev,  # the mock cluster's markers have none
            "reconnect_backoff_max_ms": 1_000,
            "metadata_max_age_ms": 5_000,  # a topic that is made later is seen within five seconds
            "allow_auto_create_topics": False,
        }
        | over,
        *topics,
    )
    return read_leniently(made)


def admin(broker: Broker, **over: Any) -> Any:
    """A ``kafka.KafkaAdminClient``.

    Raises
    ------
    BrokerUnavailable, BrokerRefused
        With the cause.
    """
    from kafka import KafkaAdminClient

    return _connect(KafkaAdminClient, broker, {"reconnect_backoff_max_ms": 1_000} | over)


def cause(exc: BaseException, broker: Broker, *, timeout: float = 3.0) -> StreamsError:
    """What is really wrong, given what a Kafka client raised: asks the broker step by step.

    Parameters
    ----------
    exc
        What was raised.
    broker
        The broker that was talked to.
    timeout
        Seconds for each step at each server.

    Returns
    -------
    StreamsError
        ``BrokerRefused`` where somebody has to change something, ``BrokerUnavailable`` where
        waiting may help.
    """
    name = type(exc).__name__
    if isinstance(exc, StreamsError):
        return exc
    if "AuthorizationFailed" in name:
        user = broker.security.username if broker.security else None
        return BrokerRefused(
            f"user {user!r} lacks a permission: {exc}; grant it with the broker's ACLs"
        )
    if name in ("UnknownTopicOrPartitionError", "InvalidTopicError"):
        return BrokerRefused(f"a topic is missing: {exc}; make it with `redistill topics apply`")
    return check(broker, timeout=timeout) or BrokerUnavailable(
        f"{broker.servers} answers now, but {name} was raised: {exc}"
    )


def check(broker: Broker, *, timeout: float = 3.0) -> StreamsError | None:
    """Ask each server, step by step, whether it lets us in.

    Returns
    -------
    StreamsError or None
        ``None`` as soon as one does; else why not.
    """
    from redistill.streams.kafka.handshake import Login, probe

    security = broker.security or Security(protocol="PLAINTEXT")
    try:
        context = security.ssl_context()
    except OSError as error:
        return BrokerRefused(f"the CA certificates {security.ca!r} cannot be read: {error}")
    login = Login(
        protocol=security.protocol,
        mechanism=security.mechanism,
        username=security.username or "",
        password=security.password or "",
        context=context,
    )
    faults: list[StreamsError] = []
    for server in broker.bootstrap:
        host, _, port = server.rpartition(":")
        if not host or not port.isdigit():
            return BrokerRefused(f"{server!r} is no address: servers are host:port[,host:port]")
        if (why := probe(host.strip("[]"), int(port), login, timeout=timeout)) is None:
            return None
        faults.append(why)
    if not faults:
        return BrokerRefused("no servers are given: servers are host:port[,host:port]")
    # A refusal tells more than a server that is away.
    return next((e for e in faults if isinstance(e, BrokerRefused)), faults[0])


def preload() -> None:
    """Import now what the first connection would import.

    A thread that imports holds the lock of each module that it is loading. A process forked
    meanwhile inherits the lock held and not the thread: it waits for it, without a word, for ever.

    Raises
    ------
    ImportError
        kafka-python is missing or broken.
    """
    import encodings.idna  # noqa: F401  # at the first name that is looked up

    import kafka  # noqa: F401

    from redistill.streams.kafka import handshake, lenient  # noqa: F401


def explain(exc: BaseException, broker: Broker, *, timeout: float = 3.0) -> str:
    """The text of ``cause``: what was wrong, where, and what to do."""
    return str(cause(exc, broker, timeout=timeout))


class _OncePerMinute(logging.Filter):
    """Lets a message through once a minute: kafka-python repeats itself at each attempt.

    With the broker away that is ten lines a second in the log of a service; what is wrong is said
    by whoever called, with its cause.
    """

    def __init__(self, quiet: Quiet) -> None:
        super().__init__()
        self._quiet = quiet

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        # what is no text may not have words; that is the handler's to complain of
        said = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        return self._quiet.ask(f"{record.name} {said}") is not None


_ONCE_PER_MINUTE = _OncePerMinute(Quiet())


def _connect(make: Any, broker: Broker, options: dict[str, Any], *args: Any) -> Any:
    for name in _NOISY:
        logging.getLogger(name).addFilter(_ONCE_PER_MINUTE)  # adding it again changes nothing
    # Asked first: a client of kafka-python whose constructor fails leaves its sockets open.
    if (why := check(broker)) is not None:
        raise why
    try:
        return make(*args, **({"bootstrap_timeout_ms": 10_000} | broker.options() | options))
    except Exception as exc:
        raise cause(exc, broker) from exc
