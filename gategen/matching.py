"""Which names of two cells stand for the same: those that are used alike, as deep as one can look.

Names get colours, refined in rounds: a name's colour tells its kind, the form of what it is assigned, and the
places where it is read, in the colours of the round before. Names of the same colour are used alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sympy import Add, Expr, Mul

from gategen.language.cell import Cell
from gategen.language.notation import At, Parameter, evaluate
from gategen.language.roles import Role

_ROUNDS = 4
_KINDS = {Role.OUTPUT: "assigned", Role.INTERMEDIATE: "assigned", Role.FROZEN: "parameter"}
Colours = dict[str, Any]


def match(first: Cell, second: Cell) -> dict[str, str]:
    """For names of the second cell those of the first that stand for the same, each at most once.

    What looks alike most deeply is matched first; then what has the same kind and name; then what has only
    its kind in common, in the authors' order.
    """
    found: dict[str, str] = {}
    while pairs := next(_pairs(first, second, found), None):
        found.update(pairs)
    return found


def _pairs(first: Cell, second: Cell, found: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """More pairs, those that are surest first."""
    forms: dict[Any, int] = {}
    ours = _colours(first, {name: name for name in found.values()}, forms)
    theirs = _colours(second, found, forms)
    for level in (*range(_ROUNDS, 1, -1), "name", 1, 0):
        colours = [side[0 if level == "name" else int(level)] for side in (ours, theirs)]
        left = {n: c for n, c in colours[0].items() if n not in found.values()}
        right = {n: c for n, c in colours[1].items() if n not in found}
        pairs = {n: n for n in right if n in left and left[n] == right[n]}
        if level != "name":
            pairs = _in_order(left, right, pairs)
        if pairs:
            yield pairs


def _in_order(left: Colours, right: Colours, pairs: dict[str, str]) -> dict[str, str]:
    """Names of one colour as they come, where both cells have equally many, and the same name first."""
    counts = [Counter(side.values()) for side in (left, right)]
    pairs = {theirs: ours for theirs, ours in pairs.items() if counts[0][left[ours]] == counts[1][left[ours]]}
    for theirs, colour in right.items():
        if theirs not in pairs and counts[0][colour] == counts[1][colour]:
            free = [n for n, c in left.items() if c == colour and n not in pairs.values() and n not in right]
            free = free or [n for n, c in left.items() if c == colour and n not in pairs.values()]
            pairs[theirs] = free[0]
    return pairs


def _colours(cell: Cell, known: Mapping[str, str], forms: dict[Any, int]) -> list[Colours]:
    """The colours of all names after every round; ``forms`` gives equal things equal numbers."""

    def number(form: Any) -> int:
        return forms.setdefault(form, len(forms))

    equations = {equation.left.signal: evaluate(equation.right) for equation in cell.roles.equations}
    kinds = {
        name: (_KINDS.get(v.role, v.role.value), len(v.shape), v.value if v.role is Role.CONSTANT else None)
        for name, v in cell.variables.items()
    }
    colours = {name: number(("known", known[name]) if name in known else kinds[name]) for name in kinds}
    rounds = [colours]
    for place in range(_ROUNDS):
        # The first round looks at the functions around a name, not yet at what stands beside it.
        reader = _Reader(colours, number, beside=place > 0)
        seen: dict[str, list[Any]] = {name: [] for name in kinds}
        for target, right in equations.items():
            reader.visit(right, (("to", colours[target]),), seen)
        colours = {
            name: colours[name]
            if name in known
            else number((colours[name], reader.form(equations.get(name)), tuple(sorted(seen[name]))))
            for name in kinds
        }
        rounds.append(colours)
    return rounds


class _Reader:
    """Forms of expressions, and the places of names in them, in the colours of one round."""

    def __init__(self, colours: Colours, number: Callable[[Any], int], beside: bool) -> None:
        self._colours = colours
        self._number = number
        self._beside = beside

    def form(self, node: Expr | None) -> int:
        """A number that expressions alike have in common."""
        if node is None or not self._beside:
            return 0
        if isinstance(node, At):
            return self._number((node.offset, self._colours[node.signal]))
        if isinstance(node, Parameter):
            return self._number(self._colours[node.name])
        parts = [self.form(part) for part in node.args]
        name = type(node).__name__
        return self._number((name, *(sorted(parts) if isinstance(node, (Add, Mul)) else parts), _value(node)))

    def visit(self, node: Expr, path: tuple[Any, ...], seen: dict[str, list[Any]]) -> None:
        """Note for every name the places where it stands."""
        if isinstance(node, (At, Parameter)):
            name, offset = (node.signal, node.offset) if isinstance(node, At) else (node.name, 0)
            seen[name].append(self._number((offset, path)))
        for place, part in enumerate(node.args):
            ordered = isinstance(node, (Add, Mul))
            beside = [self.form(other) for i, other in enumerate(node.args) if i != place]
            here = (type(node).__name__, -1 if ordered else place, *(sorted(beside) if ordered else beside))
            self.visit(part, (*path, here if self._beside else here[:2]), seen)


def _value(node: Expr) -> str:
    return str(node) if node.is_Number else ""
