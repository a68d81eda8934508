"""Fallback that a service declares: an ONNX file, or a release's folder, that serves when nothing
else can.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from redistill import onnxadopt, onnxfile, onnxports
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
    """Bring a fallback into memory, and try it.

    Parameters
    ----------
    path
        ``model.onnx`` (a ``manifest.json`` beside it is used), or the folder of a release.
    model
        Name of the model.
    threads
        Threads of ONNX Runtime for one call.
    release
        Folder of a release of the same model, whose manifest a bare file borrows: the names of its
        features and classes, and which output is read as what.

    Returns
    -------
    tuple of Session and str
        The session, and the SHA-256 of the ONNX file.

    Raises
    ------
    ReleaseError
        The file is missing or no usable model, or it answers nothing.

    Notes
    -----
    A bare file knows no names: without a manifest, features are taken in the order in which they
    are given, and classes are called ``"0"``, ``"1"``, ... Put ``manifest.json`` beside it.
    """
    file = path / MODEL_FILE if path.is_dir() else path
    try:
        data = onnxfile.read(file)
        facts = onnxfile.check_bytes(file.name, data)
    except OnnxError as error:
        raise ReleaseError(str(error)) from error
    sha256 = sha256_of_bytes(data)
    manifest = _told(model, file.parent, release)
    if manifest is not None:
        if manifest.sha256 != sha256:
            data, manifest = _adopted(file.name, data, manifest)
            sha256 = sha256_of_bytes(data)
        session = Session(data, manifest, threads=threads)
        _trial(session)
    else:
        manifest = _guessed(facts, model, sha256)
        session = Session(data, manifest, threads=threads)
        if manifest.task == "classification" and _sums_to_one(_trial(session)):
            manifest = dataclasses.replace(manifest, output_kind="probabilities")
            session = Session(data, manifest, threads=threads)
    return session, sha256


def _told(model: str, *folders: Path | None) -> Manifest | None:
    """The first manifest of the model that lies in one of some folders."""
    for file in (folder / MANIFEST_FILE for folder in folders if folder is not None):
        if file.is_file():
            try:
                manifest = Manifest.from_json(file.read_bytes())
            except OSError as error:
                raise ReleaseError(f"{file} cannot be read: {error.strerror}") from error
            if manifest.model == model:
                return manifest
    return None


def _adopted(name: str, data: bytes, manifest: Manifest) -> tuple[bytes, Manifest]:
    """A file of the release's model as registration would have taken it, for it may be the very
    file that was registered; one that it would refuse stays as it is.
    """
    schema = manifest.schema
    try:
        adopted = onnxadopt.adopt(
            name,
            data,
            features=schema.names,
            classes=schema.classes,
            output=manifest.output,
            kind=manifest.output_kind,
        )
    except OnnxError:
        return data, manifest
    taken = adopted.layout
    layout = InputLayout(
        kind="matrix" if taken.matrix else "columns", names=taken.names, rank=taken.rank
    )
    return adopted.data, dataclasses.replace(manifest, input=layout)


def _trial(session: Session) -> NDArray[np.float32]:
    """What a graph answers to rows of zeros and of ones.

    Raises
    ------
    ReleaseError
        It fails, or answers NaN to both.
    """
    width = len(session.manifest.schema.features)
    rows = np.repeat(np.array([[0.0], [1.0]], np.float32), width, axis=1)
    try:
        answers = session.run(rows)
    except ReleaseError:
        raise
    except Exception as error:  # ONNX Runtime's own
        raise ReleaseError(f"the graph fails on a row of zeros: {error}") from error
    if not np.isfinite(answers).all(axis=1).any():
        raise ReleaseError("the graph answers NaN to a row of zeros and to one of ones")
    return answers


def _sums_to_one(answers: NDArray[np.float32]) -> bool:
    """Whether scores are probabilities already: logits never sum to one row after row."""
    known = answers[np.isfinite(answers).all(axis=1)]
    return bool((known >= 0).all() and np.abs(known.sum(axis=1) - 1).max() < 1e-3)


def _guessed(facts: GraphFacts, model: str, sha256: str) -> Manifest:
    """What can be said of a bare file from its graph alone."""
    try:
        read = onnxports.scores_output(facts.outputs, None)
    except OnnxError as error:
        raise ReleaseError(f"{error}; put the release's {MANIFEST_FILE} beside it") from error
    (output,) = (p for p in facts.outputs if p.name == read)
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
