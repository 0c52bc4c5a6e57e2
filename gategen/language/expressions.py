"""One expression of the text to SymPy nodes: a walk over a whitelist, unevaluated throughout."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sympy import Add, Expr, Float, Integer, Mul, Pow, Rational

from gategen.errors import LimitError, Position, RoleError, UnknownName, nearest
from gategen.language.arrangement_reader import ArrangementReader
from gategen.language.arrangements import ARRANGEMENTS
from gategen.language.fixed import Fixed
from gategen.language.functions import ALIASES, FUNCTIONS, ElementWise
from gategen.language.names import CALLED, PLAIN, RESERVED, fault, speaks_for_itself
from gategen.language.notation import At, Concat, MatVec, Parameter
from gategen.language.reductions import REDUCTIONS, Reduction
from gategen.language.source import MAX_POWER, Source, is_time

_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
}

_TIMED = ("input", "state", "output")


@dataclass(frozen=True)
class Names:
    """What is known about the names of the whole text before any expression is read.

    Attributes:
        timed: Names assigned as ``name[t]``.
        bare: Names assigned without ``[t]``.
        read: Names read at a time.
        declared: Kind of every declared name.
        matrices: Names that stand left of ``@``.
        sizes: Width names from brackets.
    """

    timed: frozenset[str] = frozenset()
    bare: frozenset[str] = frozenset()
    read: frozenset[str] = frozenset()
    declared: Mapping[str, str] = field(default_factory=dict)
    matrices: frozenset[str] = frozenset()
    sizes: frozenset[str] = frozenset()

    def is_parameter(self, name: str) -> bool:
        """Whether an unassigned bare name needs no declaration."""
        return name in {*self.declared, *self.matrices, *self.sizes} or speaks_for_itself(name)

    def nearest(self, name: str, functions: bool = False) -> str:
        """The known name nearest to ``name``, as it would be written."""
        timed = self.timed | (self.read - self.bare)
        known = timed | self.bare | set(self.declared) | self.matrices | self.sizes
        called = CALLED - {key for key, function in FUNCTIONS.items() if function.row.infix}
        found = nearest(name, called if functions else known)
        return f"{found}[t]" if found in timed and not functions else found


@dataclass
class ExpressionReader:
    """Reads expressions of one text.

    Attributes:
        source: The text, for errors.
        names: What is known about its names.
        constants: Values of constants, for indices, exponents and conditions.
        loop: Values of loop indices.
        positions: Filled with the place of every node read.
        weights: Filled with the place of every weight left of ``@``; it may be an operand elsewhere.
    """

    source: Source
    names: Names
    constants: Mapping[str, float]
    loop: Mapping[str, int] = field(default_factory=dict)
    positions: dict[Any, Position] = field(default_factory=dict)
    weights: dict[Any, Position] = field(default_factory=dict)

    @cached_property
    def fixed(self) -> Fixed:
        """What is known before the cell runs."""
        return Fixed(self.source, {**self.constants, **self.loop})

    @cached_property
    def _arranging(self) -> ArrangementReader:
        return ArrangementReader(self.source, self.fixed, self.read)

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
        value = self.fixed.literal(node)
        return Integer(value) if isinstance(value, int) else Float(value)

    def check_name(self, node: ast.expr, name: str) -> None:
        """Raise a `CellError` if ``name``, written at ``node``, is no plain name."""
        written, place = self.source.written(node), self.source.position(node)
        if not name.isascii() or not place.text.startswith(name, place.column - 1):
            problem = f"the name '{written}' is not written in plain letters"
            self.source.fail(node, problem, "A-Z, a-z, 0-9 and _")
        problem = fault(name)
        if problem:
            hint = PLAIN if problem == "cannot be a name" else f"another name than {name}"
            self.source.fail(node, f"'{written}' {problem}", hint)

    def _read_Name(self, node: ast.Name) -> Expr:
        name, names = node.id, self.names
        if name == "t":
            return At("t")
        if name in RESERVED:
            self.source.fail(node, f"{name} is a function", f"{name}(...)")
        self.check_name(node, name)
        if name in self.loop:
            return Integer(self.loop[name])
        if name in names.bare or names.declared.get(name) == "sequence":
            return At(name)
        if name in names.timed:
            self.source.fail(node, f"{name} is assigned as {name}[t]", f"{name}[t]", kind=RoleError)
        if names.declared.get(name) in _TIMED:
            kind = names.declared[name]
            self.source.fail(node, f"{name} is declared as {kind}", f"{name}[t]", kind=RoleError)
        if name in names.read:
            self.source.fail(node, f"{name} is read as {name}[t] elsewhere", f"{name}[t]", kind=RoleError)
        if names.is_parameter(name):
            return Parameter(name)
        return self.source.fail(
            node,
            f"unknown name '{name}'",
            f"{name}[t] for an input, a name with _ for a parameter, or a declaration as in '{name}: vector'",
            names.nearest(name),
            UnknownName,
        )

    def _read_Subscript(self, node: ast.Subscript) -> Expr:
        match node:
            case ast.Subscript(slice=ast.Tuple(elts=[ast.Slice(None, None, None), ast.Constant(None)])):
                return ARRANGEMENTS["column"](self.read(node.value))
            case ast.Subscript(slice=ast.Tuple(elts=[ast.Constant(None), ast.Slice(None, None, None)])):
                return ARRANGEMENTS["row"](self.read(node.value))
            case ast.Subscript(value=ast.Call(func=ast.Name(id="split"), args=[value, parts], keywords=[])):
                return self._arranging.part(value, parts, node.slice)
        if not isinstance(node.value, ast.Name):
            return self._arranging.some(node, self.read(node.value))
        name, names = node.value.id, self.names
        self.check_name(node.value, name)
        if name in self.loop:
            self.source.fail(node, f"{name} is the index of a loop", name, kind=RoleError)
        if is_time(node.slice):
            return At(name, self._offset(node, name))
        if name in names.bare or names.declared.get(name) == "sequence":
            return self._arranging.some(node, At(name))
        if name in names.timed or names.declared.get(name) in _TIMED:
            written = self.source.written(node.slice)
            self.source.fail(node, f"{name} has a time", f"{name}[t][{written}]", kind=RoleError)
        if name in names.read:
            self.source.fail(node, f"{name} is read as {name}[t] elsewhere", f"{name}[t]", kind=RoleError)
        if isinstance(node.slice, ast.Tuple):
            hint = f"{name}[0] for a parameter with a key, {name}[:, None] for a column"
            self.source.fail(node, f"'{self.source.written(node)}' is not part of the language", hint)
        if names.declared.get(name) in ("constant", "scalar"):
            kind = names.declared[name]
            self.source.fail(node, f"{name} is declared as {kind} and has no elements", name, kind=RoleError)
        if isinstance(node.slice, ast.Slice):
            return self._arranging.some(node, self._read_Name(node.value))
        index = self.fixed.integer(node.slice, "an index")
        if index < 0:
            self.source.fail(node.slice, f"the index {index} is negative", f"{name}[0]")
        return Parameter(f"{name}[{index}]")

    def _offset(self, node: ast.Subscript, name: str) -> int:
        """The k of ``name[t + k]``, checked against what is known about ``name``."""
        names = self.names
        offset = self._steps(node.slice)
        if name in names.bare and offset == 0:
            self.source.fail(node, f"{name} is assigned without [t]", name, kind=RoleError)
        kind = names.declared.get(name, "input")
        if kind not in _TIMED:
            self.source.fail(node, f"{name} is declared as {kind} and has no time", name, kind=RoleError)
        return offset

    def _steps(self, index: ast.expr) -> int:
        """The k of an index ``t + k``, which may be a sum of literals, constants and loop indices."""
        match index:
            case ast.Name(id="t"):
                return 0
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as sign, right=right) if not is_time(right):
                steps = self.fixed.integer(right, "a delay")
                return self._steps(left) + (steps if isinstance(sign, ast.Add) else -steps)
        return self.source.fail(index, f"'{self.source.written(index)}' is not a time", "t, t-1 or t+1")

    def _read_UnaryOp(self, node: ast.UnaryOp) -> Expr:
        if isinstance(node.op, ast.UAdd):
            return self.read(node.operand)
        if not isinstance(node.op, ast.USub):
            written = self.source.written(node)
            self.source.fail(node, f"'{written}' is not part of the language", "+ - * / ** @")
        operand = self.read(node.operand)
        return -operand if operand.is_Number else Mul(Integer(-1), operand, evaluate=False)

    def _read_BinOp(self, node: ast.BinOp) -> Expr:
        if isinstance(node.op, ast.MatMult):
            return self._product(node)
        if not isinstance(node.op, (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow)):
            written = self.source.written(node)
            hint = "x**2 for a power" if isinstance(node.op, ast.BitXor) else "+ - * / ** @"
            self.source.fail(node, f"the operator in '{written}' is not part of the language", hint)
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
        if right == 0:
            self.source.fail(node, f"'{self.source.written(node)}' divides by zero", "another divisor")
        return Mul(left, Pow(right, Integer(-1), evaluate=False), evaluate=False)

    def _exponent(self, node: ast.expr) -> Expr:
        value = self.fixed.number(node)
        if abs(value) > MAX_POWER:
            self.source.fail(node, f"the exponent {value:g} is larger than {MAX_POWER}", kind=LimitError)
        match node:
            case ast.BinOp(ast.Constant(value=int() as p), ast.Div(), ast.Constant(value=int() as q)):
                return Rational(p, q)
        return Integer(value) if isinstance(value, int) else Float(value)

    def _product(self, node: ast.BinOp) -> Expr:
        written = self.source.written(node.left)
        if isinstance(node.left, ast.UnaryOp) and isinstance(node.left.op, ast.USub):
            # -W @ v is (-W) @ v to Python and -(W @ v) to everybody, which is the same.
            inner = ast.copy_location(ast.BinOp(node.left.operand, node.op, node.right), node)
            return Mul(Integer(-1), self.read(inner), evaluate=False)
        if isinstance(node.left, ast.Call):
            self.read(node.left)
        if isinstance(node.left, ast.BinOp) and isinstance(node.left.op, ast.MatMult):
            hint = "A @ (B @ v), or a name for a vector left of a matrix"
            self.source.fail(node.left, f"'{written}' is a vector and stands left of @", hint)
        match node.left:
            case ast.Name():
                weight = self._read_Name(node.left)
            case ast.Subscript():
                weight = self._read_Subscript(node.left)
            case ast.BinOp(op=ast.Mult(), right=ast.Name(id=name)):
                factor, operand = (self.source.written(part) for part in (node.left.left, node.right))
                hint = f"{factor} * ({name} @ {operand})"
                self.source.fail(node.left, f"'{written}' stands left of @", hint)
            case ast.Call():
                hint = f"a name for it: A = {written}, then A @ v"
                self.source.fail(node.left, f"'{written}' stands left of @", hint)
            case _:
                self.source.fail(node.left, f"'{written}' stands left of @", "the name of a weight matrix")
        self.weights.setdefault(weight, self.source.position(node.left))
        if not isinstance(weight, (Parameter, At)):
            self.source.fail(node.left, f"'{written}' is a number and stands left of @", "a weight matrix")
        parts = _parts(node.right)
        operand = self.read(node.right) if parts is None else self._concatenation(node.right, parts)
        return MatVec(weight, operand)

    def _concatenation(self, node: ast.expr, parts: list[ast.expr]) -> Expr:
        if not parts:
            self.source.fail(node, "the concatenation is empty", "[a, b]")
        read: list[Expr] = []
        for part in parts:
            inner = self.read(part)
            read += inner.args if isinstance(inner, Concat) else [inner]
        made = Concat(*read)
        self.positions.setdefault(made, self.source.position(node))
        return made

    def _read_List(self, node: ast.expr) -> Expr:
        return self._concatenation(node, _parts(node) or [])

    def _read_Call(self, node: ast.Call) -> Expr:
        written = self.source.written(node.func)
        if not isinstance(node.func, ast.Name):
            problem = f"'{written}' is not the name of a function"
            self.source.fail(node.func, problem, "a function such as tanh")
        name = node.func.id
        if name == "concat":
            return self._read_List(node)
        if name in ("gather", "stack"):
            return self._arranging.joined(node, name)
        if name in ARRANGEMENTS:
            return self._arranging.call(node, name)
        if (along := self._arranging.along(node, name)) is not None:
            return along
        if name not in CALLED:
            known = self.names.timed | self.names.read
            hint = f"{name}[t]" if name in known else ""
            near = "" if hint else self.names.nearest(name, functions=True)
            self.source.fail(node.func, f"unknown function '{written}'", hint, near, UnknownName)
        known_as = _called(name)
        most = max(known_as)
        if node.keywords:
            form = f"{name}({', '.join('abc'[:most])})"
            form += f", or {name}(A, axis=1)" if name in REDUCTIONS else ""
            self.source.fail(node.keywords[0], f"{name} takes no named arguments", form)
        function = known_as.get(len(node.args), known_as[most])
        if len(node.args) not in known_as and not any(isinstance(a, ast.Starred) for a in node.args):
            counts = f"{min(known_as)} to {most}" if len(known_as) > 2 else " or ".join(map(str, known_as))
            plural = "s" if most > 1 else ""
            self.source.fail(node, f"{name} takes {counts} argument{plural}, {len(node.args)} given")
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
        made = FUNCTIONS[operator](self.read(node.left), self.read(node.comparators[0]))
        self.positions.setdefault(made, self.source.position(node))
        return made

    def _read_Compare(self, node: ast.Compare) -> Expr:
        return self.source.fail(node, "a comparison stands only inside where", "where(a > b, x, y)")

    def _read_BoolOp(self, node: ast.BoolOp) -> Expr:
        word = "and" if isinstance(node.op, ast.And) else "or"
        return self.source.fail(node, f"'{word}' joins only conditions on constants", "where(a > b, x, y)")

    def _read_IfExp(self, node: ast.IfExp) -> Expr:
        return self.read(node.body if self.fixed.holds(node.test) else node.orelse)


def _called(name: str) -> dict[int, type[ElementWise] | type[Reduction]]:
    """What a name calls, by the number of arguments: max of one vector is not max of two."""
    found: dict[int, type[ElementWise] | type[Reduction]] = {}
    if name in REDUCTIONS:
        least, most = REDUCTIONS[name].row.arity
        found.update(dict.fromkeys(range(least, most + 1), REDUCTIONS[name]))
    if ALIASES.get(name, name) in FUNCTIONS:
        function = FUNCTIONS[ALIASES.get(name, name)]
        found[function.row.arity] = function
    return found


def _parts(node: ast.expr) -> list[ast.expr] | None:
    """The operands of ``[a, b]`` or ``concat(a, b)``; None for anything else."""
    match node:
        case ast.List(elts=parts):
            return parts
        case ast.Call(func=ast.Name(id="concat"), args=parts, keywords=[]):
            return parts
    return None
