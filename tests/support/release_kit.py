"""Small ONNX models, and an installation that can package and publish them: database, keys, writer."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import sqlalchemy as sa
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from redistill.files import sha256_of_bytes
from redistill.streams.store.database import Database, connect
from redistill.streams.store.tables import metadata, specs
from redistill.streams.wire.block import Feature, Schema
from redistill.streams.wire.events import Trigger
from redistill.times import to_us
from redistill.workers.releases import adoption, keys, registry
from redistill.workers.releases.package import ReleasePackage, build_package
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.releases.repository_writer import RepositoryWriter
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.store import audit, audit_key

SCHEMA = Schema(
    features=(
        Feature(name="income"),
        Feature(name="age"),
        Feature(name="region", kind="category", values=("EU", "US")),
    ),
    classes=("repay", "default"),
)
NUMERIC = Schema(
    features=tuple(Feature(name=f"f{i}") for i in range(20)), classes=("a", "b", "c", "d")
)
ACTOR = Trigger(kind="actor", id="cli:test")
START = 1_760_000_000.0
"""Seconds since 1970 at which the tests' clock begins."""


def graph(
    weights: NDArray[np.float32], bias: NDArray[np.float32], *, batch: int | None = None
) -> onnx.ModelProto:
    """``y = nan_to_zero(x) @ weights + bias`` with the input ``x`` and the output ``y``."""
    features, classes = weights.shape
    shape = ["n" if batch is None else batch, features]
    nodes = [
        helper.make_node("IsNaN", ["x"], ["gone"]),
        helper.make_node("Where", ["gone", "zero", "x"], ["clean"]),
        helper.make_node("MatMul", ["clean", "w"], ["h"]),
        helper.make_node("Add", ["h", "b"], ["y"]),
    ]
    built = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [shape[0], classes])],
        [
            numpy_helper.from_array(weights.astype(np.float32), "w"),
            numpy_helper.from_array(bias.astype(np.float32), "b"),
            numpy_helper.from_array(np.zeros((), np.float32), "zero"),
        ],
    )
    return model_of(built)


def model_of(built: onnx.GraphProto, **options: Any) -> onnx.ModelProto:
    """A graph as a model that today's ONNX Runtime loads."""
    imports = options.pop("opset_imports", [helper.make_opsetid("", 17)])
    return helper.make_model(built, opset_imports=imports, ir_version=9, **options)


def linear(seed: int, schema: Schema = SCHEMA) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights (F, C) and biases (C,) of a made-up model."""
    rng = np.random.default_rng(seed)
    shape = (len(schema.features), len(schema.classes))
    return rng.normal(size=shape).astype(np.float32), rng.normal(size=shape[1]).astype(np.float32)


def rows(schema: Schema, n: int, seed: int = 0) -> NDArray[np.float32]:
    """Rows (n, F) that a model may meet; categories are indices."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, len(schema.features))).astype(np.float32)
    for j, feature in enumerate(schema.features):
        if feature.kind == "category":
            x[:, j] = rng.integers(0, len(feature.values), n)
    return x


