"""Arrangements in the text: calls of functions of the table, slices, elements, parts; and axes."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass

from sympy import Expr

from gategen.language.arrangements import ARRANGEMENTS
from gategen.language.fixed import Fixed
from gategen.language.functions import ALIASES
from gategen.language.notation import Concat
from gategen.language.reductions import AXES, REDUCTIONS
from gategen.language.source import MAX_NUMBER, Source


@dataclass(frozen=True)
class ArrangementReader:
    """Reads arrangements of one text.

    Attributes:
        source: The text, for errors.
        fixed: What is known before the cell runs: indices and numbers of parts.
        read: Reads any expression.
    """

    source: Source
    fixed: Fixed
    read: Callable[[ast.expr], Expr]

    def some(self, node: ast.Subscript, vector: Expr) -> Expr:
        """An element of a vector, or some in a row."""
        if not isinstance(node.slice, ast.Slice):
            return ARRANGEMENTS["element"](vector, self._place(node.slice))
        if node.slice.step is not None:
            written = self.source.written(node)
            self.source.fail(node, f"'{written}' takes steps", "v[0:3], or gather(v, 0, 2, 4)")
        first = 0 if node.slice.lower is None else self._place(node.slice.lower)
        if node.slice.upper is None:
            return ARRANGEMENTS["rest"](vector, first)
        end = self._place(node.slice.upper)
        if end <= first:
            self.source.fail(node, f"'{self.source.written(node)}' has no elements", f"an end above {first}")
        return ARRANGEMENTS["piece"](vector, first, end)

    def _place(self, node: ast.expr) -> int:
        place = self.fixed.integer(node, "an index")
        if not 0 <= place <= MAX_NUMBER:
            self.source.fail(node, f"the index {place} is not from 0 on", "0 for the first element")
        return place

    def joined(self, node: ast.Call, name: str) -> Expr:
        """``gather(v, 0, 2)`` is a vector of elements, ``stack(a, b)`` the matrix with these rows."""
        least, form = (2, "gather(v, 0, 2)") if name == "gather" else (1, "stack(a, b)")
        if node.keywords or len(node.args) < least:
            plural = "s" if least > 1 else ""
            self.source.fail(node, f"{name} takes {least} argument{plural} or more", form)
        values = [self.read(node.args[0])]
        if name == "gather":
            places = [self._place(argument) for argument in node.args[1:]]
            return Concat(*(ARRANGEMENTS["element"](values[0], place) for place in places))
        values += [self.read(argument) for argument in node.args[1:]]
        return ARRANGEMENTS["reshape"](Concat(*values), len(values))

    def part(self, value: ast.expr, parts: ast.expr, which: ast.expr) -> Expr:
        """``split(value, parts)[which]``."""
        count = self._count(parts, "a number of parts")
        index = self.fixed.integer(which, "an index")
        if not 0 <= index < count:
            problem = f"there is no part {index} of {count}"
            self.source.fail(which, problem, f"0 to {count - 1}")
        return ARRANGEMENTS["split"](self.read(value), index, count)

    def _count(self, node: ast.expr, what: str) -> int:
        count = self.fixed.integer(node, what)
        if not 1 <= count <= MAX_NUMBER:
            self.source.fail(node, f"{what} is {count}", f"1 to {MAX_NUMBER}")
        return count

    def call(self, node: ast.Call, name: str) -> Expr:
        """A function of the table."""
        row = ARRANGEMENTS[name].row
        count = len(row.ranks) + min(row.numbers, 1)
        if node.keywords or len(node.args) != count:
            plural = "s" if count > 1 else ""
            self.source.fail(node, f"{name} takes {count} argument{plural}", row.example)
        operands = [self.read(argument) for argument in node.args[: len(row.ranks)]]
        match name:
            case "split":
                hint = "as many names on the left, or split(...)[0]"
                self.source.fail(node, "split gives several values", hint)
            case "repeat" | "reshape":
                what = "a number of times" if name == "repeat" else "a number of rows"
                return ARRANGEMENTS[name](*operands, self._count(node.args[1], what))
        return ARRANGEMENTS[name](*operands)

    def along(self, node: ast.Call, name: str) -> Expr | None:
        """A reduction along an axis, told by name or behind a single argument; None if none is told."""
        if name not in REDUCTIONS:
            return None
        row, arguments = REDUCTIONS[name].row, node.args
        axes = [word.value for word in node.keywords if word.arg == "axis"]
        # max(a, 1) is the larger one of two, and layer_norm(v, 2) has a gain.
        single = row.arity[1] == 1 and name not in ALIASES and not node.keywords
        if single and len(arguments) == 2 and not self.fixed.is_unknown(arguments[1]):
            arguments, axes = arguments[:1], arguments[1:]
        if not axes:
            return None
        form = f"{name}({', '.join('ABC'[: row.vectors])}, axis=1)"
        if len(node.keywords) > 1 or not row.arity[0] <= len(arguments) <= row.arity[1]:
            self.source.fail(node, f"'{self.source.written(node)}' is no reduction along an axis", form)
        axis = self.fixed.integer(axes[0], "an axis")
        if axis not in AXES:
            self.source.fail(axes[0], f"a matrix has no axis {axis}", "0 or 1")
        return REDUCTIONS[name](*map(self.read, arguments), axis=axis)
