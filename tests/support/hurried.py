"""``python -m hurried``: ``redistill run stream`` in which Faust loses patience with its streams
within a second, not after five minutes; each of its looks is logged (``looked``).
"""

from __future__ import annotations

import sys
from typing import Any

import structlog

from redistill.streams.engine import app
from redistill.streams.engine.consumer import BulkConsumer
from redistill.workers.cli.main import main

make, look = app.make_app, BulkConsumer.verify_all_partitions_active
log = structlog.get_logger("hurried")


def hurried(*args: Any) -> Any:
    made = make(*args)
    made.conf.stream_processing_timeout = 1.0
    made.conf.broker_commit_livelock_soft_timeout = 1.0
    return made


async def looked(self: BulkConsumer) -> None:
    await look(self)
    log.info("looked", action="looked")


if __name__ == "__main__":
    app.make_app = hurried
    BulkConsumer.verify_all_partitions_active = looked  # type: ignore[method-assign]
    sys.argv[1:] = ["run", "stream"]
    main()
