"""What services import: ``from redistill import PredictionLogger, ModelClient``.

``python -m redistill`` is the command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redistill.streams.client.logger import PredictionLogger
    from redistill.streams.client.model import ModelClient
    from redistill.streams.kafka.broker import Security

__all__ = ["ModelClient", "PredictionLogger", "Security"]

_HOMES = {
    "PredictionLogger": "redistill.streams.client.logger",
    "ModelClient": "redistill.streams.client.model",
    "Security": "redistill.streams.kafka.broker",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that a service which only logs needs no ONNX runtime."""
    if name not in _HOMES:
        raise AttributeError(f"module 'redistill' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
