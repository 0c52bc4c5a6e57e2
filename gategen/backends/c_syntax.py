"""SymPy expressions as C99: literals, operators, and the functions that a kernel defines for itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import sympy
from sympy import Add, Expr, Mul, Pow

from gategen.backends.c_math import OWN, definitions
from gategen.calculus.order import arrange
from gategen.language.functions import FUNCTIONS, ElementWise
from gategen.language.notation import negated, substitute, subtrahend

_CHOICE, _COMPARISON, _SUM, _PRODUCT, _SIGN, _ATOM = range(6)

LIBRARY = {
    "sqrt": "sqrt",
    "sin": "sin",
    "cos": "cos",
    "abs": "fabs",
    "floor": "floor",
}
"""Primitives that the C library has; the float32 spelling ends in f."""

_SPELLED = {
    "maximum": "return a > b || a != a ? a : b;",
    "minimum": "return a < b || a != a ? a : b;",
}
"""Primitives that a kernel spells itself; a NaN argument gives a NaN."""


@dataclass
class CWriter:
    """Writes expressions in C for one dtype and remembers which functions they need.

    Attributes:
        single: float32 if true, else float64.
        reference: How a value is read, by its name.
        needed: Definitions of the functions used, in the order in which C must see them.
    """

    single: bool
    reference: Callable[[str], str]
    needed: dict[str, str] = field(default_factory=dict)

    def write(self, node: Expr, level: int = 0) -> str:
        """The expression; in parentheses if it binds weaker than ``level``."""
        own, text = self._written(node)
        return f"({text})" if own < level else text

    def _written(self, node: Expr) -> tuple[int, str]:
        if isinstance(node, sympy.Symbol):
            return _ATOM, self.reference(node.name)
        if node.is_Number or node is sympy.pi:
            text = self.literal(node)
            return (_PRODUCT if "/" in text else _SIGN if text.startswith("-") else _ATOM), text
        if isinstance(node, ElementWise):
            return self._function(node)
        if isinstance(node, Add):
            return _SUM, self._sum(node)
        if isinstance(node, Pow) and not _is_divisor(node):
            return self._power(node)
        return self._product(node)

    def literal(self, number: Expr) -> str:
        """A number in full precision and of the right type."""
        suffix = "f" if self.single else ""
        if isinstance(number, sympy.Integer) and abs(int(number)) < 2**24:
            return str(int(number))
        if isinstance(number, sympy.Rational) and not isinstance(number, sympy.Integer):
            below = int(number.q)
            if below & (below - 1):
                return f"{float(number.p)!r}{suffix} / {float(below)!r}{suffix}"
        return f"{float(number)!r}{suffix}"

    def _function(self, node: ElementWise) -> tuple[int, str]:
        row = node.row
        if row.infix:
            left, right = (self.write(argument, _SUM) for argument in node.args)
            return _COMPARISON, f"{left} {row.infix} {right}"
        if row.name == "where":
            condition, yes, no = node.args
            text = f"{self.write(condition, _COMPARISON)} ? {self.write(yes, _SUM)} : {self.write(no, _SUM)}"
            return _CHOICE, text
        arguments = ", ".join(self.write(argument) for argument in node.args)
        if row.name in LIBRARY:
            return _ATOM, f"{LIBRARY[row.name]}{'f' if self.single else ''}({arguments})"
        self.define(row.name)
        return _ATOM, f"gg_{row.name}({arguments})"

    def define(self, name: str) -> None:
        """Take up the definition of a function that the C library does not have."""
        if name in self.needed:
            return
        if name in OWN:
            for part, text in definitions(name, self.single).items():
                self.needed.setdefault(part, text)
            return
        row = FUNCTIONS[name].row
        letters = ("a", "b") if name in _SPELLED else ("x", "low", "high")
        arguments = [sympy.Symbol(letter, real=True) for letter in letters[: row.arity]]
        if name in _SPELLED:
            body = [_SPELLED[name]]
        else:
            inner = CWriter(self.single, lambda symbol: symbol, self.needed)
            body = inner.function_body(arrange(FUNCTIONS[name](*arguments).define(), {"x": 0}))
        signature = ", ".join(f"real {argument}" for argument in arguments)
        # A function with a declared derivative may have an argument for the sake of that alone.
        body = [*(f"(void){a};" for a in arguments if not re.search(rf"\b{a}\b", "\n".join(body))), *body]
        lines = "\n".join(f"    {line}" for line in body)
        self.needed[name] = f"static inline real gg_{name}({signature})\n{{\n{lines}\n}}"

    def function_body(self, expression: Expr) -> list[str]:
        """Statements that return an expression, an exponential used twice computed once."""
        repeated = [part for part in _calls(expression) if _calls(expression).count(part) > 1]
        if not repeated:
            return [f"return {self.write(expression)};"]
        part = max(repeated, key=lambda call: len(str(call)))
        name = sympy.Symbol("e", real=True)
        statement = f"const real e = {self.write(part)};"
        return [statement, f"return {self.write(substitute(expression, {part: name}))};"]

    def _sum(self, node: Add) -> str:
        text = self.write(node.args[0], _SUM)
        for term in node.args[1:]:
            rest = subtrahend(term)
            sign = "+" if rest is None else "-"
            text += f" {sign} {self.write(term if rest is None else rest, _PRODUCT)}"
        return text

    def _power(self, node: Pow) -> tuple[int, str]:
        exponent = node.exp
        if isinstance(exponent, sympy.Integer) and exponent > 0:
            if node.base.is_Symbol and exponent <= 3:
                return _PRODUCT, " * ".join([self.write(node.base)] * int(exponent))
            name = f"pow{int(exponent)}"
            self.needed.setdefault(name, _integer_power(int(exponent)))
            return _ATOM, f"gg_{name}({self.write(node.base)})"
        function = "powf" if self.single else "pow"
        return _ATOM, f"{function}({self.write(node.base)}, {self.literal(sympy.Float(exponent))})"

    def _product(self, node: Expr) -> tuple[int, str]:
        rest = negated(node)
        if rest is not None:
            return _SIGN, f"-{self.write(rest, _SIGN)}"
        text = ""
        factors = list(node.args) if isinstance(node, Mul) else [node]
        if _is_divisor(factors[0]) and _is_whole(factors[0].base):
            factors.insert(0, sympy.Integer(1))
        if len(factors) > 1 and _is_whole(factors[0]):
            second = factors[1].base if _is_divisor(factors[1]) else factors[1]
            if _is_whole(second) or isinstance(factors[0], Add):
                # C would compute with integers and cut their quotient.
                factors[0] = _as_real(factors[0])
        for factor in factors:
            if _is_divisor(factor):
                below = factor.base if factor.exp == -1 else Pow(factor.base, -factor.exp, evaluate=False)
                text = f"{text or '1'} / {self.write(below, _SIGN)}"
            elif text:
                text += f" * {self.write(factor, _SIGN)}"
            else:
                text = self.write(factor, _PRODUCT)
        return _PRODUCT, text


def _is_divisor(node: Expr) -> bool:
    return isinstance(node, Pow) and node.exp.is_Number and bool(node.exp.is_negative)


def _is_whole(node: Expr) -> bool:
    """Whether C takes what is written for the expression for an integer."""
    if isinstance(node, ElementWise) and node.row.name == "where":
        return all(map(_is_whole, node.args[1:]))
    if isinstance(node, (Add, Mul)):
        return all(map(_is_whole, node.args))
    return bool(node.is_Integer)


def _as_real(node: Expr) -> Expr:
    """The same value, which C takes for a real number."""
    if node.is_Integer:
        return sympy.Float(int(node))
    arguments = list(node.args)
    place = 1 if isinstance(node, ElementWise) else 0
    arguments[place] = _as_real(arguments[place])
    return node.func(*arguments) if isinstance(node, ElementWise) else node.func(*arguments, evaluate=False)


def _integer_power(exponent: int) -> str:
    """A power as products, by repeated squaring."""
    lines: list[str] = []
    result, square = "", "x"
    bits = bin(exponent)[:1:-1]
    for index, bit in enumerate(bits):
        if index:
            lines.append(f"    const real x{2**index} = {square} * {square};")
            square = f"x{2**index}"
        if bit == "1":
            result = f"{result} * {square}" if result else square
    body = "\n".join([*lines, f"    return {result};"])
    return f"static inline real gg_pow{exponent}(real x)\n{{\n{body}\n}}"


def _calls(expression: Expr) -> list[Expr]:
    inner = [call for argument in expression.args for call in _calls(argument)]
    dear = isinstance(expression, ElementWise) and expression.row.name in {*LIBRARY, *OWN}
    return [*inner, expression] if dear else inner
