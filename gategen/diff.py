"""What sets two cells apart: equations that differ, and numbers for which the cells do."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from sympy import Add, Expr, Mul, Pow, expand, preorder_traversal

from gategen import pipeline
from gategen.calculus import schedule
from gategen.calculus.interpret import forward
from gategen.calculus.problem import Array, Leaf, Problem, Setting, draw, params_by_value
from gategen.calculus.schedule import Schedule
from gategen.errors import GategenError
from gategen.language.cell import Cell
from gategen.language.functions import FUNCTIONS
from gategen.language.notation import (
    At,
    Concat,
    Eq,
    MatVec,
    Parameter,
    evaluate,
    substitute,
    symbols_in_order,
)
from gategen.language.roles import Role
from gategen.language.text import equation_text
from gategen.matching import match

POINTS = 1000
"""Sequences that are compared."""
_DRAWS = 10
# All widths are the same, so that the cells fit each other; one would hide the order of products.
_SETTING = Setting(3, POINTS // _DRAWS, (2,))
_EQUAL = 1e-9
_MOST_GATES = 4
_MOST_TERMS = 1000


@dataclass(frozen=True)
class Point:
    """Numbers for which two cells differ, by the first cell's names.

    Attributes:
        step: The step, from 0, at which they do.
        name: The state or output that differs.
        values: What each of the cells gives for it, (width,).
        inputs: Of this sequence, (T, width).
        initial: What it starts from, (width,).
        params: Of the first cell.
    """

    step: int
    name: str
    values: tuple[Array, Array]
    inputs: Mapping[str, Array]
    initial: Mapping[str, Array]
    params: Mapping[str, Array]


@dataclass(frozen=True)
class Difference:
    """Two cells side by side.

    Attributes:
        first, second: The cells' names.
        names: For names of the second cell those of the first that stand for the same.
        alone: Names of both cells that have no counterpart.
        lines: Equations in the order of the first cell, in its names: a pair of texts, the same twice where
            they agree, an empty one where the other cell has none.
        whole: Whether every state and output has a counterpart.
        equal: Whether those that have one are the same on all points.
        under: What had to be assumed of parameters for that, empty if nothing.
        point: A counterexample; None if equal.
    """

    first: str
    second: str
    names: Mapping[str, str]
    alone: tuple[tuple[str, ...], tuple[str, ...]]
    lines: tuple[tuple[str, str], ...]
    whole: bool
    equal: bool
    under: tuple[str, ...] = ()
    point: Point | None = field(default=None, repr=False)

    @property
    def same_equations(self) -> bool:
        """Whether no equation differs."""
        return all(one == two for one, two in self.lines)

    @property
    def verdict(self) -> str:
        """Whether the cells are the same, in a sentence."""
        if not self.equal:
            return f"{self.first} and {self.second} are different cells"
        common = "" if self.whole else "what they have in common is "
        where = f" where {' and '.join(self.under)}" if self.under else ""
        return f"{common}equal on {POINTS:,} random points{where}"

    def text(self) -> str:
        """The equations that differ, marked as in a diff, and the verdict."""
        renamed = [f"{theirs} for {ours}" for theirs, ours in self.names.items() if theirs != ours]
        lines = [f"{self.second} writes {', '.join(renamed)}", ""] if renamed else []
        for one, two in self.lines:
            marks = (("  ", one),) if one == two else (("- ", one), ("+ ", two))
            lines += [mark + text for mark, text in marks if text]
        differ = sum(one != two for one, two in self.lines)
        lines += ["", f"{differ} of {len(self.lines)} equations differ; {self.verdict}"]
        if self.point is not None:
            lines += ["", *_told(self.point, self.first, self.second)]
        return "\n".join(lines) + "\n"

    def json(self) -> str:
        """The difference for a program."""
        whole = {
            "first": self.first,
            "second": self.second,
            "names": dict(self.names),
            "alone": self.alone,
            "equations": self.lines,
            "whole": self.whole,
            "equal": self.equal,
            "under": self.under,
            "point": None if self.point is None else _plain(vars(self.point)),
        }
        return json.dumps(whole, indent=1)


def diff(first: Cell | str | Path, second: Cell | str | Path) -> Difference:
    """Compare two cells: their equations after names are matched by what they stand for, and their values.

    Args:
        first: A cell, or the name or path of one.
        second: Another one.

    Returns:
        The difference. Where all numbers agree only once a gate is turned round (z for 1 - z) or parameters
        that the other cell has not are neutral, it says so.

    Raises:
        CellError: A cell is wrong.
        GategenError: The cells have nothing to compare, or no finite values.
    """
    one, two = (_split(c if isinstance(c, Cell) else pipeline.load(c)) for c in (first, second))
    names = match(one, two)
    pair = _Pair(one, two, names)
    under, point = pair.compare()
    alone = (
        tuple(name for name in one.variables if name not in names.values()),
        tuple(name for name in two.variables if name not in names),
    )
    lines = tuple(_equations(one, two, names))
    return Difference(one.name, two.name, names, alone, lines, pair.whole, point is None, under, point)


def _split(cell: Cell) -> Cell:
    """The cell with ``W[0] @ a + W[1] @ b`` for ``W @ [a, b]``, which other authors write."""
    products = [p for e in cell.equations for p in preorder_traversal(e.right) if isinstance(p, MatVec)]
    often = Counter(p.args[0] for p in dict.fromkeys(products))
    declared = {declaration.name for declaration in cell.declarations}
    new = {}
    for product in products:
        weight, operand = product.args
        if isinstance(operand, Concat) and often[weight] == 1 and weight.name not in declared:
            parts = enumerate(operand.args)
            terms = [MatVec(Parameter(f"{weight.name}[{place}]"), part) for place, part in parts]
            new[product] = Add(*terms, evaluate=False)
    equations = [Eq(e.left, substitute(e.right, new), e.bare) for e in cell.equations]
    return Cell(cell.name, equations, cell.declarations, cell.doc) if new else cell


def _equations(one: Cell, two: Cell, names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    spelled = {n: names.get(n) or (f"{n}_2" if n in one.variables else n) for n in two.variables}
    theirs = {spelled[e.left.signal]: _renamed(e, spelled) for e in two.roles.equations}
    bare = one.roles.bare | frozenset(e.left.signal for e in theirs.values() if e.bare)
    for equation in one.roles.equations:
        other = theirs.pop(equation.left.signal, None)
        text = equation_text(equation, bare)
        if other is None:
            yield text, ""
        elif _alike(equation.right, other.right):
            yield text, text
        else:
            yield text, equation_text(replace(other, bare=equation.bare), bare)
    yield from (("", equation_text(other, bare)) for other in theirs.values())


def _renamed(equation: Eq, names: Mapping[str, str]) -> Eq:
    new = {
        s: At(names[s.signal], s.offset) if isinstance(s, At) else Parameter(names[s.name])
        for s in symbols_in_order(equation.right)
    }
    return Eq(At(names[equation.left.signal]), substitute(equation.right, new), equation.bare)


def _alike(one: Expr, two: Expr) -> bool:
    one, two = evaluate(one), evaluate(two)
    if one == two:
        return True
    return _terms(one) + _terms(two) < _MOST_TERMS and expand(one - two) == 0


def _terms(node: Expr) -> float:
    """At most so many terms does a sum have when it is multiplied out."""
    inside = [_terms(part) for part in node.args]
    if isinstance(node, Add):
        return sum(inside)
    if isinstance(node, Pow):
        return float(inside[0] ** max(1.0, float(node.exp)))
    return math.prod(inside) if isinstance(node, Mul) else max(inside, default=1.0)


class _Pair:
    """Two cells on the same numbers."""

    def __init__(self, one: Cell, two: Cell, names: Mapping[str, str]) -> None:
        kinds = (Role.STATE, Role.OUTPUT, Role.INTERMEDIATE)
        seen = {**one.states, **one.outputs}
        self.results = {
            theirs: ours
            for theirs, ours in names.items()
            if ours in seen and two.variables[theirs].role in kinds
        }
        if not self.results:
            raise GategenError(f"{one.name} and {two.name} have no state or output in common to compare")
        self.one, self.two, self.names = one, two, names
        self.whole = {*seen} <= {*self.results.values()} and {*two.states, *two.outputs} <= {*self.results}
        self.plans = [_plan(one, self.results.values()), _plan(two, self.results)]

    def compare(self) -> tuple[tuple[str, ...], Point | None]:
        """What must be assumed for the cells to be equal, or the first counterexample."""
        point = self._counterexample({}, {})
        if point is None:
            return (), None
        for turned, neutral in self._assumptions():
            ours, theirs = (self._neutral(cell, neutral) for cell in (self.one, self.two))
            flips = {name: -1.0 for gate in turned for name in self._gates[gate]}
            if self._counterexample(ours, {**theirs, **flips}) is None:
                values = [f"{name} = {value:g}" for name, value in {**ours, **theirs}.items()]
                return (*(self._turned(gate) for gate in turned), *values), None
        return (), point

    def _assumptions(self) -> Iterator[tuple[tuple[str, ...], bool]]:
        """Gates that are turned round, and whether parameters without counterpart are neutral."""
        gates = list(self._gates)[:_MOST_GATES]
        for count in range(len(gates) + 1):
            for turned in combinations(gates, count):
                yield from ((turned, neutral) for neutral in (False, True) if turned or neutral)

    @property
    def _gates(self) -> dict[str, list[str]]:
        """Gates of the second cell that become 1 - themselves when the sign of their parameters changes."""
        found = {}
        for equation in self.two.roles.equations:
            right = equation.right
            if right.func is FUNCTIONS["sigmoid"] and equation.left.signal in self.names:
                own = [_sole_factor(term) for term in Add.make_args(evaluate(right.args[0]))]
                if all(name and self._is_own(name, equation) for name in own):
                    found[equation.left.signal] = [str(name) for name in own]
        return found

    def _is_own(self, name: str, equation: Eq) -> bool:
        return not any(
            Parameter(name) in symbols_in_order(other.right)
            for other in self.two.roles.equations
            if other is not equation
        )

    def _turned(self, gate: str) -> str:
        return f"{self.names[gate]} of {self.two.name} is 1 - {self.names[gate]}"

    def _neutral(self, cell: Cell, wanted: bool) -> dict[str, float]:
        """Values without effect for the parameters that the other cell has not."""
        known = self.names.values() if cell is self.one else self.names
        alone = {n: v for n, v in cell.parameters.items() if n not in known and len(v.shape) < 2}
        return {n: float(v.multiplied) for n, v in alone.items()} if wanted else {}

    def _counterexample(self, ours: Mapping[str, float], theirs: Mapping[str, float]) -> Point | None:
        """The point at which the cells differ first and most; -1 for a parameter turns its sign."""
        finite = False
        for seed in range(_DRAWS):
            problem = _with(draw(self.one, self.plans[0].program, _SETTING, seed), ours)
            other = _with(self._translated(problem, seed), theirs)
            found, expected = _run(self.plans[1], other), _run(self.plans[0], problem)
            point = _worst(problem, {o: (expected[o], found[t]) for t, o in self.results.items()})
            if point is not None:
                return point
            finite |= all(np.isfinite(array).any() for array in expected.values())
        if not finite:
            raise GategenError(f"{self.one.name} gives no finite number to compare")
        return None

    def _translated(self, problem: Problem, seed: int) -> Problem:
        """The same numbers under the second cell's names; its own where the first has none."""
        theirs = draw(self.two, self.plans[1].program, _SETTING, (seed, 1))
        ours = problem.leaves()
        leaves: dict[Leaf, Array] = {}
        for (group, name), array in theirs.leaves().items():
            given = ours.get((group, self.names.get(name, "")), array)
            leaves[group, name] = given if given.shape == array.shape else array
        return theirs.with_leaves(leaves)


