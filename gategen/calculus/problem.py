"""Random arguments for a program, and their solution by the interpreter.

Numbers are drawn so that every term of a derivative counts: initial states and incoming gradients are not
zero, declared values are disturbed, and what divides or stands under a root or logarithm is not near zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gategen.calculus.interpret import Arrays, BackwardRun, ForwardRun, backward, forward
from gategen.calculus.ir import Kind, Value
from gategen.calculus.program import Program
from gategen.calculus.schedule import Schedule
from gategen.language.cell import Cell
from gategen.language.notation import At, Eq, symbols_in_order

Array = NDArray[Any]
Generator = np.random.Generator
Leaf = tuple[str, str]
"""A group of a problem, ``inputs``, ``params`` or ``initial``, and a name in it."""

GROUPS = ("inputs", "params", "initial")
PARTS = (*GROUPS, "d_outputs", "d_final")


@dataclass(frozen=True)
class Setting:
    """The sizes of a problem.

    Attributes:
        steps: T.
        batch: B.
        widths: Taken in turn for the widths of the cell.
        lengths: Of each sequence; None for all steps.
        started: Whether initial states are given; else the declared ones hold.
    """

    steps: int
    batch: int
    widths: tuple[int, ...]
    lengths: tuple[int, ...] | None = None
    started: bool = True

    def within(self, longest: int) -> Setting:
        """The same setting with no sequence longer than ``longest``."""
        lengths = None if self.lengths is None else tuple(min(length, longest) for length in self.lengths)
        return replace(self, steps=min(self.steps, longest), lengths=lengths)


@dataclass(frozen=True)
class Problem:
    """Arguments of both passes, by author's names.

    Attributes:
        sizes: ``T``, ``B`` and every width.
        inputs: (T, B, width) each.
        params: Trainable and frozen values.
        initial: (B, width) for states and inputs with a history, (k, B, width) for what is read k > 1 steps
            back.
        lengths: (B,) integers, or None.
        d_outputs: Gradients of the outputs.
        d_final: Gradients of the final states, of the shapes of ``initial``.
    """

    sizes: dict[str, int]
    inputs: dict[str, Array]
    params: dict[str, Array]
    initial: dict[str, Array]
    lengths: Array | None
    d_outputs: dict[str, Array]
    d_final: dict[str, Array]

    def leaves(self) -> dict[Leaf, Array]:
        """Everything that has a gradient, frozen parameters included."""
        return {(group, name): a for group in GROUPS for name, a in getattr(self, group).items()}

    def with_leaves(self, leaves: Mapping[Leaf, Array]) -> Problem:
        """The same problem with other values."""
        groups: dict[str, dict[str, Array]] = {group: dict(getattr(self, group)) for group in GROUPS}
        for (group, name), array in leaves.items():
            groups[group][name] = array
        return replace(self, inputs=groups["inputs"], params=groups["params"], initial=groups["initial"])

    def changed(self, change: Callable[[Array], Array], parts: Iterable[str] = PARTS) -> Problem:
        """The same problem with a change to every array of some parts."""
        arrays: dict[str, Any] = {
            part: {name: change(array) for name, array in getattr(self, part).items()} for part in parts
        }
        return replace(self, **arrays)

    def in_dtype(self, dtype: Any) -> Problem:
        """The same problem with arrays of another dtype."""
        return self.changed(lambda array: array.astype(dtype))

    def padded(self, value: float) -> Problem:
        """The same problem with ``value`` wherever a sequence has ended already."""
        if self.lengths is None:
            return self
        past = np.arange(self.sizes["T"])[:, None] >= self.lengths
        return self.changed(lambda plane: np.where(past[:, :, None], value, plane), ("inputs", "d_outputs"))


def draw(
    cell: Cell, program: Program, setting: Setting, seed: int | tuple[int, ...], scale: float = 1.0
) -> Problem:
    """Random arguments, all of them exact in float32 so that every dtype solves the same problem.

    Args:
        cell: What they are for.
        program: What was derived from it.
        setting: The sizes.
        seed: Of the random numbers.
        scale: Of inputs and initial states; cells with powers of a state diverge from large ones.
    """
    rng = np.random.default_rng(seed)
    sizes = {name: setting.widths[i % len(setting.widths)] for i, name in enumerate(cell.widths)}
    for width, least in program.least.items():
        while width.evaluate(sizes) < least:
            sizes |= {name: sizes[name] + 1 for name in width.names}
    sizes |= {"T": setting.steps, "B": setting.batch}
    steps, batch = setting.steps, setting.batch
    lengths = None if setting.lengths is None else np.array(setting.lengths)
    limited = _limited(cell.roles.equations)
    factors = {name for name, variable in cell.parameters.items() if variable.multiplied}

    def normal(value: Value, size: float, *leading: int) -> Array:
        return size * rng.standard_normal((*leading, value.width.evaluate(sizes)))

    def parameter(value: Value) -> Array:
        shape = [width.evaluate(sizes) for width in value.shape]
        made = np.asarray(0.6 * rng.standard_normal(shape))
        declared = cell.parameters[value.shown].value
        if declared:
            made = declared * rng.uniform(0.8, 1.25, shape)
        elif value.shown in limited:
            made = rng.uniform(0.5, 1.5, shape)
        elif value.shown in factors:
            made = rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape)
        return np.asarray(made)

    def plane(value: Value) -> Array:
        shape = (steps, batch, value.width.evaluate(sizes))
        return rng.uniform(0.5, 1.5, shape) if value.name in limited else scale * rng.standard_normal(shape)

    def row(name: str, size: float) -> Array:
        steps = program.begins[name]
        return normal(program.values[name], size, *([steps] if steps > 1 else []), batch)

    states = [carry.state.name for carry in program.carries]
    begins = program.begins if setting.started else ()
    weights = [v for v in program.parameters if v.kind in (Kind.PARAMETER, Kind.FROZEN)]
    made = Problem(
        sizes,
        {v.name: plane(v) for v in program.inputs},
        {v.shown: parameter(v) for v in weights},
        {name: row(name, 0.6 * scale) for name in begins},
        lengths,
        {v.name: normal(v, 1.0, steps, batch) for v in program.outputs},
        {name: row(name, 1.0) for name in states},
    )
    return made.in_dtype(np.float32).in_dtype(np.float64).padded(0.0)


def _limited(equations: Iterable[Eq]) -> set[str]:
    """Names that stand in a divisor, or under a root or logarithm."""
    found: set[str] = set()

    def visit(node: Any) -> None:
        power = getattr(node, "is_Pow", False) and not (node.exp.is_Integer and node.exp > 0)
        if power or node.func.__name__ in ("log", "log1p", "sqrt"):
            found.update(s.signal if isinstance(s, At) else s.name for s in symbols_in_order(node))
        for argument in node.args:
            visit(argument)

    for equation in equations:
        visit(equation.right)
    return found


def interpret(plan: Schedule, given: Problem) -> tuple[ForwardRun, BackwardRun]:
    """Both passes of the oracle; gradients of parameters by author's names."""
    params = params_by_value(plan.program, given.params)
    sizes, inputs, initial, lengths = given.sizes, given.inputs, given.initial, given.lengths
    with np.errstate(all="ignore"):
        run = forward(plan, sizes, inputs, params, initial, lengths)
        grad = backward(
            plan, sizes, inputs, params, run.tape, given.d_outputs, given.d_final, initial, lengths
        )
    shown = {v.name: v.shown for v in plan.program.parameters}
    return run, BackwardRun(grad.inputs, {shown[n]: a for n, a in grad.params.items()}, grad.initial)


