"""``python -m deaf``: ``redistill run stream`` of a worker that knows nothing of bound topics, as one
of the first release does."""

from __future__ import annotations

import sys

from redistill.streams.engine.bound_topics import BoundTopics
from redistill.workers.cli.main import main

BoundTopics.find = lambda self: False  # type: ignore[method-assign]
sys.argv[1:] = ["run", "stream"]
main()
