"""Changes that papers make to any cell: functions from cell to cell, written as equations.

What comes out is a cell like any other, so changes combine freely and every later stage serves them. Random
masks compare an input of uniform numbers, which `noise` draws, with a rate that stands in the equations.
"""

from __future__ import annotations

import ast
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from sympy import preorder_traversal

from gategen.errors import ArgumentError, CellSyntaxError, UnknownName, nearest
from gategen.language.cell import Cell
from gategen.language.functions import FUNCTIONS
from gategen.language.notation import At
from gategen.language.parse import parse
from gategen.language.shapes import Width

_DECLARATION = re.compile(r"(\w+): ")
_HARD = {"sigmoid": "hard_sigmoid", "tanh": "hard_tanh"}


def zoneout(cell: Cell, **rates: float) -> Cell:
    """Keep units of states at random, each state at a rate of its own; Krueger et al. 2016, arXiv:1606.01305.

    What follows in the step reads the state as it would have been, as in the paper and its code.
    """
    draft = _Draft(cell, "zoneout", rates)
    for state, rate in draft.rates(rates, cell.states):
        new = draft.rename(state)
        u, p = draft.noise(state, rate)
        draft.add(new, f"{state}[t] = where({u}[t] < {p}, {draft.past(state)}, {new})")
    return draft.done()


def expected_zoneout(cell: Cell, **rates: float) -> Cell:
    """Zoneout at test time: the mean of the kept and the new state; Krueger et al. 2016, arXiv:1606.01305."""
    draft = _Draft(cell, "expected_zoneout", rates)
    for state, rate in draft.rates(rates, cell.states):
        new = draft.rename(state)
        p = draft.constant(f"p_{state}", rate)
        draft.add(new, f"{state}[t] = {p} * {draft.past(state)} + (1 - {p}) * {new}")
    return draft.done()


def dropout(cell: Cell, **rates: float) -> Cell:
    """Drop units of values at random and scale the others up; Semeniuta et al. 2016, arXiv:1603.05118.

    The paper drops the candidate only, so that no state forgets: ``dropout(lstm, g=0.25)``.
    """
    draft = _Draft(cell, "dropout", rates)
    for name, rate in draft.rates(rates, draft.assigned):
        new = draft.rename(name, reads=False)
        u, p = draft.noise(name, rate)
        draft.add(new, f"{draft.left(name)} = where({u}[t] < {p}, 0, {new} / (1 - {p}))")
    return draft.done()


def padded(cell: Cell) -> Cell:
    """Hold every state where a mask of one unit is 0; holes in a sequence are allowed, unlike with lengths."""
    draft = _Draft(cell, "padded", {})
    mask = draft.fresh("m")
    draft.declare(f"{mask}: input[1]")
    for state in cell.states:
        new = draft.rename(state)
        draft.add(new, f"{state}[t] = where({mask}[t] > 0, {new}, {draft.past(state)})")
    return draft.done()


def projected(cell: Cell, state: str = "h") -> Cell:
    """Carry on a projection of a state, of a width of its own; Sak et al. 2014, arXiv:1402.1128."""
    draft = _Draft(cell, "projected", {"state": state})
    draft.known(state, cell.states, "state")
    new, matrix = draft.rename(state), draft.fresh(f"P_{state}")
    draft.add(new, f"{state}[t] = {matrix} @ {new}")
    return draft.done()


def residual(cell: Cell, state: str = "h", source: str = "x") -> Cell:
    """Give back the state plus the input, of one width; He et al. 2015, arXiv:1512.03385, over depth."""
    draft = _Draft(cell, "residual", {"state": state, "source": source})
    draft.known(state, cell.states, "state")
    draft.known(source, cell.inputs, "input")
    y = draft.output("y")
    draft.append(f"{y}[t] = {state}[t] + {source}[t]")
    return draft.done()


def highway(cell: Cell, state: str = "h", source: str = "x") -> Cell:
    """Give back a gated mixture of state and input, of one width; Srivastava et al. 2015, arXiv:1505.00387."""
    draft = _Draft(cell, "highway", {"state": state, "source": source})
    draft.known(state, cell.states, "state")
    draft.known(source, cell.inputs, "input")
    gate, W, b = draft.fresh("k"), draft.fresh("W_k"), draft.fresh("b_k")
    y = draft.output("y")
    draft.append(f"{gate} = sigmoid({W} @ {source}[t] + {b})")
    draft.append(f"{y}[t] = {gate} * {state}[t] + (1 - {gate}) * {source}[t]")
    return draft.done()


