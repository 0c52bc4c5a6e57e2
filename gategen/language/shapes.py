"""Widths as integer-linear terms, and the solver that finds them from equalities.

The elements of a matrix in one row, as a step keeps them, are a product of two widths: ``n*m``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True, order=True)
class Width:
    """The number of units of a vector: ``n``, ``4*n``, ``n + d``, ``3``, and of a matrix, ``n*m``.

    Attributes:
        terms: Pairs of width name, or names with ``*`` between them, and factor, by name.
        constant: The number added to them.
    """

    terms: tuple[tuple[str, int], ...] = ()
    constant: int = 0

    @staticmethod
    def of(name: str) -> Width:
        """The width with this name."""
        return Width(((name, 1),))

    def __add__(self, other: Width) -> Width:
        factors = dict(self.terms)
        for name, factor in other.terms:
            factors[name] = factors.get(name, 0) + factor
        kept = tuple(sorted((name, factor) for name, factor in factors.items() if factor))
        return Width(kept, self.constant + other.constant)

    def times(self, factor: int) -> Width:
        """The width multiplied by an integer."""
        if factor == 0:
            return Width()
        return Width(tuple((name, n * factor) for name, n in self.terms), self.constant * factor)

    def __sub__(self, other: Width) -> Width:
        return self + other.times(-1)

    def by(self, other: Width) -> Width:
        """The elements of a matrix with so many rows and columns."""
        twice = Width((), self.constant * other.constant)
        total = self.times(other.constant) + other.times(self.constant) - twice
        for name, factor in self.terms:
            for also, more in other.terms:
                product = "*".join(sorted([*name.split("*"), *also.split("*")]))
                total = total + Width(((product, factor * more),))
        return total

    def divided(self, parts: int) -> Width:
        """One of so many equal parts; there must be some."""
        return Width(tuple((name, factor // parts) for name, factor in self.terms), self.constant // parts)

    def substitute(self, values: Mapping[str, Width]) -> Width:
        """Replace names by widths."""
        total = Width((), self.constant)
        for name, factor in self.terms:
            product = Width((), factor)
            for single in name.split("*"):
                product = product.by(values.get(single, Width.of(single)))
            total = total + product
        return total

    def evaluate(self, sizes: Mapping[str, int]) -> int:
        """The number, given one for every name."""
        products = (factor * math.prod(sizes[n] for n in name.split("*")) for name, factor in self.terms)
        return self.constant + sum(products)

    @property
    def names(self) -> tuple[str, ...]:
        """The width names in this term."""
        return tuple(dict.fromkeys(single for name, _ in self.terms for single in name.split("*")))

    def __str__(self) -> str:
        parts = [name if factor == 1 else f"{factor}*{name}" for name, factor in self.terms]
        if self.constant or not parts:
            parts.append(str(self.constant))
        return " + ".join(parts).replace("+ -", "- ")


Shape = tuple[Width, ...]
"""``()`` a scalar, ``(n,)`` a vector, ``(n, d)`` a matrix with n rows."""


@dataclass
class WidthSolver:
    """Collects equalities between widths; unknown names are solved for, rigid ones are not.

    Attributes:
        rigid: Names that a person declared; two of them are never equal.
        order: Names to be kept rather than solved for, the dearest first.
        solution: What each solved name stands for.
    """

    rigid: set[str] = field(default_factory=set)
    order: Sequence[str] = ()
    solution: dict[str, Width] = field(default_factory=dict)

    @cached_property
    def _place(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.order)}

    def resolve(self, width: Width) -> Width:
        """The width in unsolved names only."""
        waiting = [name for name in width.names if name in self.solution]
        while waiting:
            # What a solution refers to is resolved first and kept, so that long chains are walked once.
            solution = self.solution[waiting[-1]]
            deeper = [name for name in solution.names if self._is_open(name)]
            if not deeper:
                self.solution[waiting.pop()] = solution.substitute(self.solution)
            waiting += deeper
        return width.substitute(self.solution)

    def _is_open(self, name: str) -> bool:
        return name in self.solution and any(n in self.solution for n in self.solution[name].names)

    def equate(self, left: Width, right: Width) -> bool:
        """Record that two widths are equal; False if they cannot be."""
        difference = self.resolve(left) - self.resolve(right)
        if not difference.terms:
            return difference.constant == 0
        signs = {factor > 0 for _, factor in difference.terms}
        if difference.constant:
            signs.add(difference.constant > 0)
        # Widths are at least one, so a sum of terms of one sign is never zero.
        if len(signs) == 1:
            return False
        place = self._place
        free = [term for term in difference.terms if term[0] not in self.rigid]
        terms = [term for term in free if _divides(term, difference)]
        if not terms:
            return False
        name, factor = max(terms, key=lambda term: (abs(term[1]) == 1, place.get(term[0], len(place))))
        rest = (difference - Width(((name, factor),))).times(-1 if factor > 0 else 1)
        self.solution[name] = rest.divided(abs(factor))
        return True


def _divides(term: tuple[str, int], difference: Width) -> bool:
    """Whether what a name stands for is a whole number, whatever the others are."""
    others = [factor for name, factor in difference.terms if name != term[0]]
    return not any(number % term[1] for number in (*others, difference.constant))
