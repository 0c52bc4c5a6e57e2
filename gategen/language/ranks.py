"""Ranks of all names: which are scalars, vectors and matrices, found from the equations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sympy import Expr

from gategen.errors import ShapeError
from gategen.language.arrangements import Arrangement
from gategen.language.notation import At, Concat, Eq, MatVec, Parameter, symbols_in_order
from gategen.language.reductions import Reduction
from gategen.language.roles import CLOCK, Declaration, Role, Roles
from gategen.language.shapes import Width
from gategen.language.text import expression_text

KINDS = ("scalar", "vector", "matrix")
"""What a value of each rank is called."""


class Ranks:
    """One search for the ranks of a cell.

    Attributes:
        found: The rank of every name.
    """

    def __init__(self, roles: Roles, declarations: Mapping[str, Declaration]) -> None:
        self.roles = roles
        self.declarations = declarations
        self.found = self._find()

    def _declared_rank(self, name: str) -> int | None:
        declaration = self.declarations.get(name)
        if declaration is None and name == CLOCK:
            return 0
        if declaration is None:
            return {Role.CONSTANT: 0, Role.SIZE: 0}.get(self.roles.of.get(name, Role.INPUT))
        if declaration.kind in ("constant", "scalar") or declaration.dims == (Width((), 1),):
            return 0
        if declaration.kind == "weight":
            return 2
        if declaration.kind == "vector":
            return 1
        return None if declaration.dims is None else len(declaration.dims)

    def _find(self) -> dict[str, int]:
        """The least rank that every equation allows; ranks only grow, so the work ends."""
        equations = self.roles.equations
        matrices = self.matrices = {node.args[0] for e in equations for node in _products(e.right)}
        assigned = {equation.left.signal for equation in equations}
        ranks: dict[str, int] = {}
        for name in self.roles.of:
            declared = self._declared_rank(name)
            if declared is None:
                derived = self.roles.of[name] is Role.DERIVED
                is_matrix = Parameter(name) in matrices or (derived and At(name) in matrices)
                declared = 2 if is_matrix else 0 if name in assigned else 1
            ranks[name] = declared
        readers: dict[str, list[Eq]] = {name: [] for name in ranks}
        for equation in equations:
            involved = [equation.left, *symbols_in_order(equation.right)]
            for name in dict.fromkeys(map(_name_of, involved)):
                readers[name].append(equation)
        waiting = list(equations)[::-1]
        while waiting:
            for name in self._raise_ranks(waiting.pop(), ranks):
                waiting += readers[name]
        return ranks

    def _raise_ranks(self, equation: Eq, ranks: dict[str, int]) -> list[str]:
        """Raise the ranks that one equation asks for; the names whose rank changed."""
        name = equation.left.signal
        self._check_matrices(equation, ranks)
        wanted = {name: max(ranks[name], _rank(equation.right, ranks))}
        matrices = _matrix_operands(equation.right)
        for part in [equation.right, *matrices] if wanted[name] == 2 else matrices:
            for symbol in _element_wise_symbols(part):
                if self._follows(symbol):
                    wanted[_name_of(symbol)] = 2
        changed = [key for key, rank in wanted.items() if ranks[key] != rank]
        ranks.update(wanted)
        return changed

    def _follows(self, symbol: Any) -> bool:
        """Whether a name is a matrix where it is combined with one: nothing else is known of it."""
        if isinstance(symbol, At) and self.roles.of[symbol.signal] is Role.DERIVED:
            return True
        # What is only read is a vector, unless its author thought of it.
        read = isinstance(symbol, Parameter) or symbol.signal in self.declarations
        own = isinstance(symbol, Parameter) or self.roles.of[symbol.signal] is Role.INPUT
        return read and own and self._declared_rank(_name_of(symbol)) is None

    def _is_matrix_of_a_step(self, node: Expr, ranks: Mapping[str, int]) -> bool:
        """Whether an expression is a matrix for another reason than that a weight stands in it."""
        if isinstance(node, At):
            return ranks[node.signal] == 2 and self.roles.of[node.signal] is not Role.DERIVED
        if isinstance(node, Arrangement):
            return node.row.rank == 2
        if isinstance(node, (MatVec, Concat)) or (isinstance(node, Reduction) and node.rank < 2):
            return False
        return any(self._is_matrix_of_a_step(part, ranks) for part in node.args)

    def _check_matrices(self, equation: Eq, ranks: Mapping[str, int]) -> None:
        """Raise `ShapeError` where a value of a step would have to be a matrix because of a weight alone."""
        derived = self.roles.of[equation.left.signal] is Role.DERIVED
        if derived or self._is_matrix_of_a_step(equation.right, ranks):
            return
        for symbol in _element_wise_symbols(equation.right):
            if ranks[_name_of(symbol)] == 2:
                why = "is computed as a matrix"
                if self._declared_rank(_name_of(symbol)) == 2:
                    why = "is declared as a matrix"
                elif symbol in self.matrices:
                    why = "is a matrix: it stands left of @ elsewhere"
                written = quoted(symbol, equation, self.roles.bare)
                problem = f"{written} {why}; here it is combined element by element"
                raise ShapeError(problem, equation.position(symbol), "a vector here, or a matrix left of @")


def quoted(node: Expr, equation: Eq, bare: frozenset[str]) -> str:
    """A part of an equation as the author wrote it, shortened."""
    place = equation.positions.get(node)
    text = place.written() if place else expression_text(node, bare)
    return f"'{text}'" if len(text) <= 40 else f"'{text[:37]}...'"


def _name_of(symbol: Any) -> str:
    return symbol.signal if isinstance(symbol, At) else symbol.name


def _products(node: Expr) -> list[MatVec]:
    found = [product for argument in node.args for product in _products(argument)]
    return [node, *found] if isinstance(node, MatVec) else found


def _rank(node: Expr, ranks: Mapping[str, int]) -> int:
    if isinstance(node, At):
        return ranks[node.signal]
    if isinstance(node, Parameter):
        return ranks[node.name]
    if isinstance(node, (MatVec, Concat)):
        return 1
    if isinstance(node, Reduction):
        return node.rank
    if isinstance(node, Arrangement):
        return node.row.rank
    return max((_rank(argument, ranks) for argument in node.args), default=0)


def _matrix_operands(node: Expr) -> list[Expr]:
    """What stands where an arrangement, or a reduction along an axis, takes a matrix."""
    found = [operand for part in node.args for operand in _matrix_operands(part)]
    if isinstance(node, Arrangement):
        found += [operand for operand, rank in zip(node.operands, node.row.ranks, strict=True) if rank == 2]
    if isinstance(node, Reduction) and node.axis is not None:
        found += node.args[: node.row.vectors]
    return found


def _element_wise_symbols(node: Expr) -> list[Any]:
    if isinstance(node, (MatVec, Concat, Reduction, Arrangement)):
        return []
    if not node.args:
        return symbols_in_order(node)
    return [symbol for argument in node.args for symbol in _element_wise_symbols(argument)]
