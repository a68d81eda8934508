"""An address shows its token to nobody who prints it."""

from __future__ import annotations

from redistill.streams.engine.metrics_address import MetricsAddress


def test_token_is_not_shown() -> None:
    address = MetricsAddress(port=9_100, host="10.0.0.1", token="canary")
    assert "canary" not in repr(address)
    assert address.url(9_101) == "http://10.0.0.1:9101/metrics"
