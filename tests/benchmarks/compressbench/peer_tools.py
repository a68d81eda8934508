"""Quantize a graph with one of the other tools, in its own environment (which knows nothing of
redistill): ``python peer_tools.py TOOL FOLDER`` reads ``fp32.onnx`` and ``rows.npy`` ``(n, F)``
float32 of the folder, and writes one ``TOOL.SETTING.onnx`` per setting that works. What does not
work is said on standard error; the last line of standard output is how long each took, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")
os.environ.update(OLIVE_DISABLE_TELEMETRY="1", CI="1", HF_HUB_OFFLINE="1")

import numpy as np  # noqa: E402
import onnx  # noqa: E402

Make = Callable[[Path, Path, Any], None]
"""Graph, where to write what is made of it, rows for calibration."""


def input_of(graph: Path) -> str:
    return str(onnx.load(graph).graph.input[0].name)


def neural_compressor(approach: str) -> Make:
    """Its post-training quantization, with its own choice of operators and calibration."""

    def make(graph: Path, out: Path, rows: Any) -> None:
        from neural_compressor import PostTrainingQuantConfig, quantization

        class Batches:
            batch_size = 32

            def __iter__(self) -> Iterator[Any]:
                for at in range(0, len(rows), 32):
                    yield rows[at : at + 32], np.zeros(len(rows[at : at + 32]))

        made = quantization.fit(
            str(graph), PostTrainingQuantConfig(approach=approach), calib_dataloader=Batches()
        )
        if made is None:
            raise RuntimeError("it found no graph that satisfies it")
        made.save(str(out))

    return make


def nncf(preset: str) -> Make:
    """Its ``quantize``, with its own calibration."""

    def make(graph: Path, out: Path, rows: Any) -> None:
        import nncf as tool

        name = input_of(graph)
        data = tool.Dataset([rows[at : at + 1] for at in range(len(rows))], lambda row: {name: row})
        made = tool.quantize(
            onnx.load(graph), data, preset=tool.QuantizationPreset(preset), subset_size=len(rows)
        )
        onnx.save(made, out)

    return make


def olive(kind: str) -> Make:
    """A pass of ONNX quantization, with its own defaults."""

    def make(graph: Path, out: Path, rows: Any) -> None:
        from olive.data.config import DataConfig
        from olive.hardware import DEFAULT_CPU_ACCELERATOR
        from olive.model import ONNXModelHandler
        from olive.passes.olive_pass import create_pass_from_dict

        if kind == "static":
            from olive.data.registry import Registry
            from olive.passes.onnx.quantization import OnnxStaticQuantization as Pass

            name = input_of(graph)

            class Rows:
                def __len__(self) -> int:
                    return len(rows)

                def __getitem__(self, i: int) -> Any:
                    return {name: rows[i : i + 1]}, 0

            Registry.register_dataset("bench_rows")(lambda **_: Rows())
            config: dict[str, Any] = {
                "data_config": DataConfig(
                    name="bench",
                    type="DummyDataContainer",
                    load_dataset_config={"type": "bench_rows"},
                    pre_process_data_config={"type": "skip_pre_process"},
                    post_process_data_config={"type": "skip_post_process"},
                ),
            }
        else:
            from olive.passes.onnx.quantization import OnnxDynamicQuantization as Pass

            config = {}
        made = create_pass_from_dict(
            Pass, config, disable_search=True, accelerator_spec=DEFAULT_CPU_ACCELERATOR
        ).run(ONNXModelHandler(str(graph)), str(out.with_suffix("")))
        onnx.save(onnx.load(made.model_path), out)

    return make


TOOLS: dict[str, dict[str, Make]] = {
    "neural-compressor": {
        "static": neural_compressor("static"),
        "dynamic": neural_compressor("dynamic"),
    },
    "nncf": {"performance": nncf("performance"), "mixed": nncf("mixed")},
    "olive": {"static": olive("static"), "dynamic": olive("dynamic")},
}


def main() -> None:
    tool, folder = sys.argv[1], Path(sys.argv[2])
    rows = np.load(folder / "rows.npy")
    seconds = {}
    for setting, make in TOOLS[tool].items():
        began = time.process_time()
        try:
            make(folder / "fp32.onnx", folder / f"{tool}.{setting}.onnx", rows)
        except Exception as error:  # whatever a tool raises is what is told of it
            print(f"{setting}: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        seconds[setting] = time.process_time() - began
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
