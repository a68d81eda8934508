"""Catalogue of the scenarios, in the order in which they are played."""

from __future__ import annotations

import broker_trouble as broker
import clock_trouble as clock
import database_trouble as database
import process_trouble as process
from scenario import Scenario

__all__ = ["SCENARIOS"]

WATCHDOG = frozenset({75})

SCENARIOS = {
    s.name: s
    for s in (
        Scenario("kill9", "kill -9 of stream and repair workers at random moments", process.kill9),
        Scenario(
            "freeze",
            "SIGSTOP of each process, and of the fork server, for longer than sessions and leases",
            process.freeze,
        ),
        Scenario(
            "wrong-clock",
            "repair workers 40 days ahead and an hour behind, a stream worker an hour ahead; jumps",
            clock.wrong_clock,
        ),
        Scenario("hung-database", "SIGSTOP of the whole PostgreSQL for a minute", database.hung),
        Scenario(
            "database-stopped",
            "kill -9 of the whole PostgreSQL, back after 10 and 20 s",
            database.stopped,
        ),
        Scenario(
            "locked-database",
            "tables locked for 20 s, then a read-only database for 15 s",
            database.locked,
        ),
        Scenario(
            "locked-file",
            "the SQLite file's write lock held for 20 s",
            database.locked,
            world={"kind": "sqlite"},
        ),
        Scenario(
            "exhausted-connections",
            "no connection to PostgreSQL to be had for 40 s",
            database.exhausted,
        ),
        Scenario(
            "full-disk",
            "the file system of the home and of its SQLite file full for 10 and 20 s",
            database.full_disk,
            world={"kind": "sqlite", "home_disk": 160},
        ),
        Scenario(
            "full-database-disk",
            "the file system of PostgreSQL full for 10 and 20 s",
            database.full_disk,
            world={"kind": "postgres", "database_disk": 400},
        ),
        Scenario("freeze-broker", "SIGSTOP of the broker for 20 s", broker.freeze_broker),
        Scenario(
            "broker-down", "kill -9 of the broker, back after 10 and 25 s", broker.broker_down
        ),
        Scenario(
            "rolling-restart",
            "SIGTERM to one process after the other, two rounds",
            process.rolling_restart,
        ),
        Scenario(
            "rebalance-storm",
            "stream workers join and leave every few seconds",
            process.rebalance_storm,
        ),
        Scenario("fork-storm", "services that fork while they log", process.fork_storm),
        Scenario(
            "child-trouble",
            "the processes of jobs crash, hang and are killed",
            process.child_trouble,
        ),
    )
}
"""By name."""
