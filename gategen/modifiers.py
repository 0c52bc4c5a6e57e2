"""Changes that papers make to any cell: functions from cell to cell, written as equations.

What comes out is a cell like any other, so changes combine freely and every later stage serves them. Random
masks compare an input of uniform numbers, which `noise` draws, with a rate that stands in the equations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from sympy import Add, Expr, preorder_traversal

from gategen.calculus.arrange import flat
from gategen.draft import Draft, is_number
from gategen.errors import ArgumentError
from gategen.language.cell import Cell
from gategen.language.functions import FUNCTIONS
from gategen.language.notation import At, MatVec, Parameter, substitute
from gategen.language.reductions import REDUCTIONS
from gategen.language.shapes import Width

_HARD = {"sigmoid": "hard_sigmoid", "tanh": "hard_tanh"}


def zoneout(cell: Cell, **rates: float) -> Cell:
    """Keep units of states at random, each state at a rate of its own; Krueger et al. 2016, arXiv:1606.01305.

    What follows in the step reads the state as it would have been, as in the paper and its code.
    """
    draft = Draft(cell, "zoneout", rates)
    for state, rate in draft.rates(rates, cell.states):
        new = draft.rename(state)
        u, p = draft.noise(state, rate)
        draft.add(new, f"{state}[t] = where({u}[t] < {p}, {draft.past(state)}, {new})")
    return draft.done()


def expected_zoneout(cell: Cell, **rates: float) -> Cell:
    """Zoneout at test time: the mean of the kept and the new state; Krueger et al. 2016, arXiv:1606.01305."""
    draft = Draft(cell, "expected_zoneout", rates)
    for state, rate in draft.rates(rates, cell.states):
        new = draft.rename(state)
        p = draft.constant(f"p_{state}", rate)
        draft.add(new, f"{state}[t] = {p} * {draft.past(state)} + (1 - {p}) * {new}")
    return draft.done()


def dropout(cell: Cell, **rates: float) -> Cell:
    """Drop units of values at random and scale the others up; Semeniuta et al. 2016, arXiv:1603.05118.

    The paper drops the candidate only, so that no state forgets: ``dropout(lstm, g=0.25)``.
    """
    draft = Draft(cell, "dropout", rates)
    for name, rate in draft.rates(rates, draft.assigned):
        new = draft.rename(name, reads=False)
        u, p = draft.noise(name, rate)
        draft.add(new, f"{draft.left(name)} = where({u}[t] < {p}, 0, {new} / (1 - {p}))")
    return draft.done()


def variational(cell: Cell, **rates: float) -> Cell:
    """Drop the same units of inputs and past states in all steps; Gal, Ghahramani 2016, arXiv:1512.05287.

    Dropped is what goes into matrix products: ``variational(lstm, x=0.2, h=0.3)``. A state that is carried on
    by itself, as in a GRU, is carried on whole.
    """
    draft = Draft(cell, "variational", rates)
    past = 1 if cell.reverse else -1
    dropped: dict[Expr, Expr] = {}
    lines = []
    for name, rate in draft.rates(rates, (*cell.inputs, *cell.states)):
        read = At(name, 0 if name in cell.inputs else past)
        u, p = draft.noise(name, rate, "sequence")
        new = At(draft.fresh(f"{name}_kept"))
        dropped[read] = new
        lines.append(f"{new} = where({u} < {p}, 0, {read} / (1 - {p}))")
    draft.rewrite(lambda _, right: {part: substitute(part, dropped) for part in _products(right)})
    draft.begin(lines)
    return draft.done()


def padded(cell: Cell) -> Cell:
    """Hold every state where a mask of one unit is 0: sequences may have holes, unlike with lengths."""
    draft = Draft(cell, "padded", {})
    mask = draft.fresh("m")
    draft.declare(f"{mask}: input[1]")
    for state in cell.states:
        new = draft.rename(state)
        draft.add(new, f"{state}[t] = where({mask}[t] > 0, {new}, {draft.past(state)})")
    return draft.done()


def projected(cell: Cell, state: str = "h") -> Cell:
    """Carry on a projection of a state, of a width of its own; Sak et al. 2014, arXiv:1402.1128."""
    draft = Draft(cell, "projected", {"state": state})
    draft.known(state, cell.states, "state")
    new, matrix = draft.rename(state), draft.fresh(f"P_{state}")
    draft.add(new, f"{state}[t] = {matrix} @ {new}")
    return draft.done()


def residual(cell: Cell, state: str = "h", source: str = "x") -> Cell:
    """Give back the state plus the input, of one width; He et al. 2015, arXiv:1512.03385, over depth."""
    draft = Draft(cell, "residual", {"state": state, "source": source})
    draft.known(state, cell.states, "state")
    draft.known(source, cell.inputs, "input")
    y = draft.output("y")
    draft.append(f"{y}[t] = {state}[t] + {source}[t]")
    return draft.done()


def highway(cell: Cell, state: str = "h", source: str = "x") -> Cell:
    """Give back a gated mixture of state and input; Srivastava et al. 2015, arXiv:1505.00387, over depth."""
    draft = Draft(cell, "highway", {"state": state, "source": source})
    draft.known(state, cell.states, "state")
    draft.known(source, cell.inputs, "input")
    gate, W, b = draft.fresh("k"), draft.fresh("W_k"), draft.fresh("b_k")
    y = draft.output("y")
    draft.append(f"{gate} = sigmoid({W} @ {source}[t] + {b})")
    draft.append(f"{y}[t] = {gate} * {state}[t] + (1 - {gate}) * {source}[t]")
    return draft.done()


def dilated(cell: Cell, steps: int) -> Cell:
    """Read states so many times as many steps back; Chang et al. 2017, arXiv:1710.02224."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ArgumentError("steps", f"is {steps!r}", "a positive integer")
    draft = Draft(cell, "dilated", {"steps": steps})
    past = rf"\b({'|'.join(cell.states)})\[t([-+])(\d+)\]"
    draft.replace(past, lambda found: f"{found[1]}[t{found[2]}{steps * int(found[3])}]")
    return draft.done()


