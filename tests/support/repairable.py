"""The credit model, registered at level *repair*, published, served and labelled: everything that a
repair needs, made by the real parts, in SQL and files."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import credit
import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from redistill.streams.client.session import Session
from redistill.streams.store import properties
from redistill.streams.store.database import Database, insert_ignore
from redistill.streams.store.join_step import join_labels
from redistill.streams.store.tables import feature_rows, input_states, join_rows, labels
from redistill.streams.wire.block import Schema
from redistill.streams.wire.hashing import id_hashes, signed
from redistill.times import SECOND, now_us
from redistill.workers.incidents.model_context import load
from redistill.workers.jobs.child import Child
from redistill.workers.models import registration, spec_file
from redistill.workers.onboarding import baseline
from redistill.workers.releases import keys, registry
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.releases.repository_writer import RepositoryWriter
from redistill.workers.settings.settings import Settings
from redistill.workers.store import opening

BASELINE = "2026-03"


def settings_of(home: Path, url: str | None = None, **over: Any) -> Settings:
    """Settings of an installation in ``home``; nothing listens at its broker."""
    return Settings.load(
        {"home": home, "database": url, "servers": "127.0.0.1:9", "poll_seconds": 0.1, **over}
    )


def install(home: Path, spec_path: Path, child: Child, settings: Settings) -> None:
    """Make keys, register the model and publish what serves, as ``redistill register`` does."""
    opening.upgrade(settings)
    database = opening.open(settings)
    now = now_us()
    prepared = registration.prepare(spec_file.read(spec_path), settings)
    keys.init(settings.keys_folder, passphrase=None, now=datetime.now(UTC))
    registration.store(database, prepared, settings, actor="test", now=now)
    writer = RepositoryWriter(database, RepositoryLayout(settings.root), holder="install")
    judged = baseline.judge(prepared.spec, settings, child, now=now)
    baseline.publish(database, writer, judged, actor="test", now=now, wait_seconds=30)
    writer.close()
    database.dispose()


def candidate(settings: Settings, database: Database, version: str, folder: Path) -> Path:
    """The files of a released version as a candidate's folder."""
    with database.read() as conn:
        row = registry.get(conn, "credit", version)
    for name, entry in row.files.items():
        if name != "manifest.json":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(
                RepositoryLayout(settings.root).path("credit", name, entry.sha256), folder / name
            )
    return folder


@dataclass
class Service:
    """Serves rows with a version's graph, and leaves in SQL what a stream worker would.

    Parameters
    ----------
    database, model, version
        Whose rows.
    session
        The graph that answers.
    """

    database: Database
    model: str
    version: str
    session: Session
    served: int = 0

    def serve(
        self,
        columns: dict[str, Any],
        *,
        at: int,
        label_share: float = 1.0,
        source: str = "ledger",
        wrong: bool = False,
        seed: int = 0,
        labels_over: int = 0,
    ) -> float:
        """Serve rows, one a millisecond from ``at``; label a random share of them.

        ``wrong``: every label is the other class. ``labels_over``: microseconds in which they come.

        Returns
        -------
        float
            Accuracy of the answers, by the truth.
        """
        x = credit.matrix(columns)
        n = len(x)
        ids = [f"{self.version}-{self.served + i}" for i in range(n)]
        self.served += n
        answers = [credit.CLASSES[i] for i in self.session.run(x).argmax(axis=1)]
        truth = columns["label"].tolist()
        with self.database.begin() as conn:
            salt = properties.salt(conn)
            hashes = signed(id_hashes(ids, salt))
            served_at = at + np.arange(n) * 1_000
            conn.execute(
                insert_ignore(join_rows),
                [
                    {
                        "model": self.model,
                        "id_hash": int(hashes[i]),
                        "version": self.version,
                        "prediction": answers[i],
                        "score": 0.9,
                        "slices": None,
                        "served_at": int(served_at[i]),
                        "topic_id": "t",
                        "partition": 0,
                        "window": 0,
                    }
                    for i in range(n)
                ],
            )
            conn.execute(
                sa.insert(feature_rows).values(
                    model=self.model,
                    version=self.version,
                    first_served_at=int(served_at[0]),
                    last_served_at=int(served_at[-1]),
                    rows=n,
                    bytes=1,
                    data=blob(ids, hashes, served_at, answers, x),
                )
            )
            self._count(conn)
            chosen = np.flatnonzero(np.random.default_rng(seed).random(n) < label_share)
            flipped = dict(zip(credit.CLASSES, reversed(credit.CLASSES), strict=True))
            if len(chosen):
                conn.execute(
                    sa.insert(labels),
                    [
                        {
                            "model": self.model,
                            "id": ids[i],
                            "source": source,
                            "observed_at": int(served_at[i]) + SECOND,
                            "id_hash": int(hashes[i]),
                            "label": flipped[truth[i]] if wrong else truth[i],
                            "op": "upsert",
                            "uniform": True,
                            "received_at": int(served_at[i])
                            + SECOND
                            + labels_over * k // len(chosen),
                            "state": "waiting",
                            "check_at": 0,
                        }
                        for k, i in enumerate(chosen.tolist())
                    ],
                )
        self.drain(at + n * 1_000 + 2 * SECOND)
        return float(np.mean([a == t for a, t in zip(answers, truth, strict=True)]))

    def drain(self, now: int) -> None:
        """Make outcomes of the labels, and findings of the outcomes."""
        with self.database.read() as conn:
            model_context = load(conn, self.model)
        assert model_context is not None
        while (
            done := join_labels(self.database, model_context.watch, state_key=b"k" * 32, now=now)
        ) is not None and done.more:
            pass

    def _count(self, conn: sa.Connection) -> None:
        key = {"model": self.model, "version": self.version, "topic_id": "t", "partition": 0}
        conn.execute(
            sa.delete(input_states).where(
                *(input_states.c[name] == value for name, value in key.items())
            )
        )
        conn.execute(sa.insert(input_states).values(**key, state=b"", rows=self.served))


