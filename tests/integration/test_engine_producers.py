"""Whatever writes to the log, and however: every offset is counted once, as a row or as a dead
letter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
import sqlalchemy as sa
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from stream_lab import PARTITIONS, Lab
from stream_rows import prediction, record
from waiting import eventually

from redistill.streams.store import tables as t
from redistill.streams.wire.codec import MAX_EVENT_BYTES

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@pytest.fixture
def lab(kafka_server: Any, tmp_path: Path) -> Iterator[Lab]:
    made = Lab(kafka_server.bootstrap, f"sqlite:///{tmp_path / 'redistill.db'}", tmp_path)
    yield made.make_topics()
    made.close()


class Writers:
    """Producers of both libraries; knows how many records can be read and how many cannot."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.topic = lab.broker.topic("predictions")
        self.good = self.bad = self.serial = 0
        self.markers = 0
        """Offsets that hold nothing to count."""

    def confluent(self, **config: Any) -> Any:
        return confluent_kafka.Producer(
            {"bootstrap.servers": self.lab.bootstrap, "linger.ms": 20, **config}
        )

    def rows(self, out: Any, n: int) -> None:
        """``n`` rows, spread over the partitions."""
        send = out.produce if isinstance(out, confluent_kafka.Producer) else out.send
        for i in range(self.serial, self.serial + n):
            made = record(prediction(i), 0)
            send(
                self.topic,
                made.value,
                key=made.key,
                headers=list(made.headers),
                partition=i % PARTITIONS,
            )
        out.flush()
        self.serial += n
        self.good += n

    def odd(self, out: Any, value: bytes | None, headers: Any, *, fine: bool, key: Any) -> None:
        """Three times the same on partition 2."""
        for _ in range(3):
            out.produce(self.topic, value, key=key, headers=headers, partition=2)
        out.flush()
        self.good += 3 * fine
        self.bad += 3 * (not fine)

    def settled(self) -> bool:
        """Whether all of it is counted, and nothing twice."""
        offsets = [r for (name, _), r in self.lab.offsets().items() if name == "predictions"]
        for r in offsets:
            assert r.next_offset - r.first_offset == r.counted + r.dead + r.skipped
        sums = [sum(getattr(r, k) for r in offsets) for k in ("counted", "dead", "skipped")]
        return sums == [self.good, self.bad, self.markers]


def test_codecs_transactions_and_sizes_of_batches(lab: Lab) -> None:
    writers = Writers(lab)
    worker = lab.worker().start()
    for codec in CODECS:
        writers.rows(writers.confluent(**{"compression.type": codec}), 80)
        kind = None if codec == "none" else codec
        out = KafkaProducer(bootstrap_servers=lab.bootstrap, compression_type=kind, linger_ms=20)
        writers.rows(out, 80)
        out.close()
    writers.rows(writers.confluent(**{"enable.idempotence": True}), 80)
    writers.rows(writers.confluent(**{"batch.num.messages": 1, "linger.ms": 0}), 400)
    writers.rows(writers.confluent(**{"linger.ms": 1_000, "compression.type": "zstd"}), 20_000)
    for name in ("commit", "abort"):
        config = {"transactional.id": f"{lab.namespace}-{name}", "compression.type": "lz4"}
        out = writers.confluent(**config)
        out.init_transactions()
        for _ in range(2):
            out.begin_transaction()
            writers.rows(out, 80)
            getattr(out, f"{name}_transaction")()
            writers.markers += PARTITIONS
            if name == "abort":  # read committed
                writers.good -= 80
                writers.markers += 80
    eventually(writers.settled, f"{lab.offsets()}\n{lab.logs()}")
    assert lab.scalar(sa.select(sa.func.sum(t.input_states.c.rows))) == writers.good
    assert lab.rows(t.gaps) == []
    assert worker.alive


def test_records_at_the_edge_of_what_can_be_read(lab: Lab) -> None:
    writers = Writers(lab)
    worker = lab.worker().start()
    made = record(prediction(0), 0)
    good, heads = made.value or b"", list(made.headers)
    assert heads[-1][0] == "ce_id"
    full = good[:-1] + b" " * (MAX_EVENT_BYTES - len(good)) + b"}"
    for codec in ("none", "zstd"):
        out = writers.confluent(**{"compression.type": codec, "message.max.bytes": 2_000_000})
        cases: list[tuple[bytes | None, Any, bool]] = [
            (good, heads, True),
            (good, heads[::-1], True),
            (good, [*heads[:-1], ("ce_id", b"\xff\xfe")], True),
            (good, [*heads, ("x", None)], True),
            (good, [("x", b"a" * 300_000), *heads], True),
            (good, [(f"x{i}", b"") for i in range(3_000)] + heads, True),
            (good, [*heads, *heads], True),
            (good, [("ce_id", b""), *heads], True),
            (good, [*heads, ("ce_id", b"")], True),  # an empty header is an absent one
            (good, [*heads[:-1], ("ce_id", b"")], False),
            (good, [*heads[:-1], ("ce_id", None)], False),
            (good, heads[:-1], False),
            (good, [], False),
            (b"", heads, False),
            (None, heads, False),
            (b"[" * 100_000, heads, False),
        ]
        if codec == "zstd":  # the broker takes no batch of more than a megabyte
            cases += [(full, heads, True), (full + b" ", heads, False)]
        for value, headers, fine in cases:
            writers.odd(out, value, headers, fine=fine, key=b"credit")
        for key in (None, b"", b"\xff\xfe", b"another"):
            writers.odd(out, good, heads, fine=True, key=key)
    eventually(writers.settled, f"{lab.offsets()}\n{lab.logs()}")
    assert worker.alive


def test_log_that_is_cut_within_a_batch_costs_what_was_cut(lab: Lab) -> None:
    writers = Writers(lab)
    writers.rows(writers.confluent(**{"linger.ms": 1_000, "compression.type": "zstd"}), 4_000)
    partition = TopicPartition(writers.topic, 1)
    admin = KafkaAdminClient(bootstrap_servers=lab.bootstrap)
    admin.delete_records({partition: 333})
    worker = lab.worker().start()
    writers.good -= 333
    eventually(writers.settled, f"{lab.offsets()}\n{lab.logs()}")
    assert worker.stop() == 0
    writers.rows(writers.confluent(**{"linger.ms": 1_000, "compression.type": "zstd"}), 4_000)
    admin.delete_records({partition: 1_777})
    admin.close()
    writers.good -= 777
    writers.markers += 777
    worker.start()
    eventually(writers.settled, f"{lab.offsets()}\n{lab.logs()}")
    (gap,) = lab.rows(t.gaps)
    assert (gap.partition, gap.first, gap.last) == (1, 1_000, 1_776)
