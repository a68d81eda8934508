"""The private parts of faust-streaming that the bulk consumer stands on. A new version has to pass this first."""

from __future__ import annotations

import inspect
from importlib.metadata import version

import pytest
from aiokafka.consumer import fetcher
from aiokafka.record import default_records
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from faust.transport import consumer as base
from faust.transport.drivers import aiokafka as driver

from streams.engine.consumer import BareRecords, BulkConsumer, BulkTransport


def test_version_is_the_one_that_was_tried() -> None:
    assert version("faust-streaming") == "0.15.3"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("_drain_messages", ["self", "fetcher"]),
        ("_new_offset", ["self", "tp"]),
        ("_wait_next_records", ["self", "timeout"]),
        ("_should_commit", ["self", "tp", "offset"]),
        ("_commit", ["self", "offsets"]),
        ("seek_to_committed", ["self"]),
        ("perform_seek", ["self"]),
        ("seek_wait", ["self", "partitions"]),
        ("earliest_offsets", ["self", "partitions"]),
        ("highwaters", ["self", "partitions"]),
        ("on_partitions_revoked", ["self", "revoked"]),
        ("on_partitions_assigned", ["self", "assigned", "generation_id"]),
        ("assignment", ["self"]),
    ],
)
def test_method_is_there_with_its_parameters(name: str, parameters: list[str]) -> None:
    method = getattr(driver.Consumer, name)
    assert list(inspect.signature(method).parameters) == parameters
    assert name in dir(BulkConsumer)


@pytest.mark.parametrize("name", ["_drain_messages", "_new_offset", "seek_to_committed"])
def test_overridden_methods_override_something(name: str) -> None:
    assert name in vars(BulkConsumer)
    assert any(name in vars(c) for c in driver.Consumer.__mro__)


def test_attributes_that_are_read_are_set_by_faust() -> None:
    source = inspect.getsource(base.Consumer.__init__)
    for name in ("_read_offset", "_acked", "_committed_offset"):
        assert f"self.{name} =" in source
    assert "self.flow_active = True" in inspect.getsource(base.Consumer._reset_state)
    assert "self._thread =" in inspect.getsource(base.ThreadDelegateConsumer.__init__)


def test_records_of_aiokafka_are_read_as_they_are_unpacked() -> None:
    made = default_records.DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=0, producer_id=-1, producer_epoch=-1,
        base_sequence=-1, batch_size=10_000,
    )  # fmt: skip
    for i in range(3):
        made.append(i, timestamp=7, key=b"k", value=b"v", headers=[("h", b"1")])
    raw = bytes(made.build())

    def unpacked(kind: type) -> list[tuple[object, ...]]:
        place = TopicPartition("predictions", 0)
        records = kind(place, MemoryRecords(raw), None, 1, None, None, True, 0)
        out = [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in records]
        assert records.next_fetch_offset == 3
        return out

    assert unpacked(BareRecords) == unpacked(BareRecords.__bases__[0])
    assert unpacked(BareRecords)[0] == (1, 7, b"k", b"v", [("h", b"1")])
    source = inspect.getsource(fetcher.Fetcher)
    assert "PartitionRecords(" in source
    assert "for msg in self._partition_records" in inspect.getsource(fetcher.FetchResult.getall)


def test_seek_after_an_assignment_goes_through_what_is_overridden() -> None:
    assert "self.seek_to_committed()" in inspect.getsource(base.Consumer.perform_seek)


def test_pending_rows_are_asked_of_the_partitions_in_acked_only() -> None:
    assert "in self._acked" in inspect.getsource(base.Consumer._filter_tps_with_pending_acks)


def test_transport_makes_the_bulk_consumer() -> None:
    assert BulkTransport.Consumer is BulkConsumer
    assert "Consumer" in vars(driver.Transport)


def test_error_that_aiokafka_keeps_to_itself_is_where_the_watchdog_looks() -> None:
    from aiokafka.consumer import group_coordinator

    assert "self._pending_exception = None" in inspect.getsource(
        group_coordinator.GroupCoordinator.__init__
    )
