"""The named scenarios of ``make faults`` in short, one after the other in one world: at the end
everything is counted once. Outages are a third as long here, and short of the longest leases."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import broker_trouble
import clock_trouble
import database_trouble
import kafka_server as kafka
import postgres_server as postgres
import process_trouble
import pytest
from scenario import LINES, Scenario, Verdict, play
from servers import Servers
from world import FAKETIME, World

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(900)]

SEED = 7
SHORT = 0.35

Trouble = Callable[[World], None]


def played(
    name: str,
    troubles: list[Trouble],
    kafka_server: kafka.KafkaServer,
    postgres_server: postgres.PostgresServer | None,
    folder: Path,
) -> Verdict:
    """One world, and all of it."""

    def play_all(world: World) -> None:
        for trouble in troubles:
            trouble(world)

    servers = Servers(folder, seed=SEED, lent=(kafka_server, postgres_server)).start()
    scenario = Scenario(name, "", play_all, lines=LINES + 40 * len(troubles))
    return play(scenario, servers, seed=SEED, shorten=SHORT, rows_per_second=200, quiet=True)


def told(verdict: Verdict) -> str:
    """Everything that is needed to look into it."""
    reasons = [*verdict.broken, *verdict.reasons, *verdict.bounds]
    return "\n".join([*reasons, f"seed {verdict.seed}, logs in {verdict.logs}", verdict.line()])


def test_nothing_is_lost_or_doubled_in_a_world_of_trouble(
    kafka_server: kafka.KafkaServer, postgres_server: postgres.PostgresServer, tmp_path: Path
) -> None:
    troubles: list[Trouble] = [
        partial(process_trouble.kill9, kills=2),
        partial(process_trouble.freeze, names=["stream-1", "repair"]),
        partial(process_trouble.rolling_restart, rounds=1),
        partial(process_trouble.rebalance_storm, rounds=4),
        partial(process_trouble.fork_storm, seconds=15.0),
        partial(database_trouble.hung, seconds=30.0),
        broker_trouble.freeze_broker,
    ]
    if FAKETIME.exists():
        troubles.append(clock_trouble.wrong_clock)
    verdict = played("trouble", troubles, kafka_server, postgres_server, tmp_path)
    assert verdict.good, told(verdict)
    assert verdict.facts["incidents"], "the world shifted, and nobody noticed"


def test_nothing_is_lost_or_doubled_on_one_file(
    kafka_server: kafka.KafkaServer, tmp_path: Path
) -> None:
    troubles = [partial(process_trouble.kill9, kills=3), database_trouble.locked]
    verdict = played("trouble-on-sqlite", troubles, kafka_server, None, tmp_path)
    assert verdict.good, told(verdict)
