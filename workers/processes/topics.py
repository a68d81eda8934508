"""Topics that redistill needs on a broker: what they should be, and making them so.

Missing topics are created; topics that are there are never changed, since somebody may have had a
reason: what differs is said, with its consequence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redistill.streams.errors import BrokerUnavailable
from redistill.streams.kafka.broker import Broker, admin, cause, check
from redistill.streams.wire.envelope import MAX_EVENT_BYTES
from redistill.streams.wire.events import COMPACTED, TOPICS, bound_topic, source_of

__all__ = ["DAY_MS", "PARTITIONS", "apply", "grants", "wanted"]

DAY_MS = 86_400_000
CREATE_SECONDS = 30.0
"""A controller makes topics within a second or two; a busy one may take longer."""
DATA_TOPICS = frozenset({"predictions", "labels"})
"""Those that stream workers share among them: one partition at least for each worker."""
PARTITIONS = 8
OTHER_DAYS = 30
RETENTION_DAYS = {"predictions": 7, "labels": 30, "dlq": 30}
"""What a stream worker that was away can still catch up with, and how long somebody has to look at
a dead letter; others are kept ``OTHER_DAYS``."""
CONTROLLER_AWAY = ("KafkaTimeoutError", "RequestTimedOutError", "NotControllerError")
"""What a broker answers, or kafka-python says, where the controller does not."""
MESSAGE_BYTES = 2 * MAX_EVENT_BYTES
"""A batch of records may be larger than one event."""


@dataclass(frozen=True, slots=True)
class Topic:
    """What a topic should be."""

    name: str
    partitions: int
    configs: dict[str, str]
    writers: str
    """Who may write there, and nobody else."""
    readers: str


@dataclass(frozen=True, slots=True)
class Found:
    """What is there, or was done."""

    name: str
    state: str
    """``created``, ``missing`` (a dry run), ``fine`` or ``differs``."""
    partitions: int
    notes: tuple[str, ...] = ()
    """What differs, what follows from it, and what to think of."""


WORKERS = "stream and repair workers"
ACCESS = {
    "predictions": ("services", "stream workers"),
    "labels": ("services and feeds of labels", "stream workers"),
    "activations": ("services", "repair workers"),
    "drift": (WORKERS, "repair workers"),
    "incidents": (WORKERS, "alert processes"),
    "releases": (WORKERS, "alert processes"),
    "pointers": (WORKERS, "services"),
}
"""Who may write to a topic, and who reads it; all others are announcements."""
ANNOUNCED = (WORKERS, "whoever asks")


def wanted(
    broker: Broker, *, partitions: int = PARTITIONS, bound: Iterable[str] = ()
) -> list[Topic]:
    """Every topic of the wire contract, in the broker's namespace, and those of bound sources.

    Examples
    --------
    >>> names = [t.name for t in wanted(Broker("kafka:9092", namespace="x"), bound=["ledger"])]
    >>> names[:2], names[-1]
    (['x.predictions', 'x.labels'], 'x.labels.ledger')
    """
    access = {name: ACCESS.get(name, ANNOUNCED) for name in TOPICS.values()} | {
        bound_topic(s): (f"the source {s}", "stream workers") for s in sorted(set(bound))
    }
    out = []
    for name, (writers, readers) in access.items():
        configs = {"max.message.bytes": str(MESSAGE_BYTES)}
        if name in COMPACTED:
            configs |= {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1"}
        else:
            days = RETENTION_DAYS.get(_kind(name), OTHER_DAYS)
            configs |= {"cleanup.policy": "delete", "retention.ms": str(days * DAY_MS)}
        count = partitions if _kind(name) in DATA_TOPICS else 1
        out.append(Topic(broker.topic(name), count, configs, writers, readers))
    return out


def _kind(name: str) -> str:
    return name if source_of(name) is None else "labels"


def grants(broker: Broker, topics: Sequence[Topic]) -> list[str]:
    """What to type so that each source alone writes to its topic; the names of users are to be
    filled in.

    Examples
    --------
    >>> broker = Broker("kafka:9092")
    >>> [x.partition("--allow-principal ")[2] for x in grants(broker, wanted(broker, bound=["a"]))]
    ['User:USER_OF_A --operation Write --topic labels.a',
     'User:USER_OF_STREAM_WORKERS --operation Read --topic labels.a']
    """
    out = []
    for topic in topics:
        name = topic.name.removeprefix(broker.topic(""))
        if (source := source_of(name)) is not None:
            for user, operation in ((source.upper(), "Write"), ("STREAM_WORKERS", "Read")):
                out.append(
                    f"kafka-acls --bootstrap-server {','.join(broker.bootstrap)} --add"
                    f" --allow-principal User:USER_OF_{user} --operation {operation}"
                    f" --topic {topic.name}"
                )
    return out


def apply(
    broker: Broker,
    topics: Sequence[Topic],
    *,
    replication: int | None = None,
    create: bool = True,
    seconds: float = CREATE_SECONDS,
) -> list[Found]:
    """Create what is missing, and compare what is there.

    Parameters
    ----------
    replication
        Copies of each partition; ``None``: the broker's default.
    create
        ``False`` only looks.
    seconds
        How long the controller may take.

    Raises
    ------
    BrokerUnavailable, BrokerRefused
        With the cause.
    """
    client = admin(broker)
    try:
        existing = {t["name"] for t in client.describe_topics() if not t.get("error_code")}
        missing = [t for t in topics if t.name not in existing]
        there = [t for t in topics if t.name in existing]
        if create and missing:
            created = _create(client, missing, replication, seconds)
        else:
            created = {t.name: "missing" for t in missing}
        found = {name: Found(name, state, 0) for name, state in created.items()}
        # Somebody may have made a topic between our look and our try.
        for topic in [*there, *(t for t in missing if created[t.name] == "raced")]:
            found[topic.name] = _compare(client, topic)
        for topic in missing:
            if found[topic.name].state in ("created", "missing"):
                found[topic.name] = Found(topic.name, found[topic.name].state, topic.partitions)
        return [found[t.name] for t in topics]
    except Exception as error:
        if type(error).__name__ in CONTROLLER_AWAY and check(broker) is None:
            raise BrokerUnavailable(
                f"{broker.servers} answers, and the controller of its cluster did not make the"
                f" topics within {seconds:g} s ({type(error).__name__}): it is slow or away. Look"
                " at the controllers' logs, then run `redistill topics apply` again: topics that"
                " are there by then are left as they are"
            ) from error
        raise cause(error, broker) from error
    finally:
        client.close()


def _create(
    client: Any, topics: Sequence[Topic], replication: int | None, seconds: float
) -> dict[str, str]:
    from kafka.errors import TopicAlreadyExistsError, for_code

    asked = {
        t.name: {
            "num_partitions": t.partitions,
            "replication_factor": replication if replication is not None else -1,
            "configs": t.configs
            | ({"min.insync.replicas": "2"} if replication is not None and replication > 2 else {}),
        }
        for t in topics
    }
    answer = client.create_topics(asked, raise_errors=False, timeout_ms=round(seconds * 1e3))
    out: dict[str, str] = {}
    rows = answer["topics"] if isinstance(answer, dict) else answer.to_dict()["topics"]
    for row in rows:
        error = for_code(row["error_code"])
        if error is TopicAlreadyExistsError:
            out[row["name"]] = "raced"
        elif row["error_code"]:
            raise error(f"{row['name']}: {row.get('error_message') or error.__name__}")
        else:
            out[row["name"]] = "created"
    return out


def _compare(client: Any, topic: Topic) -> Found:
    from kafka.admin import ConfigResource, ConfigResourceType

    described = client.describe_topics([topic.name])[0]
    partitions = len(described["partitions"])
    resource = ConfigResource(ConfigResourceType.TOPIC, topic.name)
    answer = client.describe_configs([resource], config_filter="all")
    values = _values(answer, topic.name)
    notes = []
    policy = values.get("cleanup.policy", "delete")
    if policy != topic.configs["cleanup.policy"]:
        wants = topic.configs["cleanup.policy"]
        why = (
            "new clients would not find the pointers of quiet models"
            if wants == "compact"
            else "records of one key replace each other: rows are lost"
        )
        notes.append(f"cleanup.policy is {policy!r}, {wants!r} was expected: {why}")
    notes += _smaller(values, topic, "retention.ms", "a worker that was away longer loses rows")
    notes += _smaller(values, topic, "max.message.bytes", "large batches are refused")
    advice = _kept_longer(values, topic) if topic.name.endswith("dlq") else []
    if partitions < topic.partitions:
        notes.append(
            f"{partitions} partitions, {topic.partitions} were asked for: at most {partitions}"
            " stream workers share it"
        )
    return Found(topic.name, "differs" if notes else "fine", partitions, (*notes, *advice))


def _values(answer: Any, topic: str) -> dict[str, str]:
    for resources in answer.values():
        if topic in resources:
            return {k: str(v["value"]) for k, v in resources[topic].items()}
    return {}


def _smaller(values: dict[str, str], topic: Topic, key: str, why: str) -> list[str]:
    if key not in topic.configs or key not in values:
        return []
    is_, wants = int(values[key]), int(topic.configs[key])
    if is_ < 0 or is_ >= wants:  # -1: without end
        return []
    return [f"{key} is {is_}, at least {wants} was expected: {why}"]


def _kept_longer(values: dict[str, str], topic: Topic) -> list[str]:
    """Dead letters are records as they came, whatever ``[privacy]`` says: no fault, but said."""
    is_, wants = int(values.get("retention.ms", 0)), int(topic.configs["retention.ms"])
    if 0 <= is_ <= wants:
        return []
    return [
        f"retention.ms is {is_}, longer than {wants}: dead letters are records as they came,"
        " personal data among them"
    ]