def reverse(cell: Cell) -> Cell:
    """Run from right to left: the other half of a bidirectional pair; Schuster, Paliwal 1997."""
    draft = Draft(cell, "reverse", {})
    turned = {"-": "+", "+": "-"}
    draft.replace(r"\[t([-+])(\d+)\]", lambda found: f"[t{turned[found[1]]}{found[2]}]")
    return draft.done()


def clipped(cell: Cell, **limits: float) -> Cell:
    """Keep values between minus and plus a limit, as code does with cell states: ``clipped(lstm, c=3)``."""
    draft = Draft(cell, "clipped", limits)
    for name, limit in limits.items():
        draft.known(name, draft.assigned, "value")
        if not is_number(limit) or limit <= 0:
            raise ArgumentError(name, f"is {limit!r}", "a limit above 0")
        draft.wrap(name, f"clip({{}}, -{limit!r}, {limit!r})")
    return draft.done()


def coupled(cell: Cell, **gates: str) -> Cell:
    """Make one gate what another leaves: ``coupled(lstm, i="f")`` for i = 1 - f; Greff et al. 2015."""
    draft = Draft(cell, "coupled", gates)
    for gate, other in gates.items():
        draft.known(gate, draft.assigned, "gate")
        draft.known(other, draft.assigned, "gate")
        draft.couple(gate, other)
    return draft.done()


def hard(cell: Cell) -> Cell:
    """Make sigmoid and tanh piecewise linear; Courbariaux et al. 2015, arXiv:1511.00363."""
    draft = Draft(cell, "hard", {})
    draft.replace(rf"\b({'|'.join(_HARD)})\(", lambda found: f"{_HARD[found[1]]}(")
    return draft.done()


def layer_norm(cell: Cell, placement: str = "products", state: str = "") -> Cell:
    """Normalise over the units; Ba, Kiros, Hinton 2016, arXiv:1607.06450.

    Args:
        cell: The cell.
        placement: ``products``: every matrix product by itself, as in the paper; ``gates``: all that goes
            into a gate but its bias, as in TensorFlow 1; ``read``: a state where the rest of the step reads
            it, as the paper's LSTM does with c; ``carried``: the state itself, as in TensorFlow 1.
        state: Which one for the last two, by default the first.
    """
    draft = Draft(cell, "layer_norm", {"placement": placement} | ({"state": state} if state else {}))
    draft.known(placement, ("products", "gates", "read", "carried"), "placement")
    vectors = [name for name, variable in cell.states.items() if len(variable.shape) == 1]
    state = state or next(iter(vectors), "")
    if placement in ("read", "carried"):
        draft.known(state, vectors, "state of one axis")
    if placement == "products":
        draft.rewrite(
            lambda _, right: {part: _normed(part, draft, _weight(part)) for part in _products(right)}
        )
    elif placement == "gates":
        draft.rewrite(lambda name, right: {g: _gate(g, draft, name) for g in _gates(right)})
    elif placement == "read":
        draft.replace(rf"\b{state}\[t\]", _norm_text(f"{state}[t]", draft, state))
    else:
        draft.wrap(state, _norm_text("{}", draft, state))
    return draft.done()


def _normed(part: Expr, draft: Draft, name: str) -> Expr:
    return REDUCTIONS["layer_norm"](part, Parameter(draft.fresh(f"g_{name}")))


def _norm_text(inside: str, draft: Draft, name: str) -> str:
    return f"layer_norm({inside}, {draft.fresh(f'g_{name}')}, {draft.fresh(f'b_{name}')})"


def _products(right: Expr) -> list[MatVec]:
    """The matrix products of an expression that no other one contains, each once."""
    found = [right] if isinstance(right, MatVec) else [p for part in right.args for p in _products(part)]
    return list(dict.fromkeys(found))


