"""Evaluates scalar expressions on NumPy arrays, in float64 or complex128."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, reduce
from operator import add, mul
from typing import Any

import numpy as np
import sympy
from numpy.typing import NDArray
from sympy import Expr

from gategen.language.functions import FUNCTIONS, ElementWise, Row

Array = NDArray[Any]

Formula = Callable[..., Any]
"""``formula(read, lines=None)``: how to read a value by name, and `Lines` for functions that have some."""


@dataclass
class Lines:
    """Straight lines in place of functions with a declared derivative, so that differences see that one.

    The first run records each of them where it is: its value, slopes and arguments. Every run after
    `restart` goes on from there along the slopes.
    """

    _known: list[tuple[Array, list[tuple[Array, Array]]]] = field(default_factory=list)
    _turn: int | None = None

    def restart(self) -> None:
        """Begin a run on the lines."""
        self._turn = 0

    def __call__(self, row: Row, arguments: Sequence[Array]) -> Array:
        """The value of the next function of the run."""
        if self._turn is None:
            value, slopes = _declared(row, arguments)
            self._known.append((value, list(zip(slopes, arguments, strict=True))))
            return value
        value, terms = self._known[self._turn]
        self._turn += 1
        moved = (slope * (now - then) for (slope, then), now in zip(terms, arguments, strict=True))
        on_line: Array = value + sum(moved)
        return on_line


def _error_function(x: Array) -> Array:
    """The error function, of complex arguments by its everywhere convergent series.

    Abramowitz & Stegun 7.1.6: erf z = 2/sqrt(pi) exp(-z^2) sum 2^n z^(2n+1) / (1 * 3 * ... * (2n+1)).
    """
    x = np.asarray(x)
    if not np.iscomplexobj(x):
        return np.asarray(np.vectorize(math.erf, otypes=[float])(x))
    inside = np.where(np.abs(x.real) < 6, x, 0)
    term = total = inside
    for n in range(1, 200):
        term = term * 2 * inside**2 / (2 * n + 1)
        total = total + term
    series = 2 / math.sqrt(math.pi) * np.exp(-(inside**2)) * total
    far = np.where(np.isnan(x.real), x, np.sign(x.real))
    return np.where(np.abs(x.real) < 6, series, far)


def _real(x: Any) -> Any:
    return np.real(x)


PRIMITIVES: dict[str, Callable[..., Any]] = {
    "greater": lambda a, b: _real(a) > _real(b),
    "greater_equal": lambda a, b: _real(a) >= _real(b),
    "less": lambda a, b: _real(a) < _real(b),
    "less_equal": lambda a, b: _real(a) <= _real(b),
    "equal": lambda a, b: _real(a) == _real(b),
    "not_equal": lambda a, b: _real(a) != _real(b),
    "where": np.where,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "erf": _error_function,
    "abs": lambda x: np.where(_real(x) < 0, -np.asarray(x), x),
    "floor": lambda x: np.floor(_real(x)),
    "maximum": lambda a, b: np.where((_real(a) > _real(b)) | np.isnan(_real(a)), a, b),
    "minimum": lambda a, b: np.where((_real(a) < _real(b)) | np.isnan(_real(a)), a, b),
}
"""How NumPy computes the primitives of `gategen.language.functions`."""


def _declared(row: Row, arguments: Sequence[Array]) -> tuple[Array, list[Array]]:
    """The value of a function with a declared derivative, and the slopes at its arguments."""
    known = {f"x{place}": argument for place, argument in enumerate(arguments)}
    value, *slopes = (formula(known.__getitem__) for formula in _formulas(row))
    return value, slopes


@lru_cache
def _formulas(row: Row) -> list[Formula]:
    """The definition of a function and its derivatives, compiled."""
    function = FUNCTIONS[row.name](*sympy.symbols(f"x0:{row.arity}", real=True))
    slopes = [function.fdiff(place + 1) for place in range(row.arity)]
    return [compiled(expr) for expr in (function.define(), *slopes)]


def _straight(row: Row, arguments: Sequence[Array], lines: Lines | None) -> Any:
    """A function with a declared derivative; along the imaginary axis, it goes as the derivative says."""
    if lines is not None:
        return lines(row, arguments)
    value, slopes = _declared(row, [_real(argument) for argument in arguments])
    if not any(np.iscomplexobj(argument) for argument in arguments):
        return value
    moved = (slope * np.imag(argument) for slope, argument in zip(slopes, arguments, strict=True))
    return value + 1j * sum(moved)


@lru_cache(maxsize=4096)
def compiled(expr: Expr) -> Formula:
    """An expression as a function that evaluates it."""
    if isinstance(expr, sympy.Symbol):
        name = expr.name
        return lambda read, lines=None: read(name)
    if expr.is_number and not expr.free_symbols and not expr.has(ElementWise):
        number = float(expr)
        return lambda read, lines=None: number
    parts = [compiled(argument) for argument in expr.args]
    if isinstance(expr, ElementWise):
        row = expr.row
        if row.declared:
            return lambda read, lines=None: _straight(row, [part(read, lines) for part in parts], lines)
        if row.definition is not None:
            return compiled(expr.define())
        function = PRIMITIVES[row.name]
        return lambda read, lines=None: function(*[part(read, lines) for part in parts])
    combine = add if expr.is_Add else mul if expr.is_Mul else pow
    if len(parts) == 2:
        first, second = parts
        return lambda read, lines=None: combine(first(read, lines), second(read, lines))
    return lambda read, lines=None: reduce(combine, [part(read, lines) for part in parts])
