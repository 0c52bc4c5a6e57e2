"""What the documents print: names as their author wrote them, and formulas in the order of their arguments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import sympy
from sympy import Add, Expr, Integer, Mul, Pow

from gategen.language.functions import ElementWise
from gategen.language.notation import Concat, MatVec
from gategen.language.roles import Role

GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi "
    "psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega".split()
)
"""Names that print as Greek letters when they are the whole name before the first underscore."""


@dataclass(frozen=True)
class Name:
    """How one symbol is written.

    Attributes:
        author: The author's name, or ours for what the author left unnamed.
        shown: The author's spelling with its time, such as ``h[t-1]``.
        time: Offset from ``t``; None for what does not depend on time.
        rank: 0 for a number, 1 for a vector, 2 for a matrix.
        adjoint: Whether the symbol stands for the adjoint of this.
        arriving: Whether it stands for the loss gradient that arrives at this.
        part: For a matrix, which group of its columns, from 1.
        formula: Written instead of the name.
    """

    author: str
    shown: str
    time: int | None = None
    rank: int = 0
    adjoint: bool = False
    arriving: bool = False
    part: int | None = None
    formula: Expr | None = None

    def of_adjoint(self) -> Name:
        """The name of this one's adjoint."""
        return replace(self, adjoint=True)


class Operator(sympy.Function):  # type: ignore[misc]
    """Something between vectors and matrices that only the documents write."""


class Transposed(Operator):
    """The transpose."""


class Chain(Operator):
    """A product of matrices and vectors, as many as there are."""


class Diagonal(Operator):
    """The diagonal matrix of a vector."""


class Ones(Operator):
    """The vector of ones."""


class Identity(Operator):
    """The identity matrix."""


class OverSteps(Operator):
    """The sum over all steps."""


class OverUnits(Operator):
    """The sum over all units."""


class Stacked(Operator):
    """The same over a batch: one row per sequence."""


class Partial(Operator):
    """The partial derivative of the first argument with respect to the second, inside a line of text."""


class Total(Operator):
    """The total derivative of the first argument with respect to the second."""


class Equality(Operator):
    """An equation inside a line of text."""


class Prime(Operator):
    """The derivative of a function, at the argument of the application given."""


class Dimensions(Operator):
    """Widths along the axes of an array."""


_SUM, _PRODUCT, _FACTOR, _POWER, _ATOM = range(1, 6)


class Names:
    """The name of every symbol that occurs in a document."""

    def __init__(self, roles: dict[str, tuple[Role, int]], bare: frozenset[str]) -> None:
        self.roles = roles
        self.bare = bare
        self.table: dict[str, Name] = {}

    def add(self, key: str, name: Name) -> sympy.Symbol:
        """Make a symbol that is written as ``name``."""
        self.table[key] = name
        return sympy.Symbol(key, real=True)

    def of(self, symbol: sympy.Symbol) -> Name:
        """The name of a symbol: the author's, or one of the program's."""
        signal = getattr(symbol, "signal", symbol.name)
        if type(symbol) is sympy.Symbol:
            return self.table.get(symbol.name) or Name(symbol.name, symbol.name)
        role, rank = self.roles[signal]
        offset = getattr(symbol, "offset", None)
        shown = signal if offset == 0 and signal in self.bare else symbol.name
        return Name(signal, shown, None if role is Role.DERIVED else offset, rank)

    def rank(self, node: Expr) -> int:
        """0 for a number, 1 for a vector, 2 for a matrix."""
        if node.is_Symbol:
            return self.of(node).rank
        if isinstance(node, (MatVec, Concat)):
            return 1
        if isinstance(node, OverUnits):
            return 0
        return max((self.rank(argument) for argument in node.args), default=0)


def terms(node: Expr) -> list[Expr]:
    """The terms of a sum as written, without the nesting that reading from left to right makes."""
    return [*terms(node.args[0]), *node.args[1:]] if isinstance(node, Add) else [node]


