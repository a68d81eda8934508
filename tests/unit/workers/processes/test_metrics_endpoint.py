"""A process of this side answers Prometheus, and says why it cannot."""

from __future__ import annotations

import pytest
from metric_scrapes import scrape

from redistill.streams.engine.metrics_address import MetricsAddress
from redistill.streams.errors import AddressError
from redistill.workers.errors import UsageError
from redistill.workers.processes.metrics_endpoint import ports_of, registry_of, serve


def test_a_port_that_is_taken_is_said_to_whoever_started_it() -> None:
    registry = registry_of("alerts", [], namespace="eu-1")
    server = serve(registry, MetricsAddress(port=0))
    try:
        assert 'eu_1_redistill_build_info{process="alerts"' in scrape(server.url)
        with pytest.raises(
            AddressError, match=f"on 127.0.0.1:{server.port}: Address already in use"
        ):
            serve(registry, MetricsAddress(port=server.port))
    finally:
        server.close()


def test_processes_of_one_machine_have_a_port_each() -> None:
    names = ("stream", "repair", "alerts")
    assert ports_of(None, names) == dict.fromkeys(names)
    assert ports_of(0, names) == dict.fromkeys(names, 0)
    assert ports_of(65_533, names)["alerts"] == 65_535
    with pytest.raises(UsageError, match="REDISTILL_METRICS_PORT = 65534: 3 ports are needed"):
        ports_of(65_534, names)
    assert ports_of(9_101, names) == {"stream": 9_101, "repair": 9_102, "alerts": 9_103}
