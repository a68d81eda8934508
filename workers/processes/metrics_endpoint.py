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

LAST_PORT = 65_535

log = structlog.get_logger(__name__)


def ports_of(first: int | None, processes: Sequence[str]) -> dict[str, int | None]:
    """Ports for the processes of one machine: one each, in their order from the first on.

    Raises
    ------
    UsageError
        There are not so many.

    Examples
    --------
    >>> ports_of(9_101, ["stream", "repair"]), ports_of(0, ["stream", "repair"])
    ({'stream': 9101, 'repair': 9102}, {'stream': 0, 'repair': 0})
    """
    if first and first + len(processes) - 1 > LAST_PORT:
        raise UsageError(
            f"REDISTILL_METRICS_PORT = {first}: {len(processes)} ports are needed from there on,"
            f" and the last there is is {LAST_PORT}"
        )
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
    AddressError
        The port is taken, or not ours to take.
    """
    server = MetricsServer(registry, address)
    log.info("metrics", action="metrics", url=server.url, port=server.port)
    return server
