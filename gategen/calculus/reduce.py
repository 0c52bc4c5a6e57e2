"""Reductions of a cell to nodes, by their definitions in the table of `gategen.language.reductions`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

from sympy import Expr, Symbol

from gategen.calculus.ir import Extreme, Island, Kind, Node, Reduce, Scan, Value
from gategen.calculus.order import arrange
from gategen.language.notation import substitute
from gategen.language.reductions import Row
from gategen.language.shapes import Shape, Width


class Values(Protocol):
    """The values of a cell while its nodes are made."""

    values: dict[str, Value]

    def size(self, width: Width) -> Expr:
        """A width as a number inside an expression."""


class Equation(Protocol):
    """The equation in which a reduction stands."""

    index: int

    @property
    def lowering(self) -> Values:
        """The values so far."""

    def shape(self, expr: Expr) -> Shape:
        """The shape of a lowered expression."""

    def made(self, prefix: str, shape: Shape, expr: Expr) -> Value:
        """A value of our own, computed from ``expr``."""

    def value_of(self, expr: Expr, prefix: str) -> Value:
        """``expr`` as a value; a symbol is one already."""

    def assigned(self, expr: Expr, prefix: str) -> Value:
        """A value of our own that is ``expr``."""

    def sink(self, target: Value) -> list[Node]:
        """Where the nodes that compute a value go."""


def reduced(equation: Equation, row: Row, arguments: list[Expr]) -> Expr:
    """The value of a reduction of lowered arguments; nodes for what it needs come before."""
    return VectorUnits(equation, arguments).lower(row)


def into(target: Value, node: Node) -> Node:
    """A node with one contribution, made to another value."""
    if isinstance(node, Island):
        return Island((replace(node.assigns[0], target=target),))
    return replace(node, target=target)


@dataclass
class VectorUnits:
    """The units of the vectors that a reduction is applied to, for its definition.

    Attributes:
        equation: The equation in which it stands.
        arguments: What it is applied to.
        letters: Symbols that stand for arguments which are expressions, until they are written.
    """

    equation: Equation
    arguments: list[Expr]
    letters: dict[Expr, Expr] = field(default_factory=dict)

    def lower(self, row: Row) -> Expr:
        """The value of a reduction; nodes for what it needs come before."""
        given = []
        for place, argument in enumerate(self.arguments):
            letter = argument if argument.is_Symbol or argument.is_Number else Symbol(f"argument {place}")
            self.letters[letter] = argument
            given.append(letter)
        made = self._written(row.definition(self, *given))
        return made if row.keeps else self.equation.value_of(made, row.name).symbol

    def _written(self, expr: Expr) -> Expr:
        """An expression of a definition in our canonical order, with the author's arguments in theirs."""
        position = {value.name: i for i, value in enumerate(self.equation.lowering.values.values())}
        letters = [letter.name for letter in self.letters if letter.is_Symbol]
        position |= {name: index - len(letters) for index, name in enumerate(letters)}
        return substitute(arrange(expr, position), self.letters)

    @property
    def width(self) -> Expr:
        """How many units there are."""
        return self.equation.lowering.size(self._shape[0])

    @property
    def _shape(self) -> Shape:
        return max((self.equation.shape(argument) for argument in self.arguments), key=len)

    def name(self, prefix: str, value: Expr, apart: bool = False) -> Expr:
        """``value``, computed once under a name of its own."""
        written = self._written(value)
        if apart and written.is_Symbol and self.equation.value_of(written, prefix).kind is not Kind.LOCAL:
            return self.equation.assigned(written, prefix).symbol
        return self.equation.value_of(written, prefix).symbol

    def total(self, value: Expr, prefix: str = "sum") -> Expr:
        """The sum over the units."""
        written = self._written(value)
        target = self.equation.made(prefix, (), written)
        self.equation.sink(target).append(Reduce(target, written, self._shape, self.equation.index))
        return target.symbol

    def extreme(self, value: Expr, largest: bool) -> Expr:
        """The largest or the smallest element."""
        source = self.equation.value_of(self._written(value), "v")
        target = self.equation.made("most" if largest else "least", (), source.symbol)
        self.equation.sink(target).append(Extreme(target, source, largest, origin=self.equation.index))
        return target.symbol

    def running(self, value: Expr) -> Expr:
        """The sums from the first unit to each."""
        source = self.equation.value_of(self._written(value), "v")
        target = self.equation.made("sums", source.shape, source.symbol)
        self.equation.sink(target).append(Scan(target, source, origin=self.equation.index))
        return target.symbol
