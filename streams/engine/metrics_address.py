"""Address at which a worker answers Prometheus, apart from the server, which settings do not
load."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["MetricsAddress"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricsAddress:
    """Where a process answers Prometheus, and whom."""

    port: int
    """0: a free one, which is logged."""
    host: str = "127.0.0.1"
    token: str | None = field(default=None, repr=False)
    """Bearer token that a scrape must show; ``None``: none."""

    def url(self, port: int) -> str:
        """What Prometheus is told, with the port that was taken.

        Examples
        --------
        >>> MetricsAddress(port=0, host="::1").url(9100)
        'http://[::1]:9100/metrics'
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{port}/metrics"
