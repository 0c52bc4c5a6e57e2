"""The vocabulary in which a cell is written with SymPy: signals over time, weights, and the matrix product.

A signal or parameter is a scalar SymPy symbol that stands for one unit of a vector, because everything
between two matrix products is element-wise; ``W @ v`` is one opaque node. So all of SymPy's scalar
machinery applies as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy
from sympy import Add, Expr, Integer, Mul, Pow

from gategen.errors import CellSyntaxError, Position

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


class Concat(sympy.Function):  # type: ignore[misc]
    """``[a, b, ...]``: vectors one below the other."""


@dataclass(frozen=True)
class Signal:
    """A name over time; ``signal[t]``, ``signal[t-1]`` read it."""

    name: str

    def __getitem__(self, index: Any) -> At:
        offset = sympy.sympify(index) - t
        if not offset.is_Integer:
            raise CellSyntaxError(f"{self.name}[{index}] is not a time", expected=f"{self.name}[t - k]")
        return At(self.name, int(offset))


@dataclass(frozen=True)
class Eq:
    """``left = right``: one equation of a step.

    Attributes:
        left: What is assigned, ``name[t]``.
        right: The expression.
        bare: Whether the author wrote the left side without ``[t]``.
        positions: Where each part stood in the text; empty for cells built by program.
    """

    left: At
    right: Expr
    bare: bool = False
    positions: Mapping[Any, Position] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.left, At) or self.left.offset != 0:
            shifted = f"{self.left.signal}[t] = ..." if isinstance(self.left, At) else "name[t] = ..."
            raise CellSyntaxError(f"cannot assign to {self.left}", expected=shifted)
        object.__setattr__(self, "right", concatenate(self.right))

    def position(self, part: Any = None) -> Position | None:
        """Where ``part`` (by default the whole equation) stood in the text."""
        return self.positions.get(self.left if part is None else part) or self.positions.get(self.left)


def concatenate(value: Any) -> Expr:
    """A Python list as a concatenation; anything else as the expression it is."""
    if isinstance(value, (list, tuple)):
        return Concat(*[concatenate(item) for item in value])
    return sympy.sympify(value)


def signals(names: str) -> Any:
    """One `Signal` per name in a string separated by spaces; a single one is returned bare."""
    made = [Signal(name) for name in names.replace(",", " ").split()]
    return made[0] if len(made) == 1 else made


def weights(names: str) -> Any:
    """One `Parameter` per name in a string separated by spaces; a single one is returned bare."""
    made = [Parameter(name) for name in names.replace(",", " ").split()]
    return made[0] if len(made) == 1 else made


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