def dilated(cell: Cell, steps: int) -> Cell:
    """Read states so many steps back instead of one; Chang et al. 2017, arXiv:1710.02224."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ArgumentError("steps", f"is {steps!r}", "a positive integer")
    draft = _Draft(cell, "dilated", {"steps": steps})
    states, sign = "|".join(cell.states), "+" if cell.reverse else "-"
    draft.replace(rf"\b({states})\[t\{sign}1\]", rf"\1[t{sign}{steps}]")
    return draft.done()


def reverse(cell: Cell) -> Cell:
    """Run from right to left: the other half of a bidirectional pair; Schuster, Paliwal 1997."""
    draft = _Draft(cell, "reverse", {})
    turned = {"-": "+", "+": "-"}
    draft.replace(r"\[t([-+])(\d+)\]", lambda found: f"[t{turned[found[1]]}{found[2]}]")
    return draft.done()


def clipped(cell: Cell, **limits: float) -> Cell:
    """Keep values between minus and plus a limit, as code does for the cell state: ``clipped(lstm, c=3.0)``."""
    draft = _Draft(cell, "clipped", limits)
    for name, limit in limits.items():
        draft.known(name, draft.assigned, "value")
        if not _is_number(limit) or limit <= 0:
            raise ArgumentError(name, f"is {limit!r}", "a limit above 0")
        draft.wrap(name, f"clip({{}}, -{limit!r}, {limit!r})")
    return draft.done()


def coupled(cell: Cell, **gates: str) -> Cell:
    """Make one gate what another leaves: ``coupled(lstm, i="f")`` for i = 1 - f; Greff et al. 2015."""
    draft = _Draft(cell, "coupled", gates)
    for gate, other in gates.items():
        draft.known(gate, draft.assigned, "gate")
        draft.known(other, draft.assigned, "gate")
        draft.couple(gate, other)
    return draft.done()


def hard(cell: Cell) -> Cell:
    """Make sigmoid and tanh piecewise linear; Courbariaux et al. 2015, arXiv:1511.00363."""
    draft = _Draft(cell, "hard", {})
    draft.replace(rf"\b({'|'.join(_HARD)})\(", lambda found: f"{_HARD[found[1]]}(")
    return draft.done()


def starting(cell: Cell, **values: float) -> Cell:
    """Let vectors of parameters start from a number: ``starting(lstm, b_f=1.0)``; Jozefowicz et al. 2015."""
    draft = _Draft(cell, "starting", values)
    for name, value in values.items():
        vectors = [n for n, v in cell.parameters.items() if len(v.shape) == 1]
        draft.known(name, vectors, "vector")
        if not _is_number(value):
            raise ArgumentError(name, f"is {value!r}", "a number")
        draft.declare(f"{name}: vector = {float(value)!r}")
    return draft.done()


MODIFIERS: dict[str, Callable[..., Cell]] = {
    made.__name__: made
    for made in (
        *(zoneout, expected_zoneout, dropout, padded, projected, residual, highway),
        *(dilated, reverse, clipped, coupled, hard, starting),
    )
}
"""Every modifier by name."""


def modified(text: str, load: Callable[[str], Cell]) -> Cell:
    """A cell from modifiers as a person writes them, ``dilated(zoneout(lstm, h=0.1), 4)``.

    Args:
        text: Calls of modifiers; the first argument of each is a cell.
        load: Finds a cell by its name.

    Raises:
        CellSyntaxError: The text is no such call.
        UnknownName: There is no such modifier, or none of its arguments has this name.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise CellSyntaxError(
            f"{text!r} is neither a cell nor a modifier of one", expected=_EXAMPLE
        ) from None
    return _called(tree, text, load)


_EXAMPLE = "a call such as zoneout(lstm, h=0.1, c=0.5)"


