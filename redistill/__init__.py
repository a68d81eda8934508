"""What services import: ``from redistill import PredictionLogger, ModelClient``; and notebooks:
``from redistill import Compression``.

``python -m redistill`` is the command line.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redistill.streams.client.logger import PredictionLogger
    from redistill.streams.client.model import ModelClient
    from redistill.streams.kafka.broker import Security
    from redistill.workers.onboarding.compression import Compression

# From 1.32 on ONNX Runtime tells its makers of each use, from a thread that it starts when it is
# loaded, unless this is set before. Nothing of ours reports to anybody; whoever wants that sets the
# variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["Compression", "ModelClient", "PredictionLogger", "Security"]

_HOMES = {
    "PredictionLogger": ("redistill.streams.client.logger", "crc32c kafka msgspec numpy pyarrow"),
    "ModelClient": (
        "redistill.streams.client.model",
        "msgspec numpy onnx onnxruntime securesystemslib tuf urllib3",
    ),
    "Security": ("redistill.streams.kafka.broker", "msgspec"),
    "Compression": (
        "redistill.workers.onboarding.compression",
        "msgspec numpy onnx onnxruntime pyarrow pydantic scipy torch",
    ),
}
"""Where each is defined, and the libraries that it needs, now or later."""
EXTRAS = {"Compression": "worker"}
"""Which extra brings them; ``client`` where it is not named."""


def __getattr__(name: str) -> Any:
    """Import on first use, so that a service which only logs needs no ONNX runtime.

    Raises
    ------
    ImportError
        A library is missing, or hidden by a file of the service's own; it says which, and what to
        do. A logger that cannot send should be found at the start of a service, not in its log.
    """
    if name not in _HOMES:
        raise AttributeError(f"module 'redistill' has no attribute {name!r}")
    import importlib

    from redistill import extras

    home, libraries = _HOMES[name]
    extras.check(*libraries.split(), extra=EXTRAS.get(name, "client"), by=f"redistill.{name}")
    return getattr(importlib.import_module(home), name)
