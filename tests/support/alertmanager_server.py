"""A real Alertmanager on loopback (Debian's package prometheus-alertmanager)."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from ports import free_port, wait_open
from receivers import Receiver


class Unavailable(Exception):
    """Alertmanager cannot run on this machine; the message says what is missing."""


def notified(by: Receiver, key: str) -> list[tuple[str, str]]:
    """(State, severity) of each alert with a key, as Alertmanager told them on."""
    return [
        (alert["status"], alert["labels"]["severity"])
        for request in list(by.requests)
        for alert in request.json["alerts"]
        if alert["labels"]["redistill_key"] == key
    ]


@dataclass
class AlertmanagerServer:
    """One Alertmanager without peers, that tells a webhook at once."""

    folder: Path
    webhook: str
    """URL that is told of each group."""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where its API is."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, seconds: float = 60.0) -> AlertmanagerServer:
        """Start it and wait until it is ready."""
        program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
        if program is None:
            raise Unavailable(
                "it is not installed (apt-get install --no-install-recommends"
                " prometheus-alertmanager)"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        config = {
            "global": {"resolve_timeout": "5m"},
            "route": {
                "receiver": "test", "group_by": ["..."], "group_wait": "100ms",
                "group_interval": "1s", "repeat_interval": "1h",
            },
            "receivers": [
                {
                    "name": "test",
                    "webhook_configs": [{"url": self.webhook, "send_resolved": True}],
                }
            ],
        }  # fmt: skip
        file = self.folder / "alertmanager.yml"
        file.write_text(json.dumps(config))  # JSON is YAML
        with (self.folder / "alertmanager.log").open("ab") as log:
            self.process = subprocess.Popen(
                [program, f"--config.file={file}", f"--storage.path={self.folder / 'data'}",
                 f"--web.listen-address=127.0.0.1:{self.port}", "--cluster.listen-address="],
                stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
            )  # fmt: skip
        process = self.process
        if not wait_open(self.port, seconds, lambda: process.poll() is None):
            text = (self.folder / "alertmanager.log").read_text()
            raise Unavailable(f"it did not start: {text[-800:]}")
        return self

    def alerts(self, **labels: str) -> list[dict[str, Any]]:
        """What fires there, with these labels."""
        asked = urlencode({"filter": [f'{k}="{v}"' for k, v in labels.items()]}, doseq=True)
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts?{asked}", timeout=30) as answer:
            found: list[dict[str, Any]] = json.load(answer)
        return found

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It takes connections and answers nothing (SIGSTOP)."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop it."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
