"""Random arguments for a program, for every test that runs one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gategen.calculus.interpret import BackwardRun, ForwardRun, backward, forward
from gategen.calculus.ir import Kind
from gategen.calculus.program import Program
from gategen.calculus.schedule import Schedule

Array = NDArray[Any]
Arrays = dict[str, Array]


@dataclass(frozen=True)
class Problem:
    """Arguments of a forward and a backward pass, by author's names, none of them writeable.

    Attributes:
        sizes: ``T``, ``B`` and every width.
        inputs: (T, B, width) each.
        params: Trainable and frozen values.
        initial: (B, width) for states and for inputs with a history, (k, B, width) for what is read k > 1
            steps back.
        lengths: (B,) integers, or None.
        d_outputs: Gradients of the outputs.
        d_final: Gradients of the final states.
    """

    sizes: dict[str, int]
    inputs: Arrays
    params: Arrays
    initial: Arrays
    lengths: Array | None
    d_outputs: Arrays
    d_final: Arrays


def problem(
    program: Program,
    T: int = 4,
    B: int = 3,
    widths: Sequence[int] = (3, 2, 5),
    lengths: Sequence[int] | None = None,
    padding: float = 0.0,
    seed: int = 0,
    dtype: type = np.float64,
) -> Problem:
    """Random arguments.

    Args:
        program: What they are for.
        T: Steps.
        B: Sequences.
        widths: Taken in turn for the widths of the program, in alphabetical order.
        lengths: Length of each sequence; None for T each.
        padding: What stands past the ends in inputs and incoming gradients.
        seed: Of the random numbers; the numbers do not depend on ``padding`` and ``dtype``.
        dtype: Of all arrays.
    """
    rng = np.random.default_rng(seed)
    names = {name for value in program.values.values() for width in value.shape for name in width.names}
    sizes = {name: widths[index % len(widths)] for index, name in enumerate(sorted(names))} | {"T": T, "B": B}
    for width, least in program.least.items():
        sizes |= {name: max(sizes[name], least) for name in width.names}
    ends = None if lengths is None else np.array(lengths)
    past = np.arange(T)[:, None] >= (np.full(B, T) if ends is None else ends)

    def random(scale: float, *shape: int) -> Array:
        return np.array(scale * rng.standard_normal(shape), dtype)

    def plane(width: int) -> Array:
        made = random(1.0, T, B, width)
        made[past] = padding
        return made

    def row(name: str, scale: float) -> Array:
        steps, width = program.begins[name], program.values[name].width.evaluate(sizes)
        return random(scale, *([steps] if steps > 1 else []), B, width)

    weights = [v for v in program.parameters if v.kind in (Kind.PARAMETER, Kind.FROZEN)]
    made = Problem(
        sizes,
        {v.name: plane(v.width.evaluate(sizes)) for v in program.inputs},
        {v.shown: random(0.5, *[width.evaluate(sizes) for width in v.shape]) for v in weights},
        {name: row(name, 0.5) for name in program.begins},
        ends,
        {v.name: plane(v.width.evaluate(sizes)) for v in program.outputs},
        {carry.state.name: row(carry.state.name, 1.0) for carry in program.carries},
    )
    for group in (made.inputs, made.params, made.initial, made.d_outputs, made.d_final):
        for array in group.values():
            array.flags.writeable = False
    return made


def interpret(plan: Schedule, given: Problem) -> tuple[ForwardRun, BackwardRun]:
    """Both passes of the oracle; gradients of parameters by author's names."""
    shown = {v.name: v.shown for v in plan.program.parameters}
    params = {name: given.params[author] for name, author in shown.items() if author in given.params}
    run = forward(plan, given.sizes, given.inputs, params, given.initial, given.lengths)
    grad = backward(
        plan,
        given.sizes,
        given.inputs,
        params,
        run.tape,
        given.d_outputs,
        given.d_final,
        given.initial,
        given.lengths,
    )
    renamed = {shown[name]: array for name, array in grad.params.items()}
    return run, BackwardRun(grad.inputs, renamed, grad.initial)


def worst(found: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    """The greatest max|a-b| / max|b| over arrays of equal names and shapes."""
    assert set(found) == set(expected)
    errors = [0.0]
    for name, array in expected.items():
        assert np.shape(found[name]) == np.shape(array), name
        if np.size(array):
            scale = np.max(np.abs(array))
            difference = np.max(np.abs(found[name] - array))
            errors.append(float(difference / scale if scale else difference))
    assert not np.isnan(errors).any()
    return max(errors)
