"""What every contender offers, the arrays they all get, and gategen itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gategen as gg
from benchmarks.cells import BenchCell
from benchmarks.shapes import Shape
from gategen.runtime.kernel import Gradients, Kernel, Run

Array = NDArray[Any]

TOLERANCE = 1e-4


class Disagreement(Exception):
    """Two contenders compute different things, so their times mean nothing."""


@dataclass(frozen=True)
class Contender:
    """One implementation of one cell, ready to run on one problem.

    Attributes:
        forward: Inference.
        training: Forward, then the gradients of x and all parameters; None if it cannot.
        read: What either returned, as arrays: ``output``, ``x``, and gradients in the peers' packing.
    """

    forward: Callable[[], Any]
    training: Callable[[], Any] | None
    read: Callable[[Any], dict[str, Array]]

    def passes(self) -> dict[str, Callable[[], Any]]:
        """The calls by mode."""
        return {"forward": self.forward} | ({"training": self.training} if self.training else {})


class Problem:
    """Random arrays of one cell at one shape.

    Attributes:
        x: The input.
        d_output: The loss's gradient for the cell's output.
        params: By the author's names.
        packed: The same numbers as the peers keep them.
        h: Zeros, where the first state begins.
        c: Zeros, where the second state begins, or once more the first.
    """

    def __init__(self, cell: BenchCell, shape: Shape, dtype: str = "float32") -> None:
        self.cell = cell
        self.shape = shape
        self.dtype = dtype
        self.sizes = cell.sizes(shape.inputs, shape.units)
        random = np.random.default_rng(0)
        bound = shape.units**-0.5
        drafts = compiled(cell, dtype).init(self.sizes)
        self.params = {n: random.uniform(-bound, bound, a.shape).astype(dtype) for n, a in drafts.items()}
        self.packed = pack(cell, self.params)
        rows = (shape.steps, shape.batch)
        self.x = random.standard_normal((*rows, shape.inputs)).astype(dtype)
        self.d_output = random.standard_normal((*rows, self.sizes[cell.output])).astype(dtype)
        self.h = np.zeros((shape.batch, self.sizes[cell.states[0]]), dtype)
        self.c = np.zeros((shape.batch, self.sizes.get("c", shape.units)), dtype)


def pack(cell: BenchCell, named: Mapping[str, Array]) -> dict[str, Array]:
    """Parameters, or their gradients, stacked as the peers keep them."""
    return {key: np.concatenate([named[n] for n in names.split()]) for key, names in cell.packed.items()}


def compiled(cell: BenchCell, dtype: str = "float32", threads: int = 1) -> Kernel:
    """The cell's kernel."""
    return gg.compile(cell.source, dtype=dtype, threads=threads)


def gategen(problem: Problem, threads: int = 1) -> Contender:
    """Gategen's own kernel. Its inference keeps the weights packed, as modules and sessions of others may."""
    cell = problem.cell
    kernel = compiled(cell, problem.dtype, threads)
    seeds = {cell.output: problem.d_output}
    weights = kernel.pack(problem.params)

    def forward() -> tuple[Run, None]:
        return kernel.forward(problem.x, weights), None

    def training() -> tuple[Run, Gradients]:
        run = kernel.forward(problem.x, problem.params, train=True)
        return run, kernel.backward(run, seeds)

    def read(result: tuple[Run, Gradients | None]) -> dict[str, Array]:
        run, gradients = result
        arrays = {"output": run.outputs[cell.output]}
        if gradients is not None:
            arrays |= {"x": gradients.inputs["x"], **pack(cell, gradients.params)}
        return arrays

    return Contender(forward, training, read)


def compare(ours: Mapping[str, Array], theirs: Mapping[str, Array], what: str) -> None:
    """Demand that two contenders agree on every array that both give.

    Raises:
        Disagreement: Some array differs by more than `TOLERANCE` of its largest value.
    """
    for name in ours.keys() & theirs.keys():
        largest = max(float(np.abs(ours[name]).max()), 1e-30)
        error = float(np.abs(ours[name] - theirs[name]).max()) / largest
        # The negation also catches NaN.
        if not error <= TOLERANCE:
            kind = "the output" if name == "output" else f"the gradient of {name}"
            raise Disagreement(f"{what} and gategen disagree on {kind}: {error:.1e} of the largest value")
