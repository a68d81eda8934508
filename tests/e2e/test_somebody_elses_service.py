"""The README's ten lines on a service that is not the demo's, on a real Kafka: watch, rollback,
repair.

Level *watch* starts from nothing registered and ends at the first finding of harm. Then the same
model is registered with its files, serves from the signed repository, goes to another version and
back, and is at last repaired by redistill when its world shifts.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import credit
import numpy as np
import onnxruntime as ort
import pytest
import sqlalchemy as sa
from kafka_server import KafkaServer
from processes import Worker, environment, redistill
from waiting import eventually

import redistill as sdk

README = Path(__file__).resolve().parents[2] / "README.md"


class Site:
    """One installation: settings, folders, workers, and SQL to look into."""

    def __init__(self, folder: Path, bootstrap: str) -> None:
        self.folder = folder
        self.database = folder / "home" / "redistill.db"
        self.env = environment(
            broker=bootstrap, home=str(folder / "home"), flush_seconds="0.2", cool_down_minutes="0"
        )
        self.workers: dict[str, Worker] = {}
        self.logs: list[sdk.PredictionLogger] = []

    def command(self, *args: str) -> str:
        """Run a command; its output, or a failure with its words."""
        done = redistill(list(args), self.env, 180.0)
        assert done.returncode == 0, f"redistill {' '.join(args)}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, name: str) -> None:
        """Start ``redistill run NAME``."""
        self.workers[name] = Worker(name, ["run", name], self.env, self.folder / "logs").start()

    def query(self, sql: str) -> list[Any]:
        """Rows of a query on the site's SQLite file; empty while there is no such file or table."""
        if not self.database.exists():
            return []
        engine = sa.create_engine(f"sqlite:///{self.database}", poolclass=sa.NullPool)
        try:
            with engine.connect() as conn:
                return list(conn.execute(sa.text(sql)))
        except sa.exc.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return []

    def tails(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"--- {n}\n{w.tail()}" for n, w in self.workers.items())

    def until(self, check: Any, what: str) -> Any:
        """Wait; a failure shows the logs."""
        try:
            return eventually(check, what)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.tails()}") from None


@pytest.fixture
def site(kafka_server: KafkaServer, tmp_path: Path) -> Iterator[Site]:
    """A site of its own; its workers end with the test."""
    site = Site(tmp_path, kafka_server.bootstrap)
    yield site
    for log in site.logs:
        log.close()
    for worker in site.workers.values():
        worker.stop(20)


