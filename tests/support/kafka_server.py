"""A real Apache Kafka (one KRaft node) on loopback, for tests, fault runs and benchmarks.

Its jars come from Maven once and are kept under ``.cache`` of the checkout; needs Java 17 and
``mvn``.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from ports import free_port, wait_open

ROOT = Path(__file__).resolve().parents[2]
JARS = ROOT / ".cache" / "kafka-4.1.1"
POM = ROOT / "tests" / "kafka"


class Unavailable(Exception):
    """Kafka cannot run on this machine; the message says what is missing."""


def jars() -> Path:
    """Folder with Kafka's jars, fetched on first use."""
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise Unavailable(
                f"{program} is not installed (apt-get install openjdk-17-jre-headless maven)"
            )
    if not (JARS / "complete").exists():
        JARS.mkdir(parents=True, exist_ok=True)
        run = subprocess.run(
            ["mvn", "-q", "-B", "-f", str(POM / "pom.xml"), "dependency:copy-dependencies",
             "-DincludeScope=runtime", f"-DoutputDirectory={JARS}"],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        if run.returncode:
            raise Unavailable(f"Maven could not fetch Kafka: {(run.stdout + run.stderr)[-400:]}")
        (JARS / "complete").touch()
    return JARS


@dataclass
class KafkaServer:
    """One broker. ``start`` and ``kill`` may alternate: the data stay in ``folder``."""

    folder: Path
    port: int = field(default_factory=free_port)
    controller_port: int = field(default_factory=free_port)
    extra: dict[str, str] = field(default_factory=dict)
    """Further lines of server.properties (they win)."""
    scram: dict[str, str] = field(default_factory=dict)
    """SCRAM-SHA-256 user -> password, created when the storage is formatted."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """``host:port`` of the plain listener."""
        return f"127.0.0.1:{self.port}"

    def _java(self, *args: str) -> list[str]:
        return [
            "java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{jars()}/*",
            f"-Dlog4j2.configurationFile={POM / 'log4j2.properties'}", *args,
        ]  # fmt: skip

    def _properties(self) -> Path:
        lines = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.folder / "data"),
            "num.partitions": "4",
            "offsets.topic.num.partitions": "4",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "auto.create.topics.enable": "false",
            "broker.session.timeout.ms": "2000",
            "broker.heartbeat.interval.ms": "200",
            "log.retention.check.interval.ms": "1000",
            **self.extra,
        }
        path = self.folder / "server.properties"
        path.write_text("".join(f"{k}={v}\n" for k, v in lines.items()))
        return path

    def start(self, seconds: float = 60.0) -> KafkaServer:
        """Start the broker and wait until it listens."""
        self.folder.mkdir(parents=True, exist_ok=True)
        properties = self._properties()
        if not (self.folder / "data" / "meta.properties").exists():
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            users = [
                f"--add-scram=SCRAM-SHA-256=[name={u},password={p}]" for u, p in self.scram.items()
            ]
            done = subprocess.run(
                self._java(
                    "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}",
                    "-c", str(properties), *users,
                ),
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            if done.returncode:
                raise Unavailable(f"Kafka's storage could not be formatted: {done.stderr[-600:]}")
        with (self.folder / "kafka.log").open("ab") as log:
            self.process = subprocess.Popen(
                self._java("kafka.Kafka", str(properties)),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        process = self.process
        if not wait_open(self.port, seconds, lambda: process.poll() is None):
            tail = (self.folder / "kafka.log").read_text(errors="replace")[-1500:]
            self.kill()
            raise Unavailable(f"Kafka did not start:\n{tail}")
        return self

    def kill(self, sign: int = signal.SIGKILL) -> None:
        """Send a signal to the broker's own process and wait for its end."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, sign)
            self.process.wait(30)

    def stop(self) -> None:
        """End the broker; its data stay."""
        self.kill(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze the broker (SIGSTOP)."""
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen broker go on (SIGCONT)."""
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGCONT)
