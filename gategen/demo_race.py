"""The last chapter of the demonstration: one training step of its cell, compiled, in NumPy and in PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gategen.runtime.kernel import Kernel


class Time(NamedTuple):
    """What one step takes.

    Attributes:
        seconds: The median.
        ratio: How many times the time of the first contender, both from the same rounds.
    """

    seconds: float
    ratio: float


Arrays = Mapping[str, NDArray[Any]]
Step = Callable[[], Mapping[str, Any]]
"""Forward and backward; returns the gradient of the sum of all outputs ``y`` by the parameter's name."""


def contenders(kernels: Mapping[str, Kernel], parameters: Arrays, x: NDArray[Any]) -> dict[str, Step]:
    """The steps that race.

    Args:
        kernels: By the name that the result shows.
        parameters: Of the cell.
        x: ``(T, B, width)``.

    Returns:
        The kernels' steps and, where it is installed, PyTorch's.
    """
    steps = {name: kernel_step(kernel, parameters, x) for name, kernel in kernels.items()}
    return steps | torch_step(parameters, x)


def kernel_step(kernel: Kernel, parameters: Arrays, x: NDArray[Any]) -> Step:
    """The step of a kernel: `gategen` has derived the backward pass before."""
    ones = np.ones((*x.shape[:2], len(parameters["b_y"])), x.dtype)

    def step() -> Arrays:
        run = kernel.forward({"x": x}, parameters, train=True)
        return kernel.backward(run, {"y": ones}, wrt=parameters).params

    return step


def torch_step(parameters: Arrays, x: NDArray[Any]) -> dict[str, Step]:
    """The same equations in PyTorch, whose autograd finds the backward pass while they run.

    One thread, as the kernels have: small products get slower with more.
    """
    if find_spec("torch") is None:
        return {}
    import torch

    inputs = torch.from_numpy(x)
    p = {name: torch.tensor(array, requires_grad=True) for name, array in parameters.items()}

    def total() -> torch.Tensor:
        m = h = torch.zeros(x.shape[1], len(p["b_g"]), dtype=inputs.dtype)
        outputs = []
        for x_t in inputs:
            e = x_t @ p["W_e"].T
            u = torch.sigmoid(e @ p["W_u"].T + h @ p["U_u"].T + p["b_u"])
            o = torch.sigmoid(e @ p["W_o"].T + h @ p["U_o"].T + p["b_o"])
            g = torch.tanh(e @ p["W_g"].T + h @ p["U_g"].T + p["b_g"])
            pulse = u * (g - m)
            m = m + pulse
            h = o * (m + p["k_h"] * pulse)
            outputs.append(h @ p["W_y"].T + p["b_y"])
        return torch.stack(outputs).sum()

    def step() -> Mapping[str, Any]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            gradients = torch.autograd.grad(total(), list(p.values()))
        finally:
            torch.set_num_threads(threads)
        return dict(zip(p, gradients, strict=True))

    return {"PyTorch eager": step}


def run(steps: Mapping[str, Step], rounds: int, seconds: float = 4.0) -> dict[str, Time]:
    """Let them take turns, so that a busy machine is unfair to nobody.

    Args:
        steps: By contender.
        rounds: How often each runs; one round more warms up.
        seconds: When they are over no further round begins, but one counts in any case.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    end = time.perf_counter() + seconds
    for place in range(rounds + 1):
        if place > 1 and time.perf_counter() > end:
            break
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    counted = {name: own[1:] for name, own in times.items()}
    first = next(iter(counted.values()))
    return {
        name: Time(median(own), median(a / b for a, b in zip(own, first, strict=True)))
        for name, own in counted.items()
    }
