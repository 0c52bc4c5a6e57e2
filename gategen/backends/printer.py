"""Formulas as text, in the order of their arguments; what differs between targets is abstract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import groupby

from sympy import Add, Expr, Integer, Mul, Pow

from gategen.backends.formula import (
    Chain,
    Diagonal,
    Dimensions,
    Equality,
    Identity,
    Kronecker,
    Name,
    Names,
    Ones,
    Operator,
    OverSteps,
    OverUnits,
    Prime,
    Running,
    Selection,
    Stacked,
    Total,
    Transposed,
    Units,
    as_products,
    factors,
    terms,
)
from gategen.language.arrangements import Arrangement
from gategen.language.functions import ElementWise
from gategen.language.notation import Concat, MatVec
from gategen.language.reductions import Reduction

_SUM, _PRODUCT, _FACTOR, _POWER, _ATOM = range(1, 6)


class Printer(ABC):
    """Writes a formula in the order of its arguments; what differs between targets is abstract."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.stacked = False

    def write(self, node: Expr, level: int = 0) -> str:
        """The formula, in parentheses when it binds weaker than ``level``."""
        own, text = self._written(node)
        return self.parentheses(text) if own < level else text

    def _written(self, node: Expr) -> tuple[int, str]:
        if node.is_Symbol:
            return _ATOM, self.name(self.names.of(node))
        if node.is_Number or node.is_NumberSymbol:
            return self._number(node)
        if isinstance(node, MatVec):
            return self.matrix_product(*node.args)
        if isinstance(node, Arrangement):
            return self.arrangement(node)
        if isinstance(node, Concat):
            return _ATOM, self.concatenation([self.write(argument) for argument in node.args])
        if isinstance(node, ElementWise):
            return self._function(node)
        if isinstance(node, Reduction):
            return self.reduction(node)
        if isinstance(node, Operator):
            return self._operator(node)
        if isinstance(node, Add):
            return _SUM, self._sum(node)
        if isinstance(node, Pow) and not _divides(node):
            return _POWER, self.power(self.write(node.base, _ATOM), self.write(node.exp))
        return self._product(node)

    def matrix_product(self, left: Expr, right: Expr) -> tuple[int, str]:
        """``W @ v``; a vector left of a matrix stands right of its transpose."""
        if self.names.rank(left) == 1:
            return self._written(Chain(Transposed(right), left))
        return _PRODUCT, self.chain([self.write(left, _ATOM), self.write(right, _FACTOR)])

    def reduction(self, node: Reduction) -> tuple[int, str]:
        """A sum along an axis is the product with a vector of ones; else the function."""
        if node.axis is not None and node.row.name == "sum":
            (matrix,) = node.args
            return self._written(Chain(matrix if node.axis else Transposed(matrix), Ones()))
        arguments = [self.write(argument) for argument in node.args]
        mark = "" if node.axis is None else rf"_{{\mathrm{{{'row' if node.axis else 'column'}}}}}"
        return _ATOM, self.call(node.row.name, node.row.latex, arguments, mark)

    def arrangement(self, node: Arrangement) -> tuple[int, str]:
        """Products of matrices and vectors where it is one, else the function."""
        products = as_products(node)
        if products != node:
            return self._written(products)
        arguments = [self.write(operand) for operand in node.operands]
        if node.row.name == "split":
            place, count = node.numbers
            return _ATOM, self.call("split", "", [*arguments, str(count)], f"_{{{place}}}")
        return _ATOM, self.call(node.row.name, "", [*arguments, *map(str, node.numbers)])

    def _number(self, node: Expr) -> tuple[int, str]:
        negative = node.is_Number and node.is_negative
        text = self.number(-node if negative else node)
        return (_SUM, f"-{text}") if negative else (_ATOM if text.isalnum() else _FACTOR, text)

    def _sum(self, node: Add) -> str:
        text = ""
        for term in terms(node):
            negative, rest = _sign(term)
            written = self.write(rest, _PRODUCT)
            text = self.add(text, written, negative) if text else f"-{written}" if negative else written
        return text

    def _product(self, node: Expr) -> tuple[int, str]:
        negative, rest = _sign(node)
        if negative:
            return _SUM, f"-{self.write(rest, _PRODUCT)}"
        text, left = "", 0
        for divides, group in groupby(factors(node), _divides):
            if divides:
                below = [_inverse(factor) for factor in group]
                text = self.fraction(text or "1", below)
                left = max(left, *map(self.names.rank, below))
                continue
            for factor in group:
                # A matrix product inside an element-wise one keeps parentheses: the two bind alike.
                written, right = self.write(factor, _FACTOR), self.names.rank(factor)
                text = self.times(text, written, left > 0 and right > 0) if text else written
                left = max(left, right)
        return _PRODUCT, text

    def _function(self, node: ElementWise) -> tuple[int, str]:
        row = node.row
        if row.infix:
            left, right = (self.write(argument, _SUM) for argument in node.args)
            return 0, self.comparison(left, row.infix, right)
        if row.name == "where":
            return self.choice(node)
        return _ATOM, self.call(row.name, row.latex, [self.write(argument) for argument in node.args])

    def _operator(self, node: Operator) -> tuple[int, str]:
        arguments = node.args
        match node:
            case Transposed():
                (inner,) = arguments
                bare = inner.args[0] if isinstance(inner, Stacked) else inner
                plain = bool(bare.is_Symbol or isinstance(bare, (Ones, Running)))
                return _ATOM, self.transposed(self.write(inner), plain)
            case Stacked():
                before, self.stacked = self.stacked, True
                own, text = self._written(arguments[0])
                self.stacked = before
                return own, text
            case Chain():
                return _PRODUCT, self.chain([self.write(argument, _FACTOR) for argument in arguments])
            case Ones() | Identity() | Running():
                return _ATOM, self.symbol(type(node).__name__.lower())
            case Dimensions():
                return _ATOM, self.dimensions([self.write(argument, _FACTOR) for argument in arguments])
            case Diagonal():
                return _ATOM, self.call("diag", "", [self.write(arguments[0])])
            case Kronecker():
                return _PRODUCT, self.kronecker(*(self.write(argument, _FACTOR) for argument in arguments))
            case Units():
                vector, first, end = arguments
                return _ATOM, self.units(self.write(vector), self.write(first), self.write(end))
            case Selection():
                first, end, start, stop = map(self.write, arguments)
                return _ATOM, self.units(self.symbol("selection"), f"{first}:{end}, {start}", stop)
            case OverSteps():
                return _PRODUCT, self.over_steps(self.write(arguments[0], _PRODUCT))
            case OverUnits():
                return _PRODUCT, self.over_units(self.write(arguments[0]))
            case Prime():
                return _ATOM, self.prime(arguments[0])
            case Equality():
                return 0, self.equality(*(self.write(argument, _SUM) for argument in arguments))
        above, below = (self.write(argument, _ATOM) for argument in arguments)
        return _ATOM, self.derivative(above, below, total=isinstance(node, Total))

    def choice(self, node: Expr) -> tuple[int, str]:
        """``where``: one row per condition, the innermost value last."""
        rows = []
        while isinstance(node, ElementWise) and node.row.name == "where":
            condition, value, node = node.args
            rows.append((self.write(value), self.write(condition)))
        return _ATOM, self.cases(rows, self.write(node))

    def prime(self, application: Expr) -> str:
        """``f'(x)`` for the application ``f(x)``."""
        row = application.row
        return self.call(row.name, row.latex, [self.write(argument) for argument in application.args], "'")

    @abstractmethod
    def name(self, name: Name) -> str:
        """A symbol."""

    @abstractmethod
    def number(self, number: Expr) -> str:
        """A number that is not negative, in full precision."""

    @abstractmethod
    def symbol(self, meaning: str) -> str:
        """``ones``, the ``identity``, the matrix of the ``running`` sum or of a ``selection``."""

    @abstractmethod
    def parentheses(self, text: str) -> str:
        """Around a formula that binds weaker than what surrounds it."""

    @abstractmethod
    def add(self, left: str, right: str, negative: bool) -> str:
        """A sum of two, or a difference."""

    @abstractmethod
    def times(self, left: str, right: str, element_wise: bool) -> str:
        """A product per element, of two vectors or with a number."""

    @abstractmethod
    def chain(self, parts: list[str]) -> str:
        """A product of matrices and vectors."""

    @abstractmethod
    def fraction(self, above: str, below: list[Expr]) -> str:
        """A quotient per element, of one divisor after the other."""

    @abstractmethod
    def power(self, base: str, exponent: str) -> str:
        """A power per element."""

    @abstractmethod
    def transposed(self, text: str, plain: bool) -> str:
        """The transpose; ``plain`` of a name."""

    @abstractmethod
    def kronecker(self, left: str, right: str) -> str:
        """The Kronecker product."""

    @abstractmethod
    def units(self, text: str, first: str, end: str) -> str:
        """Some units of a vector."""

    @abstractmethod
    def concatenation(self, parts: list[str]) -> str:
        """Vectors one below the other."""

    @abstractmethod
    def call(self, name: str, latex: str, arguments: list[str], mark: str = "") -> str:
        """A function applied; ``mark`` stands behind its name."""

    @abstractmethod
    def equality(self, left: str, right: str) -> str:
        """An equation in a line of text."""

    @abstractmethod
    def comparison(self, left: str, sign: str, right: str) -> str:
        """A condition."""

    @abstractmethod
    def cases(self, rows: list[tuple[str, str]], otherwise: str) -> str:
        """Pairs of value and condition, and the value otherwise."""

    @abstractmethod
    def dimensions(self, widths: list[str]) -> str:
        """Widths along the axes of an array."""

    @abstractmethod
    def over_steps(self, text: str) -> str:
        """The sum over all steps."""

    @abstractmethod
    def over_units(self, text: str) -> str:
        """The sum over all units."""

    @abstractmethod
    def derivative(self, above: str, below: str, total: bool) -> str:
        """A partial derivative, or a total one."""


def _divides(factor: Expr) -> bool:
    return isinstance(factor, Pow) and bool(factor.exp.is_Number and factor.exp.is_negative)


def _inverse(divisor: Pow) -> Expr:
    return divisor.base if divisor.exp == -1 else Pow(divisor.base, -divisor.exp, evaluate=False)


def _sign(node: Expr) -> tuple[bool, Expr]:
    """Whether the term begins with a minus, and the term without it."""
    if node.is_Number:
        return bool(node.is_negative), -node if node.is_negative else node
    first = factors(node)[0]
    if not (isinstance(node, Mul) and first.is_Number and first.is_negative):
        return False, node
    rest = factors(node)[1:]
    if first != Integer(-1):
        rest = [-first, *rest]
    return True, rest[0] if len(rest) == 1 else Mul(*rest, evaluate=False)
