"""The vocabulary in which a cell is written with SymPy: signals over time, weights, and the matrix product.

A signal or parameter is a scalar SymPy symbol that stands for one unit of a vector, because everything
between two matrix products is element-wise; ``W @ v`` is one opaque node. So all of SymPy's scalar
machinery applies as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy
from sympy import Add, Expr, Integer, Mul, Pow

from gategen.errors import CellError, CellSyntaxError, LimitError, Position
from gategen.language.arrangements import ARRANGEMENTS, Arrangement
from gategen.language.functions import FUNCTIONS, ElementWise
from gategen.language.reductions import REDUCTIONS, Reduction

t = sympy.Symbol("t", integer=True)
"""The step number; ``h[t]`` is this step's value, ``h[t-1]`` the one before."""


class _Factor(sympy.Symbol):  # type: ignore[misc]
    """A symbol that may stand left of ``@``."""

    def __matmul__(self, operand: Any) -> Expr:
        return MatVec(self, concatenate(operand))


class At(_Factor):
    """The value of a signal at step ``t + offset``."""

    signal: str
    offset: int

    def __new__(cls, signal: str, offset: int = 0) -> At:
        """``signal`` read at ``t + offset``."""
        made = sympy.Symbol.__xnew__(cls, f"{signal}[t{offset:+d}]" if offset else f"{signal}[t]", real=True)
        made.signal, made.offset = signal, offset
        return made  # type: ignore[no-any-return]

    def __getnewargs_ex__(self) -> tuple[tuple[str, int], dict[str, Any]]:
        return (self.signal, self.offset), {}


class Parameter(_Factor):
    """A bare name that no equation assigns: weight, bias, scalar or constant."""

    def __new__(cls, name: str) -> Parameter:
        """The parameter called ``name``."""
        return sympy.Symbol.__xnew__(cls, name, real=True)  # type: ignore[no-any-return]

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:
        return (self.name,), {}


class MatVec(sympy.Function):  # type: ignore[misc]
    """``W @ v``: a matrix product, opaque to SymPy."""

    nargs = 2

    def __matmul__(self, operand: Any) -> Expr:
        raise CellSyntaxError(f"{self} stands left of @", expected="A @ (B @ v)")


class Concat(sympy.Function):  # type: ignore[misc]
    """``[a, b, ...]``: vectors one below the other."""


@dataclass(frozen=True)
class Signal:
    """A name over time; ``signal[t]``, ``signal[t-1]`` read it."""

    name: str

    def __getitem__(self, index: Any) -> At:
        offset = concatenate(index) - t
        if not offset.is_Integer:
            raise CellSyntaxError(f"{self.name}[{index}] is not a time", expected=f"{self.name}[t - k]")
        return At(self.name, int(offset))

    def _sympy_(self) -> Expr:
        problem = f"{self.name} is a signal and has a value at a time"
        raise CellSyntaxError(problem, expected=f"{self.name}[t]")


@dataclass(frozen=True)
class Eq:
    """``left = right``: one equation of a step.

    Attributes:
        left: What is assigned: ``name[t]``, or a signal without time for a value that belongs to no step.
        right: The expression.
        bare: Whether the left side was written without ``[t]``.
        positions: Where each part of the right side stood in the text, under None the left side, under
            ``("@", W)`` the weight of a product; empty for cells built by program.
    """

    left: At
    right: Expr
    bare: bool = False
    positions: Mapping[Any, Position] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.left, Signal):
            object.__setattr__(self, "bare", True)
            object.__setattr__(self, "left", At(self.left.name))
        if not isinstance(self.left, At) or self.left.offset != 0:
            shifted = f"{self.left.signal}[t] = ..." if isinstance(self.left, At) else "name[t] = ..."
            raise CellSyntaxError(f"cannot assign to {self.left}", expected=shifted)
        object.__setattr__(self, "right", concatenate(self.right))
        try:
            _check_vocabulary(self.right)
        except _Foreign as found:
            raise found.kind(found.problem, self.position(found.part), found.expected) from None

    def __reduce__(self) -> tuple[Any, ...]:
        # SymPy would evaluate an expression on its way through pickle, and so lose the author's order.
        return _unpacked_equation, (self.left, _packed(self.right), self.bare)

    def position(self, part: Any = None) -> Position | None:
        """Where ``part`` (by default the whole equation) stood in the text."""
        return self.positions.get(part) or self.positions.get(None)


def _packed(node: Expr) -> Any:
    return (node.func, [_packed(argument) for argument in node.args]) if node.args else node


def _unpacked(packed: Any) -> Expr:
    if not isinstance(packed, tuple):
        return packed
    made, arguments = packed[0], [_unpacked(argument) for argument in packed[1]]
    return made(*arguments, evaluate=False) if made in _ARITHMETIC else made(*arguments)


def _unpacked_equation(left: At, right: Any, bare: bool) -> Eq:
    return Eq(left, _unpacked(right), bare)


def concatenate(value: Any) -> Expr:
    """A Python list as a concatenation; anything else as the expression it is, strings never evaluated."""
    if isinstance(value, (list, tuple)):
        parts = [concatenate(item) for item in value]
        return Concat(*[p for part in parts for p in (part.args if isinstance(part, Concat) else (part,))])
    try:
        return sympy.sympify(value, strict=True)
    except sympy.SympifyError:
        raise CellSyntaxError(f"{value!r} is no expression", expected="signals, weights, numbers") from None


def signals(names: str) -> Any:
    """One `Signal` per name in a string separated by spaces; a single one is returned bare."""
    made = [Signal(name) for name in names.replace(",", " ").split()]
    return made[0] if len(made) == 1 else made


