"""``python -m impatient SECONDS [blocked]``: ``redistill run stream`` with a watchdog that waits no
longer than that, and that says after twice the time that a transaction is open. It waits for the
database only a part of what others wait: a second of silence, two for a connection or a lock.

``blocked``: from SIGUSR1 on something keeps the event loop for ever, as a call that does not return
would.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from dataclasses import replace
from typing import Any

from redistill.streams.engine import app, lag
from redistill.streams.store import bounded_connection, database
from redistill.workers.cli.main import main

patience, run, work = float(sys.argv[1]), app.run, app._Run._main


async def blocked(self: Any, *args: Any) -> int:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, time.sleep, 600)
    return await work(self, *args)


lag.SAY_AFTER_SECONDS = 2 * patience
bounded_connection.SILENT_SECONDS = 1.0
bounded_connection.CONNECT_SECONDS = database.CONNECT_SECONDS = database.BUSY_SECONDS = 2
if "blocked" in sys.argv:
    app._Run._main = blocked
app.run = lambda config: run(replace(config, patience_seconds=patience))
sys.argv[1:] = ["run", "stream"]
main()
