"""Reductions along an axis of a matrix to nodes: the definitions are those of vectors.

What a definition finds along the axis is a vector, shorter than the matrix. It is spread over the matrix
again where it meets elements of it, so that everything between sums is element-wise work.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from sympy import Expr

from gategen.calculus import arrange, reduce
from gategen.calculus.ir import Apply, Extreme, Scan, Value
from gategen.language.notation import substitute, symbols_in_order
from gategen.language.reductions import Reduction
from gategen.language.shapes import Shape


class Equation(arrange.Equation, reduce.Equation, Protocol):
    """The equation in which such a reduction stands."""


def reduced_along(equation: Equation, node: Reduction) -> Expr:
    """The value of a reduction along an axis; nodes for what it needs come before."""
    assert node.axis is not None
    shape = arrange.settled(arrange.joined(equation, node))
    arguments = [arrange.shaped(equation, argument, shape) for argument in node.args]
    return _AxisUnits(equation, arguments, shape=shape, axis=node.axis).lower(node.row)


@dataclass
class _AxisUnits(reduce.VectorUnits):
    """The units along one axis of matrices.

    Attributes:
        shape: Rows and columns.
        axis: The axis that goes.
        found: What was found along it, each with what spreads it over the matrix again, once that is made.
    """

    equation: Equation
    shape: Shape = ()
    axis: int = 1
    found: dict[Expr, Expr | None] = field(default_factory=dict)

    @property
    def width(self) -> Expr:
        """How many units there are along the axis."""
        return self.equation.lowering.size(self.shape[self.axis])

    def name(self, prefix: str, value: Expr, apart: bool = False) -> Expr:
        """``value``, computed once under a name of its own."""
        short = not self._has_elements(value)
        named = super().name(prefix, value, apart)
        if short:
            self.found.setdefault(named)
        return named

    def total(self, value: Expr, prefix: str = "sum") -> Expr:
        """The sum along the axis."""
        source = self._source(value)
        target = self._target(prefix, source)
        return self._made(Apply(target, source, None, self.shape, self.axis == 0, self.equation.index))

    def extreme(self, value: Expr, largest: bool) -> Expr:
        """The largest or the smallest element along the axis."""
        source = self._source(value)
        target = self._target("most" if largest else "least", source)
        return self._made(Extreme(target, source, largest, self.shape, self.axis == 0, self.equation.index))

    def running(self, value: Expr) -> Expr:
        """The sums from the first unit along the axis to each."""
        source = self._source(value)
        target = self.equation.made("sums", source.shape, source.symbol)
        return self._made(Scan(target, source, False, self.shape, self.axis == 0, self.equation.index))

    def _written(self, expr: Expr) -> Expr:
        """The same, with what was found along the axis spread where it meets elements of the matrix."""
        if self._has_elements(expr):
            met = [symbol for symbol in symbols_in_order(expr) if symbol in self.found]
            expr = substitute(expr, {short: self._spread(short) for short in met})
        return super()._written(expr)

    def _has_elements(self, expr: Expr) -> bool:
        """Whether elements of the matrix stand in an expression."""
        own = expr.free_symbols - {*self.found}
        return any(self.equation.shape(self.letters.get(symbol, symbol)) for symbol in own)

    def _spread(self, short: Expr) -> Expr:
        spread = self.found[short]
        if spread is None:
            value = self.equation.value_of(short, "v")
            left, right = (value, None) if self.axis == 1 else (None, value)
            spread = self.found[short] = arrange.spread(self.equation, left, right, self.shape).symbol
        return spread

    def _source(self, value: Expr) -> Value:
        return arrange.once(self.equation, self._written(value))

    def _made(self, node: Apply | Extreme | Scan) -> Expr:
        self.equation.sink(node.target).append(node)
        return node.target.symbol

    def _target(self, prefix: str, source: Value) -> Value:
        target = self.equation.own(prefix, (self.shape[1 - self.axis],), source.timeless)
        self.found[target.symbol] = None
        return target