def weights(names: str) -> Any:
    """One `Parameter` per name in a string separated by spaces; a single one is returned bare."""
    made = [Parameter(name) for name in names.replace(",", " ").split()]
    return made[0] if len(made) == 1 else made


@dataclass
class _Foreign(Exception):
    """A part of an expression that is not in the language."""

    part: Expr
    problem: str
    expected: str = ""
    kind: type[CellError] = CellSyntaxError


_MAX_DECIMALS = 200
_SMALLER = "smaller numbers and exponents"


def _check_vocabulary(right: Expr) -> None:
    """Raise `_Foreign` at what no later stage knows, or at what has no finite real value."""
    _check_part(right, None)
    if _decimals(right) > _MAX_DECIMALS:
        raise _Foreign(right, "the numbers multiply to more than a float holds", _SMALLER, LimitError)
    try:
        _check_part(evaluate(right), None)
    except _Foreign:
        hint = "no division by zero; sqrt or abs instead of a fractional power of a power"
        raise _Foreign(right, "this is not a real number for every value of its names", hint) from None


def _check_part(node: Expr, parent: Expr | None) -> None:
    condition = isinstance(parent, ElementWise) and parent.row.name == "where" and node is parent.args[0]
    if condition != (isinstance(node, ElementWise) and bool(node.row.infix)):
        if condition:
            raise _Foreign(node, "where needs one comparison", "where(a > b, x, y)")
        raise _Foreign(node, "a comparison stands only inside where", "where(a > b, x, y)")
    match node:
        case At() | Parameter():
            return
        case sympy.Symbol():
            hint = f"signals({node.name!r}) or weights({node.name!r})"
            raise _Foreign(node, f"{node.name} is neither a signal nor a parameter", hint)
        case sympy.Integer() | sympy.Rational() | sympy.Float() if node.is_finite:
            return
        case Pow(exp=exponent) if not (exponent.is_Rational or exponent.is_Float):
            raise _Foreign(node, f"the exponent {exponent} is not a number", "a number, as in x[t]**2")
        case MatVec(args=(weight, _)) if not isinstance(weight, (At, Parameter)):
            raise _Foreign(node, f"{weight} stands left of @", "a weight, as in W @ v")
        case Concat():
            if not node.args:
                raise _Foreign(node, "the concatenation is empty", "W @ [a, b]")
        case Add() | Mul() | Pow() | MatVec() | ElementWise() | Reduction() | Arrangement():
            pass
        case _:
            name = type(node).__name__.lower()
            hint = (
                f"gategen.{name}"
                if name in {*FUNCTIONS, *REDUCTIONS, *ARRANGEMENTS}
                else "numbers, + - * / ** @, gategen's functions"
            )
            raise _Foreign(node, f"{node} is not part of the language", hint)
    for argument in node.args:
        _check_part(argument, node)


def _decimals(node: Expr) -> float:
    """By how many decimal places the numbers in a product can move the point when they are multiplied out."""
    if node.is_Number:
        numbers = (node.p, node.q) if node.is_Rational else (float(node),)
        return max(abs(math.log10(abs(number))) if number else 0.0 for number in numbers)
    if isinstance(node, Pow):
        exponent = abs(float(node.exp))
        return _decimals(node.base) * exponent + abs(math.log10(exponent or 1.0))
    inside = [_decimals(argument) for argument in node.args]
    if isinstance(node, Mul):
        return sum(inside)
    largest = max(inside, default=0.0)
    if isinstance(node, Add):
        return largest + math.log10(len(inside))
    return largest if largest > _MAX_DECIMALS else 0.0


_ARITHMETIC = (Add, Mul, Pow)


def rebuild(node: Expr, arguments: Sequence[Expr]) -> Expr:
    """``node`` with other arguments, its order and parentheses kept."""
    if node.func in _ARITHMETIC:
        return node.func(*arguments, evaluate=False)
    return node.func(*arguments)


def substitute(expression: Expr, replacements: Mapping[Expr, Expr]) -> Expr:
    """Replace sub-expressions without letting SymPy reorder the rest."""
    found = replacements.get(expression)
    if found is not None:
        return found
    if not expression.args:
        return expression
    arguments = [substitute(argument, replacements) for argument in expression.args]
    if all(new is old for new, old in zip(arguments, expression.args, strict=True)):
        return expression
    return rebuild(expression, arguments)


def evaluate(expression: Expr) -> Expr:
    """The expression as SymPy normalises it: the form in which two cells are compared."""
    if not expression.args:
        return expression
    return expression.func(*[evaluate(argument) for argument in expression.args])


def negated(term: Expr) -> Expr | None:
    """``x`` if ``term`` was written ``-x`` (a product led by -1), else None."""
    if isinstance(term, Mul) and term.args[0] == Integer(-1):
        rest = term.args[1:]
        return rest[0] if len(rest) == 1 else Mul(*rest, evaluate=False)
    return None


def subtrahend(term: Expr) -> Expr | None:
    """``x`` if a sum should show ``term`` as ``- x``, else None."""
    if term.is_Number:
        return -term if term.is_negative else None
    if isinstance(term, Mul) and term.args[0].is_Number and term.args[0].is_negative:
        if term.args[0] == Integer(-1):
            return negated(term)
        return Mul(-term.args[0], *term.args[1:], evaluate=False)
    return None


def symbols_in_order(expression: Expr) -> list[sympy.Symbol]:
    """The distinct symbols of an expression in the order in which they are written."""
    seen: dict[sympy.Symbol, None] = {}
    stack = [expression]
    while stack:
        node = stack.pop()
        if isinstance(node, sympy.Symbol):
            seen.setdefault(node)
        stack.extend(reversed(node.args))
    return list(seen)
