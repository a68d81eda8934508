"""Scoring by a foreign model: its first run happens in a limited child process.

A foreign ONNX file may be corrupt, huge, or made to harm. It is first read without executing it
(``redistill.onnxfile.check``), then run in a child with little memory and time, and without this
process's environment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redistill import child_path, confinement, onnxadopt, onnxfile, onnxports, onnxtrial
from redistill.compress.judge.company import dependent
from redistill.compress.judge.output_kind import misdeclared, unscaled
from redistill.files import sha256_of_bytes
from redistill.onnxports import GraphLayout, OnnxError
from redistill.stats import softmax
from redistill.streams.wire.block import Schema
from redistill.workers.errors import SpecError

__all__ = [
    "ScoringCall",
    "answers",
    "check_order",
    "inspect",
    "main",
    "most_likely",
    "silent",
    "unanswered",
]

BATCH = 1_024
"""Rows of one call: bounds the memory of graphs with wide layers."""


@dataclass(frozen=True, slots=True)
class ScoringCall:
    """How a graph is called."""

    path: Path
    place: str
    """Where it was named, for messages, for example ``[model] onnx``."""
    layout: GraphLayout
    output: str
    kind: str
    """``logits`` or ``probabilities``."""
    data: bytes
    """The file as it is kept."""
    new: bool = True
    """Whether it was never registered before."""
    changes: tuple[str, ...] = ()
    """What was done to it, a sentence each."""


def inspect(
    path: Path,
    schema: Schema,
    *,
    output: str | None,
    kind: str,
    place: str,
    known: Collection[str] = (),
) -> ScoringCall:
    """Check an ONNX file without running it, and adopt it.

    Parameters
    ----------
    place
        Where it was named, for the message, for example ``[model] onnx``.
    known
        SHA-256 of files that were registered before: rules for new ones do not hold for them.

    Raises
    ------
    SpecError
        It is corrupt, has external data, unknown operators, or other inputs and outputs than the
        schema says; or it asks for too much.
    """
    try:
        data = onnxfile.read(path)
        new = sha256_of_bytes(data) not in known
        if new:
            onnxtrial.try_large(path.name, data)
            adopted = onnxadopt.adopt(
                path.name,
                data,
                features=schema.names,
                classes=schema.classes,
                output=output,
                kind=kind,
            )
        else:
            adopted = onnxadopt.as_it_is(path.name, data, schema.names, output)
    except OnnxError as error:
        raise SpecError(f"{place} = {str(path)!r}: {error}") from error
    return ScoringCall(
        path=path,
        place=place,
        layout=adopted.layout,
        output=adopted.output,
        kind=kind,
        data=adopted.data,
        new=new,
        changes=tuple(f"{place}: {change}" for change in adopted.changes),
    )


def answers(
    asked: Sequence[tuple[ScoringCall, NDArray[np.float32]]],
    *,
    classes: int,
    memory_mb: int,
    seconds: float,
) -> list[NDArray[np.float32]]:
    """Class probabilities of graphs for rows, all from one child.

    Parameters
    ----------
    asked
        A graph and rows for it, ``(n, F) float32``, each.
    memory_mb, seconds
        Limits of the child, in MiB and seconds of CPU and of the wall clock.

    Returns
    -------
    list of numpy.ndarray
        ``(n, classes) float32`` each; a row of NaN where the model answers NaN.

    Raises
    ------
    SpecError
        A graph cannot be loaded or run, gives another number of outputs than there are classes, or
        outputs that are not of the declared kind.
    """
    with tempfile.TemporaryDirectory(prefix="redistill-score-") as scratch:
        folder = Path(scratch)
        requests = []
        for i, (call, rows) in enumerate(asked):
            np.save(folder / f"x{i}.npy", np.ascontiguousarray(rows, np.float32))
            (folder / f"m{i}.onnx").write_bytes(call.data)
            requests.append(
                {
                    "onnx": str(folder / f"m{i}.onnx"),
                    "place": f"{call.place} = {str(call.path)!r}",
                    "inputs": call.layout.names,
                    "rank": call.layout.rank,
                    "rows": call.layout.rows,
                    "output": call.output,
                    "new": call.new,
                }
            )
        # ONNX Runtime maps 1 to 2 GiB before it has read anything.
        limits = {"memory_bytes": (memory_mb + 2_048) << 20, "seconds": max(1, round(seconds))}
        (folder / "calls.json").write_text(json.dumps({"limits": limits, "calls": requests}))
        _run(folder, seconds)
        raw = [np.load(folder / f"y{i}.npy", allow_pickle=False) for i in range(len(asked))]
    out = []
    for (call, rows), given in zip(asked, raw, strict=True):
        if given.shape != (len(rows), classes):
            raise SpecError(
                f"{call.place} = {str(call.path)!r}: output {call.output!r} has shape"
                f" {given.shape}; ({len(rows)}, {classes}) was expected, one column per class"
            )
        wrong = misdeclared(given, call.kind) or (unscaled(given, call.kind) if call.new else None)
        if wrong is not None:
            raise SpecError(f"{call.place} = {str(call.path)!r}: {wrong}")
        answered = np.isfinite(given).all(axis=1, keepdims=True)
        shares = softmax(given).astype(np.float32) if call.kind == "logits" else given
        out.append(np.where(answered, shares, np.float32(np.nan)))
    return out


def _run(folder: Path, seconds: float) -> None:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "redistill.workers.models.scoring", str(folder)],
            env={**child_path.variables(), "OMP_NUM_THREADS": "1", "PATH": os.defpath},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds + 30,  # importing is slow on a busy machine
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SpecError(f"running the models took longer than {seconds:g} s") from error
    if done.returncode != 0:
        told = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        ended = f"the child in which the models run ended with {done.returncode}"
        raise SpecError(told[0][:600] if told else ended)


def most_likely(scores: NDArray[np.float32]) -> NDArray[np.int32]:
    """``(n,)`` index of the largest of ``(n, classes)`` scores; -2 (no class, and wrong) where one
    of them is NaN."""
    best: NDArray[np.int32] = np.nan_to_num(scores, nan=-1.0).argmax(axis=1).astype(np.int32)
    best[np.isnan(scores).any(axis=1)] = -2
    return best


def check_order(
    place: str,
    predicted: NDArray[np.int32],
    labels: NDArray[np.int32],
    classes: Sequence[str],
) -> None:
    """Refuse a graph whose outputs stand in another order than the classes were written in.

    Everything would seem to work: harm is an error above that of today, which is nearly all.

    Parameters
    ----------
    predicted, labels
        ``(n,)`` indices into ``classes``; below zero: no answer. Every label is known.

    Raises
    ------
    SpecError
        It is wrong on most rows, and in another order on less than half as many.
    """
    counts = np.zeros((len(classes), len(classes)), np.int64)
    answers = predicted >= 0
    np.add.at(counts, (predicted[answers], labels[answers]), 1)
    wrong = 1 - counts.trace() / len(labels)
    order: dict[int, int] = {}
    for cell in np.argsort(-counts, axis=None, kind="stable").tolist():
        output, label = divmod(cell, len(classes))
        if output not in order and label not in order.values():
            order[output] = label
    better = 1 - sum(counts[i, j] for i, j in order.items()) / len(labels)
    if wrong > 0.5 and better < wrong / 2:
        written = ", ".join(repr(classes[order[i]]) for i in range(len(classes)))
        raise SpecError(
            f"{place}: its outputs stand in another order than [schema] classes: it is wrong on"
            f" {wrong:.1%} of the rows, and on {better:.1%} with the classes [{written}]. Output i"
            " belongs to classes[i] (scikit-learn sorts its classes by name)"
        )


def unanswered(
    place: str, answers: NDArray[np.float32], rows: NDArray[np.float32], schema: Schema, what: str
) -> str | None:
    """Why a graph that has no answer to some rows cannot serve; ``None``: it answers all.

    Parameters
    ----------
    answers
        ``(n, classes)``; NaN where there is none.
    rows
        ``(n, F)`` what it was asked.
    what
        The rows, for the message.
    """
    silent = np.isnan(answers).any(axis=1)
    if not silent.any():
        return None
    some = rows[silent]
    lacking = np.isnan(some)
    many = f"{int(silent.sum()):,} of {len(rows):,} {what} rows"
    if lacking.any(axis=1).all():
        names = [
            schema.names[j] for j in np.argsort(-lacking.sum(axis=0))[:4] if lacking[:, j].any()
        ]
        why = (
            f"each of them lacks a value ({', '.join(names)}): handle missing values inside the"
            " graph (an imputer), or leave such rows out"
        )
    else:
        first = some[~lacking.any(axis=1)][0]
        told = ", ".join(f"{n} = {v:g}" for n, v in list(zip(schema.names, first, strict=True))[:6])
        why = f"the first without a missing value has {told}: a NaN is no class, mend the graph"
    return f"{place}: it answers NaN for {many}; {why}"


def silent(place: str, answers: NDArray[np.float32], schema: Schema) -> list[str]:
    """A warning about a graph that has no answer where a value is missing: row ``i`` of ``answers``
    lacks feature ``i``.
    """
    without = np.flatnonzero(np.isnan(answers).any(axis=1)).tolist()
    names = [schema.names[i] for i in without]
    if not names:
        return []
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return [
        f"{place}: it answers NaN where {', '.join(names[:4])}{more} is missing, and such a row"
        " then gets no prediction at all: handle missing values inside the graph"
    ]


def main(arguments: list[str]) -> int:
    """What the child does: limits first, then the graphs."""
    import resource

    folder = Path(arguments[0])
    asked = json.loads((folder / "calls.json").read_text())
    memory, seconds = asked["limits"]["memory_bytes"], asked["limits"]["seconds"]
    confinement.die_with_parent()
    confinement.deny_network()
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for i, call in enumerate(asked["calls"]):
        x = np.load(folder / f"x{i}.npy", allow_pickle=False)
        try:
            np.save(folder / f"y{i}.npy", _answer(call, x))
        except MemoryError:
            print(f"{call['place']}: it needs more memory than it may have", file=sys.stderr)
            return 1
        except _Unfit as error:
            print(f"{call['place']}: {error}", file=sys.stderr)
            return 1
        except Exception as error:  # classes of a C++ module, without a common base
            why = str(error).replace("\n", " ")
            print(f"{call['place']} cannot be run: {why}", file=sys.stderr)
            return 1
    return 0


class _Unfit(Exception):
    """A graph runs, and its answers cannot be used."""


def _answer(call: Mapping[str, Any], x: NDArray[np.float32]) -> NDArray[np.float32]:
    data = Path(call["onnx"]).read_bytes()
    session = onnxfile.session(data)
    feed = onnxports.feeder(call["inputs"], call["rank"])

    def answer(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(session.run([call["output"]], feed(rows))[0], np.float32)

    if call["new"] and len(x):
        rounded = any("Quant" in o for o in onnxfile.check_bytes("model", data).operators)
        # a missing value spoils the range that int8 takes from the whole batch
        asked = x[np.isfinite(x).all(axis=1)] if rounded else x
        told = dependent(answer, asked, rounded=rounded) if len(asked) else None
        if told is not None:
            raise _Unfit(told)
    step = call["rows"] or BATCH
    return np.concatenate([answer(x[i : i + step]) for i in range(0, len(x), step)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
