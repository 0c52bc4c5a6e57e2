"""A `Program` as the steps a person would write down: what each value receives, and by which derivative.

Nothing is derived here. Every derivative is read off the program's adjoint: an adjoint line is linear in
the adjoint that it hands on, so its factor is the partial derivative.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import sympy
from sympy import Expr, Integer

from gategen.backends.formula import (
    Chain,
    Diagonal,
    Identity,
    Ones,
    OverUnits,
    Stacked,
    Total,
    Transposed,
    add_all,
)
from gategen.backends.matrices import arranged, run_back, slope, units
from gategen.backends.naming import Columns, names_of, primal_shown
from gategen.calculus.ir import (
    Along,
    Apply,
    Assign,
    Contract,
    Extreme,
    Island,
    Kind,
    Move,
    Node,
    Outer,
    OuterRows,
    Product,
    Reduce,
    Scan,
    Shift,
    SumRows,
    Turn,
    Unit,
    Value,
    flatten,
    sources,
    writes,
)
from gategen.calculus.order import arrange
from gategen.calculus.program import Program
from gategen.language.cell import Cell
from gategen.language.notation import evaluate

_CHAIN_LENGTH = 6
"""Factors up to which a product is written out instead of getting a name of its own."""


Forward = Island | Contract | Reduce | Along
"""The nodes of a step that compute a value of their own."""


@dataclass(frozen=True)
class Line:
    """``left = right``, or ``left += right``; ``number`` is the author's equation."""

    left: Expr
    right: Expr
    adds: bool = False
    number: int | None = None


@dataclass(frozen=True)
class Edge:
    """What a value receives because another was computed from it.

    Attributes:
        read: The value that receives.
        line: The adjoint line.
        factor: The derivative as one factor of a Jacobian.
        partial: The derivative per unit; None where a matrix is the derivative.
        stacked: The right side over a batch, rows being sequences; None where it is element-wise.
        weight: The matrix through which, or to which, the adjoint goes.
        summed: Whether the contributions of all units are summed.
    """

    read: Value
    line: Line
    factor: Expr
    partial: Expr | None = None
    stacked: Expr | None = None
    weight: Value | None = None
    summed: bool = False


@dataclass(frozen=True)
class Part:
    """One forward node with everything that it hands back.

    Attributes:
        node: The forward node.
        target: The value it computes.
        d_target: The adjoint that arrives; None if none does.
        equation: The node as an equation.
        edges: Signals first, then parameters.
    """

    node: Forward
    target: Value
    d_target: Value | None
    equation: Line
    edges: tuple[Edge, ...]

    @property
    def origin(self) -> int:
        """Index of the author's equation."""
        return self.node.assigns[0].origin if isinstance(self.node, Island) else self.node.origin


