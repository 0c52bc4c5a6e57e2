"""How fast a cell's kernel is, against its NumPy reference and PyTorch, measured side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gategen.language.cell import Cell, Variable
from gategen.runtime.compile import compile as compile_cell

_TORCH_TWIN = {"rnn": "RNN", "lstm": "LSTM", "gru_reset_after": "GRU"}
_SHORTEST = 0.005

Passes = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class BenchRow:
    """One contender in one pass.

    Attributes:
        work: ``forward``, or ``training`` for forward and backward.
        contender: What ran; the kernel comes first.
        seconds: Median time of one call.
        ratio: Time over the kernel's time, both from the same rounds.
    """

    work: str
    contender: str
    seconds: float
    ratio: float

    def as_dict(self) -> dict[str, object]:
        """The row for JSON."""
        return asdict(self)


def bench(
    cell: Cell, steps: int = 100, batch: int = 16, width: int = 64, dtype: str = "float32", rounds: int = 11
) -> tuple[BenchRow, ...]:
    """Time the kernel and what it competes with, in turns, so that a busy machine is unfair to nobody.

    Args:
        cell: The cell.
        steps: T, the length of the sequences.
        batch: B, how many sequences at once.
        width: Every free width of the cell.
        dtype: ``float32`` or ``float64``.
        rounds: How often each contender runs.
    """
    data = _Data(cell, steps, batch, width, dtype)
    contenders = {
        "gategen": _kernel(cell, dtype, "c", data),
        "numpy": _kernel(cell, dtype, "numpy", data),
        **_torch(cell, data),
    }
    rows = []
    for work in ("forward", "training"):
        times = _interleaved({name: passes[work] for name, passes in contenders.items()}, rounds)
        base = times["gategen"]
        for name, own in times.items():
            ratio = statistics.median(a / b for a, b in zip(own, base, strict=True))
            rows.append(BenchRow(work, name, statistics.median(own), ratio))
    return tuple(rows)


class _Data:
    """Random inputs and parameters of one cell at one size."""

    def __init__(self, cell: Cell, steps: int, batch: int, width: int, dtype: str) -> None:
        random = np.random.default_rng(0)
        self.sizes = dict.fromkeys(cell.widths, width)
        self.state_width = _units([*cell.outputs.values(), *cell.states.values()][-1], self.sizes)[-1]
        self.values: dict[str, NDArray[Any]] = {}
        for name, variable in cell.parameters.items():
            if variable.role == "frozen":
                shape = _units(variable, self.sizes)
                self.values[name] = (random.standard_normal(shape) / shape[-1]).astype(dtype)
        self.inputs: dict[str, NDArray[Any]] = {}
        for name, variable in cell.inputs.items():
            units = _units(variable, self.sizes)
            self.inputs[name] = random.standard_normal((steps, batch, *units)).astype(dtype)


def _units(variable: Variable, sizes: Mapping[str, int]) -> list[int]:
    return [width.evaluate(sizes) for width in variable.shape] or [1]


def _kernel(cell: Cell, dtype: str, backend: str, data: _Data) -> Passes:
    compiled = compile_cell(cell, dtype=dtype, backend=backend)
    parameters = compiled.init(data.sizes, seed=0, values=data.values)
    outputs = compiled.forward(data.inputs, parameters).outputs
    ones = {name: np.ones_like(array) for name, array in outputs.items()}

    def train() -> object:
        return compiled.backward(compiled.forward(data.inputs, parameters, train=True), ones)

    return {"forward": lambda: compiled.forward(data.inputs, parameters), "training": train}


def _torch(cell: Cell, data: _Data) -> dict[str, Passes]:
    """PyTorch's module for the same cell, or its LSTM as a yardstick for a cell that it does not have."""
    if find_spec("torch") is None or len(data.inputs) != 1:
        return {}
    import torch

    kind = _TORCH_TWIN.get(cell.name, "LSTM")
    name = f"torch.nn.{kind}" + ("" if cell.name in _TORCH_TWIN else ", another cell of this size")
    (array,) = data.inputs.values()
    x = torch.from_numpy(array).requires_grad_()
    module = getattr(torch.nn, kind)(array.shape[-1], data.state_width).to(x.dtype)

    def forward() -> object:
        with torch.no_grad():
            return module(x)

    def train() -> object:
        x.grad = None
        module.zero_grad()
        return module(x)[0].sum().backward()

    return {name: {"forward": forward, "training": train}}


def _interleaved(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds per call of every contender, one figure a round; calls too short for the clock are repeated."""
    repeats = {}
    for name, call in calls.items():
        call()
        repeats[name] = max(1, int(_SHORTEST / max(_seconds(call, 1), 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(_seconds(call, repeats[name]))
    return times


def _seconds(call: Callable[[], object], repeat: int) -> float:
    start = time.perf_counter()
    for _ in range(repeat):
        call()
    return (time.perf_counter() - start) / repeat
