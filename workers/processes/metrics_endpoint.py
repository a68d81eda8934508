"""Endpoint at which a process of this side answers Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from redistill.streams.engine.metric_names import BuildInfo
from redistill.streams.engine.metrics_address import MetricsAddress
from redistill.streams.engine.metrics_server import MetricsServer
from redistill.workers.errors import UsageError

__all__ = ["ports_of", "registry_of", "serve"]

log = structlog.get_logger(__name__)


def ports_of(first: int | None, processes: Sequence[str]) -> dict[str, int | None]:
    """Ports for the processes of one machine: one each, in their order from the first on.

    Examples
    --------
    >>> ports_of(9_101, ["stream", "repair"]), ports_of(0, ["stream", "repair"])
    ({'stream': 9101, 'repair': 9102}, {'stream': 0, 'repair': 0})
    """
    return {name: first + place if first else first for place, name in enumerate(processes)}


def registry_of(
    process: str, collectors: Iterable[Collector], *, namespace: str = ""
) -> CollectorRegistry:
    """Everything that a process tells, with what it is."""
    registry = CollectorRegistry()
    for collector in (BuildInfo(namespace, process), *collectors):
        registry.register(collector)
    return registry


def serve(registry: CollectorRegistry, address: MetricsAddress) -> MetricsServer:
    """Answer until it is closed; where is logged.

    Raises
    ------
    UsageError
        The port is taken, or not ours to take.
    """
    try:
        server = MetricsServer(registry, address)
    except OSError as error:
        raise UsageError(str(error)) from error
    log.info("metrics", action="metrics", url=server.url, port=server.port)
    return server