class Walkthrough:
    """A program read as a derivation.

    Attributes:
        names: How its symbols are written.
        columns: The groups of columns of its weights.
        setup: What is computed once, in forward order.
        step: The parts of a step, in forward order.
    """

    def __init__(self, cell: Cell, program: Program) -> None:
        self.cell = cell
        self.program = program
        self.names = names_of(cell, program)
        self.columns = Columns(self.names)
        self._seen: set[str] = set()
        values = program.values.values()
        primals = {v.shown: v for v in values if v.kind not in (Kind.ADJOINT, Kind.GRADIENT, Kind.SEED)}
        self._primal = {v.name: primals[primal_shown(v)] for v in values if v.name not in _names(primals)}
        self._adjoint = {
            primal.name: program.values[name]
            for name, primal in self._primal.items()
            if program.values[name].kind is not Kind.SEED
        }
        self._position = {v.name: i for i, v in enumerate(primals.values())}
        self._accumulated = self._always_added()
        self.step = self._parts(program.step, program.adjoint)
        self.setup = self._parts(program.setup, program.setup_adjoint)

    def _always_added(self) -> set[str]:
        """Values to whose adjoint other steps, or the sum over steps, contribute too."""
        shifted = {node.source.name for node in self.program.step if isinstance(node, Shift)}
        per_step = (writes(node) for node in self.program.adjoint)
        gradients = {v.name for group in per_step for v in group if v.kind is Kind.GRADIENT}
        kinds = (Kind.STATE, Kind.PAST, Kind.SHIFTED)
        seeded = {value.name for value in self.program.outputs}
        return {
            primal.name
            for name, primal in self._primal.items()
            if primal.kind in kinds or primal.name in shifted | seeded or name in gradients
        }

    def _parts(self, forward: Iterable[Node], backward: Iterable[Node]) -> tuple[Part, ...]:
        adjoint_nodes = list(flatten(backward))
        made = []
        for node in reversed(list(flatten(forward))):
            if not isinstance(node, (Shift, SumRows, OuterRows)):
                made.append(self._part(node, adjoint_nodes))
        return tuple(reversed(made))

    def _part(self, node: Forward, adjoint_nodes: list[Node]) -> Part:
        (target,) = writes(node)
        d_target = self.adjoint_of(target)
        left = units(target, node.into, node.size) if isinstance(node, Move) else target.symbol
        part = Part(node, target, d_target, Line(left, self._right(node)), ())
        if d_target is None:
            return part
        edges = [self._share(value, d_target) for value in self._sharing(node, d_target)]
        for back in adjoint_nodes:
            (receiver,) = writes(back)
            primal = self._primal[receiver.name]
            if _receives(node, back, primal) and _hands_on(back, d_target, part.origin):
                edges.append(self._edge(node, back, d_target, primal))
        return replace(part, edges=tuple(sorted(edges, key=lambda edge: edge.read.timeless)))

    def adjoint_of(self, value: Value) -> Value | None:
        """The adjoint of a value: its own, or the one of the sum whose term it is; None if it is zero."""
        found = self._adjoint.get(value.name)
        if found is not None or value.kind not in (Kind.LOCAL, Kind.DERIVED):
            return found
        for node in flatten((*self.program.setup, *self.program.step)):
            if isinstance(node, Island) and value in self.program.reads(node):
                (assign,) = node.assigns
                same = sympy.diff(evaluate(assign.expr), value.symbol) == 1
                return self.adjoint_of(assign.target) if same else None
        return None

    def _sharing(self, node: Forward, d_target: Value) -> Iterator[Value]:
        if isinstance(node, Island):
            for value in self.program.reads(node):
                if value.name not in self._adjoint and self.adjoint_of(value) == d_target:
                    yield value

    def _share(self, value: Value, d_target: Value) -> Edge:
        name = replace(self.names.table[value.name], adjoint=True)
        left = self.names.add(f"d {value.shown}", name)
        return Edge(value, Line(left, d_target.symbol), Identity(), Integer(1))

    def _right(self, node: Forward) -> Expr:
        match node:
            case Island():
                return node.assigns[0].expr
            case Reduce():
                return OverUnits(self._for_all_units(node.expr))
            case Extreme() | Scan() | Move() | Outer() | Apply() | Turn() | Unit():
                return arranged(node)
        products = [Chain(self._matrix(p), p.operand.symbol) for p in node.products]
        return add_all([*products, *(value.symbol for value in node.addends)])

    def _for_all_units(self, expr: Expr) -> Expr:
        """A number that all units have in common, as a vector."""
        return Chain(expr, Ones()) if self.names.rank(expr) == 0 else expr

    def _matrix(self, product: Product) -> Expr:
        symbol = self.columns.symbol(product.weight, product.block)
        return Transposed(symbol) if product.transposed else symbol

    def _edge(self, node: Forward, back: Node, d_target: Value, primal: Value) -> Edge:
        (receiver,) = writes(back)
        adds = primal.name in self._seen or primal.name in self._accumulated
        self._seen.add(primal.name)
        left = receiver.symbol
        match back:
            case Contract(products=(product,)):
                line = Line(left, Chain(self._matrix(product), d_target.symbol), adds)
                matrix = self.columns.symbol(product.weight, product.block)
                stacked = Chain(Stacked(d_target.symbol), matrix)
                return Edge(primal, line, matrix, stacked=stacked, weight=product.weight)
            case OuterRows():
                left = self.columns.symbol(receiver, back.block)
                line = Line(left, Chain(back.left.symbol, Transposed(back.right.symbol)), adds)
                stacked = Chain(Transposed(Stacked(back.left.symbol)), Stacked(back.right.symbol))
                return Edge(primal, line, Identity(), stacked=stacked, weight=primal)
            case Island(assigns=(Assign() as given,)):
                partial = given.partial if given.partial is not None else Integer(1)
                factor = self._row(partial) if isinstance(node, Reduce) else self._diagonal(partial, primal)
                return Edge(primal, Line(left, given.expr, adds), factor, partial)
            case Scan():
                return Edge(primal, Line(left, run_back(back, d_target), adds), slope(node, back))
            case Reduce() | SumRows():
                return self._summed_edge(node, back, d_target, primal, adds)
            case Move() | Outer() | Apply() | Turn():
                left = units(receiver, back.into, back.size) if isinstance(back, Move) else left
                return Edge(primal, Line(left, arranged(back), adds), slope(node, back))
        raise AssertionError(f"{back} hands nothing on")

    def _row(self, partial: Expr) -> Expr:
        """The derivative of a sum over the units."""
        row = Transposed(Ones()) if self.names.rank(partial) == 0 else Transposed(partial)
        return row if partial == 1 or self.names.rank(partial) else Chain(partial, row)

    def _diagonal(self, partial: Expr, primal: Value) -> Expr:
        if partial == 1:
            return Identity()
        if primal.shape and not any(value.shape for value in self.program.read(partial)):
            return Chain(partial, Identity())
        return Diagonal(partial) if primal.shape else partial

    def _summed_edge(
        self, node: Forward, back: Reduce | SumRows, d_target: Value, primal: Value, adds: bool
    ) -> Edge:
        partial = arrange(sympy.diff(evaluate(back.expr), d_target.symbol), self._position)
        over_units = not primal.shape and bool(back.shape)
        right = OverUnits(self._for_all_units(back.expr)) if over_units else back.expr
        rows = Stacked(back.expr)
        stacked = Chain(Transposed(rows), Ones())
        if not primal.shape:
            stacked = (
                Chain(Transposed(Ones()), rows, Ones()) if over_units else Chain(Transposed(Ones()), rows)
            )
        factor = self._for_all_units(partial) if over_units else self._diagonal(partial, primal)
        if over_units and isinstance(node, Reduce):
            factor = OverUnits(factor)
        line = Line(back.target.symbol, right, adds)
        is_parameter = isinstance(back, SumRows)
        return Edge(primal, line, factor, partial, stacked if is_parameter else None, summed=over_units)

    def jacobian(self, past: Value) -> list[Line]:
        """The derivative of every new state with respect to ``past``, one factor per node along each path."""
        rows: dict[str, list[tuple[Expr, ...]]] = {past.name: [()]}
        values = {past.name: past}
        for part in self.step:
            row = [
                (*_without_identity(edge.factor), *self._tail(edge.read, rows, past))
                for edge in part.edges
                if edge.read.name in rows
            ]
            if row:
                rows[part.target.name], values[part.target.name] = row, part.target
        states = [carry.state.name for carry in self.program.carries if carry.state.name in rows]
        needed, lines = list(states), []
        for name in needed:
            lines.append(
                Line(Total(values[name].symbol, past.symbol), add_all([_product(r) for r in rows[name]]))
            )
            for factor in (factor for row in rows[name] for factor in row):
                if isinstance(factor, Total) and factor.args[0].name not in needed:
                    needed.append(factor.args[0].name)
        return lines

    def _tail(self, read: Value, rows: dict[str, list[tuple[Expr, ...]]], past: Value) -> tuple[Expr, ...]:
        row = rows[read.name]
        if len(row) == 1 and len(row[0]) < _CHAIN_LENGTH:
            return row[0]
        return (Total(read.symbol, past.symbol),)