def _called(node: ast.expr, text: str, load: Callable[[str], Cell]) -> Cell:
    match node:
        case ast.Name(id=name):
            return load(name)
        case ast.Constant(value=str() as name):
            return load(name)
        case ast.Call(func=ast.Name(id=name), args=[cell, *arguments], keywords=keywords):
            if name not in MODIFIERS:
                near = nearest(name, MODIFIERS)
                raise UnknownName(f"there is no modifier {name!r}", None, ", ".join(MODIFIERS), near)
            given = [_constant(argument, text) for argument in arguments]
            named = {str(keyword.arg): _constant(keyword.value, text) for keyword in keywords}
            try:
                return MODIFIERS[name](_called(cell, text, load), *given, **named)
            except TypeError:
                raise CellSyntaxError(
                    f"{name} takes other arguments than in {text!r}", expected=_usage(name)
                ) from None
    raise CellSyntaxError(f"{text!r} is neither a cell nor a modifier of one", expected=_EXAMPLE)


def _constant(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Name):
        return node.id
    try:
        value = ast.literal_eval(node)
    except ValueError:
        value = None
    if not isinstance(value, (int, float, str)):
        raise CellSyntaxError(f"{ast.unparse(node)} in {text!r} is no number and no name", expected=_EXAMPLE)
    return value


def _usage(name: str) -> str:
    return f"{name}({', '.join(map(str, _plain(inspect.signature(MODIFIERS[name]))))})"