def _plan(cell: Cell, results: Iterable[str]) -> Schedule:
    return schedule.naive(pipeline.derive(cell.with_outputs(results)).program)


def _sole_factor(term: Expr) -> str | None:
    """The parameter that a term is proportional to, and that stands nowhere else in it."""
    if isinstance(term, MatVec):
        return term.args[0].name if isinstance(term.args[0], Parameter) else None
    found = [s for s in symbols_in_order(term) if isinstance(s, Parameter)]
    linear = term in found or (isinstance(term, Mul) and any(part in found for part in term.args))
    return found[0].name if len(found) == 1 and linear else None


def _with(problem: Problem, values: Mapping[str, float]) -> Problem:
    params = dict(problem.params)
    for name, value in values.items():
        params[name] = -params[name] if value < 0 else np.full_like(params[name], value)
    return replace(problem, params=params)


def _run(plan: Schedule, given: Problem) -> dict[str, Array]:
    params = params_by_value(plan.program, given.params)
    with np.errstate(all="ignore"):
        outputs = forward(plan, given.sizes, given.inputs, params, given.initial).outputs
    return {name: np.asarray(array) for name, array in outputs.items()}


def _worst(problem: Problem, results: Mapping[str, tuple[Array, Array]]) -> Point | None:
    for step in range(problem.sizes["T"]):
        for name, pair in results.items():
            one, two = (array[step] for array in pair)
            if one.shape != two.shape:
                two = np.full_like(one, np.nan)
            with np.errstate(all="ignore"):
                far = np.where(np.isfinite(one), np.abs(one - two), 0.0).max(axis=1)
            far = np.where(np.isnan(far), np.inf, far)
            place = int(far.argmax())
            if far[place] > _EQUAL * max(1.0, float(np.abs(one[place]).max())):
                inputs = {n: a[:, place] for n, a in problem.inputs.items()}
                initial = {n: a[place] for n, a in problem.initial.items()}
                return Point(step, name, (one[place], two[place]), inputs, initial, problem.params)
    return None


def _told(point: Point, first: str, second: str) -> list[str]:
    def numbers(array: Array) -> str:
        return f"({', '.join(f'{value:.4g}' for value in np.ravel(array))})"

    wide = max(len(name) for name in (*point.inputs, *point.initial)) + len("[t-1]")
    lines = [f"The counterexample, at step {point.step}; --json and .point have its parameters:"]
    lines += [f"  {f'{n}[t-1]':<{wide}} = {numbers(a)}" for n, a in point.initial.items() if point.step == 0]
    lines += [f"  {f'{n}[t]':<{wide}} = {numbers(a[point.step])}" for n, a in point.inputs.items()]
    for cell, value in zip((first, second), point.values, strict=True):
        lines.append(f"  {f'{point.name}[t]':<{wide}} = {numbers(value)} of {cell}")
    return lines


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
