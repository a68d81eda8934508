"""Real servers for the tests.

A missing one skips its tests, with the reason, or fails them where REDISTILL_REQUIRE names it.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import alertmanager_server as alertmanager
import database_faults
import faketime as wrong_clocks
import kafka_server as kafka
import postgres_server as postgres
import prometheus_server as prometheus_programs
import pytest
import receivers
import structlog
import wheels as wheel_builds
from hypothesis import HealthCheck, settings

# what a shell runs in the background ignores interrupts, and so would all that the tests start
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# before torch is imported anywhere: two of its threads on a busy machine are slower than one
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# how long an example takes says how busy the machine is, and nothing about the code
settings.register_profile(
    "busy-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("busy-machine")

REQUIRED = {s for s in os.environ.get("REDISTILL_REQUIRE", "").split(",") if s}


def _missing(name: str, why: Exception) -> NoReturn:
    if name in REQUIRED:
        pytest.fail(f"REDISTILL_REQUIRE names {name}, but: {why}", pytrace=False)
    pytest.skip(f"{name}: {why}")


@pytest.fixture(autouse=True)
def own_umask() -> Iterator[None]:
    """Files are private from a test's first fixture on, as commands make them: none has to warn.

    What a test sets, or a command within it, is gone with the test.
    """
    mask = os.umask(0o077)
    yield
    os.umask(mask)


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """A test that sets logging up, as a process does, leaves none of it to those that follow."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kafka.KafkaServer]:
    """A real Kafka for the whole run; each test takes a namespace of its own."""
    server = kafka.KafkaServer(tmp_path_factory.mktemp("kafka"))
    try:
        server.start()
    except kafka.Unavailable as why:
        _missing("kafka", why)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.PostgresServer]:
    """A real PostgreSQL for the whole run."""
    # not below pytest's own folder: that is closed to the account under which the server must run
    folder = Path(tempfile.mkdtemp(prefix="redistill-postgres-"))
    server = postgres.PostgresServer(folder, durable=False)
    try:
        server.start()
    except postgres.Unavailable as why:
        shutil.rmtree(folder, ignore_errors=True)
        _missing("postgres", why)
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def told_by_alertmanager() -> Iterator[receivers.Receiver]:
    """What the Alertmanager of this run tells on, in its webhook's JSON."""
    with receivers.receiver() as made:
        yield made


@pytest.fixture(scope="session")
def alertmanager_server(
    tmp_path_factory: pytest.TempPathFactory, told_by_alertmanager: receivers.Receiver
) -> Iterator[alertmanager.AlertmanagerServer]:
    """A real Alertmanager for the whole run; each test takes keys of its own."""
    folder = tmp_path_factory.mktemp("alertmanager")
    server = alertmanager.AlertmanagerServer(folder, told_by_alertmanager.url)
    try:
        server.start()
    except alertmanager.Unavailable as why:
        _missing("alertmanager", why)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def prometheus_tools() -> None:
    """``prometheus`` and ``promtool`` are there."""
    try:
        for name in ("prometheus", "promtool"):
            prometheus_programs.program(name)
    except prometheus_programs.Unavailable as why:
        _missing("prometheus", why)


@pytest.fixture
def fake_clock(tmp_path: Path) -> wrong_clocks.FakeClock:
    """The clock of a process that this test starts; right until it is set."""
    try:
        library = wrong_clocks.library()
    except wrong_clocks.Unavailable as why:
        _missing("faketime", why)
    return wrong_clocks.FakeClock(tmp_path / "clock", library).set("+0")


@pytest.fixture
def postgres_url(postgres_server: postgres.PostgresServer) -> Iterator[str]:
    """URL of an empty PostgreSQL database of this test's own."""
    url = postgres_server.new_database()
    yield url
    postgres_server.drop(url)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 24 MB, for tests that fill it (``database_faults.full``)."""
    try:
        with database_faults.small_disk(tmp_path / "disk", 24) as folder:
            yield folder
    except postgres.Unavailable as why:
        _missing("mount", why)


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database, once for each kind: the same tests must pass on both."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'redistill.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[wheel_builds.Wheels]:
    """The built distribution, and environments with it."""
    built = wheel_builds.Wheels(tmp_path_factory.mktemp("wheels"))
    try:
        _ = built.wheel
    except wheel_builds.Unavailable as why:
        _missing("wheel", why)
    yield built
    built.remove()


@pytest.fixture(scope="session")
def programs_with(wheels: wheel_builds.Wheels) -> Callable[[str], Path]:
    """The programs of an environment with the wheel and one extra (or none), by the extra's name."""

    def programs(extra: str) -> Path:
        try:
            return wheels.environment(extra)
        except wheel_builds.Unavailable as why:
            _missing("wheel", why)

    return programs