def _plain(signature: inspect.Signature) -> list[inspect.Parameter]:
    return [
        parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


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
        cell: From `zoneout` or `dropout`, other modifiers around it or not.
        widths: For every width of these inputs one number, under the name of any vector that has it.
        steps: T.
        batch: B.
        seed: The same seed gives the same numbers; every input draws from a stream of its own.
        dtype: Of the arrays.

    Returns:
        Arrays (T, B, width) by the inputs' names.

    Raises:
        ArgumentError: A width is missing.
    """
    found = {}
    for place, name in enumerate(name for name in cell.inputs if _is_noise(cell, name)):
        (width,) = cell.inputs[name].shape or (Width((), 1),)
        members = {
            other: widths[m] for other in width.names for m in (other, *cell.widths[other]) if m in widths
        }
        if len(members) < len(width.names):
            expected = f"a number for {' or '.join(m for other in width.names for m in cell.widths[other])}"
            raise ArgumentError("widths", f"do not tell the width of {name}", expected)
        shape = (steps, batch, width.evaluate(members))
        found[name] = np.random.default_rng([seed, place]).random(shape).astype(dtype)
    return found


def _is_noise(cell: Cell, name: str) -> bool:
    symbol = At(name)
    reads = [
        part for e in cell.roles.equations for part in preorder_traversal(e.right) if symbol in part.args
    ]
    return bool(reads) and all(
        isinstance(part, FUNCTIONS["less"]) and part.args[0] == symbol for part in reads
    )


class _Draft:
    """The text of a cell, a line for each declaration and equation, while it changes."""

    def __init__(self, cell: Cell, change: str, arguments: Mapping[str, Any]) -> None:
        self._cell = cell
        self._change = change
        self._arguments = arguments
        lines = str(Cell(cell.name, cell.equations, cell.declarations)).splitlines()
        self._declared = {found[1]: line for line in lines if (found := _DECLARATION.match(line))}
        # The left side, with [t] or without, and the right side of every equation.
        self._equations = [line.split(" = ", 1) for line in lines if not _DECLARATION.match(line)]
        self._outputs = list(cell.outputs)
        self._taken = {name.partition("[")[0] for name in cell.variables}

    @property
    def assigned(self) -> list[str]:
        """The names that equations assign."""
        return [left.removesuffix("[t]") for left, _ in self._equations]

    def left(self, name: str) -> str:
        """The left side of a name's equation in the original."""
        bare = {e.left.signal: e.bare for e in self._cell.equations}
        return name if bare[name] else f"{name}[t]"

    def past(self, state: str) -> str:
        """The state of the step before."""
        return f"{state}[t+1]" if self._cell.reverse else f"{state}[t-1]"

    def known(self, name: str, valid: Iterable[str], kind: str) -> None:
        """Raise unless the cell has this name."""
        valid = list(valid)
        if name not in valid:
            problem = f"{name} is no {kind} of {self._cell.name}"
            raise UnknownName(problem, None, ", ".join(valid), nearest(str(name), valid))

    def rates(self, rates: Mapping[str, float], valid: Iterable[str]) -> list[tuple[str, float]]:
        """The rates, each of a known name and from 0 up to, but not including, 1."""
        if not rates:
            raise ArgumentError("rates", "are missing", f"such as {next(iter(valid))}=0.1")
        for name, rate in rates.items():
            self.known(name, valid, "value")
            if not _is_number(rate) or not 0 <= rate < 1:
                raise ArgumentError(name, f"is {rate!r}", "a rate from 0 up to, not including, 1")
        return list(rates.items())

    def fresh(self, wanted: str) -> str:
        """A name that nothing has yet."""
        name, number = wanted, 2
        while name in self._taken:
            name, number = f"{wanted}_{number}", number + 1
        self._taken.add(name)
        return name

    def declare(self, line: str) -> None:
        """Add a declaration, or replace that of the same name."""
        self._declared[line.partition(":")[0]] = line

    def constant(self, wanted: str, value: float) -> str:
        """A constant of a name not far from the one wanted."""
        name = self.fresh(wanted)
        self.declare(f"{name}: constant = {float(value)!r}")
        return name

    def noise(self, name: str, rate: float) -> tuple[str, str]:
        """An input of random numbers, and the rate that they are compared with."""
        u = self.fresh(f"u_{name}")
        self.declare(f"{u}: input")
        return u, self.constant(f"p_{name}", rate)

    def output(self, wanted: str) -> str:
        """A name for what the cell gives back from now on."""
        name = self.fresh(wanted)
        self._outputs = [name]
        return name

    def rename(self, name: str, reads: bool = True) -> str:
        """Give what an equation assigns another name, which the equations behind it read instead or not."""
        new, place = self.fresh(f"{name}_new"), self.assigned.index(name)
        read = rf"\b{name}\[t\]|\b{name}\b(?!\[)"
        self._equations[place][0] = new
        for equation in self._equations[place + 1 :] if reads else ():
            equation[1] = re.sub(read, new, equation[1])
        return new

    def add(self, behind: str, line: str) -> None:
        """An equation right behind the one of a name."""
        self._equations.insert(self.assigned.index(behind) + 1, line.split(" = ", 1))

    def append(self, line: str) -> None:
        """An equation behind all others."""
        self._equations.append(line.split(" = ", 1))

    def wrap(self, name: str, form: str) -> None:
        """Put the right side of a name's equation into something."""
        equation = self._equations[self.assigned.index(name)]
        equation[1] = form.format(equation[1])

    def couple(self, gate: str, other: str) -> None:
        """Assign 1 - other to a gate, right behind the other."""
        left, _ = self._equations.pop(self.assigned.index(gate))
        read = self.left(other)
        self._equations.insert(self.assigned.index(other) + 1, [left, f"1 - {read}"])

    def replace(self, pattern: str, new: str | Callable[[re.Match[str]], str]) -> None:
        """Replace a pattern in all right sides."""
        for equation in self._equations:
            equation[1] = re.sub(pattern, new, equation[1])

    def done(self) -> Cell:
        """The changed cell, named for the change."""
        arguments = ", ".join(f"{name}={value}" for name, value in self._arguments.items())
        doc = self._cell.doc.rstrip("\n")
        change = f"{self._change}({self._cell.name}{', ' * bool(arguments)}{arguments})"
        outputs = {name: f"{name}: output" for name in self._outputs}
        kept = {n: line for n, line in self._declared.items() if not line.endswith(": output")}
        used = {name: line for name, line in kept.items() if self._is_read(name)}
        equations = [f"{left} = {right}" for left, right in self._equations]
        body = "\n".join([*used.values(), *outputs.values(), *equations])
        made = parse(body, f"{self._cell.name}_{self._change}"[:64])
        return Cell(
            made.name, made.equations, made.declarations, "\n\n".join(filter(None, [doc, change])) + "\n"
        )

    def _is_read(self, name: str) -> bool:
        """Whether a declared name still stands in an equation, or in another declaration."""
        texts = [*(side for pair in self._equations for side in pair), *self._declared.values()]
        return sum(bool(re.search(rf"\b{re.escape(name)}\b", text)) for text in texts) > 1