def blob(ids: list[str], hashes: Any, served_at: Any, answers: list[str], x: Any) -> bytes:
    """Feature rows in the layout of ``feature_rows.data``."""
    values = pa.FixedSizeListArray.from_arrays(pa.array(np.ravel(x)), x.shape[1])
    batch = pa.record_batch(
        {
            "id": pa.array(ids),
            "id_hash": pa.array(np.asarray(hashes)),
            "served_at": pa.array(served_at, pa.timestamp("us", tz="UTC")),
            "prediction": pa.array(answers),
            "score": pa.array(np.full(len(ids), 0.9, np.float32)),
            "features": values,
        }
    ).replace_schema_metadata({"features": json.dumps(credit.FEATURES)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def service(database: Database, settings: Settings, version: str | None = None) -> Service:
    """A service with the version that the pointer names (or another one)."""
    from redistill.streams.client.release import Manifest
    from redistill.workers.store.tables import pointers

    with database.read() as conn:
        wanted = version or conn.execute(sa.select(pointers.c.stable)).scalar_one()
        row = registry.get(conn, "credit", wanted)
    layout = RepositoryLayout(settings.root)
    model = layout.path("credit", "model.onnx", row.files["model.onnx"].sha256).read_bytes()
    manifest = Manifest.from_json(
        layout.path("credit", "manifest.json", row.manifest_sha256).read_bytes()
    )
    return Service(database, "credit", wanted, Session(model, manifest))


def schema_of(conn: sa.Connection) -> Schema:
    """The credit model's schema as it was registered."""
    model_context = load(conn, "credit")
    assert model_context is not None
    return model_context.spec.schema


def template(base: Path, child: Child) -> Path:
    """An installation with the credit model published, made once below ``base`` and then copied.

    Returns
    -------
    Path
        Folder with ``source/`` (model.toml and its files) and ``home/``.
    """
    folder = base / "repairable"
    if not (folder / "ready").exists():
        spec = credit.build(folder / "source")
        # Gates have tests of their own: here a repair has to pass whatever rows it happens to get.
        gates = (
            "\n[gates]\ntrusted = { margin_points = 3.0 }\n"
            "worst_class = { max_loss_points = 15.0, excluded_loss_points = 50.0 }\n"
        )
        spec.write_text(spec.read_text() + gates)
        install(folder / "home", spec, child, settings_of(folder / "home"))
        (folder / "ready").touch()
    return folder


def copy_of(base: Path, child: Child, home: Path) -> Path:
    """A fresh copy of the template's home, as ``home``."""
    shutil.copytree(template(base, child) / "home", home)
    return home
