"""A release as something that answers: its ONNX graph in memory, and rows in, predictions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redistill import onnxfile, onnxports
from redistill.onnxports import OnnxError
from redistill.stats import softmax_of_row
from redistill.streams.client import forks
from redistill.streams.client.release import (
    CLIENT_FILES,
    FALLBACK,
    GOLDEN_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    Manifest,
    verify,
)
from redistill.streams.errors import NoAnswer, ReleaseError

__all__ = ["Row", "Session", "load", "self_test"]

Row = Mapping[str, Any] | Sequence[float | int | str | None] | NDArray[Any]
"""One row of features: by name (absent ones count as missing), or all in the schema's order."""


class Session:
    """An ONNX graph in memory with what its manifest says of it. Safe to call from many threads.

    Parameters
    ----------
    model
        The bytes of ``model.onnx``: already checked, so that what was checked is what is loaded.
    manifest
        What it is.
    threads
        Threads of ONNX Runtime for one call. One is fastest for small models and leaves the
        service's cores to the service.

    Raises
    ------
    ReleaseError
        ONNX Runtime cannot load it, or its inputs and outputs are not what the manifest says.
    """

    __slots__ = (
        "_feed",
        "_index",
        "_model",
        "_names",
        "_outputs",
        "_rowwise",
        "_run",
        "_width",
        "manifest",
        "plain",
        "positional",
    )

    def __init__(self, model: bytes, manifest: Manifest, *, threads: int = 1) -> None:
        try:
            with forks.guarded():
                session = onnxfile.session(model, threads=threads)
        except OnnxError as error:
            raise ReleaseError(f"{manifest.version}: {error}") from error
        self.manifest = manifest
        self._model = model
        self._run = session.run
        self._names = manifest.schema.names
        rank = 2 if manifest.input.kind == "matrix" else manifest.input.rank
        self._feed = onnxports.feeder(manifest.input.names, rank)
        self._outputs = [manifest.output]
        self._index = [
            {v: i for i, v in enumerate(f.values)} if f.kind == "category" else None
            for f in manifest.schema.features
        ]
        self.plain = all(index is None for index in self._index)
        """Whether all features are numbers."""
        self.positional = manifest.version == FALLBACK
        """Whether the features' names are unknown: a bare fallback takes values as they come."""
        self._rowwise = _check_ports(session, manifest)
        self._width = len(manifest.schema.classes) if manifest.task == "classification" else 1

    def reload(self, threads: int = 1) -> Session:
        """The same graph loaded anew: threads of ONNX Runtime do not live on after a fork."""
        return Session(self._model, self.manifest, threads=threads)

    def pack(self, row: Row) -> NDArray[np.float32]:
        """One row as the graph's input, ``(1, F) float32``; the rules are those of ``Schema.pack``.

        Raises
        ------
        ValueError
            A sequence of the wrong length: which value belongs to which feature is unknown. The
            text of a category, which a bare fallback does not know.
        """
        names = self._names
        if self.positional and isinstance(row, Mapping):
            row = list(row.values())
        if isinstance(row, Mapping):
            if self.plain:
                try:  # the common case: every feature is there and a number
                    return np.array([[row[n] for n in names]], np.float32)
                except (KeyError, TypeError, ValueError, OverflowError):
                    pass
            return self.manifest.schema.pack([row])
        if len(row) != len(names):
            raise ValueError(f"{len(names)} features were expected in order, {len(row)} were given")
        if self.plain:
            try:
                return np.array([row], np.float32)
            except (TypeError, ValueError, OverflowError):
                pass
        if self.positional:
            return self._unnamed(row)
        return self.manifest.schema.pack([self.named(row)])

    def _unnamed(self, row: Any) -> NDArray[np.float32]:
        """One row of a bare fallback with unreadable values: a category's index is unknown."""
        x = self.manifest.schema.pack([dict(zip(self._names, row, strict=True))])
        for value, read in zip(row, x[0].tolist(), strict=True):
            if read != read and isinstance(value, str):
                raise ValueError(
                    f"{value!r} is no number, and a fallback that is a bare file knows no"
                    f" categories: put the release's {MANIFEST_FILE} beside it"
                )
        return x

    def pack_rows(self, rows: Sequence[Row] | NDArray[Any]) -> NDArray[np.float32]:
        """Many rows as the graph's input, ``(n, F) float32``; a ``(n, F)`` array is taken as
        packed.
        """
        features = len(self._names)
        if isinstance(rows, np.ndarray):
            if rows.ndim != 2 or rows.shape[1] != features:
                raise ValueError(
                    f"an array of shape (n, {features}) was expected, not {rows.shape}"
                )
            return np.ascontiguousarray(rows, np.float32)
        if not rows:
            return np.empty((0, features), np.float32)
        named = [r for r in rows if isinstance(r, Mapping)]
        if not self.positional and len(named) == len(rows):
            return self.manifest.schema.pack(named)
        return np.concatenate([self.pack(r) for r in rows])

    def named(self, row: Row) -> Any:
        """A row by name, as it is logged; numbers given for a category are its indices.

        A bare fallback knows no names: the row comes back as it was given.
        """
        if self.positional or isinstance(row, Mapping):
            return row
        if isinstance(row, np.ndarray):
            row = row.tolist()
        out: dict[str, Any] = {}
        for name, index, value in zip(self._names, self._index, row, strict=True):
            if index is not None and isinstance(value, (int, float, np.number)):
                values = list(index)
                known = value == value and 0 <= int(value) < len(values)
                out[name] = values[int(value)] if known else (None if value != value else value)
            else:
                out[name] = value
        return out

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """The graph's raw output for packed rows.

        Parameters
        ----------
        x
            ``(n, F) float32``

        Returns
        -------
        numpy.ndarray
            ``(n, classes) float32``; ``(n, 1)`` for a regression

        Raises
        ------
        ReleaseError
            The graph gave another number of scores than there are classes.
        """
        if not len(x):
            return np.empty((0, self._width), np.float32)
        if self._rowwise and len(x) > 1:
            return np.concatenate([self.run(x[i : i + 1]) for i in range(len(x))])
        out: NDArray[np.float32] = self._run(self._outputs, self._feed(x))[0]
        if out.ndim != 2:
            out = out.reshape(len(x), -1)
        return out if out.shape[1] == self._width else self.widened(out)

    def widened(self, out: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores with a column per class: one column of two classes is that of the second.

        Raises
        ------
        ReleaseError
            There is another number of columns.
        """
        given = out.shape[1]
        if given == self._width:
            return out
        if given == 1 and self._width == 2:
            return onnxports.two_scores(out, logits=self.manifest.output_kind == "logits")
        raise ReleaseError(
            f"{self.manifest.version}: the graph gives {given} scores a row; {self._width} were"
            " expected"
        )

    def decide(self, raw: list[float]) -> tuple[str | float, list[float] | None]:
        """One row of output as (prediction, scores).

        Scores are probabilities in the order of the schema's classes. A regression has none.

        Raises
        ------
        NoAnswer
            A score is NaN, or no probability can be made of it.
        """
        manifest = self.manifest
        classes = manifest.schema.classes
        if manifest.task == "regression":
            scores, total = None, raw[0]
        elif manifest.output_kind == "probabilities":
            scores, total = raw, sum(raw)
        else:
            scores = softmax_of_row(raw)
            total = scores[0]  # each is NaN where one is
        if total - total != 0:  # NaN or infinite
            raise NoAnswer((0,), f"{manifest.version}: the graph answers {raw[:8]}")
        if scores is None:
            return raw[0], None
        return classes[max(range(len(raw)), key=raw.__getitem__)], scores

    def answers(self, raw: list[float]) -> bool:
        """Whether one row of output can be decided."""
        try:
            self.decide(raw)
        except NoAnswer:
            return False
        return True

    def missing(self, row: Row) -> list[str]:
        """Features that a row lacks, or that cannot be read in it."""
        x = self.pack(row)[0]
        return [n for n, value in zip(self._names, x.tolist(), strict=True) if value != value]


def _check_ports(session: Any, manifest: Manifest) -> bool:
    """Compare the graph's ports with the manifest; whether it takes one row at a time only."""
    version, said = manifest.version, manifest.input
    columns = manifest.schema.names if said.kind == "matrix" else said.names
    try:
        taken = onnxports.layout(onnxports.of_session(session.get_inputs()), columns)
    except OnnxError as error:
        raise ReleaseError(f"{version}: {error}") from error
    rank = 2 if said.kind == "matrix" else said.rank
    if (set(taken.names), taken.rank) != (set(said.names), rank):
        raise ReleaseError(
            f"{version}: the graph's inputs are {sorted(taken.names)} with {taken.rank} dimensions,"
            f" the manifest names {sorted(said.names)} with {rank}"
        )
    outputs = {p.name: p for p in onnxports.of_session(session.get_outputs())}
    read = outputs.get(manifest.output)
    if read is None:
        raise ReleaseError(
            f"{version}: no output {manifest.output!r}; the graph has {sorted(outputs)}"
        )
    classes = len(manifest.schema.classes) if manifest.task == "classification" else 1
    flat = len(read.shape) == 1  # (n,): a score a row
    told = 1 if flat else read.shape[1] if len(read.shape) == 2 else None
    if read.element != "FLOAT" or told not in {None, classes, 1 if classes == 2 else classes}:
        raise ReleaseError(
            f"{version}: output {manifest.output!r} is {read.element} of shape {list(read.shape)}; "
            f"float32 with {classes} values a row was expected"
        )
    return taken.rows == 1


def load(folder: Path, *, threads: int = 1) -> Session:
    """Verify a release's files and bring its graph into memory.

    Parameters
    ----------
    folder
        Holds ``manifest.json`` and the files that it names, at least those of ``CLIENT_FILES``.
    threads
        See :class:`Session`.

    Raises
    ------
    ReleaseError
        A file is missing or was changed, or ONNX Runtime cannot load the graph.
    """
    try:
        manifest = Manifest.from_json((folder / MANIFEST_FILE).read_bytes())
    except OSError as error:
        raise ReleaseError(f"{folder} holds no readable {MANIFEST_FILE}: {error}") from error
    verify(folder, manifest, names=CLIENT_FILES)
    model = (folder / MODEL_FILE).read_bytes()
    return Session(model, manifest, threads=threads)


def self_test(session: Session, golden: Path) -> float:
    """Run the golden inputs through a loaded release and compare with what its makers saw.

    Parameters
    ----------
    session
        The loaded release.
    golden
        ``golden.npz`` with ``inputs`` (k, F) float32 and ``outputs`` (k, classes) float32.

    Returns
    -------
    float
        Largest absolute difference of an output.

    Raises
    ------
    ReleaseError
        The file cannot be read, an output is off by more than the manifest's tolerance or not
        finite, or a label differs.
    """
    manifest = session.manifest
    try:
        with np.load(golden, allow_pickle=False) as archive:
            inputs = np.asarray(archive["inputs"], np.float32)
            wanted = np.asarray(archive["outputs"], np.float32)
    except Exception as error:  # a crafted archive can fail in many ways
        raise ReleaseError(f"{manifest.version}: {GOLDEN_FILE} cannot be read: {error}") from error
    features = len(manifest.schema.features)
    if inputs.ndim != 2 or inputs.shape[1] != features or not len(inputs):
        raise ReleaseError(
            f"{manifest.version}: golden inputs have shape {inputs.shape}, (k, {features}) expected"
        )
    try:
        outputs = session.run(inputs)
    except Exception as error:
        raise ReleaseError(
            f"{manifest.version}: the graph fails on its golden inputs: {error}"
        ) from error
    wanted = session.widened(wanted if wanted.ndim == 2 else wanted.reshape(len(inputs), -1))
    if outputs.shape != wanted.shape:
        raise ReleaseError(
            f"{manifest.version}: golden outputs have shape {wanted.shape}, "
            f"the graph gave {outputs.shape}"
        )
    if not (np.isfinite(outputs).all() and np.isfinite(wanted).all()):
        raise ReleaseError(f"{manifest.version}: the graph gives values that are not finite")
    off = float(np.abs(outputs - wanted).max())
    if off > manifest.golden_tolerance:
        raise ReleaseError(
            f"{manifest.version}: golden outputs differ by {off:.3g} on this machine; "
            f"{manifest.golden_tolerance:.3g} is allowed"
        )
    if manifest.task == "classification":
        differ = int((outputs.argmax(1) != wanted.argmax(1)).sum())
        if differ:
            raise ReleaseError(
                f"{manifest.version}: {differ} of {len(outputs)} golden labels differ on this "
                "machine"
            )
    return off