def factors(node: Expr) -> list[Expr]:
    """The factors of a product as written."""
    return [*factors(node.args[0]), *node.args[1:]] if isinstance(node, Mul) else [node]


def add_all(parts: Sequence[Expr]) -> Expr:
    """A sum that keeps its order."""
    return parts[0] if len(parts) == 1 else Add(*parts, evaluate=False)


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
            return _PRODUCT, self.chain([self.write(node.args[0], _ATOM), self.write(node.args[1], _FACTOR)])
        if isinstance(node, Concat):
            return _ATOM, self.concatenation([self.write(argument) for argument in node.args])
        if isinstance(node, ElementWise):
            return self._function(node)
        if isinstance(node, Operator):
            return self._operator(node)
        if isinstance(node, Add):
            return _SUM, self._sum(node)
        if isinstance(node, Pow) and not (node.exp.is_Number and node.exp.is_negative):
            return _POWER, self.power(self.write(node.base, _ATOM), self.write(node.exp))
        return self._product(node)

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
        for factor in factors(node):
            if isinstance(factor, Pow) and factor.exp.is_Number and factor.exp.is_negative:
                below = factor.base if factor.exp == -1 else Pow(factor.base, -factor.exp, evaluate=False)
                text = self.fraction(text or "1", below)
                left = max(left, self.names.rank(below))
                continue
            # A matrix product inside an element-wise one keeps parentheses: the two bind alike.
            written = self.write(factor, _FACTOR)
            right = self.names.rank(factor)
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
                named = bare.is_Symbol or isinstance(bare, Ones)
                return _ATOM, self.transposed(self.write(inner, _ATOM), plain=bool(named))
            case Stacked():
                before, self.stacked = self.stacked, True
                own, text = self._written(arguments[0])
                self.stacked = before
                return own, text
            case Chain():
                return _PRODUCT, self.chain([self.write(argument, _FACTOR) for argument in arguments])
            case Ones() | Identity():
                return _ATOM, self.symbol("ones" if isinstance(node, Ones) else "identity")
            case Dimensions():
                return _ATOM, self.dimensions([self.write(argument, _FACTOR) for argument in arguments])
            case Diagonal():
                return _ATOM, self.call("diag", "", [self.write(arguments[0])])
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
    def name(self, name: Name) -> str: ...
    @abstractmethod
    def number(self, number: Expr) -> str: ...
    @abstractmethod
    def symbol(self, meaning: str) -> str: ...
    @abstractmethod
    def parentheses(self, text: str) -> str: ...
    @abstractmethod
    def add(self, left: str, right: str, negative: bool) -> str: ...
    @abstractmethod
    def times(self, left: str, right: str, element_wise: bool) -> str: ...
    @abstractmethod
    def chain(self, parts: list[str]) -> str: ...
    @abstractmethod
    def fraction(self, above: str, below: Expr) -> str: ...
    @abstractmethod
    def power(self, base: str, exponent: str) -> str: ...
    @abstractmethod
    def transposed(self, text: str, plain: bool) -> str: ...
    @abstractmethod
    def concatenation(self, parts: list[str]) -> str: ...
    @abstractmethod
    def call(self, name: str, latex: str, arguments: list[str], mark: str = "") -> str: ...
    @abstractmethod
    def equality(self, left: str, right: str) -> str: ...
    @abstractmethod
    def comparison(self, left: str, sign: str, right: str) -> str: ...
    @abstractmethod
    def cases(self, rows: list[tuple[str, str]], otherwise: str) -> str: ...
    @abstractmethod
    def dimensions(self, widths: list[str]) -> str: ...
    @abstractmethod
    def over_steps(self, text: str) -> str: ...
    @abstractmethod
    def over_units(self, text: str) -> str: ...
    @abstractmethod
    def derivative(self, above: str, below: str, total: bool) -> str: ...


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