def params_by_value(program: Program, params: Arrays) -> dict[str, Array]:
    """Parameters by the names of values instead of the author's."""
    return {v.name: params[v.shown] for v in program.parameters if v.shown in params}


def solution(run: Any, grad: Any, given: Problem) -> dict[str, Array]:
    """Outputs, final states and gradients of any engine, under one flat set of names: ``d params U_z``."""
    arrays = {f"outputs {name}": run.outputs[name] for name in given.d_outputs}
    arrays |= {f"final {name}": run.final[name] for name in given.d_final}
    for group in GROUPS:
        arrays |= {f"d {group} {name}": array for name, array in getattr(grad, group).items()}
    return arrays


def solve(plan: Schedule, given: Problem) -> dict[str, Array]:
    """The solution by the interpreter."""
    return solution(*interpret(plan, given), given)


def relative_error(got: Array, expected: Array, least: float = 0.0) -> float:
    """``max|a - b| / max|b|``; infinite for anything that is not a number, and where zeros should be.

    Args:
        got: a.
        expected: b.
        least: What ``max|b|`` counts as if it is smaller.
    """
    if np.shape(got) != np.shape(expected) or not np.isfinite(got).all():
        return float("inf")
    with np.errstate(all="ignore"):
        error = float(np.max(np.abs(got - expected), initial=0.0))
    largest = max(least, float(np.max(np.abs(expected), initial=0.0)))
    if error == 0.0:
        return 0.0
    return error / largest if largest > 0.0 else float("inf")