def _names(values: dict[str, Value]) -> set[str]:
    return {value.name for value in values.values()}


def _receives(node: Forward, back: Node, primal: Value) -> bool:
    """Whether ``primal`` is read by ``node`` in the way that ``back`` differentiates."""
    match node:
        case Extreme() | Scan():
            return primal == node.source and isinstance(back, Scan)
        case Move():
            return primal == node.source and isinstance(back, Move) and back.start == node.into
        case Turn():
            return primal == node.source and isinstance(back, Turn)
        case Outer():
            if not isinstance(back, Apply):
                return False
            sides = (node.right, node.left) if back.transposed else (node.left, node.right)
            return (primal, back.vector) == sides
        case Apply():
            if isinstance(back, Apply):
                same = back.matrix == node.matrix and back.transposed != node.transposed
                return same and primal == node.vector
            other = isinstance(back, Outer) and (back.left if node.transposed else back.right)
            return primal == node.matrix and other == node.vector
        case Unit():
            return False
    if isinstance(node, (Island, Reduce)):
        expr = node.expr if isinstance(node, Reduce) else node.assigns[0].expr
        return primal.symbol in expr.free_symbols and not isinstance(back, (Contract, OuterRows, Scan))
    if isinstance(back, (Contract, OuterRows)):
        return any(primal in (product.weight, product.operand) for product in node.products)
    return primal in node.addends


def _hands_on(back: Node, d_target: Value, origin: int) -> bool:
    """Whether an adjoint node hands ``d_target`` on because of equation ``origin``."""
    match back:
        case Island(assigns=(Assign(origin=found, source=source),)):
            return found == origin and source == d_target
        case Contract(products=(product,), origin=found):
            return found == origin and product.operand == d_target
        case Scan(origin=found) | Move(origin=found) | Turn(origin=found):
            return found == origin and back.source == d_target
        case Outer(origin=found) | Apply(origin=found):
            return found == origin and d_target in sources(back)
        case OuterRows(left=left, origin=found):
            return found == origin and left == d_target
        case Reduce(expr=expr, origin=found) | SumRows(expr=expr, origin=found):
            return found == origin and d_target.symbol in expr.free_symbols
    return False


def _without_identity(factor: Expr) -> tuple[Expr, ...]:
    return () if isinstance(factor, Identity) else (factor,)


def _product(row: tuple[Expr, ...]) -> Expr:
    """A product of factors; a number times the identity is a number where there are others."""
    numbers = [factor.args[0] for factor in row if _is_multiple(factor)]
    others = [factor for factor in row if not _is_multiple(factor)] or [Identity()]
    factors = [*numbers, *others]
    return factors[0] if len(factors) == 1 else Chain(*factors)


def _is_multiple(factor: Expr) -> bool:
    return isinstance(factor, Chain) and isinstance(factor.args[-1], Identity)
