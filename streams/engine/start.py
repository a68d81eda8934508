"""Start checks: what can be wrong with the broker, asked before Faust would hang or stay silent
about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from redistill.streams.errors import BrokerRefused, StreamsError
from redistill.streams.kafka import broker as brokers
from redistill.streams.kafka.broker import Broker, admin, cause
from redistill.streams.kafka.dev_broker import topic_id

__all__ = ["check", "existing", "missing_topics", "topic_ids", "why_not"]

log = structlog.get_logger(__name__)

ASK_MS = 5_000
"""How long the broker may take to say what is wrong."""


def topic_ids(broker: Broker, topics: Iterable[str], client: Any = None) -> dict[str, str]:
    """Id of each topic that exists: a topic deleted and made again has another one.

    Parameters
    ----------
    broker
        Where; the dev broker's topics get ids of their own.
    topics
        Names as the broker knows them.
    client
        An open ``KafkaAdminClient``; ``None``: one is opened and closed.

    Raises
    ------
    BrokerUnavailable, BrokerRefused
        With the cause.
    """
    names = sorted(topics)
    if broker.is_dev:
        return {t: topic_id(broker, t) for t in names}
    asked = admin(broker, request_timeout_ms=ASK_MS) if client is None else client
    try:
        described = asked.describe_topics(names)
    except Exception as error:
        raise cause(error, broker) from error
    finally:
        if client is None:
            asked.close()
    out: dict[str, str] = {}
    for topic in described:
        code = topic.get("error_code", 0)
        if code == 29:
            raise BrokerRefused(
                f"user {_user(broker)!r} may not describe the topic {topic['name']!r}: "
                "grant READ on it with the broker's ACLs"
            )
        if code == 0 and topic.get("topic_id") is not None:
            out[topic["name"]] = str(topic["topic_id"])
    return out


def existing(broker: Broker, topics: Iterable[str]) -> dict[str, str]:
    """As ``topic_ids``, of topics that even a dev broker may not have.

    Raises
    ------
    BrokerUnavailable, BrokerRefused
        With the cause.
    """
    if not broker.is_dev:
        return topic_ids(broker, topics)
    client = admin(broker, request_timeout_ms=ASK_MS)
    try:
        described = client.describe_topics(sorted(topics))
    except Exception as error:
        raise cause(error, broker) from error
    finally:
        client.close()
    return topic_ids(broker, [t["name"] for t in described if not t.get("error_code")])


def check(broker: Broker, topics: Iterable[str], *, group: str, session_seconds: float) -> None:
    """Make sure that a worker could work.

    Raises
    ------
    BrokerUnavailable
        Away.
    BrokerRefused
        Bad credentials, wrong CA, no TLS, a missing topic or permission, or a session timeout that
        the broker does not allow. The message says what to do.
    """
    if broker.is_dev:
        return
    client = admin(broker)
    try:
        _check_permissions(client, broker, topics, group)
        _check_session(client, session_seconds)
    finally:
        client.close()


def why_not(
    broker: Broker, topics: Iterable[str], *, group: str, error: Exception | None = None
) -> StreamsError | None:
    """What stands in the way of a worker that has started, asked beside its consumer.

    Parameters
    ----------
    error
        What the consumer raised, if it raised something.

    Returns
    -------
    StreamsError or None
        ``BrokerUnavailable``: it is away; ``BrokerRefused``: it does not let us in, or not to a
        topic or the group; ``None``: nothing does.
    """
    if error is not None and "AuthorizationFailed" in type(error).__name__:
        return cause(error, broker)
    if (away := brokers.check(broker)) is not None:
        return away
    if broker.is_dev:
        return None
    try:
        client = admin(broker, request_timeout_ms=ASK_MS)
        try:
            _check_permissions(client, broker, topics, group)
        finally:
            client.close()
    except StreamsError as refused:
        return refused
    except Exception as raised:  # kafka-python has no base class; it is told as what it is
        return cause(raised, broker)
    return None


def missing_topics(topics: Iterable[str], ids: Mapping[str, str]) -> BrokerRefused | None:
    """What to say of topics that are not there; ``None``: all are."""
    if not (missing := sorted(set(topics) - ids.keys())):
        return None
    return BrokerRefused(
        f"missing topics: {', '.join(missing)}; make them with `redistill topics apply`"
    )


def _check_permissions(client: Any, broker: Broker, topics: Iterable[str], group: str) -> None:
    if (missing := missing_topics(topics, topic_ids(broker, topics, client))) is not None:
        raise missing
    _check_group(client, broker, group)


def _check_group(client: Any, broker: Broker, group: str) -> None:
    """Faust would hang in silence: the error of a refused group stays inside aiokafka."""
    try:
        client.list_group_offsets({group: None})
    except Exception as error:
        if "Authorization" in type(error).__name__:
            raise BrokerRefused(
                f"user {_user(broker)!r} may not use the consumer group {group!r}: "
                "grant READ on it with the broker's ACLs"
            ) from error
        log.info("group_not_checked", action="group_not_checked", error=repr(error))


def _check_session(client: Any, seconds: float) -> None:
    limits = _broker_settings(client)
    low = int(limits.get("group.min.session.timeout.ms") or 0)
    high = int(limits.get("group.max.session.timeout.ms") or 2**31)
    if not low <= seconds * 1000 <= high:
        raise BrokerRefused(
            f"the session timeout of {seconds:g} s is outside what the broker allows "
            f"({low / 1000:g} to {high / 1000:g} s): set REDISTILL_SESSION_TIMEOUT_SECONDS"
        )


def _broker_settings(client: Any) -> Mapping[str, str]:
    """Settings of any one broker; none where we may not ask (the watchdog is there for that)."""
    from kafka.admin import ConfigResource, ConfigResourceType

    try:
        node = client.describe_cluster()["brokers"][0]["broker_id"]
        answer = client.describe_configs(
            [ConfigResource(ConfigResourceType.BROKER, str(node))], config_filter="all"
        )
        settings: dict[str, str] = {}
        _collect(answer, settings)
    except Exception as error:  # a broker may refuse to tell its settings
        log.info("session_not_checked", action="session_not_checked", error=repr(error))
        return {}
    return settings


def _collect(answer: Any, into: dict[str, str]) -> None:
    """Names and values wherever they stand in the answer: its nesting differs between versions."""
    if isinstance(answer, Mapping):
        for name, value in answer.items():
            if isinstance(name, str) and name.startswith("group."):
                into[name] = str(value.get("value") if isinstance(value, Mapping) else value)
            else:
                _collect(value, into)
    elif isinstance(answer, list | tuple):
        for item in answer:
            _collect(item, into)


def _user(broker: Broker) -> str | None:
    return broker.security.username if broker.security else None
