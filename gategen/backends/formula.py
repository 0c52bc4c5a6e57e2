"""What the documents print: names, and the operators between vectors and matrices that the language lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import sympy
from sympy import Add, Expr, Mul

from gategen.language.arrangements import Arrangement
from gategen.language.notation import Concat, MatVec
from gategen.language.reductions import Reduction
from gategen.language.roles import Role

GREEK = frozenset(
    {
        *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda"),
        *("mu", "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"),
        *("Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega"),
    }
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

    @classmethod
    def _should_evalf(cls, arg: Expr) -> int:
        # A number among the arguments must not make SymPy evaluate the whole.
        return -1


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


class Running(Operator):
    """The matrix of the running sum: ones on and below its diagonal."""


class Kronecker(Operator):
    """The Kronecker product: the derivative of the elements of a matrix, row after row."""


class Units(Operator):
    """Some units of a vector: the vector, the first one, the one behind the last."""


class Selection(Operator):
    """The matrix with a one where a unit goes: the first place and the one behind the last, then whence."""


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
        if isinstance(node, Reduction):
            return node.rank
        if isinstance(node, Arrangement):
            return node.row.rank
        return max((self.rank(argument) for argument in node.args), default=0)


def as_products(node: Expr) -> Expr:
    """An arrangement as products of matrices and vectors, where it is one."""
    match node.row.name:
        case "outer":
            return Chain(node.args[0], Transposed(node.args[1]))
        case "column":
            return Chain(node.args[0], Transposed(Ones()))
        case "row":
            return Chain(Ones(), Transposed(node.args[0]))
        case "T":
            return Transposed(node.args[0])
    return Identity() if node.row.name == "I" else node


def terms(node: Expr) -> list[Expr]:
    """The terms of a sum as written, without the nesting that reading from left to right makes."""
    return [*terms(node.args[0]), *node.args[1:]] if isinstance(node, Add) else [node]


def factors(node: Expr) -> list[Expr]:
    """The factors of a product as written."""
    return [*factors(node.args[0]), *node.args[1:]] if isinstance(node, Mul) else [node]


def add_all(parts: Sequence[Expr]) -> Expr:
    """A sum that keeps its order."""
    return parts[0] if len(parts) == 1 else Add(*parts, evaluate=False)
