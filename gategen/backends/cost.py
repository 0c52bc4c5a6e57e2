"""What a step costs and what its adjoint reads, as formulas in the widths."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeGuard

import sympy
from sympy import Add, Expr, Integer, Mul, Pow

from gategen.backends.formula import terms
from gategen.backends.naming import width_formula
from gategen.backends.walkthrough import Part, Walkthrough
from gategen.calculus.ir import (
    Apply,
    Contract,
    Extreme,
    Kind,
    Move,
    Node,
    Outer,
    Reduce,
    Scan,
    SumRows,
    Value,
    flatten,
    sources,
    writes,
)
from gategen.calculus.order import arrange
from gategen.calculus.program import Program
from gategen.language.functions import ElementWise


@dataclass(frozen=True)
class ProductCost:
    """The multiply-adds of all products of one shape, per step and sequence."""

    products: tuple[Expr, ...]
    forward: Expr
    backward: Expr


@dataclass(frozen=True)
class ElementCost:
    """Element-wise work of one width: arithmetic operations and function values, per unit."""

    width: Expr
    forward: tuple[int, int]
    backward: tuple[int, int]


@dataclass(frozen=True)
class Stored:
    """One value that the adjoint step reads, and the adjoints for which it does."""

    value: Value
    readers: tuple[Value, ...]


def products(walkthrough: Walkthrough) -> list[ProductCost]:
    """The matrix products of a step, those of one shape together."""
    found: dict[tuple[Expr, int], list[Expr]] = {}
    for part in walkthrough.step:
        if _multiplies(part.node):
            rows, columns = map(width_formula, part.node.shape)
            key = (sympy.expand(rows * columns), len(part.edges))
            found.setdefault(key, []).append(part.equation.right)
        if not isinstance(part.node, Contract):
            continue
        for product, written in zip(part.node.products, _written(part), strict=False):
            columns = product.block.size if product.block else product.operand.width
            size = sympy.expand(width_formula(part.target.width) * width_formula(columns))
            receivers = {edge.read.name for edge in part.edges}
            back = (product.weight.name in receivers) + (product.operand.name in receivers)
            found.setdefault((size, back), []).append(written)
    return [
        ProductCost(tuple(written), ordered(len(written) * size), ordered(back * len(written) * size))
        for (size, back), written in found.items()
    ]


def _multiplies(node: Node) -> TypeGuard[Outer | Apply]:
    """Whether a node is a product of vectors, or with a matrix of the step."""
    return isinstance(node, (Outer, Apply)) and len(sources(node)) == 2


def _written(part: Part) -> list[Expr]:
    # The products come first, addends of the sum after them.
    return terms(part.equation.right)


def elements(walkthrough: Walkthrough) -> list[ElementCost]:
    """The element-wise work of a step and of its adjoint, by width."""
    program = walkthrough.program
    counts: dict[Expr, list[int]] = {}
    for index, nodes in enumerate((program.step, program.adjoint)):
        seen: set[str] = set()
        for node in flatten(nodes):
            operations, functions = _work(node)
            operations += sum(value.name in seen for value in writes(node))
            seen.update(value.name for value in writes(node))
            row = counts.setdefault(width_formula(_width(node)), [0, 0, 0, 0])
            row[2 * index] += operations
            row[2 * index + 1] += functions
    return [
        ElementCost(width, (row[0], row[1]), (row[2], row[3])) for width, row in counts.items() if any(row)
    ]


def _width(node: Node) -> sympy.Basic:
    if isinstance(node, (Reduce, SumRows)) and node.shape:
        return node.shape[0]
    match node:
        case Extreme():
            return node.source.width
        case Outer() | Apply():
            return node.shape[0].by(node.shape[1])
        case Move():
            return node.size
    return writes(node)[0].width


def _work(node: Node) -> tuple[int, int]:
    """Arithmetic operations and function values per unit."""
    expressions: Iterable[Expr] = ()
    extra = 0
    if isinstance(node, (Reduce, SumRows)):
        expressions, extra = (node.expr,), 1
    elif isinstance(node, (Extreme, Scan)) or (isinstance(node, Apply) and node.vector is None):
        extra = 1
    elif isinstance(node, Contract):
        extra = len(node.addends)
    elif hasattr(node, "assigns"):
        expressions = tuple(assign.expr for assign in node.assigns)
    counts = [operations(expression) for expression in expressions]
    return sum(n for n, _ in counts) + extra, sum(n for _, n in counts)


def operations(node: Expr) -> tuple[int, int]:
    """Arithmetic operations and function values of an element-wise expression; a sign costs nothing."""
    inside = [operations(argument) for argument in node.args]
    arithmetic, functions = sum(n for n, _ in inside), sum(n for _, n in inside)
    if isinstance(node, (Add, Mul)):
        signs = sum(argument == Integer(-1) for argument in node.args) if isinstance(node, Mul) else 0
        arithmetic += len(node.args) - 1 - signs
    elif isinstance(node, Pow) and node.exp.is_Integer:
        # A divisor is counted by the product in which it stands.
        arithmetic += int(abs(node.exp)) - 1
    elif isinstance(node, ElementWise):
        if node.row.infix or node.row.name == "where":
            arithmetic += 1
        else:
            functions += 1
    return arithmetic, functions


def stored(program: Program) -> list[Stored]:
    """The values of the forward step that the adjoint step reads, in forward order."""
    readers: dict[str, dict[str, Value]] = {}
    for node in flatten(program.adjoint):
        for value in program.reads(node):
            if not value.timeless and value.kind not in (Kind.ADJOINT, Kind.SEED):
                readers.setdefault(value.name, {}).update({v.name: v for v in writes(node)})
    return [
        Stored(value, tuple(readers[value.name].values()))
        for value in program.values.values()
        if value.name in readers
    ]


def ordered(formula: Expr) -> Expr:
    """A polynomial in widths, in one order."""
    return arrange(sympy.expand(formula), {})
