"""Numbers that are known before a cell runs: literals, constants, loop indices, and arithmetic on them."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass

from gategen.errors import LimitError, nearest
from gategen.language.source import MAX_NUMBER, Source

LARGEST = 1e100
"""The largest magnitude of a literal; its inverse is the smallest."""


@dataclass(frozen=True)
class Fixed:
    """The names whose values are known, and arithmetic on them.

    Attributes:
        source: The text, for errors.
        values: Constants and loop indices.
    """

    source: Source
    values: Mapping[str, float]

    def literal(self, node: ast.Constant) -> float:
        """A number as written; raises a `CellError` for anything else, and for what is too large."""
        value = node.value
        if isinstance(value, (str, bytes)):
            self.source.fail(node, "strings are not part of the language", "a number or a name")
        if isinstance(value, complex):
            self.source.fail(node, "imaginary numbers are not part of the language", "a real number")
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            written = self.source.written(node)
            self.source.fail(node, f"'{written}' is not a number", "a number or a name")
        if isinstance(value, int) and value > MAX_NUMBER:
            self.source.fail(
                node, f"the integer is larger than {MAX_NUMBER}", "a number such as 1e10", kind=LimitError
            )
        if not (value == 0 or 1 / LARGEST <= value <= LARGEST):
            written = self.source.written(node)
            self.source.fail(
                node,
                f"'{written}' is too {'small' if abs(value) < 1 else 'large'}",
                "0, or a number between 1e-100 and 1e100",
                kind=LimitError,
            )
        return value

    def number(self, node: ast.expr) -> float:
        """The value of an expression of numbers, loop indices and constants."""
        match node:
            case ast.Constant():
                return self.literal(node)
            case ast.Name(id=name) if name in self.values:
                return self.values[name]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.number(operand)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.number(operand)
            case ast.BinOp(left=left, op=operation, right=right):
                return self._calculated(node, operation, self.number(left), self.number(right))
            case ast.IfExp(test=test, body=yes, orelse=no):
                return self.number(yes if self.holds(test) else no)
        written = self.source.written(node)
        problem = f"'{written}' is not known before the cell runs"
        expected = "a number, a constant or a loop index"
        near = nearest(node.id, self.values) if isinstance(node, ast.Name) else ""
        return self.source.fail(node, problem, expected, near)

    def integer(self, node: ast.expr, what: str) -> int:
        """A whole number; ``what`` is the thing that needs one, for the error."""
        value = self.number(node)
        if not isinstance(value, int):
            self.source.fail(node, f"{what} must be a whole number, not {value:g}", "an integer")
        return value

    def holds(self, node: ast.expr) -> bool:
        """Whether a condition on numbers is true."""
        match node:
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self.holds(operand)
            case ast.BoolOp(op=ast.And(), values=values):
                # Every part is read, so that a mistake behind the first false one is found too.
                return all(list(map(self.holds, values)))
            case ast.BoolOp(op=ast.Or(), values=values):
                return any(list(map(self.holds, values)))
            case ast.Compare():
                return self._compared(node)
            case ast.Constant(value=bool() as value):
                return value
            case _ if not self.is_unknown(node):
                return bool(self.number(node))
        return self.source.fail(
            node,
            f"'{self.source.written(node)}' is not known before the cell runs",
            "a condition on constants and loop indices; for one on values, where(a > b, x, y)",
        )

    def is_unknown(self, node: ast.expr) -> bool:
        """Whether a name stands in an expression that has no value before the cell runs."""
        return any(isinstance(n, ast.Name) and n.id not in self.values for n in ast.walk(node))

    def _compared(self, node: ast.Compare) -> bool:
        if self.is_unknown(node):
            self.source.fail(
                node,
                f"'{self.source.written(node)}' is not known before the cell runs",
                "a condition on constants and loop indices; for one on values, where(a > b, x, y)",
            )
        numbers = [self.number(part) for part in (node.left, *node.comparators)]
        result = True
        for operator, left, right in zip(node.ops, numbers, numbers[1:], strict=False):
            sign = (left > right) - (left < right)
            allowed: dict[type[ast.cmpop], bool] = {
                ast.Gt: sign > 0,
                ast.GtE: sign >= 0,
                ast.Lt: sign < 0,
                ast.LtE: sign <= 0,
                ast.Eq: sign == 0,
                ast.NotEq: sign != 0,
            }
            if type(operator) not in allowed:
                problem = f"'{self.source.written(node)}' is not a comparison of numbers"
                self.source.fail(node, problem, "k == 0")
            result = result and allowed[type(operator)]
        return result

    def _calculated(self, node: ast.expr, operation: ast.operator, left: float, right: float) -> float:
        if isinstance(operation, (ast.Div, ast.FloorDiv, ast.Mod)) and right == 0:
            self.source.fail(node, f"'{self.source.written(node)}' divides by zero", "another divisor")
        match operation:
            case ast.Add():
                value = left + right
            case ast.Sub():
                value = left - right
            case ast.Mult():
                value = left * right
            case ast.Div():
                value = left / right
            case ast.FloorDiv():
                value = left // right
            case ast.Mod():
                value = left % right
            case _:
                written = self.source.written(node)
                self.source.fail(node, f"'{written}' is not arithmetic on fixed numbers", "+ - * / // %")
        limit = MAX_NUMBER if isinstance(value, int) else LARGEST
        if abs(value) > limit:
            self.source.fail(node, f"'{self.source.written(node)}' is larger than {limit:g}", kind=LimitError)
        return value
