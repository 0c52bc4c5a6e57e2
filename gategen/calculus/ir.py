"""The nodes of a `Program`: element-wise islands between a few kinds of barriers.

Everything is frozen. Expressions are scalar SymPy expressions over the symbols of
`Value`s, in the order in which they are to be printed. A value assigned several times is the *sum* of its
contributions, as adjoints are; nothing reads it before the last one (`check`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import sympy
from sympy import Expr

from gategen.language.notation import symbols_in_order
from gategen.language.shapes import Shape, Width


class Kind(StrEnum):
    """What a value is, and so where its array comes from."""

    INPUT = "input"  # x[t], per step, from the caller
    SHIFTED = "shifted"  # x[t-1], per step, a moved copy of an input
    STATE = "state"  # h[t], per step
    PAST = "past"  # h[t-1], h[t-3]: a state some steps back
    LOCAL = "local"  # any other value of a step
    SEED = "seed"  # the loss gradient that arrives at an output, per step, from the caller
    ADJOINT = "adjoint"  # d_v, per step
    PARAMETER = "parameter"  # from here on without time
    FROZEN = "frozen"
    CONSTANT = "constant"
    SIZE = "size"
    DERIVED = "derived"
    GRADIENT = "gradient"  # d_W, summed over steps and batch


TIMELESS = frozenset({Kind.PARAMETER, Kind.FROZEN, Kind.CONSTANT, Kind.SIZE, Kind.DERIVED, Kind.GRADIENT})


@dataclass(frozen=True)
class Value:
    """One named array.

    Attributes:
        name: Unique in the program; the same in C, NumPy and the documents.
        shape: Per step and sequence: ``()``, ``(width,)``, or ``(rows, columns)`` for matrices.
        kind: What it is.
        shown: How an author would write it, such as ``h[t-1]``.
    """

    name: str
    shape: Shape
    kind: Kind
    shown: str = field(default="", compare=False)

    @cached_property
    def symbol(self) -> sympy.Symbol:
        """The scalar symbol that stands for one unit of the value."""
        return sympy.Symbol(self.name, real=True)

    @cached_property
    def timeless(self) -> bool:
        """Whether it is the same for all steps and sequences."""
        return self.kind in TIMELESS

    @property
    def width(self) -> Width:
        """Units per row of its array; a scalar takes one."""
        return self.shape[0] if self.shape else Width((), 1)


_NONE = Width()


@dataclass(frozen=True)
class Assign:
    """``target += expr`` (``=`` for the first contribution), element by element.

    Attributes:
        origin: Index of the equation that this comes from.
        source: In the adjoint: the adjoint that ``expr`` multiplies with the partial derivative.
        partial: In the adjoint: the partial derivative.
    """

    target: Value
    expr: Expr
    origin: int = -1
    source: Value | None = None
    partial: Expr | None = None


@dataclass(frozen=True)
class Block:
    """Some columns of a weight: those that meet one part of a concatenation."""

    start: Width
    size: Width


@dataclass(frozen=True)
class Product:
    """``weight @ operand``, or ``T(weight) @ operand``, with a block of the weight's columns or all."""

    weight: Value
    operand: Value
    transposed: bool = False
    block: Block | None = None


@dataclass(frozen=True)
class Contract:
    """``target += addends + products``: one chain of multiply-adds per element, in this order."""

    target: Value
    products: tuple[Product, ...]
    addends: tuple[Value, ...] = ()
    origin: int = -1


@dataclass(frozen=True)
class Reduce:
    """``target += sum over the units of expr``; also the adjoint of reading a scalar inside a vector."""

    target: Value
    expr: Expr
    shape: Shape
    origin: int = -1


@dataclass(frozen=True)
class Extreme:
    """``target = the largest of source``, or the smallest; it passes no gradient.

    Of every row of a matrix, or of every column if it is transposed, where ``shape`` tells one.
    """

    target: Value
    source: Value
    largest: bool = True
    shape: Shape = ()
    transposed: bool = False
    origin: int = -1

    @property
    def name(self) -> str:
        """The name of the reduction."""
        return "max" if self.largest else "min"


