"""Every process says which it is, under a name that Prometheus takes."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from redistill.streams.engine.metric_names import BuildInfo, prefix


@pytest.mark.parametrize("namespace", ["", "eu-1", "a.b_c", "9-9"])
def test_build_info_tells_process_and_version(namespace: str) -> None:
    registry = CollectorRegistry()
    registry.register(BuildInfo(namespace, "repair"))
    ((sample,),) = [family.samples for family in registry.collect()]
    assert sample.name == f"{prefix(namespace)}_build_info"
    assert sample.value == 1
    assert sample.labels["process"] == "repair"
    assert sample.labels["version"][0].isdigit()
