"""A convolutional net in torch, exported by torch: the teacher of square pictures."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from compressbench.drawing import F32, Ints
from torch import nn

from redistill.compress.plan import Training

__all__ = ["convolutional"]


def convolutional(x: F32, y: Ints, path: Path, *, training: Training, seed: int) -> None:
    """Train a net of two convolutions on ``(n, side * side)``, and write it as ONNX."""
    torch.manual_seed(seed)
    side, classes = int(x.shape[1] ** 0.5), int(y.max()) + 1
    net = nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(24, 48, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(48 * (side // 4) ** 2, 128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )
    rows, labels = torch.from_numpy(x).reshape(-1, 1, side, side), torch.from_numpy(y)
    steps = training.epochs * (len(x) // training.batch)
    optimiser = torch.optim.AdamW(net.parameters(), lr=training.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=training.learning_rate, total_steps=steps
    )
    for _ in range(training.epochs):
        order = torch.randperm(len(x))
        for at in range(0, len(x) - training.batch + 1, training.batch):
            some = order[at : at + training.batch]
            loss = nn.functional.cross_entropy(net(rows[some]), labels[some], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    whole = nn.Sequential(Square(side), net, nn.Softmax(dim=1)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no other package is called old
        torch.onnx.export(
            whole,
            (torch.from_numpy(x[:2]),),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            output_names=["probabilities"],
            dynamic_axes={"x": {0: "n"}, "probabilities": {0: "n"}},
        )


class Square(nn.Module):
    """Rows as pictures of one colour."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(n, side * side)`` -> ``(n, 1, side, side)``."""
        return x.reshape(-1, 1, self.side, self.side)