@dataclass(frozen=True)
class Scan:
    """``target += the running sum of source`` along the units, from the last one if ``back``.

    Along every row of a matrix, or every column if it is transposed, where ``shape`` tells one.
    """

    target: Value
    source: Value
    back: bool = False
    shape: Shape = ()
    transposed: bool = False
    origin: int = -1


@dataclass(frozen=True)
class Move:
    """``target[into + i] += source[start + i]`` for ``size`` units.

    A matrix of parameters and the row of its elements, as a step keeps it, are the same units.
    """

    target: Value
    source: Value
    size: Width
    into: Width = _NONE
    start: Width = _NONE
    origin: int = -1


@dataclass(frozen=True)
class Outer:
    """``target[i, j] += left[i] * right[j]``; what is None is one everywhere.

    With ``repeat`` the elements are units of a vector, every unit of ``left`` several times.
    """

    target: Value
    left: Value | None
    right: Value | None
    shape: Shape
    origin: int = -1
    repeat: bool = False


@dataclass(frozen=True)
class Apply:
    """``target += matrix @ vector`` with a matrix of the step, or its transpose; no vector is all ones.

    With ``repeat`` the elements are units of a vector, of which some in a row are summed.
    """

    target: Value
    matrix: Value
    vector: Value | None
    shape: Shape
    transposed: bool = False
    origin: int = -1
    repeat: bool = False


@dataclass(frozen=True)
class Turn:
    """``target[j, i] += source[i, j]``: parameters only."""

    target: Value
    source: Value
    origin: int = -1


@dataclass(frozen=True)
class Unit:
    """``target += the identity matrix``: parameters only."""

    target: Value
    origin: int = -1


@dataclass(frozen=True)
class Shift:
    """``target[t] += source[t + offset]``, outside the sequence its history or zero."""

    target: Value
    source: Value
    offset: int
    origin: int = -1


@dataclass(frozen=True)
class SumRows:
    """``target += sum over t and b of expr``; over the units too when the target is a scalar."""

    target: Value
    expr: Expr
    shape: Shape
    origin: int = -1


@dataclass(frozen=True)
class Island:
    """Element-wise work over one shape, in order: one fused loop.

    Fusing puts the sums that a loop can take along into the island as well.
    """

    assigns: tuple[Assign | Reduce | SumRows, ...]

    @property
    def shape(self) -> Shape:
        """The shape of the loop."""
        first = self.assigns[0]
        return first.target.shape if isinstance(first, Assign) else first.shape


@dataclass(frozen=True)
class OuterRows:
    """``target += sum over t and b of outer(left, right)``, into a block of columns or all."""

    target: Value
    left: Value
    right: Value
    block: Block | None = None
    origin: int = -1


Along = Extreme | Scan | Move | Outer | Apply | Turn | Unit
"""What a routine does row by row."""

Node = Island | Contract | Reduce | Along | Shift | SumRows | OuterRows


def sources(node: Along | Shift | OuterRows) -> list[Value]:
    """The values that a node without an expression reads."""
    match node:
        case Extreme() | Scan() | Move() | Turn() | Shift():
            return [node.source]
        case Outer() | OuterRows():
            return [value for value in (node.left, node.right) if value is not None]
        case Apply():
            return [node.matrix] if node.vector is None else [node.matrix, node.vector]
    return []


def names_read(node: Node) -> list[str]:
    """The names of the values a node reads, in written order, some more than once."""
    match node:
        case Island():
            return [symbol.name for assign in node.assigns for symbol in symbols_in_order(assign.expr)]
        case Contract():
            operands = (value for product in node.products for value in (product.weight, product.operand))
            return [value.name for value in (*node.addends, *operands)]
        case Reduce() | SumRows():
            return [symbol.name for symbol in symbols_in_order(node.expr)]
    return [value.name for value in sources(node)]


def writes(node: Node) -> list[Value]:
    """The values a node contributes to."""
    if isinstance(node, Island):
        return list({assign.target.name: assign.target for assign in node.assigns}.values())
    return [node.target]


def flatten(nodes: Iterable[Node]) -> Iterator[Node]:
    """The nodes with every island cut into single assignments."""
    for node in nodes:
        if isinstance(node, Island):
            yield from (Island((a,)) if isinstance(a, Assign) else a for a in node.assigns)
        else:
            yield node
