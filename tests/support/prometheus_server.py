"""A real Prometheus on loopback, that asks what a test serves every half second."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ports import free_port, wait_open


class Unavailable(Exception):
    """Prometheus cannot run on this machine; the message says what is missing."""


def program(name: str) -> str:
    """Path of ``prometheus`` or ``promtool``."""
    path = shutil.which(name)
    if path is None:
        raise Unavailable(f"{name} is not installed (apt-get install prometheus)")
    return path


def promtool(*args: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    return subprocess.run(
        [program("promtool"), *args], input=given, capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip


@dataclass
class PrometheusServer:
    """One server, with a folder of its own."""

    folder: Path
    targets: Mapping[str, str]
    """Address (``host:port``) by name of the scrape job."""
    rules: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self, seconds: float = 60.0) -> PrometheusServer:
        """Start it, and wait until it is ready."""
        jobs = [
            {"job_name": job, "static_configs": [{"targets": [address]}]}
            for job, address in self.targets.items()
        ]
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [str(self.rules)],
            "scrape_configs": jobs,
        }  # fmt: skip
        file = self.folder / "prometheus.yml"
        file.write_text(json.dumps(config))  # JSON is YAML
        log = self.folder / "prometheus.log"
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [program("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={self.folder / 'data'}",
                 f"--web.listen-address=127.0.0.1:{self.port}"],
                stdout=out, stderr=out, cwd=self.folder,
            )  # fmt: skip
        process = self.process
        end = time.monotonic() + seconds
        if wait_open(self.port, seconds, lambda: process.poll() is None):
            while time.monotonic() < end:
                try:
                    with urllib.request.urlopen(
                        f"http://127.0.0.1:{self.port}/-/ready", timeout=30
                    ):
                        return self
                except urllib.error.URLError:
                    time.sleep(0.1)
        raise Unavailable(f"Prometheus did not start: {log.read_text()[-800:]}")

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def ask(self, path: str, **parameters: str) -> Any:
        """Data of an answer.

        Raises
        ------
        AssertionError
            It refused: the error is what it said.
        """
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            said = json.load(error)["error"]
            raise AssertionError(f"{parameters}: {said}") from error

    def query(self, expression: str) -> list[Any]:
        """What an expression yields now."""
        found: list[Any] = self.ask("query", query=expression)["result"]
        return found

    def names(self) -> set[str]:
        """Names of all metrics that there are."""
        return set(self.ask("label/__name__/values"))