def write_candidate(
    folder: Path, seed: int, schema: Schema = SCHEMA, *, tolerance: float = 1e-4
) -> Path:
    """A candidate's folder as the pipeline leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    weights, bias = linear(seed, schema)
    onnx.save(graph(weights, bias), folder / "model.onnx")
    x = rows(schema, 32)
    np.savez(
        folder / "golden.npz",
        inputs=x,
        outputs=np.nan_to_num(x) @ weights + bias,
        tolerance=np.float32(tolerance),
    )
    (folder / "report.json").write_bytes(report())
    (folder / "training").mkdir(exist_ok=True)
    (folder / "training" / "architecture.json").write_text(json.dumps({"seed": seed}))
    (folder / "reference_rows.parquet").write_bytes(b"rows of customers")
    return folder


def report(passed: bool = True) -> bytes:
    """A gate report with one gate."""
    gate = {
        "name": "fresh_e_value",
        "value": 250.0,
        "limit": 100.0,
        "passed": passed,
        "why": "test",
    }
    return json.dumps({"format": 1, "gates": [gate]}).encode()


@dataclass
class FakeClock:
    """Time that stands until it is moved, in seconds since 1970."""

    now: float = START

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


_SCRATCH = tempfile.mkdtemp(prefix="packaged-")
atexit.register(shutil.rmtree, _SCRATCH, ignore_errors=True)
_PACKAGED: dict[tuple[str, str, int, str, Schema], tuple[RepositoryLayout, ReleasePackage]] = {}


@dataclass
class Installation:
    """A database, a home with keys, and a writer of the repository."""

    database: Database
    layout: RepositoryLayout
    clock: Callable[[], float]
    writer: RepositoryWriter
    lifetimes: Lifetimes = field(default_factory=Lifetimes)

    @property
    def now(self) -> int:
        """Microseconds since 1970."""
        return to_us(self.clock())

    @property
    def trust(self) -> bytes:
        """Root metadata for clients."""
        return (self.layout.keys / "root.json").read_bytes()

    def register(self, model: str, level: str = "repair") -> None:
        """A row of ``specs``, as ``redistill register`` leaves it."""
        with self.database.begin() as conn:
            conn.execute(
                sa.insert(specs).values(
                    model=model,
                    revision=1,
                    config_sha256="0" * 64,
                    level=level,
                    watch="{}",
                    spec="{}",
                    registered_at=self.now,
                    updated_at=self.now,
                )
            )
            told = {"config_sha256": "0" * 64, "spec_sha256": sha256_of_bytes(b"{}")}
            audit.append(conn, "cli:test", "model.registered", model, told, self.now)

    def package(
        self,
        model: str,
        version: str,
        seed: int,
        kind: Any = "repaired",
        *,
        schema: Schema = SCHEMA,
    ) -> ReleasePackage:
        """Package a made-up candidate.

        Packaging tries the candidate in a child process, which takes a second: each candidate is
        packaged once in a run of the tests, and its files are copied from then on.
        """
        key = (model, version, seed, str(kind), schema)
        if key not in _PACKAGED:
            first = RepositoryLayout(Path(tempfile.mkdtemp(dir=_SCRATCH)))
            candidate = write_candidate(first.home / "candidate", seed, schema)
            _PACKAGED[key] = (
                first,
                build_package(
                    candidate,
                    layout=first,
                    model=model,
                    version=version,
                    kind=kind,
                    schema=schema,
                    output="y",
                    output_kind="logits",
                    created_at=datetime.fromtimestamp(START, UTC),
                ),
            )
        first, package = _PACKAGED[key]
        write_candidate(self.layout.home / "candidates" / f"{model}-{version}", seed, schema)
        for name, entry in package.files.items():
            target = self.layout.path(model, name, entry.sha256)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(first.path(model, name, entry.sha256), target)
        return package

    def add(
        self,
        model: str,
        version: str,
        seed: int,
        kind: Any = "repaired",
        *,
        passed: bool = True,
        **more: Any,
    ) -> ReleasePackage:
        """Package and enter a version."""
        package = self.package(model, version, seed, kind, **more)
        with self.database.begin() as conn:
            registry.add_version(
                conn,
                package,
                report=report(passed),
                gate_passed=passed,
                trigger=ACTOR,
                actor="cli:test",
                now=self.now,
            )
        return package

    def publish(self, model: str, version: str) -> registry.PointerMove:
        """Move the pointer, and let clients see it."""
        with self.database.begin() as conn:
            moved = registry.publish(
                conn,
                model,
                version,
                trigger=ACTOR,
                actor="cli:test",
                reason="test",
                now=self.now,
                lifetimes=self.lifetimes,
            )
        self.tick()
        return moved

    def rollback(self, model: str, **more: Any) -> registry.PointerMove:
        """Move the pointer back, and let clients see it."""
        with self.database.begin() as conn:
            moved = registry.rollback(
                conn,
                model,
                trigger=ACTOR,
                actor="cli:test",
                reason="test",
                now=self.now,
                lifetimes=self.lifetimes,
                cool_down_seconds=3_600,
                **more,
            )
        self.tick()
        return moved

    def accept_restore(self, *, vouch: bool = False, new_key: bool = False) -> None:
        """Let what is in the database count, as ``redistill keys accept-restore`` does."""
        with self.database.begin() as conn:
            adoption.accept_restore(
                conn,
                self.layout,
                reason="test",
                vouch=vouch,
                new_key=new_key,
                actor="cli:test",
                now=self.now,
                lifetimes=self.lifetimes,
            )

    def tick(self) -> Any:
        """One round of the writer, which must succeed."""
        done = self.writer.tick()
        if self.writer.problem is not None:
            raise self.writer.problem
        return done


def opened(home: Path, url: str) -> Database:
    """A database as commands and repair workers open it: with the audit key of the home."""
    return audit_key.with_key(connect(url), home / "keys" / "audit.key")


def copy_of(original: Installation, home: Path, url: str) -> Installation:
    """A SQLite installation once more, elsewhere: much faster than making another one.

    Parameters
    ----------
    url
        ``sqlite:///`` and a path.
    """
    original.database.checkpoint()
    shutil.copytree(original.layout.home, home)
    shutil.copyfile(str(original.database.url.database), url.removeprefix("sqlite:///"))
    database, layout = opened(home, url), RepositoryLayout(home)
    writer = RepositoryWriter(
        database,
        layout,
        holder="test",
        clock=original.clock,
        lifetimes=original.lifetimes,
        cool_down_seconds=3_600,
    )
    return Installation(database, layout, original.clock, writer, original.lifetimes)


def install(
    home: Path,
    url: str,
    *,
    clock: Callable[[], float] | None = None,
    lifetimes: Lifetimes | None = None,
    holder: str = "test",
) -> Installation:
    """A new installation in ``home``."""
    clock = clock or FakeClock()
    lifetimes = lifetimes or Lifetimes()
    database = opened(home, url)
    metadata.create_all(database.engine)
    layout = RepositoryLayout(home)
    keys.init(layout.keys, passphrase=None, now=datetime.fromtimestamp(clock(), UTC))
    writer = RepositoryWriter(
        database, layout, holder=holder, clock=clock, lifetimes=lifetimes, cool_down_seconds=3_600
    )
    writer.tick()
    return Installation(database, layout, clock, writer, lifetimes)
