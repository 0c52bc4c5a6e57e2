"""One canonical order for derived expressions, independent of SymPy's and of any hash."""

from __future__ import annotations

from collections.abc import Mapping

from sympy import Add, Expr, Integer, Mul, Pow

from gategen.language.notation import symbols_in_order


def arrange(expression: Expr, position: Mapping[str, int]) -> Expr:
    """The expression unevaluated, with factors and terms in reading order.

    A product is written number, adjoint, symbols in the order of their definition, compound factors,
    divisors; a sum numbers first, then positive terms, then negative ones.
    """
    if not expression.args:
        return expression
    arguments = [arrange(argument, position) for argument in expression.args]
    if isinstance(expression, Mul):
        arguments.sort(key=lambda factor: _factor_key(factor, position))
        return _chain(Mul, arguments)
    if isinstance(expression, Add):
        arguments.sort(key=lambda term: _term_key(term, position))
        return _chain(Add, arguments)
    if isinstance(expression, Pow):
        return Pow(*arguments, evaluate=False)
    return expression.func(*arguments)


def _chain(operation: type[Expr], arguments: list[Expr]) -> Expr:
    return arguments[0] if len(arguments) == 1 else operation(*arguments, evaluate=False)


def _first(expression: Expr, position: Mapping[str, int]) -> int:
    found = [position.get(symbol.name, -1) for symbol in symbols_in_order(expression)]
    return min(found, default=-1)


def _factor_key(factor: Expr, position: Mapping[str, int]) -> tuple[int, int, str]:
    if factor.is_Number:
        kind = 0
    elif factor.is_Symbol:
        kind = 1 if factor.name not in position else 2
    elif isinstance(factor, Pow) and factor.exp.is_Number and factor.exp.is_negative:
        kind = 4
    else:
        kind = 3
    return kind, _first(factor, position), str(factor)


def _term_key(term: Expr, position: Mapping[str, int]) -> tuple[int, int, str]:
    if term.is_Number:
        return (0 if term.is_nonnegative else 3), 0, str(term)
    negative = isinstance(term, Mul) and term.args[0].is_Number and term.args[0].is_negative
    return (2 if negative else 1), _first(term, position), str(term)


def is_zero(expression: Expr) -> bool:
    """Whether a derivative is identically zero."""
    return bool(expression == Integer(0))
