"""Random problems for a cell, their solution by an oracle, and the comparison with a kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .sequence import Named, Oracle

Arrays = dict[str, np.ndarray]
SIZES = {"d": 3, "n": 5, "o": 2, "p": 4, "1": 1}
STEPS, BATCH = 6, 4
PADDED = np.array([6, 0, 3, 1])
PACKABLE = np.array([6, 2, 3, 1])


@dataclass(frozen=True)
class Problem:
    """Everything that a pass forward and back needs."""

    params: Arrays
    inputs: Arrays
    initial: Arrays
    d_outputs: Arrays
    d_final: Arrays
    lengths: np.ndarray | None
    frozen: tuple[str, ...] = ()

    def leaves(self) -> dict[str, list[str]]:
        """Names of everything that has a gradient, by part."""
        learned = [name for name in self.params if name not in self.frozen]
        return {"params": learned, "inputs": list(self.inputs), "initial": list(self.initial)}


@dataclass(frozen=True)
class Solution:
    """Outputs, final states and gradients, under one flat set of names such as ``d params U_z``."""

    arrays: Arrays


def problem(
    oracle: Oracle, lengths: np.ndarray | None, seed: int = 0, sizes: dict[str, int] = SIZES
) -> Problem:
    """Random numbers everywhere: biases that are not zero, gradients into outputs and into final states."""
    generator = np.random.default_rng(seed)

    def draw(*shape: int, scale: float = 1.0) -> np.ndarray:
        return scale * np.asarray(generator.standard_normal(shape))

    def rows(names: dict[str, int], *leading: int) -> Arrays:
        return {name: draw(*leading, width) for name, width in names.items()}

    units = oracle.units(sizes)
    shapes = oracle.parameter_shapes(sizes)
    params = {name: draw(*shape, scale=0.6) for name, shape in shapes.items()}
    inputs = rows({name: units[name] for name in oracle.inputs}, STEPS, BATCH)
    initial: Arrays = {}
    for name in oracle.states:
        steps = [oracle.delays[name]] if name in oracle.delays else []
        initial |= rows({name: units[name]}, *steps, BATCH)
    for name in oracle.positive:
        for arrays in (params, inputs, initial):
            if name in arrays:
                arrays[name] = 0.5 + np.abs(arrays[name])
    for name in oracle.whole:
        for arrays in (params, inputs):
            if name in arrays:
                arrays[name] = generator.integers(1, 4, arrays[name].shape).astype(float)
    tensors = (as_tensors(params), as_tensors(inputs), as_tensors(initial))
    outputs, final = oracle(*tensors)
    return Problem(
        params=params,
        inputs=inputs,
        initial=initial,
        d_outputs={name: draw(*array.shape) for name, array in outputs.items()},
        d_final={name: draw(*array.shape) for name, array in final.items()},
        lengths=lengths,
        frozen=oracle.frozen,
    )


def as_tensors(arrays: Arrays) -> Named:
    return {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}


def solve(model: Callable[..., tuple[Named, Named]], given: Problem) -> Solution:
    """The solution by PyTorch; a gradient that autograd calls unused is zero."""
    parts = {
        "params": as_tensors(given.params),
        "inputs": as_tensors(given.inputs),
        "initial": as_tensors(given.initial),
    }
    lengths = None if given.lengths is None else torch.tensor(given.lengths)
    outputs, final = model(parts["params"], parts["inputs"], parts["initial"], lengths)
    loss = torch.zeros((), dtype=torch.float64)
    for results, weights in ((outputs, given.d_outputs), (final, given.d_final)):
        for name, result in results.items():
            loss = loss + (result * torch.tensor(weights[name])).sum()
    leaves = {f"d {part} {name}": parts[part][name] for part, own in given.leaves().items() for name in own}
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    arrays = {f"output {name}": plain(array) for name, array in outputs.items()}
    arrays |= {f"final {name}": plain(array) for name, array in final.items()}
    for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True):
        arrays[name] = np.zeros(tuple(leaf.shape)) if gradient is None else plain(gradient)
    return Solution(arrays)


def plain(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def run_kernel(kernel: Any, given: Problem) -> Solution:
    """The same by a compiled kernel, through nothing but its public methods."""
    run = kernel.forward(given.inputs, given.params, initial=given.initial, lengths=given.lengths, train=True)
    arrays = {f"output {name}": np.array(run.outputs[name]) for name in given.d_outputs}
    arrays |= {f"final {name}": np.array(run.final[name]) for name in given.d_final}
    gradient = kernel.backward(run, given.d_outputs, final=given.d_final)
    for part, names in given.leaves().items():
        arrays |= {f"d {part} {name}": np.array(getattr(gradient, part)[name]) for name in names}
    return Solution(arrays)


def relative_error(got: np.ndarray, wanted: np.ndarray) -> float:
    """max|a-b| / max|b|; what should be all zeros must be so exactly."""
    if got.shape != wanted.shape or not np.isfinite(got).all():
        return float("inf")
    error = float(np.max(np.abs(got - wanted), initial=0.0))
    largest = float(np.max(np.abs(wanted), initial=0.0))
    if error == 0.0:
        return 0.0
    return error / largest if largest > 0.0 else float("inf")


def differences(got: Solution, wanted: Solution, bound: float) -> dict[str, float]:
    """Every array over the bound, with its error: empty when all agree."""
    errors = {name: relative_error(got.arrays[name], array) for name, array in wanted.arrays.items()}
    return {name: error for name, error in errors.items() if not error <= bound}


def check_init(kernel: Any, oracle: Oracle) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Parameters whose shape from ``init`` is not the oracle's, a missing one with the shape ``(-1,)``."""
    wanted = oracle.parameter_shapes(SIZES)
    values = {name: np.ones(wanted[name]) for name in oracle.frozen}
    params = kernel.init(oracle.widths(SIZES), seed=0, values=values)
    made = {name: np.shape(array) for name, array in params.items()}
    return {
        name: (made.get(name, (-1,)), wanted.get(name, (-1,)))
        for name in sorted(made.keys() | wanted.keys())
        if made.get(name) != wanted.get(name)
    }
