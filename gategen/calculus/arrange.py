"""Arrangements of a cell, and products with a matrix of the step, to nodes.

A matrix of a step is kept as the row of its elements, so that everything between two arrangements is
element-wise work on vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sympy import Expr

from gategen.calculus.ir import Apply, Assign, Island, Move, Node, Outer, Turn, Unit, Value
from gategen.language.arrangements import Arrangement
from gategen.language.notation import At, Concat, MatVec, Parameter
from gategen.language.reductions import Reduction
from gategen.language.shapes import Shape, Width

Extent = tuple[Width | None, ...]
"""A shape of which an axis may be left to the others: ``v[:, None]`` has any number of columns."""


class Equation(Protocol):
    """The equation in which an arrangement stands.

    Attributes:
        index: Its place among the author's.
        target: What it computes.
        extent: Rows and columns of the matrix of which a part is lowered.
        kept: Values of our own by their expressions.
    """

    index: int
    target: Value
    extent: Shape
    kept: dict[Expr, Value]

    def lowered(self, node: Expr) -> Expr:
        """The scalar form of an expression; nodes for what it needs come before."""

    def natural(self, name: str) -> Shape:
        """The shape that an author sees."""

    def value_of(self, expr: Expr, prefix: str) -> Value:
        """``expr`` as a value; a symbol is one already."""

    def own(self, prefix: str, shape: Shape, timeless: bool) -> Value:
        """A value of our own."""

    def sink(self, target: Value) -> list[Node]:
        """Where the nodes that compute a value go."""

    def need(self, value: Value, units: int) -> None:
        """Remember that a vector must have so many units."""


def flat(shape: Shape) -> Shape:
    """The shape in which a step keeps a value: a matrix as the row of its elements."""
    return (shape[0].by(shape[1]),) if len(shape) == 2 else shape


def arranged(equation: Equation, node: Arrangement) -> Expr:
    """The value of an arrangement."""
    return _RULES[node.row.name](equation, node).symbol


def applied(equation: Equation, node: MatVec) -> Expr:
    """The value of ``S @ v`` or ``v @ S`` with a matrix of the step."""
    left, right = node.args
    found, transposed = extent(equation, left), False
    matrix, vector = left, right
    if len(found) == 1:
        found, matrix, vector, transposed = extent(equation, right), right, left, True
    shape, given = settled(found), _value(equation, vector)
    source = once(equation, shaped(equation, matrix, shape))
    target = equation.own("s", shape[1:] if transposed else shape[:1], source.timeless and given.timeless)
    source, given = _timed_like(equation, source, target), _timed_like(equation, given, target)
    equation.sink(target).append(Apply(target, source, given, shape, transposed, equation.index))
    return target.symbol


def concatenated(equation: Equation, node: Concat, target: Value | None = None) -> Expr:
    """The value of vectors one below the other, as a value of our own or as ``target``."""
    values = [_value(equation, part) for part in node.args]
    widths = [value.width for value in values]
    if target is None:
        total = sum(widths, Width())
        target = equation.own("v", (total,), all(value.timeless for value in values))
    into = Width()
    for value, width in zip(values, widths, strict=True):
        value = _timed_like(equation, value, target)
        equation.sink(target).append(Move(target, value, width, into, origin=equation.index))
        into = into + width
    return target.symbol


def elements(equation: Equation, value: Value) -> Expr:
    """A matrix of parameters as an element-wise equation of a step reads it."""
    if equation.target.timeless or len(value.shape) < 2:
        return value.symbol
    if value.symbol not in equation.kept:
        size = flat(value.shape)
        made = equation.own(f"elements_{value.name}", size, True)
        equation.sink(made).append(Move(made, value, size[0], origin=equation.index))
        equation.kept[value.symbol] = made
    return equation.kept[value.symbol].symbol


def extent(equation: Equation, node: Expr) -> Extent:
    """The shape of an expression, as far as its parts tell."""
    match node:
        case At() | Parameter():
            return equation.natural(node.signal if isinstance(node, At) else node.name)
        case MatVec(args=(left, right)):
            shape = extent(equation, left)
            return shape[:1] if len(shape) == 2 else extent(equation, right)[1:]
        case Arrangement():
            return _extent(equation, node)
        case Reduction() if not node.row.keeps:
            return () if node.axis is None else (joined(equation, node)[1 - node.axis],)
        case Concat():
            return (sum((_units(extent(equation, part)) for part in node.args), Width()),)
    return joined(equation, node)


def joined(equation: Equation, node: Expr) -> Extent:
    """The shape that the arguments have together, as far as they tell."""
    shapes = [extent(equation, part) for part in node.args]
    rank = max(map(len, shapes), default=0)
    axes = [[shape[axis] for shape in shapes if len(shape) == rank] for axis in range(rank)]
    return tuple(next((width for width in widths if width is not None), None) for widths in axes)


def _extent(equation: Equation, node: Arrangement) -> Extent:
    shapes = [extent(equation, operand) for operand in node.operands]
    match node.row.name:
        case "outer":
            return shapes[0] + shapes[1]
        case "column":
            return shapes[0][0], None
        case "row":
            return None, shapes[0][0]
        case "repeat":
            return (_units(shapes[0]).times(node.numbers[0]),)
        case "split":
            return (_units(shapes[0]).divided(node.numbers[1]),)
        case "element":
            return ()
        case "piece":
            return (Width((), node.numbers[1] - node.numbers[0]),)
        case "rest":
            return (_units(shapes[0]) - Width((), node.numbers[0]),)
        case "flatten":
            return (_units(shapes[0]).by(_units(shapes[0][1:])),)
        case "reshape":
            return Width((), node.numbers[0]), _units(shapes[0]).divided(node.numbers[0])
    return equation.extent


def _units(extent: Extent) -> Width:
    """The units of a vector, one for a number."""
    width = extent[0] if extent else None
    return width or Width((), 1)


def settled(extents: Extent) -> Shape:
    """Nothing else is known of an axis: it has one unit."""
    return tuple(width or Width((), 1) for width in extents)


def _value(equation: Equation, node: Expr) -> Value:
    return once(equation, equation.lowered(node))


def once(equation: Equation, lowered: Expr) -> Value:
    """A lowered expression as a value; the same one where it stands twice."""
    if lowered.is_Symbol:
        return equation.value_of(lowered, "v")
    if lowered not in equation.kept:
        equation.kept[lowered] = equation.value_of(lowered, "v")
    return equation.kept[lowered]


def _timed_like(equation: Equation, value: Value, target: Value) -> Value:
    """A parameter as a value of the step, where the rest has time."""
    if target.timeless or not value.timeless:
        return value
    made = equation.own("v", value.shape, False)
    equation.sink(made).append(Island((Assign(made, value.symbol, equation.index),)))
    return made


def _outer(equation: Equation, node: Arrangement) -> Value:
    left, right = (_value(equation, operand) for operand in node.operands)
    return spread(equation, left, right, (left.width, right.width))


def _column(equation: Equation, node: Arrangement) -> Value:
    return spread(equation, _value(equation, node.operands[0]), None, equation.extent)


def _row(equation: Equation, node: Arrangement) -> Value:
    return spread(equation, None, _value(equation, node.operands[0]), equation.extent)


def spread(equation: Equation, left: Value | None, right: Value | None, shape: Shape) -> Value:
    """The outer product of two vectors, or one vector as each column or each row of a matrix."""
    timeless = all(side is None or side.timeless for side in (left, right))
    natural = timeless and equation.target.timeless
    target = equation.own("o", shape if natural else flat(shape), timeless)
    sides = [None if side is None else _timed_like(equation, side, target) for side in (left, right)]
    equation.sink(target).append(Outer(target, sides[0], sides[1], shape, equation.index))
    return target


def shaped(equation: Equation, node: Expr, extents: Extent) -> Expr:
    """The scalar form of an expression that is a matrix; a vector spread over it is spread so far."""
    before, equation.extent = equation.extent, settled(extents)
    lowered = equation.lowered(node)
    equation.extent = before
    return lowered


def _split(equation: Equation, node: Arrangement) -> Value:
    source = _value(equation, node.operands[0])
    place, count = node.numbers
    size = source.width.divided(count)
    return _taken(equation, source, size.times(place), size)


def _taken(equation: Equation, source: Value, start: Width, size: Width, number: bool = False) -> Value:
    """Some units of a vector, or one as a number."""
    target = equation.own("v", () if number else (size,), source.timeless)
    equation.sink(target).append(Move(target, source, size, start=start, origin=equation.index))
    return target


def _piece(equation: Equation, node: Arrangement) -> Value:
    source = _value(equation, node.operands[0])
    first, *end = (Width((), number) for number in node.numbers)
    number = node.row.name == "element"
    size = Width((), 1) if number else end[0] - first if end else source.width - first
    last = first + (Width((), 1) if number or not end else size)
    equation.need(source, last.constant)
    return _taken(equation, source, first, size, number)


def _reshaped(equation: Equation, node: Arrangement) -> Value:
    """The same elements: a step keeps matrices as vectors."""
    (operand,) = node.operands
    wanted = _extent(equation, node)
    source = once(equation, shaped(equation, operand, extent(equation, operand)))
    shape = settled(wanted)
    if not (equation.target.timeless and source.timeless):
        return source
    target = equation.own("v", shape, True)
    size = flat(shape)[0]
    equation.sink(target).append(Move(target, source, size, origin=equation.index))
    return target


def _repeat(equation: Equation, node: Arrangement) -> Value:
    source, times = _value(equation, node.operands[0]), node.numbers[0]
    shape = source.width, Width((), times)
    target = equation.own("v", (source.width.times(times),), source.timeless)
    equation.sink(target).append(Outer(target, source, None, shape, equation.index, repeat=True))
    return target


def _turned(equation: Equation, node: Arrangement) -> Value:
    source = _value(equation, node.operands[0])
    target = equation.own("m", source.shape[::-1], True)
    equation.sink(target).append(Turn(target, source, equation.index))
    return target


def _identity(equation: Equation, node: Arrangement) -> Value:
    target = equation.own("identity", equation.extent, True)
    equation.sink(target).append(Unit(target, equation.index))
    return target


_RULES: dict[str, Callable[[Equation, Arrangement], Value]] = {
    "outer": _outer,
    "column": _column,
    "row": _row,
    "split": _split,
    "piece": _piece,
    "rest": _piece,
    "element": _piece,
    "reshape": _reshaped,
    "flatten": _reshaped,
    "repeat": _repeat,
    "T": _turned,
    "I": _identity,
}
"""How each row of `gategen.language.arrangements` becomes nodes."""
