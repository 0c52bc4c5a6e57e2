"""A `Program` as the steps a person would write down: what each value receives, and by which derivative.

Nothing is derived here. Every derivative is read off the program's adjoint: an adjoint line is linear in
the adjoint that it hands on, so its factor is the partial derivative.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import sympy
from sympy import Expr

from gategen.backends.formula import (
    Chain,
    Diagonal,
    Identity,
    Name,
    Names,
    OverSteps,
    OverUnits,
    Transposed,
    add_all,
)
from gategen.calculus.ir import (
    Assign,
    Block,
    Contract,
    Island,
    Kind,
    Node,
    OuterRows,
    Product,
    Program,
    Reduce,
    Shift,
    SumRows,
    Value,
    flatten,
    writes,
)
from gategen.calculus.lower import identifier
from gategen.calculus.order import arrange
from gategen.language.cell import Cell
from gategen.language.functions import ElementWise
from gategen.language.notation import MatVec, evaluate
from gategen.language.shapes import Width


@dataclass(frozen=True)
class Line:
    """``left = right``, or ``left += right``; ``number`` is the equation's."""

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
        partial: The element-wise partial derivative; None where a matrix is the derivative.
        factor: The derivative as a matrix, one factor of a Jacobian.
        weight: The matrix, for the products of a batch.
        block: The columns meant.
        reduced: Whether the contributions of all units are summed.
    """

    read: Value
    line: Line
    partial: Expr | None
    factor: Expr
    weight: Value | None = None
    block: Block | None = None
    reduced: bool = False


@dataclass(frozen=True)
class Part:
    """One forward node with everything that it hands back.

    Attributes:
        node: The forward node.
        target: The value it computes.
        d_target: The adjoint that arrives; None if none does.
        equation: The node as an equation.
        edges: In the order of the adjoint.
        shared: Terms of a sum that share its adjoint.
        origin: Index of the author's equation.
    """

    node: Node
    target: Value
    d_target: Value | None
    equation: Line
    edges: tuple[Edge, ...]
    shared: tuple[Value, ...]
    origin: int


def width_formula(width: Width) -> Expr:
    """A width as a formula in the names of widths."""
    parts = [sympy.Symbol(_width_key(name)) * factor for name, factor in width.terms]
    return sympy.Add(*parts, width.constant)


def _width_key(name: str) -> str:
    # A width may carry the name of a value: both may be called n.
    return f"width {name}"


def names_of(cell: Cell, program: Program) -> Names:
    """How every symbol of the cell and of the program is written."""
    bare = frozenset(e.left.signal for e in cell.roles.equations if e.bare)
    names = Names({n: (v.role, len(v.shape)) for n, v in cell.variables.items()}, bare)
    authors = {identifier(name): name for name in cell.variables}
    for width in {name: None for value in cell.variables.values() for w in value.shape for name in w.names}:
        names.add(_width_key(width), Name(width, width))
    adjoint_like = (Kind.ADJOINT, Kind.GRADIENT, Kind.SEED)
    by_shown: dict[str, Name] = {}
    for value in program.values.values():
        if value.kind not in adjoint_like:
            by_shown[value.shown] = names.table[value.name] = _name(value, authors)
    for node in flatten(program.setup):
        if isinstance(node, Island) and isinstance(node.assigns[0].expr, ElementWise):
            (assign,) = node.assigns
            if assign.target.name not in authors:
                old = names.table[assign.target.name]
                by_shown[old.shown] = names.add(assign.target.name, _inline(old, assign.expr)) and names.table[
                    assign.target.name
                ]
    for value in program.values.values():
        if value.kind in adjoint_like:
            primal = by_shown[value.shown.removeprefix("dL/").removeprefix("d ")]
            arriving = value.kind is Kind.SEED
            names.table[value.name] = _adjoint_name(primal, arriving)
    return names
