"""Labels asked for by the real stream worker: drift, a request, answers from a file, a finding."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import loop
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from stream_lab import Lab
from stream_rows import CONFIG, label, prediction, truth, watch
from typer.testing import CliRunner
from waiting import eventually

from redistill.streams.store import tables as t
from redistill.workers.cli.label import app

ASKING = replace(
    CONFIG, requests_per_day=800, label_cost=0.5, wait_days=3_650.0, retention_days=3_650.0
)


def invoke(*args: str) -> Any:
    result = CliRunner().invoke(app, list(args))
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def lab(tmp_path: Path, kafka_server: Any, database_url: str) -> Any:
    made = Lab(kafka_server.bootstrap, database_url, tmp_path)
    made.make_topics(("predictions", "labels", "dlq", "drift", "label-requests"))
    watch(made.db, ASKING)
    spec = loop.spec(level="rollback")
    spec = replace(
        spec,
        schema=CONFIG.schema,
        labels=replace(spec.labels, wait_days=3_650.0, requests_per_day=800, cost=0.5),
    )
    with made.db.begin() as conn:
        conn.execute(sa.update(t.specs).values(spec=spec.to_json()))
    yield made
    made.close()


def rows(lab: Lab, table: sa.Table) -> list[Any]:
    with lab.db.read() as conn:
        return list(conn.execute(sa.select(table)))


@pytest.mark.kafka
def test_drift_asks_for_labels_whose_answers_decide(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in lab.env.items():
        if name.startswith("REDISTILL_"):
            monkeypatch.setenv(name, value)
    lab.worker().start()
    served = 0

    def serve(n: int, wrong_every: int) -> None:
        nonlocal served
        new = range(served, served + n)
        served += n
        lab.send(prediction(i, right=i // 10 % wrong_every != 0) for i in new)
        lab.send(label(i) for i in new if i % 10 == 0)
        labelled = served // 10
        eventually(lambda: len(rows(lab, t.outcomes)) >= labelled, f"{labelled} outcomes")

    serve(1_000, 10)
    assert rows(lab, t.label_requests) == []
    for _ in range(30):
        serve(100, 3)
        if rows(lab, t.label_requests):
            break
    assert rows(lab, t.findings) == [], "the labels so far decide nothing"

    for look in range(100):  # a request goes on with rows that are stored after it
        said = json.loads(invoke("requests", "credit", "--json").stdout)
        file, sheet = (tmp_path / f"rows{look}.{form}" for form in ("parquet", "csv"))
        invoke("requests", "credit", "--out", str(file))
        invoke("requests", "credit", "--out", str(sheet))
        if json.loads(invoke("requests", "credit", "--json").stdout) == said:
            break
    assert said["used"] == sum(r["rows"] for r in said["requests"]) > 0
    wanted = pq.read_table(file)
    assert wanted.column_names == [
        *("id", "served_at", "prediction", "request_id", "p_include"),
        *("income", "age", "region"),
    ]
    assert wanted.num_rows == sum(r["open"] for r in said["requests"])
    requested = dict(Counter(wanted["request_id"].to_pylist()))
    numbers = [int(i.removeprefix("row-")) for i in wanted["id"].to_pylist()]
    assert wanted["income"].to_pylist() == [1_000.0 + i for i in numbers]
    assert wanted["region"].to_pylist() == ["EU" if i % 3 else "US" for i in numbers]
    before = file.read_bytes()
    refused = CliRunner().invoke(app, ["requests", "credit", "--out", str(file)])
    assert "exists already" in str(refused.exception) + refused.output
    assert file.read_bytes() == before, "somebody may have filled labels in"
    assert pyarrow.csv.read_csv(sheet)["id"].to_pylist() == wanted["id"].to_pylist()

    answers = wanted.append_column("label", pa.array([truth(i) for i in numbers]))
    pq.write_table(answers, file)
    invoke("import", str(file), "--model", "credit", "--source", "ledger")
    eventually(
        lambda: sum(o.request_id is not None for o in rows(lab, t.outcomes)) >= len(numbers),
        "the answers are outcomes",
    )
    eventually(lambda: bool(rows(lab, t.findings)), "a finding")
    assert [f.kind for f in rows(lab, t.findings)] == ["accuracy"]
    done = json.loads(invoke("requests", "credit", "--json").stdout)
    answered_of = {r["request_id"]: r["answered"] for r in done["requests"]}
    assert {r: answered_of[r] for r in requested} == requested
    answered = [o for o in rows(lab, t.outcomes) if o.request_id is not None]
    assert {o.arrival for o in answered} == {"import"}