def _weight(product: MatVec) -> str:
    """A name for what belongs to a product."""
    return str(product.args[0]).replace("[", "_").rstrip("]t_")


def _gates(right: Expr) -> list[Expr]:
    """The functions of an expression that a product goes into."""
    if isinstance(right, (FUNCTIONS["sigmoid"], FUNCTIONS["tanh"])) and _products(right):
        return [right]
    return [gate for part in right.args for gate in _gates(part)]


def _gate(gate: Expr, draft: Draft, name: str) -> Expr:
    """The gate of its normalised argument; biases are added afterwards."""
    terms = _terms(gate.args[0])
    biases = [term for term in terms if isinstance(term, Parameter)]
    rest = [term for term in terms if term not in biases]
    inside = _normed(Add(*rest, evaluate=False) if len(rest) > 1 else rest[0], draft, name)
    return gate.func(Add(inside, *biases, evaluate=False) if biases else inside)


def _terms(node: Expr) -> list[Expr]:
    return [term for part in node.args for term in _terms(part)] if isinstance(node, Add) else [node]


def starting(cell: Cell, **values: float) -> Cell:
    """Let vectors of parameters start from a number: ``starting(lstm, b_f=1.0)``; Jozefowicz et al. 2015."""
    draft = Draft(cell, "starting", values)
    for name, value in values.items():
        vectors = [n for n, v in cell.parameters.items() if len(v.shape) == 1]
        draft.known(name, vectors, "vector")
        if not is_number(value):
            raise ArgumentError(name, f"is {value!r}", "a number")
        draft.declare(f"{name}: vector = {float(value)!r}")
    return draft.done()


MODIFIERS: dict[str, Callable[..., Cell]] = {
    made.__name__: made
    for made in (
        *(zoneout, expected_zoneout, dropout, variational, padded, projected, residual, highway),
        *(dilated, reverse, clipped, coupled, hard, layer_norm, starting),
    )
}
"""Every modifier by name."""


def noise(
    cell: Cell,
    widths: Mapping[str, int],
    steps: int,
    batch: int,
    seed: int = 0,
    dtype: DTypeLike = np.float32,
) -> dict[str, NDArray[Any]]:
    """Uniform random numbers from 0 to 1 for the inputs that a cell only compares with rates.

    Args:
        cell: From `zoneout`, `dropout` or `variational`, other modifiers around it or not.
        widths: For every width of these inputs one number, under the name of any vector that has it.
        steps: T.
        batch: B.
        seed: The same seed gives the same numbers; every input draws from a stream of its own.
        dtype: Of the arrays.

    Returns:
        Arrays (T, B, width) by the inputs' names, (B, width) for what is the same in all steps.

    Raises:
        ArgumentError: A width is missing.
    """
    found = {}
    for place, name in enumerate(name for name in cell.inputs if _is_noise(cell, name)):
        (width,) = flat(cell.inputs[name].shape) or (Width((), 1),)
        members = {
            other: widths[m] for other in width.names for m in (other, *cell.widths[other]) if m in widths
        }
        if len(members) < len(width.names):
            expected = f"a number for {' or '.join(m for other in width.names for m in cell.widths[other])}"
            raise ArgumentError("widths", f"do not tell the width of {name}", expected)
        rows = (batch,) if name in cell.roles.constant else (steps, batch)
        shape = (*rows, width.evaluate(members))
        found[name] = np.random.default_rng([seed, place]).random(shape).astype(dtype)
    return found


def bidirectional(cell: Cell) -> tuple[Cell, Cell]:
    """The cell, and the one that runs the other way; Schuster, Paliwal 1997. `gategen.pair` runs both."""
    return cell, reverse(cell)


def chrono(
    size: int, longest: int, forget: str = "b_f", into: str = "b_i", seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """First biases for memories of 1 to ``longest`` steps, as ``values`` of `Kernel.init`.

    The forget bias is log U(1, longest - 1), the input bias its negative: Tallec, Ollivier 2018,
    arXiv:1804.11188, equation 16.

    Args:
        size: Units of the biases.
        longest: Steps that the longest dependency spans, at least 3.
        forget: The forget gate's bias.
        into: The input gate's bias; empty if there is none.
        seed: The same seed gives the same numbers.

    Raises:
        ArgumentError: A number is no integer, or too small.
    """
    for name, value, least in (("size", size, 1), ("longest", longest, 3)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ArgumentError(name, f"is {value!r}", f"an integer, at least {least}")
    bias = np.log(np.random.default_rng(seed).uniform(1, longest - 1, size))
    return {forget: bias} | ({into: -bias} if into else {})


def _is_noise(cell: Cell, name: str) -> bool:
    symbol = At(name)
    reads = [
        part for e in cell.roles.equations for part in preorder_traversal(e.right) if symbol in part.args
    ]
    return bool(reads) and all(
        isinstance(part, FUNCTIONS["less"]) and part.args[0] == symbol for part in reads
    )
