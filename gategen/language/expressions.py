"""One expression of the text to SymPy nodes: a walk over a whitelist, unevaluated throughout."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sympy import Add, Expr, Float, Integer, Mul, Pow

from gategen.errors import LimitError, Position, RoleError, UnknownName, nearest
from gategen.language.functions import ALIASES, FUNCTIONS
from gategen.language.notation import At, Concat, MatVec, Parameter
from gategen.language.source import MAX_NUMBER, MAX_POWER, Source, is_time, time_offset

LATER = {
    *("sum", "mean", "var", "norm", "dot", "softmax", "logsumexp", "cumsum", "outer", "split", "gather"),
    *("repeat", "reshape", "stack", "layer_norm", "T", "I", "stop_gradient", "spike", "round_ste", "mod"),
}
"""Functions of the language that this version does not know yet."""

RESERVED = {*FUNCTIONS, *ALIASES, *LATER, "concat", "t", "range"}
"""Names that a person cannot give to a value."""

_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
}


@dataclass(frozen=True)
class Names:
    """What is known about the names of the whole text before any expression is read.

    Attributes:
        timed: Names assigned as ``name[t]``.
        bare: Names assigned without ``[t]``.
        declared: Kind of every declared name.
        matrices: Names that stand left of ``@``.
        sizes: Width names from brackets.
    """

    timed: frozenset[str]
    bare: frozenset[str]
    declared: Mapping[str, str]
    matrices: frozenset[str]
    sizes: frozenset[str]

    def is_parameter(self, name: str) -> bool:
        """Whether an unassigned bare name needs no declaration."""
        return (
            name in self.declared or name in self.matrices or name in self.sizes or "_" in name or name == "b"
        )


@dataclass
class ExpressionReader:
    """Reads expressions of one text.

    Attributes:
        source: The text, for errors.
        names: What is known about its names.
        fixed: Values of loop indices and of constants, for indices and conditions.
        positions: Filled with the place of every node read.
    """

    source: Source
    names: Names
    fixed: Mapping[str, float]
    loop: Mapping[str, int] = field(default_factory=dict)
    positions: dict[Any, Position] = field(default_factory=dict)

    def read(self, node: ast.expr) -> Expr:
        """The SymPy form of an expression; raises a `CellError` at what is not in the language."""
        reader = getattr(self, f"_read_{type(node).__name__}", None)
        if reader is None:
            self.source.fail(
                node,
                f"'{self.source.written(node)}' is not part of the language",
                "names, numbers, + - * / ** @, and calls of known functions",
            )
        made = reader(node)
        self.positions.setdefault(made, self.source.position(node))
        return made

    def _read_Constant(self, node: ast.Constant) -> Expr:
        value = node.value
        if type(value) is int:
            if value > MAX_NUMBER:
                self.source.fail(node, f"the number is larger than {MAX_NUMBER}", kind=LimitError)
            return Integer(value)
        if type(value) is float and math.isfinite(value):
            return Float(value)
        return self.source.fail(node, f"'{self.source.written(node)}' is not a finite real number")

    def _read_Name(self, node: ast.Name) -> Expr:
        name = node.id
        names = self.names
        if self.source.written(node) != name:
            self.source.fail(
                node, f"the name {name!r} is not written in plain letters", "A-Z, a-z, 0-9 and _"
            )
        if name in self.loop:
            return Integer(self.loop[name])
        if name in names.bare:
            return At(name)
        if name in names.timed:
            self.source.fail(node, f"{name} is assigned as {name}[t]", f"{name}[t]", kind=RoleError)
        if names.declared.get(name) in ("input", "state", "output"):
            self.source.fail(node, f"{name} is a {names.declared[name]}", f"{name}[t]", kind=RoleError)
        if name == "t":
            self.source.fail(node, "the step number t is not supported as a value yet", "t inside brackets")
        if name in RESERVED:
            self.source.fail(node, f"{name} is a function", f"{name}(...)")
        if names.is_parameter(name):
            return Parameter(name)
        known = names.timed | names.bare | set(names.declared) | names.matrices | set(RESERVED)
        return self.source.fail(
            node,
            f"unknown name '{name}'",
            f"a name with an underscore for a parameter, or a declaration such as '{name}: vector'",
            nearest(name, known),
            UnknownName,
        )

    def _read_Subscript(self, node: ast.Subscript) -> Expr:
        if not isinstance(node.value, ast.Name):
            self.source.fail(node, f"cannot index '{self.source.written(node.value)}'", "name[t]")
        name = node.value.id
        if name in RESERVED:
            self.source.fail(node, f"{name} is a reserved name", f"another name than {name}")
        if is_time(node.slice):
            offset = time_offset(node.slice)
            if offset is None:
                self.source.fail(
                    node.slice, f"'{self.source.written(node.slice)}' is not a time", "t, t-1 or t+1"
                )
            if name in self.names.bare and offset == 0:
                self.source.fail(node, f"{name} is assigned without [t]", name, kind=RoleError)
            if name in self.names.declared and self.names.declared[name] not in ("input", "state", "output"):
                kind = self.names.declared[name]
                self.source.fail(node, f"{name} is declared as {kind} and has no time", name, kind=RoleError)
            return At(name, offset)
        if name in self.names.bare or name in self.names.timed:
            self.source.fail(node, "elements and slices of computed values are not supported yet")
        index = self.number(node.slice)
        if type(index) is not int:
            self.source.fail(node.slice, "an index must be an integer")
        return Parameter(f"{name}[{index}]")

    def _read_UnaryOp(self, node: ast.UnaryOp) -> Expr:
        if isinstance(node.op, ast.UAdd):
            return self.read(node.operand)
        if not isinstance(node.op, ast.USub):
            self.source.fail(node, f"'{self.source.written(node)}' is not part of the language")
        operand = self.read(node.operand)
        return -operand if operand.is_Number else Mul(Integer(-1), operand, evaluate=False)

    def _read_BinOp(self, node: ast.BinOp) -> Expr:
        if isinstance(node.op, ast.MatMult):
            return self._product(node)
        left = self.read(node.left)
        if isinstance(node.op, ast.Pow):
            return Pow(left, self._exponent(node.right), evaluate=False)
        right = self.read(node.right)
        match node.op:
            case ast.Add():
                return Add(left, right, evaluate=False)
            case ast.Sub():
                return Add(left, Mul(Integer(-1), right, evaluate=False), evaluate=False)
            case ast.Mult():
                return Mul(left, right, evaluate=False)
            case ast.Div():
                if right == 0:
                    self.source.fail(node, "division by zero")
                return Mul(left, Pow(right, Integer(-1), evaluate=False), evaluate=False)
        return self.source.fail(
            node, f"the operator in '{self.source.written(node)}' is not part of the language", "+ - * / ** @"
        )

    def _exponent(self, node: ast.expr) -> Expr:
        value = self.number(node)
        if not abs(value) <= MAX_POWER:
            self.source.fail(node, f"the exponent is larger than {MAX_POWER}", kind=LimitError)
        return Integer(value) if type(value) is int else Float(value)

    def _product(self, node: ast.BinOp) -> Expr:
        if not isinstance(node.left, (ast.Name, ast.Subscript)):
            hint = "A @ (B @ v)" if isinstance(node.left, ast.BinOp) else "a name of its own"
            self.source.fail(node.left, f"'{self.source.written(node.left)}' stands left of @", hint)
        weight = self.read(node.left)
        if not isinstance(weight, (Parameter, At)):
            self.source.fail(node.left, "a number stands left of @", "a weight matrix")
        if isinstance(node.right, ast.List):
            operand = self._concatenation(node.right, node.right.elts)
        elif isinstance(node.right, ast.Call) and _called(node.right) == "concat":
            operand = self._concatenation(node.right, node.right.args)
        else:
            operand = self.read(node.right)
        return MatVec(weight, operand)

    def _concatenation(self, node: ast.expr, parts: list[ast.expr]) -> Expr:
        if not parts:
            self.source.fail(node, "the concatenation is empty", "[a, b]")
        return Concat(*[self.read(part) for part in parts])

    def _read_List(self, node: ast.List) -> Expr:
        return self.source.fail(
            node, "a concatenation outside of a matrix product is not supported yet", "W @ [a, b]"
        )

    def _read_Call(self, node: ast.Call) -> Expr:
        name = _called(node)
        if name == "concat":
            return self._read_List(node)  # type: ignore[arg-type]
        if name not in FUNCTIONS and name not in ALIASES:
            if name in LATER:
                self.source.fail(node.func, f"{name} is not supported yet")
            near = nearest(name, {*FUNCTIONS, *ALIASES}) if name else ""
            self.source.fail(
                node.func, f"unknown function '{self.source.written(node.func)}'", "", near, UnknownName
            )
        function = FUNCTIONS[ALIASES.get(name, name)]
        if node.keywords or len(node.args) != function.row.arity:
            count = function.row.arity
            self.source.fail(
                node,
                f"{name} takes {count} argument{'s' if count > 1 else ''}, {len(node.args)} given"
                + (" and names" if node.keywords else ""),
            )
        if name == "where":
            return function(self._condition(node.args[0]), *[self.read(a) for a in node.args[1:]])
        return function(*[self.read(argument) for argument in node.args])

    def _condition(self, node: ast.expr) -> Expr:
        if (
            not isinstance(node, ast.Compare)
            or len(node.ops) != 1
            or (operator := _COMPARISONS.get(type(node.ops[0]))) is None
        ):
            self.source.fail(node, "where needs one comparison", "where(a > b, x, y)")
        return FUNCTIONS[operator](self.read(node.left), self.read(node.comparators[0]))

    def _read_Compare(self, node: ast.Compare) -> Expr:
        return self.source.fail(node, "a comparison stands only inside where", "where(a > b, x, y)")

    def _read_IfExp(self, node: ast.IfExp) -> Expr:
        return self.read(node.body if self.number(node.test) else node.orelse)

    def number(self, node: ast.expr) -> float:
        """The value of an expression of numbers, loop indices and constants."""
        fixed = {**self.fixed, **self.loop}
        match node:
            case ast.Constant(value=int() | float() as value) if abs(value) <= MAX_NUMBER:
                return value
            case ast.Name(id=name) if name in fixed:
                return fixed[name]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.number(operand)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self.number(operand)
            case ast.BoolOp(op=ast.And(), values=values):
                return all(self.number(value) for value in values)
            case ast.BoolOp(op=ast.Or(), values=values):
                return any(self.number(value) for value in values)
            case ast.Compare(left=left, ops=[operator], comparators=[right]):
                return self._compared(node, operator, self.number(left), self.number(right))
            case ast.BinOp(left=left, op=operation, right=right):
                return self._calculated(node, operation, self.number(left), self.number(right))
        return self.source.fail(
            node, f"'{self.source.written(node)}' is not known before the cell runs", "a number or a constant"
        )

    def _compared(self, node: ast.expr, operator: ast.cmpop, left: float, right: float) -> bool:
        sign = (left > right) - (left < right)
        allowed = {
            ast.Gt: sign > 0,
            ast.GtE: sign >= 0,
            ast.Lt: sign < 0,
            ast.LtE: sign <= 0,
            ast.Eq: sign == 0,
            ast.NotEq: sign != 0,
        }
        if type(operator) not in allowed:
            self.source.fail(node, f"'{self.source.written(node)}' is not a comparison of numbers")
        return allowed[type(operator)]

    def _calculated(self, node: ast.expr, operation: ast.operator, left: float, right: float) -> float:
        if isinstance(operation, (ast.Div, ast.FloorDiv, ast.Mod)) and right == 0:
            self.source.fail(node, "division by zero")
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
                self.source.fail(node, f"'{self.source.written(node)}' is not arithmetic of numbers")
        if abs(value) > MAX_NUMBER:
            self.source.fail(node, f"the number is larger than {MAX_NUMBER}", kind=LimitError)
        return value


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""
