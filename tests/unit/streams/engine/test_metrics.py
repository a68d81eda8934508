"""What Prometheus reads of a stream worker."""

from __future__ import annotations

import re
import socket
import urllib.request

import pytest
from prometheus_client import generate_latest

from redistill.streams.engine.metrics import StreamMetrics
from redistill.streams.engine.metrics_address import MetricsAddress
from redistill.streams.errors import AddressError


def page(metrics: StreamMetrics) -> str:
    return generate_latest(metrics.registry).decode()


def test_names_begin_with_the_namespace() -> None:
    metrics = StreamMetrics("eu-west.prod")
    metrics.rows.labels("predictions").inc(3)
    assert "eu_west_prod_redistill_stream_rows_total" in page(metrics)
    assert 'redistill_stream_rows_total{topic="labels"}' not in page(StreamMetrics())


def test_two_workers_in_a_process_count_apart() -> None:
    a, b = StreamMetrics(), StreamMetrics()
    a.away.inc()
    name = "redistill_stream_store_away_total"
    assert (a.registry.get_sample_value(name), b.registry.get_sample_value(name)) == (1, 0)


def test_page_is_served_and_a_port_that_is_taken_is_said() -> None:
    metrics = StreamMetrics()
    metrics.lag.set(7)
    port = metrics.serve(MetricsAddress(port=0)).port
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        assert "redistill_stream_lag 7.0" in answer.read().decode()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(AddressError, match=f"{taken}.*--metrics-port"):
            metrics.serve(MetricsAddress(port=taken))


def test_names_stay_and_each_is_described() -> None:
    described = dict(re.findall(r"# HELP redistill_stream_(\S+) (.+)", page(StreamMetrics())))
    assert {name for name in described if not name.endswith("_created")} == {
        "rows_total", "records_total", "dead_letters_total", "aborted_records_total",
        "counted_total", "gap_offsets_total", "flush_seconds", "moved_total", "store_away_total", "lag", "held",
        "broker_up", "partition_lag", "lag_seconds", "lag_age_seconds", "truncated_offsets_total",
        "held_seconds", "partitions", "states", "outcomes_total",
        "label_budget_left", "labels_answered_total", "labels_requested_total",
        "findings_open", "outbox_rows", "outbox_age_seconds", "relayed_total",
    }  # fmt: skip
    assert all(text.endswith(".") for text in described.values())
