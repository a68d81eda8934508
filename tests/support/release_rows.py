"""Packages of releases without files, and the rows that publishing them needs: nothing is signed or
stored."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import loop
import msgspec
import sqlalchemy as sa
from loop import NOW

from redistill.streams.client.release import FileEntry, InputLayout, Manifest
from redistill.streams.store.database import Database
from redistill.streams.wire.block import Schema
from redistill.streams.wire.events import Trigger
from redistill.times import utc
from redistill.workers.releases import registry, roles
from redistill.workers.releases.package import ReleasePackage
from redistill.workers.releases.roles import Lifetimes

ACTOR = Trigger(kind="actor", id="cli:test")
LIFETIMES = Lifetimes()
TRUST = json.dumps({"signed": {"version": 1}}).encode()
"""What ``roles`` reads of root metadata."""


def digest(text: str) -> str:
    """A SHA-256."""
    return sha256(text.encode()).hexdigest()


def package(
    version: str, *, model: str = "credit", names: tuple[str, ...] = ("golden.npz",), **more: Any
) -> ReleasePackage:
    """The package of a version whose graph's bytes are ``model|version``."""
    names = ("model.onnx", *names)
    files = {n: FileEntry(sha256=digest(f"{model}|{version}|{n}"), bytes=10) for n in names}
    schema: Schema = more.pop("schema", loop.spec().schema)
    manifest = Manifest(
        model=model,
        version=version,
        kind=more.pop("kind", "repaired"),
        sha256=files["model.onnx"].sha256,
        files=files,
        schema=schema,
        input=InputLayout(kind="matrix", names=("x",)),
        output="y",
        output_kind="logits",
        golden_tolerance=0.01,
        created_at=utc(NOW),
        **more,
    )
    data = manifest.to_json()
    entry = FileEntry(sha256=sha256(data).hexdigest(), bytes=len(data))
    return ReleasePackage(
        manifest=manifest,
        manifest_sha256=entry.sha256,
        files={**files, "manifest.json": entry},
    )


def prepared(
    database: Database,
    *models: str,
    level: str = "repair",
    now: int = NOW,
    trust: bytes = TRUST,
) -> None:
    """Register models that serve nothing yet, in a repository that has keys."""
    with database.begin() as conn:
        for model in models or ("credit",):
            loop.register(conn, loop.spec(model, level=level), version=None, now=now)
        roles.ensure(conn, trust, now=now, lifetimes=LIFETIMES)


NORMAL = ("profile", "base_error", "expected_error", "provisional")


def add(conn: sa.Connection, version: str, *, now: int = NOW, **more: Any) -> Any:
    """Enter a version; the registry's row."""
    passed = more.pop("passed", True)
    extra = {k: more.pop(k) for k in NORMAL if k in more}
    report = {
        "format": 1,
        "gates": [
            {"name": "fresh_e_value", "value": 250.0, "limit": 100.0, "passed": passed, "why": "w"}
        ],
    } | more.pop("report", {})
    return registry.add_version(
        conn,
        package(version, **more),
        report=msgspec.json.encode(report),
        gate_passed=passed,
        trigger=ACTOR,
        actor="cli:test",
        now=now,
        **extra,
    )


def publish(conn: sa.Connection, version: str, *, now: int = NOW, model: str = "credit") -> Any:
    """Move the pointer of a model."""
    return registry.publish(
        conn,
        model,
        version,
        trigger=ACTOR,
        actor="cli:test",
        reason="test",
        now=now,
        lifetimes=LIFETIMES,
    )


def rollback(conn: sa.Connection, *, now: int = NOW, model: str = "credit", **more: Any) -> Any:
    """Move it back."""
    return registry.rollback(
        conn,
        model,
        trigger=ACTOR,
        actor="cli:test",
        reason="test",
        now=now,
        lifetimes=LIFETIMES,
        cool_down_seconds=60.0,
        **more,
    )