def send(
    rng: np.random.Generator,
    n: int,
    *,
    boom: bool,
    labelled: float,
    predict: Any,
    label: Any,
    serial: list[int],
    per_second: int = 1_500,
) -> None:
    """Let ``n`` applications pass through the service; a random share of outcomes becomes known."""
    for first in range(0, n, 150):
        began = time.monotonic()
        columns = credit.rows(rng, min(150, n - first), boom=boom)
        known = rng.random(len(columns["label"])) < labelled
        outcomes = []
        for i, features in enumerate(credit.feature_dicts(columns)):
            serial[0] += 1
            row = f"loan-{serial[0]:07d}"
            predict(SimpleNamespace(id=row, features=features))
            if known[i]:
                outcomes.append(SimpleNamespace(id=row, truth=columns["label"][i]))
        for outcome in outcomes:
            label(outcome)
        time.sleep(max(0.0, 150 / per_second - (time.monotonic() - began)))


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_stranger_goes_from_nothing_to_a_repair(site: Site, kafka_server: KafkaServer) -> None:
    rng = np.random.default_rng(3)
    serial = [0]
    spec = credit.build(site.folder / "model", version="7")
    session = ort.InferenceSession(str(site.folder / "model" / "student.onnx"))

    def classifier(features: dict[str, Any]) -> Any:
        row = {k: [np.nan if v is None else v] for k, v in features.items()}
        return session.run(["probabilities"], {"x": credit.matrix(row)})[0][0]

    # --- watch: the README's lines, nothing registered ---
    site.command("topics", "apply")
    site.start("stream")
    site.start("repair")
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    service: dict[str, Any] = {"classifier": classifier, "classes": credit.CLASSES}
    exec(code.replace("127.0.0.1:9092", kafka_server.bootstrap), service)
    site.logs.append(service["log"])
    flow = {"predict": service["predict"], "label": service["on_outcome"], "serial": serial}
    send(rng, 600, boom=False, labelled=0.0, **flow)
    site.until(lambda: site.query("SELECT rows FROM unregistered WHERE model = 'credit' AND rows >= 500"),
               "events of an unregistered model are counted")  # fmt: skip
    site.command("register", "credit", "--from-traffic", "--out", str(site.folder / "credit.toml"))
    send(rng, 10_500, boom=False, labelled=0.25, **flow)
    site.until(lambda: site.query("SELECT n FROM accuracy_states WHERE n >= 1000"),
               "a thousand outcomes make the base error")  # fmt: skip
    harmful = "json_extract(body, '$.impact.harmful')"
    assert site.query(f"SELECT body FROM findings WHERE {harmful}") == []
    send(rng, 1_500, boom=True, labelled=0.25, **flow)
    harm = f"SELECT body FROM findings WHERE kind = 'accuracy' AND {harmful}"
    found = json.loads(site.until(lambda: site.query(harm), "the first finding of harm")[0][0])
    assert found["provisional"] is True, found
    assert found["impact"]["basis"] == "measured"
    assert found["impact"]["reference"] - found["impact"]["current"] > 0.3
    assert service["log"].stats().dropped == 0
    site.until(lambda: site.query("SELECT 1 FROM incidents WHERE incident_class = 'harm' AND decision IS NOT NULL"),
               "an incident with a decision")  # fmt: skip
    assert site.query("SELECT * FROM jobs") == [], "level watch never repairs"

    # --- rollback: serve from the signed repository, go forward and back ---
    site.command("keys", "init")
    text = spec.read_text()
    spec.write_text(text.replace('level = "repair"', 'level = "rollback"'))
    site.command("register", str(spec))
    trust = site.folder / "root.json"
    site.command("keys", "export", str(trust))
    log = sdk.PredictionLogger(kafka_server.bootstrap)
    site.logs.append(log)
    model = sdk.ModelClient(
        "credit", repository=site.folder / "home" / "repository", trust=trust, log=log, poll_s=1.0
    )
    try:
        before = model.predict(credit.feature_dicts(credit.rows(rng, 1))[0])
        assert model.version == "7"
        assert before.prediction in credit.CLASSES
        wide = site.folder / "wide.onnx"
        shutil.copy(site.folder / "model" / "teacher.onnx", wide)
        credit.as_others_write_it(wide)
        site.command("add", "credit", "8", str(wide))
        site.command("publish", "credit", "8")
        site.until(lambda: model.version == "8", "the service follows the pointer")
        site.command("rollback", "credit")
        site.until(lambda: model.version == "7", "the service goes back")

        # --- repair: the world shifts, the student is rebuilt from its teacher ---
        spec.write_text(text)
        site.command("register", str(spec))

        def predict(request: Any) -> str:
            out = model.predict(request.features)
            log.log(out, features=request.features, id=request.id)
            return out.prediction

        repaired = {
            "predict": predict,
            "label": lambda event: log.label(
                "credit", id=event.id, label=event.truth, source="ledger"
            ),
            "serial": serial,
        }
        for (incident,) in site.query("SELECT incident_id FROM incidents WHERE status = 'open'"):
            site.command("incidents", "resolve", incident, "--reason", "rolled back by hand")
        send(rng, 1_500, boom=False, labelled=0.25, per_second=600, **repaired)

        def boom_until_repaired() -> bool:
            send(rng, 300, boom=True, labelled=0.25, per_second=600, **repaired)
            return model.version not in {"7", "8"}

        site.until(boom_until_repaired, "a repaired version serves")
        columns = credit.rows(rng, 2_000, boom=True)
        answers = [p.prediction for p in model.predict_batch(credit.feature_dicts(columns))]
        assert np.mean(np.asarray(answers) == columns["label"]) > 0.9
        assert site.command("check-history")
    finally:
        model.close()
