"""Runs a `Schedule` on NumPy arrays directly: the oracle that no template can break.

Time-dependent values are planes (T, B, width), scalars with width 1; everything runs in float64 or, for
derivatives by complex step, in complex128 with branches decided on the real part. The naive schedule is
the program itself; any other schedule must give the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gategen.calculus.evaluation import Array, Lines, compiled
from gategen.calculus.ir import (
    Apply,
    Assign,
    Block,
    Contract,
    Extreme,
    Island,
    Kind,
    Move,
    Node,
    Outer,
    OuterRows,
    Reduce,
    Scan,
    Shift,
    SumRows,
    Turn,
    Unit,
    Value,
)
from gategen.calculus.program import Carry
from gategen.calculus.schedule import Phases, Schedule

Arrays = Mapping[str, Array]
Index = int | slice | None

_ALL = slice(None)
_ONCE = None


@dataclass(frozen=True)
class ForwardRun:
    """What a forward pass gives: outputs (T, B, width), the tape, final states as `forward` takes them."""

    outputs: dict[str, Array]
    final: dict[str, Array]
    tape: dict[str, Array]


@dataclass(frozen=True)
class BackwardRun:
    """Gradients by the names of inputs, parameters and states."""

    inputs: dict[str, Array]
    params: dict[str, Array]
    initial: dict[str, Array]


def forward(
    plan: Schedule,
    sizes: Mapping[str, int],
    inputs: Arrays,
    params: Arrays,
    initial: Arrays | None = None,
    lengths: Array | None = None,
    dtype: type = np.float64,
    lines: Lines | None = None,
) -> ForwardRun:
    """Run the forward pass.

    Args:
        plan: The schedule.
        sizes: ``T``, ``B`` and every width.
        inputs: (T, B, width) each, by author's name.
        params: Parameters and frozen values, by value name.
        initial: (B, width) for states and for inputs with a history, (k, B, width), oldest first, where k > 1
            steps are remembered; missing ones take their default.
        lengths: (B,) integers.
        dtype: float64 or complex128.
        lines: What stands for functions with a declared derivative; the functions themselves by default.
    """
    machine = _Machine(plan, sizes, lengths, dtype, lines)
    machine.load(inputs, params, initial or {})
    machine.run_setup()
    machine.run(plan.forward, machine.finish_step)
    program = plan.program
    final = {c.state.name: _squeezed(machine.carried[c.state.name]) for c in program.carries}
    outputs = {v.name: np.where(machine.active, machine.read(v, _ALL), 0) for v in program.outputs}
    tape = {slot.value.name: machine.read(slot.value, _ALL) for slot in plan.tape}
    return ForwardRun(outputs, final, tape)


def backward(
    plan: Schedule,
    sizes: Mapping[str, int],
    inputs: Arrays,
    params: Arrays,
    tape: Arrays,
    d_outputs: Arrays,
    d_final: Arrays | None = None,
    initial: Arrays | None = None,
    lengths: Array | None = None,
) -> BackwardRun:
    """Run the adjoint pass on a tape; arguments as for `forward`, gradients of outputs and final states."""
    machine = _Machine(plan, sizes, lengths, np.float64)
    machine.load(inputs, params, initial or {})
    machine.run_setup()
    program = plan.program
    given: dict[str, Array] = dict(d_final or {})
    for name, plane in tape.items():
        machine.arrays[name] = np.array(plane)
    for carry in program.carries:
        if carry.state.name in tape:
            machine.remember(carry)
        none = np.zeros_like(machine.initial[carry.state.name])
        arriving = np.array(given.get(carry.state.name, none), float)
        machine.arriving[carry.d_state.name] = arriving.reshape(none.shape)
    for name, seed in program.seeds.items():
        zeros = np.zeros(machine.plane_shape(seed))
        machine.arrays[seed.name] = np.asarray(d_outputs.get(name, zeros), float)
    machine.run(plan.backward, machine.finish_adjoint_step, reverse=True)
    for node in program.setup_adjoint:
        machine.execute(node, _ONCE)
    gradients = {name: machine.read(value, _ALL) for name, value in program.gradients.items()}
    trained = {v.name for v in program.parameters if v.kind is Kind.PARAMETER}
    d_initial = {c.state.name: _squeezed(machine.arriving[c.d_state.name]) for c in program.carries}
    for name in machine.initial.keys() - d_initial.keys():
        d_initial[name] = _squeezed(machine.history_gradient(name))
    nothing = {v.name: machine.zeros(v) for v in (*program.inputs, *program.parameters)}
    return BackwardRun(
        {v.name: gradients.get(v.name, nothing[v.name]) for v in program.inputs},
        {name: gradients.get(name, nothing[name]) for name in sorted(trained)},
        d_initial,
    )


def _squeezed(steps: Array) -> Array:
    """What is remembered (k, B, width), as a caller sees it: one step has no axis of time."""
    return steps[0] if len(steps) == 1 else steps


@dataclass
class _Machine:
    """Arrays by value name, and what it takes to execute one node.

    What a state was in the last steps of each sequence is (k, B, width), oldest first, and moves on with
    every step inside the sequence; so are the gradients that arrive there on the way back.
    """

    plan: Schedule
    sizes: Mapping[str, int]
    lengths: Array | None
    dtype: type
    lines: Lines | None = None
    arrays: dict[str, Array] = field(default_factory=dict)
    carried: dict[str, Array] = field(default_factory=dict)
    arriving: dict[str, Array] = field(default_factory=dict)
    initial: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        T, B = self.sizes["T"], self.sizes["B"]
        lengths = np.full(B, T) if self.lengths is None else np.asarray(self.lengths)
        self.active = (np.arange(T)[:, None] < lengths[None, :])[:, :, None]

    def plane_shape(self, value: Value) -> tuple[int, ...]:
        return self.sizes["T"], self.sizes["B"], value.width.evaluate(self.sizes)

    def zeros(self, value: Value) -> Array:
        if value.timeless:
            return np.zeros([width.evaluate(self.sizes) for width in value.shape], self.dtype)
        return np.zeros(self.plane_shape(value), self.dtype)

    def load(self, inputs: Arrays, params: Arrays, initial: Arrays) -> None:
        program = self.plan.program
        for value in program.inputs:
            self.arrays[value.name] = np.asarray(inputs[value.name], self.dtype)
        for value in program.parameters:
            if value.kind is Kind.CONSTANT:
                self.arrays[value.name] = np.asarray(program.constants[value.name], self.dtype)
            elif value.kind is Kind.SIZE:
                self.arrays[value.name] = np.asarray(self.sizes[value.shown], self.dtype)
            else:
                self.arrays[value.name] = np.asarray(params[value.name], self.dtype)
        defaults = {carry.state.name: carry.initial for carry in program.carries}
        for name, steps in program.begins.items():
            shape = steps, self.sizes["B"], program.values[name].width.evaluate(self.sizes)
            given = initial.get(name)
            start = np.full(shape, defaults.get(name, 0.0)) if given is None else np.asarray(given)
            self.initial[name] = np.array(start, self.dtype).reshape(shape)
            self.carried[name] = self.initial[name]

    def run_setup(self) -> None:
        for node in self.plan.program.setup:
            self.execute(node, _ONCE)

    def run(self, phases: Phases, finish: Callable[[int], None], reverse: bool = False) -> None:
        self.execute_all(phases.before, _ALL)
        for t in self.steps(reverse):
            self.begin(t, reverse)
            self.execute_all(phases.loop, t)
            finish(t)
        self.execute_all(phases.after, _ALL)

    def steps(self, adjoint: bool) -> range:
        """The steps in the order in which a pass makes them."""
        steps = range(self.sizes["T"])
        return steps[::-1] if self.plan.program.reverse != adjoint else steps

    def begin(self, t: int, adjoint: bool) -> None:
        for carry in self.plan.program.carries:
            if adjoint:
                self.contribute(carry.d_state, self.arriving[carry.d_state.name][-1], t)
            else:
                self._show_pasts(carry, t)

    def _show_pasts(self, carry: Carry, t: int) -> None:
        for past in carry.pasts:
            self.whole(past.value)[t] = self.carried[carry.state.name][-past.delay]

    def _move_on(self, carry: Carry, t: int) -> None:
        known, new = self.carried[carry.state.name], self.arrays[carry.state.name][t]
        moved = np.concatenate([known[1:], new[None]])
        self.carried[carry.state.name] = np.where(self.active[t], moved, known)

    def finish_step(self, t: int) -> None:
        for carry in self.plan.program.carries:
            self._move_on(carry, t)

    def remember(self, carry: Carry) -> None:
        """Find all past states again, from the states of all steps."""
        for t in self.steps(False):
            self._show_pasts(carry, t)
            self._move_on(carry, t)

    def finish_adjoint_step(self, t: int) -> None:
        for carry in self.plan.program.carries:
            held = self.arriving[carry.d_state.name]
            moved = np.concatenate([np.zeros_like(held[:1]), held[:-1]])
            for past in carry.pasts:
                if past.adjoint.name in self.arrays:
                    moved[-past.delay] += self.arrays[past.adjoint.name][t]
            self.arriving[carry.d_state.name] = np.where(self.active[t], moved, held)

    def history_gradient(self, name: str) -> Array:
        """The gradient of what an input was before the sequence: the first steps read it."""
        program, found = self.plan.program, np.zeros_like(self.initial[name])
        for shift in program.histories:
            adjoint = program.adjoint_of(shift)
            if shift.source.name == name and adjoint is not None:
                plane = np.where(self.active, self.read(adjoint, _ALL), 0)
                for t, b in np.argwhere(self.active[:, :, 0]):
                    age = self._age(t + shift.offset, b)
                    if age > 0:
                        found[-age, b] += plane[t, b]
        return found

    def _age(self, t: int, b: int) -> int:
        """By how many steps a time lies before the first step of a sequence; the last one before it has 1."""
        return int(t - self.active[:, b].sum() + 1 if self.plan.program.reverse else -t)

    def execute_all(self, nodes: Sequence[Node], index: Index) -> None:
        for node in nodes:
            self.execute(node, index)

    def execute(self, node: Node, index: Index) -> None:
        match node:
            case Island():
                for assign in node.assigns:
                    self._scalar(assign, index)
            case Reduce() | SumRows():
                self._scalar(node, index)
            case Contract():
                total: Any = sum(self.read(addend, index) for addend in node.addends)
                for product in node.products:
                    weight = _columns(self.arrays[product.weight.name], product.block, self.sizes)
                    matrix = weight if product.transposed else weight.T
                    total = total + np.atleast_1d(self.read(product.operand, index)) @ matrix
                self.contribute(node.target, total, index)
            case Extreme() | Scan():
                self._along(node, index)
            case Move():
                size, into, start = (w.evaluate(self.sizes) for w in (node.size, node.into, node.start))
                moved = np.zeros_like(self.read(node.target, index))
                taken = self._flat(node.source, index)[..., start : start + size]
                self._flat(node.target, index, moved)[..., into : into + size] = taken
                self.contribute(node.target, moved, index)
            case Outer() | Apply():
                self._matrix(node, index)
            case Turn():
                self.contribute(node.target, self.read(node.source, index).T, index)
            case Unit():
                self.contribute(node.target, np.eye(node.target.shape[0].evaluate(self.sizes)), index)
            case Shift():
                self._shift(node)
            case OuterRows():
                left, right = (self._inside(self.read(v, index), index) for v in (node.left, node.right))
                _columns(self.whole(node.target), node.block, self.sizes)[...] += left.T @ right

    def _flat(self, value: Value, index: Index, array: Array | None = None) -> Array:
        """The units of each row in one axis; a matrix of parameters has no other rows."""
        array = self.read(value, index) if array is None else array
        return array.reshape(-1) if value.timeless else array

    def _along(self, node: Extreme | Scan, index: Index) -> None:
        source, axis = self._flat(node.source, index), -2 if node.transposed else -1
        if node.shape:
            source = source.reshape(*source.shape[:-1], *(width.evaluate(self.sizes) for width in node.shape))
        if isinstance(node, Scan):
            turned = np.flip(source, axis) if node.back else source
            sums = np.cumsum(turned, axis)
            value = np.flip(sums, axis) if node.back else sums
        else:
            # It passes no gradient, also not along the imaginary axis.
            value = np.real(source).max(axis) if node.largest else np.real(source).min(axis)
        self.contribute(node.target, value.reshape(self.read(node.target, index).shape), index)

    def _matrix(self, node: Outer | Apply, index: Index) -> None:
        rows, columns = (width.evaluate(self.sizes) for width in node.shape)
        ones = np.ones(1)
        if isinstance(node, Outer):
            left = ones if node.left is None else self._flat(node.left, index)
            right = ones if node.right is None else self._flat(node.right, index)
            value = left[..., :, None] * right[..., None, :] * np.ones((rows, columns))
        else:
            flat = self._flat(node.matrix, index)
            matrix = flat.reshape(*flat.shape[:-1], rows, columns)
            vector = ones if node.vector is None else self._flat(node.vector, index)
            axis = -2 if node.transposed else -1
            value = (matrix * (vector[..., :, None] if node.transposed else vector[..., None, :])).sum(axis)
        shape = self.read(node.target, index).shape
        self.contribute(node.target, value.reshape(shape), index)

    def _scalar(self, node: Assign | Reduce | SumRows, index: Index) -> None:
        known = self.plan.program.values
        value = compiled(node.expr)(lambda name: self.read(known[name], index), self.lines)
        if not isinstance(node, Assign):
            units = [width.evaluate(self.sizes) for width in node.shape] or [1]
            rows = () if index is _ONCE else self.active[index].shape[:-1]
            value = np.broadcast_to(value, (*rows, *units))
            if isinstance(node, Reduce) or not node.target.shape:
                value = value.sum(tuple(range(-len(units), 0)))[..., None]
            if isinstance(node, SumRows):
                value = self._inside(value, index).sum(0)
        self.contribute(node.target, value, index)

    def _inside(self, array: Array, index: Index) -> Array:
        """The rows inside their sequences, the others zero; a single row for what has no time."""
        array = np.atleast_1d(array)
        if index is _ONCE:
            return array[None]
        return np.where(self.active[index], array, 0).reshape(-1, array.shape[-1])

    def whole(self, value: Value) -> Array:
        """The array of a value, zero until something is written."""
        array = self.arrays.get(value.name)
        if array is None:
            array = self.arrays[value.name] = self.zeros(value)
        return array

    def read(self, value: Value, index: Index) -> Array:
        array = self.arrays.get(value.name)
        if array is None:  # seldom, and reading is the innermost call of all
            array = self.whole(value)
        return array if value.timeless else array[index]

    def contribute(self, target: Value, value: Any, index: Index) -> None:
        array = self.whole(target)
        if target.timeless:
            same = np.size(value) == array.size
            self.arrays[target.name] = array + (np.reshape(value, array.shape) if same else value)
            return
        if target.kind is Kind.ADJOINT and self.lengths is not None:
            value = np.where(self.active[index], value, 0)
        array[index] += value

    def _shift(self, node: Shift) -> None:
        source = self.read(node.source, _ALL)
        moved = np.zeros_like(source)
        history = self.initial.get(node.source.name) if self.plan.program.history(node) else None
        for t, b in np.ndindex(self.active.shape[:2]):
            other = t + node.offset
            if 0 <= other < len(source) and self.active[other, b]:
                moved[t, b] = source[other, b]
            elif history is not None and self.active[t, b]:
                moved[t, b] = history[-self._age(other, b), b]
        self.contribute(node.target, moved, _ALL)


def _columns(matrix: Array, block: Block | None, sizes: Mapping[str, int]) -> Array:
    if block is None:
        return matrix
    start = block.start.evaluate(sizes)
    return matrix[:, start : start + block.size.evaluate(sizes)]
