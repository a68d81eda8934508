"""Package of a release, made from a candidate's folder: checked, described by a manifest, stored by
hash."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np

from redistill import onnxfile, onnxports
from redistill.files import sha256_of
from redistill.onnxports import OnnxError
from redistill.streams.client.probe import MEMORY_BYTES, SECONDS, probe
from redistill.streams.client.release import (
    GOLDEN_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    FileEntry,
    InputLayout,
    Manifest,
    OutputKind,
    ReleaseKind,
)
from redistill.streams.errors import ReleaseError
from redistill.streams.wire.block import Schema
from redistill.workers.errors import ReleaseFilesError
from redistill.workers.releases.release_files import RepositoryLayout, store

__all__ = ["ReleasePackage", "build_package", "version_name"]

GOLDEN_ROWS = 32
GOLDEN_TOLERANCE = 1e-2
"""Default; in the unit of the graph's output. Kernels for other CPUs add up in another order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleasePackage:
    """A release whose files lie in the repository; no pointer names it yet."""

    manifest: Manifest
    manifest_sha256: str
    files: dict[str, FileEntry]
    """All files by name, the manifest among them."""


def version_name(number: int, sha256: str) -> str:
    """Name of the version that job ``number`` made.

    Examples
    --------
    >>> version_name(12, "deadbeef" + "0" * 56)
    'r12-deadbeef'
    """
    return f"r{number}-{sha256[:8]}"


def build_package(
    candidate: Path,
    *,
    layout: RepositoryLayout,
    model: str,
    version: str,
    kind: ReleaseKind,
    schema: Schema,
    output: str | None,
    output_kind: OutputKind,
    created_at: datetime,
    task: Literal["classification", "regression"] = "classification",
    policy_sha256: str | None = None,
    predecessor: str | None = None,
    job_id: str | None = None,
    cpu_flags: tuple[str, ...] = (),
    load_memory_bytes: int = MEMORY_BYTES,
    load_seconds: float = SECONDS,
) -> ReleasePackage:
    """Check a candidate as a service will, and store it.

    The same candidate packaged twice gives the same release; a crash in between leaves files that
    no pointer names, which retention removes.

    Parameters
    ----------
    candidate
        Folder with ``model.onnx`` and ``golden.npz``, and whatever
        else belongs to the release, at most one folder deep.
    output
        Name of the output that is read; ``None``: the only one.

    Returns
    -------
    ReleasePackage
        For ``registry.add_version``.

    Raises
    ------
    ReleaseError
        The candidate was refused: its graph, its golden test, its files.
    ReleaseFilesError
        Files could not be stored.
    """
    names = sorted(
        str(p.relative_to(candidate))
        for p in candidate.rglob("*")
        if p.is_file() and not p.name.startswith(".")
    )
    for needed in (MODEL_FILE, GOLDEN_FILE):
        if needed not in names:
            raise ReleaseError(f"the candidate in {candidate} has no {needed}")
    if MANIFEST_FILE in names:
        raise ReleaseError(f"the candidate in {candidate} brings a {MANIFEST_FILE} of its own")
    try:
        facts = onnxfile.check(candidate / MODEL_FILE)
        taken = onnxports.layout(facts.inputs, schema.names)
        scores = onnxports.scores_output(facts.outputs, output)
    except OnnxError as error:
        raise ReleaseError(str(error)) from error
    files = {
        name: FileEntry(sha256=sha256_of(candidate / name), bytes=(candidate / name).stat().st_size)
        for name in names
    }
    manifest = Manifest(
        model=model,
        version=version,
        kind=kind,
        sha256=files[MODEL_FILE].sha256,
        files=files,
        schema=schema,
        task=task,
        input=InputLayout(
            kind="matrix" if taken.matrix else "columns", names=taken.names, rank=taken.rank
        ),
        output=scores,
        output_kind=output_kind,
        golden_tolerance=_tolerance(candidate / GOLDEN_FILE),
        cpu_flags=cpu_flags,
        policy_sha256=policy_sha256,
        predecessor=predecessor,
        job_id=job_id,
        created_at=created_at,
    )
    data = manifest.to_json()
    Manifest.from_json(data)  # a service would refuse what cannot be read back
    with tempfile.TemporaryDirectory(prefix="seal-", dir=_existing(layout.home)) as scratch:
        folder = Path(scratch)
        (folder / MANIFEST_FILE).write_bytes(data)
        for name in (MODEL_FILE, GOLDEN_FILE):
            shutil.copyfile(candidate / name, folder / name)
        probe(folder, memory_bytes=load_memory_bytes, seconds=load_seconds)
        for name in names:
            stored = store(layout, model, name, candidate / name)
            if stored != files[name]:
                raise ReleaseFilesError(f"{candidate / name} changed while it was packaged")
        entry = store(layout, model, MANIFEST_FILE, folder / MANIFEST_FILE)
    return ReleasePackage(
        manifest=manifest, manifest_sha256=entry.sha256, files={**files, MANIFEST_FILE: entry}
    )


def _tolerance(golden: Path) -> float:
    try:
        with np.load(golden, allow_pickle=False) as archive:
            value = float(archive["tolerance"]) if "tolerance" in archive else GOLDEN_TOLERANCE
    except Exception as error:  # a broken archive can fail in many ways
        raise ReleaseError(f"{golden.name} cannot be read: {error}") from error
    if not 0 <= value < float("inf"):
        raise ReleaseError(f"{golden.name}: {value} is no tolerance")
    return value


def _existing(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
