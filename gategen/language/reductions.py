"""The table of reductions: functions along the units of a vector, or an axis of a matrix, one row each.

A row defines its value in `Units`: totals, extremes and running totals along the units, and element-wise
functions between them. So no derivative is written here: a total hands its gradient to every unit, a running
total hands back the running total from the other end, and an extreme hands nothing back, which is right
wherever a definition only shifts by it. A definition names what it uses more than once.

Sub-gradients follow PyTorch: norm'(0) = 0, and the gradient of an extreme is split evenly among ties.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import sympy
from sympy import Expr, Float

from gategen.errors import CellSyntaxError
from gategen.language.functions import abs, equal, exp, less, log, sqrt, stop_gradient, surrogate, where

EPSILON = Float(1e-5)
"""What layer norm adds to the variance, as in PyTorch; a constant vector becomes zero."""


_FINITE = Float(3e38)


class Units(Protocol):
    """The units of the vectors that a definition is applied to: rows or columns, if they are matrices."""

    @property
    def width(self) -> Expr:
        """How many there are."""

    def name(self, prefix: str, value: Expr, apart: bool = False) -> Expr:
        """``value``, computed once under a name of its own, or under the one that it has.

        What stands ``apart`` gets one anyway, and so a gradient to which nothing else contributes.
        """

    def total(self, value: Expr, prefix: str = "sum") -> Expr:
        """The sum of a vector, under a name of its own."""

    def extreme(self, value: Expr, largest: bool) -> Expr:
        """The largest or the smallest element; it passes no gradient."""

    def running(self, value: Expr) -> Expr:
        """For every unit the sum up to it."""


Definition = Callable[..., Expr]


@dataclass(frozen=True)
class Row:
    r"""One reduction.

    Attributes:
        name: The name in the language.
        definition: The value, called with `Units` and the arguments.
        vectors: How many arguments, from the first, must be vectors; those behind may be scalars.
        arity: The least and the largest number of arguments.
        keeps: Whether the value is a vector of the same width, not a scalar.
        latex: The LaTeX spelling; empty for ``\operatorname{name}``.
    """

    name: str
    definition: Definition
    vectors: int
    arity: tuple[int, int]
    keeps: bool
    latex: str


class Reduction(sympy.Function):  # type: ignore[misc]
    """A SymPy function that stands for one row; opaque, as a matrix product is.

    Attributes:
        row: The row.
        axis: Along which axis of a matrix: 0 for columns, 1 for rows; None for a vector.
        along: The same function along each axis.
    """

    row: ClassVar[Row]
    axis: ClassVar[int | None] = None
    along: ClassVar[tuple[type[Reduction], ...]]

    def __new__(cls, *arguments: Any, axis: int | None = None, **options: Any) -> Reduction:
        """The reduction of a vector, or of a matrix along ``axis``."""
        if axis is not None:
            if axis not in AXES:
                raise CellSyntaxError(f"a matrix has no axis {axis}", expected="0 or 1")
            return cls.along[axis](*arguments)
        return super().__new__(cls, *arguments, **options)  # type: ignore[no-any-return]

    @property
    def rank(self) -> int:
        """1 for a vector, 0 for a number; one more along an axis."""
        return int(self.row.keeps) + (self.axis is not None)

    @classmethod
    def _should_evalf(cls, arg: Expr) -> int:
        # Some rows have the names of functions of numbers that SymPy knows.
        return -1


AXES = (0, 1)
"""Of a matrix: along its columns, along its rows."""

REDUCTIONS: dict[str, type[Reduction]] = {}
"""Every reduction by name, in the order of the table."""


def _row(
    name: str,
    definition: Definition,
    vectors: int = 1,
    most: int = 0,
    keeps: bool = False,
    latex: str = "",
) -> type[Reduction]:
    arity = (vectors, most or vectors)
    row = Row(name, definition, vectors, arity, keeps, latex)
    made = _function(Reduction, row)
    made.along = tuple(_function(made, row, axis) for axis in AXES)
    REDUCTIONS[name] = made
    return made


def _function(kind: type[Reduction], row: Row, axis: int | None = None) -> type[Reduction]:
    nargs = tuple(range(row.arity[0], row.arity[1] + 1))
    own = f"axis_{axis}"
    name = row.name if axis is None else f"{row.name}.{own}"
    members = {"row": row, "axis": axis, "nargs": nargs, "__module__": __name__, "__qualname__": name}
    made = type(name, (kind,), members)
    if axis is not None:
        # By this name pickle finds it again.
        setattr(kind, own, made)
    return made


def _variance(units: Units, v: Expr) -> tuple[Expr, Expr]:
    """Mean and variance in two passes."""
    mean = units.name("mean", units.total(v) / units.width)
    # Deviations from the mean sum to zero, so that the variance has no gradient with respect to the mean.
    return mean, units.total((v - stop_gradient(mean)) ** 2, "spread") / units.width


def _var(units: Units, v: Expr) -> Expr:
    return _variance(units, units.name("v", v))[1]


def _norm(units: Units, v: Expr) -> Expr:
    v = units.name("v", v)
    square = units.total(v * v, "square")
    # The root is taken of one where all is zero, so that its slope is finite there.
    zero = where(equal(square, 0), 1, 0)
    return sqrt(square + zero) - zero


def _extreme(largest: bool) -> Definition:
    def definition(units: Units, v: Expr) -> Expr:
        v = units.name("v", v)
        found = units.extreme(v, largest)
        chosen = units.total(where(equal(v, found), v, 0))
        ties = stop_gradient(units.total(where(equal(v, found), 1, 0), "ties"))
        return surrogate(found, chosen / ties)

    return definition


def _softmax(units: Units, v: Expr) -> Expr:
    v = units.name("v", v)
    # Exponentials that have the largest as their unit do not overflow, and the same ratios.
    powers = units.name("e", exp(v - units.extreme(v, True)))
    return powers / units.total(powers)


def _logsumexp(units: Units, v: Expr) -> Expr:
    v = units.name("v", v)
    most = units.extreme(v, True)
    # An infinite one would take itself away and leave no number.
    shift = units.name("shift", where(less(abs(most), _FINITE), most, 0))
    return shift + log(units.total(exp(v - shift)))


def _layer_norm(units: Units, v: Expr, gain: Expr | None = None, bias: Expr | None = None) -> Expr:
    # Large terms cancel in its gradient, those of a single unit to nothing: others may come afterwards only.
    v = units.name("v", v, apart=True)
    mean, variance = _variance(units, v)
    scale = units.name("scale", 1 / sqrt(variance + EPSILON))
    # What the mean takes from the gradient of a unit is that gradient, rounded, and no sum of products.
    normed = units.name("centred", v - mean) * scale * (1 if gain is None else gain)
    return normed if bias is None else normed + bias


# fmt: off
sum = _row("sum", lambda units, v: units.total(v))
mean = _row("mean", lambda units, v: units.total(v) / units.width)
var = _row("var", _var, latex=r"\operatorname{Var}")
norm = _row("norm", _norm)
dot = _row("dot", lambda units, a, b: units.total(a * b), vectors=2)
max = _row("max", _extreme(True), latex=r"\max")
min = _row("min", _extreme(False), latex=r"\min")
logsumexp = _row("logsumexp", _logsumexp)
softmax = _row("softmax", _softmax, keeps=True)
cumsum = _row("cumsum", lambda units, v: units.running(v), keeps=True)
layer_norm = _row("layer_norm", _layer_norm, most=3, keeps=True, latex=r"\operatorname{LN}")
# fmt: on
