"""The private parts of faust-streaming that the bulk consumer stands on. A new version has to pass
this first."""

from __future__ import annotations

import asyncio
import inspect
from importlib.metadata import version
from types import SimpleNamespace

import aiokafka
import faust
import pytest
from aiokafka.consumer import fetcher
from faust.transport import consumer as base
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from redistill.streams.engine.consumer import BulkConsumer, BulkThread, BulkTransport
from redistill.streams.engine.faust_app import _App
from redistill.streams.engine.fetched import RawRecords


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
        ("on_partitions_revoked", ["self", "revoked"]),
        ("on_partitions_assigned", ["self", "assigned", "generation_id"]),
        ("assignment", ["self"]),
        ("verify_all_partitions_active", ["self"]),
    ],
)
def test_method_is_there_with_its_parameters(name: str, parameters: list[str]) -> None:
    method = getattr(driver.Consumer, name)
    assert list(inspect.signature(method).parameters) == parameters
    assert name in dir(BulkConsumer)


@pytest.mark.parametrize(
    "name",
    ["_drain_messages", "_new_offset", "seek_to_committed", "verify_all_partitions_active"],
)
def test_overridden_methods_override_something(name: str) -> None:
    assert name in vars(BulkConsumer)
    assert any(name in vars(c) for c in driver.Consumer.__mro__)


def test_attributes_that_are_read_are_set_by_faust() -> None:
    source = inspect.getsource(base.Consumer.__init__)
    for name in ("_read_offset", "_acked", "_committed_offset"):
        assert f"self.{name} =" in source
    assert "self.flow_active = True" in inspect.getsource(base.Consumer._reset_state)
    assert "self._thread =" in inspect.getsource(base.ThreadDelegateConsumer.__init__)


def test_aiokafka_takes_its_batches_and_records_from_what_is_replaced() -> None:
    source = inspect.getsource(fetcher.Fetcher._proc_fetch_request)
    assert "records = MemoryRecords(part_data[-1])" in source
    assert "records.has_next()" in source
    assert "records.size_in_bytes() > 0" in source
    assert "PartitionRecords(\n" in source
    assert list(inspect.signature(fetcher.PartitionRecords.__init__).parameters) == [
        "self", "tp", "records", "aborted_transactions", "fetch_offset", "key_deserializer",
        "value_deserializer", "check_crcs", "isolation_level",
    ]  # fmt: skip
    assert "self._records_iterator = self._unpack_records()" in inspect.getsource(
        fetcher.PartitionRecords.__init__
    )
    assert "for msg in self._partition_records" in inspect.getsource(fetcher.FetchResult.getall)
    assert "self._aborted_transactions = sorted(" in inspect.getsource(
        fetcher.PartitionRecords.__init__
    )
    assert issubclass(RawRecords, fetcher.PartitionRecords)


def test_seek_after_an_assignment_goes_through_what_is_overridden() -> None:
    assert "self.seek_to_committed()" in inspect.getsource(base.Consumer.perform_seek)


def test_pending_rows_are_asked_of_the_partitions_in_acked_only() -> None:
    assert "in self._acked" in inspect.getsource(base.Consumer._filter_tps_with_pending_acks)


def test_transport_makes_the_bulk_consumer() -> None:
    assert BulkTransport.Consumer is BulkConsumer
    assert "Consumer" in vars(driver.Transport)


def test_thread_of_the_consumer_is_ours_and_commits_what_is_still_assigned() -> None:
    made = inspect.getsource(driver.Consumer._new_consumer_thread)
    assert "AIOKafkaConsumerThread(self, loop=self.loop, beacon=self.beacon)" in made
    commit = inspect.signature(driver.AIOKafkaConsumerThread._commit)
    assert list(commit.parameters) == ["self", "offsets"]
    assert "_commit" in vars(BulkThread)
    assert "self._commit, offsets" in inspect.getsource(driver.AIOKafkaConsumerThread.commit)


def test_consumer_is_made_to_read_what_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = inspect.getsource(driver.AIOKafkaConsumerThread._create_consumer)
    assert "self._create_worker_consumer(" in made
    started = inspect.getsource(aiokafka.AIOKafkaConsumer.start)
    assert "isolation_level=self._isolation_level" in started
    plain = SimpleNamespace(_isolation_level="read_uncommitted")
    monkeypatch.setattr(
        driver.AIOKafkaConsumerThread, "_create_worker_consumer", lambda self, transport: plain
    )
    thread = BulkThread.__new__(BulkThread)
    assert thread._create_worker_consumer(None)._isolation_level == "read_committed"


def test_offsets_are_asked_for_with_the_isolation_of_the_fetch() -> None:
    asked = inspect.getsource(fetcher.Fetcher._proc_offset_request)
    assert "OffsetRequest(-1, self._isolation_level" in asked
    read = inspect.getsource(fetcher.Fetcher._proc_fetch_request)
    assert "tp_state.highwater = highwater" in read


def test_commit_for_partitions_that_are_gone_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    thread = BulkThread.__new__(BulkThread)
    monkeypatch.setattr(thread, "assignment", set)
    assert asyncio.run(thread._commit({TP("predictions", 5): 7})) is False


def test_error_that_aiokafka_keeps_to_itself_is_where_the_watchdog_looks() -> None:
    from aiokafka.consumer import group_coordinator

    assert "self._pending_exception = None" in inspect.getsource(
        group_coordinator.GroupCoordinator.__init__
    )


def test_no_folders_are_made_in_the_current_folder() -> None:
    assert "_create_directories" in vars(faust.App)
    assert "_create_directories" in vars(_App)
    assert "self._create_directories()" in inspect.getsource(faust.App.on_first_start)
