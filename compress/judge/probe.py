"""Probe: first load of a graph in a child with little memory and time, and its latency there.

``python -m redistill.compress.judge.probe`` reads one request (JSON) from standard input, and
answers with one JSON line per graph. Whatever a graph does to this process, the parent only sees a
missing line.
"""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from redistill import child_path, confinement, onnxfile
from redistill.compress.errors import BadModel, CompressError
from redistill.compress.judge import graph, latency, peak_memory
from redistill.decodable import decodable
from redistill.onnxports import OnnxError

__all__ = ["WALL_SECONDS", "Probe", "ProbeResult", "ProbeTarget"]

MEMORY_BYTES = 2 << 30
"""Address space that loading may take beyond what the process has when it starts to load."""
CPU_SECONDS = 60
"""A tabular student loads in milliseconds; latency takes under a second for each graph."""
CALLS = 3
"""Calls whose memory is measured: the arena has its size after the first."""
WALL_SECONDS = 120.0
"""Twice the CPU time: a busy machine, not a graph, may be the reason."""


class ProbeTarget(msgspec.Struct, frozen=True, kw_only=True):
    """A graph to be probed."""

    name: str
    path: str
    call: graph.GraphCall


@decodable
class ProbeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is asked."""

    targets: tuple[ProbeTarget, ...]
    rows: bytes
    """Rows to run, float32, one after the other."""
    width: int
    """Columns of a row."""
    batch: int
    """Rows of a timed call."""
    memory_bytes: int
    cpu_seconds: int
    latency: bool


@decodable
class ProbeResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one graph."""

    name: str
    error: str | None = None
    """Why it must not be used; ``None``: it loads and answers."""
    operators: tuple[str, ...] = ()
    """Operators of the graph that ONNX Runtime made of it."""
    p50_ms: float | None = None
    p95_ms: float | None = None
    rows_per_s: float | None = None
    peak_bytes: int | None = None

    @property
    def integer_operators(self) -> tuple[str, ...]:
        """Those that compute on integers."""
        return tuple(o for o in self.operators if o in graph.INTEGER_OPERATORS)


