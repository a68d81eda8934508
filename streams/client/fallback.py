"""Fallback that a service declares: an ONNX file, or a release's folder, that serves when nothing
else can.
"""

from __future__ import annotations

from pathlib import Path

from redistill import onnxfile
from redistill.files import sha256_of_bytes
from redistill.onnxfile import GraphFacts
from redistill.onnxports import OnnxError
from redistill.streams.client.release import (
    FALLBACK,
    MANIFEST_FILE,
    MODEL_FILE,
    FileEntry,
    InputLayout,
    Manifest,
)
from redistill.streams.client.session import Session
from redistill.streams.errors import ReleaseError
from redistill.streams.wire.block import Feature, Schema
from redistill.times import EPOCH

__all__ = ["load_fallback"]


def load_fallback(
    path: Path, model: str, threads: int, release: Path | None
) -> tuple[Session, str]:
    """Bring a fallback into memory.

    Parameters
    ----------
    path
        ``model.onnx`` (a ``manifest.json`` beside it is used), or the folder of a release.
    model
        Name of the model.
    threads
        Threads of ONNX Runtime for one call.
    release
        Folder of a release of the same model, whose schema a bare file borrows.

    Returns
    -------
    tuple of Session and str
        The session, and the SHA-256 of the ONNX file.

    Raises
    ------
    ReleaseError
        The file is missing or no usable model.

    Notes
    -----
    A bare file knows no names: without a schema, features are taken in the order in which they
    are given, and classes are called ``"0"``, ``"1"``, ... Put ``manifest.json`` beside it.
    """
    file = path / MODEL_FILE if path.is_dir() else path
    try:
        data = onnxfile.read(file)
        facts = onnxfile.check_bytes(file.name, data)
    except OnnxError as error:
        raise ReleaseError(str(error)) from error
    sha256 = sha256_of_bytes(data)
    for candidate in (file.parent / MANIFEST_FILE, release and release / MANIFEST_FILE):
        if candidate and candidate.is_file():
            manifest = Manifest.from_json(candidate.read_bytes())
            if manifest.model == model:
                return Session(data, manifest, threads=threads), sha256
    return Session(data, _guessed(facts, model, sha256), threads=threads), sha256


def _guessed(facts: GraphFacts, model: str, sha256: str) -> Manifest:
    """What can be said of a bare file from its graph alone."""
    output = facts.outputs[0]
    classes = output.shape[1] if len(output.shape) == 2 else 1
    width = facts.inputs[0].shape[1] if len(facts.inputs[0].shape) == 2 else None
    matrix = len(facts.inputs) == 1 and width is not None and width > 1
    if classes is None or not (matrix or len(facts.inputs) > 1):
        raise ReleaseError(
            f"the fallback's graph does not say how many features or classes it has; put the "
            f"release's {MANIFEST_FILE} beside it"
        )
    columns = tuple(p.name for p in facts.inputs)
    names = tuple(f"x{i}" for i in range(width or 0)) if matrix else columns
    return Manifest(
        model=model,
        version=FALLBACK,
        kind="baseline",
        sha256=sha256,
        files={MODEL_FILE: FileEntry(sha256=sha256, bytes=facts.bytes)},
        schema=Schema(
            features=tuple(Feature(name=n) for n in names),
            classes=tuple(str(i) for i in range(classes)) if classes > 1 else (),
        ),
        task="classification" if classes > 1 else "regression",
        input=InputLayout(
            kind="matrix" if matrix else "columns",
            names=columns,
            rank=2 if matrix or len(facts.inputs[0].shape) == 2 else 1,
        ),
        output=output.name,
        output_kind="logits" if classes > 1 else "value",
        golden_tolerance=0.0,
        created_at=EPOCH,
    )