@dataclass
class Probe:
    """A child that is started early, so that its imports overlap with other work."""

    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls) -> Self:
        """Start the child; it waits for its request."""
        process = subprocess.Popen(
            [sys.executable, "-m", "redistill.compress.judge.probe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # nothing of this process's environment but where Python finds its modules
            env={
                **child_path.variables(),
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
            },
            close_fds=True,
        )
        return cls(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child if it still waits."""
        if self.process.poll() is None:
            self.process.kill()
        with contextlib.suppress(ValueError, OSError):
            self.process.communicate()

    def ask(
        self,
        targets: Sequence[ProbeTarget],
        rows: NDArray[np.float32],
        *,
        batch: int,
        measure: bool,
        memory_bytes: int = MEMORY_BYTES,
        cpu_seconds: int = CPU_SECONDS,
        wall_seconds: float = WALL_SECONDS,
    ) -> dict[str, ProbeResult]:
        """Probe graphs; a child answers once.

        Parameters
        ----------
        targets
            The graphs.
        rows
            ``(n, F) float32``, real rows.
        batch
            Rows of a timed call.
        measure
            Whether latency is wanted.
        memory_bytes, cpu_seconds, wall_seconds
            Limits of the child.

        Returns
        -------
        dict
            An answer for every target; the one at which the child died says how.

        Raises
        ------
        CompressError
            The child could not even start to work.
        """
        request = ProbeRequest(
            targets=tuple(targets),
            rows=np.ascontiguousarray(rows, np.float32).tobytes(),
            width=rows.shape[1],
            batch=batch,
            memory_bytes=memory_bytes,
            cpu_seconds=cpu_seconds,
            latency=measure,
        )
        how = ""
        try:
            out, err = self.process.communicate(msgspec.json.encode(request), timeout=wall_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            how = f"took more than {wall_seconds:.0f} s"
        answers: dict[str, ProbeResult] = {}
        for line in out.splitlines():
            answer = msgspec.json.decode(line, type=ProbeResult)
            answers[answer.name] = answer
        code = self.process.returncode
        if code == 0 and not how:
            return answers
        tail = (err.decode(errors="replace").strip().splitlines() or [""])[-1][:200]
        if code == START_FAILED:
            raise CompressError(f"the child that loads graphs could not start: {tail}")
        how = how or (f"died by signal {-code}" if code < 0 else f"ended with status {code}")
        how += f" ({tail})" if tail else ""
        waiting = [s for s in targets if s.name not in answers]
        if not waiting:  # it died while it timed them: none of them can be blamed or trusted
            return {
                name: a
                if a.p50_ms is not None or a.error
                else ProbeResult(
                    name=name, error=f"the limited child {how} while it timed the graphs"
                )
                for name, a in answers.items()
            }
        culprit, *others = waiting
        answers[culprit.name] = ProbeResult(
            name=culprit.name, error=f"the limited child {how} while it loaded this graph"
        )
        retry = [
            s for s in targets if s.name in answers and answers[s.name].error is None and measure
        ]
        if others or retry:  # the innocent get another child
            with Probe.start() as again:
                answers |= again.ask(
                    [*retry, *others],
                    rows,
                    batch=batch,
                    measure=measure,
                    memory_bytes=memory_bytes,
                    cpu_seconds=cpu_seconds,
                    wall_seconds=wall_seconds,
                )
        return answers


START_FAILED = 3
"""Exit status of a child that could not read its request."""


def _load(target: ProbeTarget, rows: NDArray[np.float32]) -> ProbeResult:
    path = Path(target.path)
    try:
        graph.check_file(path)
        loaded = graph.Graph(path, target.call)
        loaded.self_test(rows)
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "optimised.onnx"
            graph.session(path, optimised=made)
            return ProbeResult(name=target.name, operators=onnxfile.operator_types(made))
    except (BadModel, OnnxError) as error:
        return ProbeResult(name=target.name, error=str(error))
    except MemoryError:
        return ProbeResult(name=target.name, error="loading it takes more memory than is allowed")


def _peaks(request: ProbeRequest, x: NDArray[np.float32]) -> dict[str, int | None]:
    """Peak memory of each graph, loaded and called in a process of its own."""
    if not request.latency:
        return {}

    def use(target: ProbeTarget) -> None:
        graph.check_file(Path(target.path))
        loaded = graph.Graph(Path(target.path), target.call)
        for _ in range(CALLS):
            loaded.raw(x)

    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.onnx"
        empty.write_bytes(_empty())
        graph.check_file(empty)  # its imports, once for all

        def start() -> None:  # 30 MB, whatever graph is the first
            graph.session(empty).run(None, {"x": np.zeros(1, np.float32)})

        return {t.name: peak_memory.peak_of(partial(use, t), first=start) for t in request.targets}


def _empty() -> bytes:
    """A graph that gives what it gets."""
    from onnx import TensorProto, helper

    given, made = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("x", "y"))
    node = helper.make_node("Identity", ["x"], ["y"])
    model = helper.make_model(
        helper.make_graph([node], "empty", [given], [made]),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    return bytes(model.SerializeToString())


def main() -> int:
    """Entry point of the child."""
    confinement.die_with_parent()
    confinement.deny_network()
    try:
        request = msgspec.json.decode(sys.stdin.buffer.read(), type=ProbeRequest)
    except msgspec.DecodeError as error:
        print(error, file=sys.stderr)
        return START_FAILED
    page = resource.getpagesize()
    statm = Path("/proc/self/statm")
    now = int(statm.read_text().split()[0]) * page if statm.exists() else 0
    for limit, value in (
        (resource.RLIMIT_AS, now + request.memory_bytes),
        (resource.RLIMIT_CPU, request.cpu_seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (bound, bound))
    rows = np.frombuffer(request.rows, np.float32).reshape(-1, request.width)
    x = np.resize(rows, (request.batch, rows.shape[1])).astype(np.float32)
    peaks = _peaks(request, x)  # first: later this process holds what other graphs left behind
    loaded = []
    for target in request.targets:
        loaded.append(_load(target, rows))
        _say(loaded[-1])
    good = [s for s, a in zip(request.targets, loaded, strict=True) if a.error is None]
    if request.latency and good:
        graphs = [graph.Graph(Path(s.path), s.call) for s in good]
        measured = latency.interleaved([partial(g.raw, x) for g in graphs])
        operators = {a.name: a.operators for a in loaded}
        for target, m in zip(good, measured, strict=True):
            _say(
                ProbeResult(
                    name=target.name,
                    operators=operators[target.name],
                    p50_ms=m.p50_ms,
                    p95_ms=m.p95_ms,
                    rows_per_s=request.batch / m.mean_ms * 1e3 if m.mean_ms else None,
                    peak_bytes=peaks.get(target.name),
                )
            )
    return 0


def _say(answer: ProbeResult) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
