"""The table of arrangements: functions that put units elsewhere, or make a matrix of vectors, one row each.

A row tells the rank of every argument and of the value, and how the function is written; what the widths
have to do with each other stands in `gategen.language.inference`. None computes more than sums and
products, so their adjoints are arrangements too (`gategen.calculus.ir`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import sympy
from sympy import Expr


@dataclass(frozen=True)
class Row:
    """One arrangement.

    Attributes:
        name: The name in the language.
        ranks: The rank of each argument; whole numbers come behind them.
        rank: The rank of the value: 0 for a number, 1 for a vector, 2 for a matrix.
        form: How it is written, with the arguments by number.
        numbers: How many whole numbers there are.
        once: Whether it takes parameters only.
    """

    name: str
    ranks: tuple[int, ...]
    rank: int
    form: str
    numbers: int = 0
    once: bool = False

    @property
    def example(self) -> str:
        """How it is written, with letters for the arguments."""
        letters = [
            ("W" if self.once else "S") if rank == 2 else "ab"[place] for place, rank in enumerate(self.ranks)
        ]
        return self.form.format(*letters, *"kn"[: self.numbers])


class Arrangement(sympy.Function):  # type: ignore[misc]
    """A SymPy function that stands for one row; opaque, as a matrix product is."""

    row: ClassVar[Row]

    @classmethod
    def _should_evalf(cls, arg: Expr) -> int:
        return -1

    @property
    def operands(self) -> tuple[Expr, ...]:
        """The arguments that are values."""
        return self.args[: len(self.row.ranks)]  # type: ignore[no-any-return]

    @property
    def numbers(self) -> tuple[int, ...]:
        """The whole numbers behind them."""
        return tuple(int(number) for number in self.args[len(self.row.ranks) :])


ARRANGEMENTS: dict[str, type[Arrangement]] = {}
"""Every arrangement by name, in the order of the table."""

BY_SIGNS = frozenset({"column", "row", "piece", "rest", "element"})
"""Those that a person writes with brackets."""


def _row(
    name: str, ranks: tuple[int, ...], rank: int, form: str, numbers: int = 0, once: bool = False
) -> type[Arrangement]:
    row = Row(name, ranks, rank, form, numbers, once)
    members = {"row": row, "nargs": len(ranks) + numbers, "__module__": __name__}
    made = type(name, (Arrangement,), members)
    ARRANGEMENTS[name] = made
    return made


# fmt: off
outer = _row("outer", (1, 1), 2, "outer({0}, {1})")
column = _row("column", (1,), 2, "{0}[:, None]")
row = _row("row", (1,), 2, "{0}[None, :]")
piece = _row("piece", (1,), 1, "{0}[{1}:{2}]", numbers=2)
rest = _row("rest", (1,), 1, "{0}[{1}:]", numbers=1)
element = _row("element", (1,), 0, "{0}[{1}]", numbers=1)
reshape = _row("reshape", (1,), 2, "reshape({0}, {1})", numbers=1)
flatten = _row("flatten", (2,), 1, "flatten({0})")
split = _row("split", (1,), 1, "split({0}, {2})[{1}]", numbers=2)
repeat = _row("repeat", (1,), 1, "repeat({0}, {1})", numbers=1)
T = _row("T", (2,), 2, "T({0})", once=True)
I = _row("I", (0,), 2, "I({0})", once=True)  # noqa: E741
# fmt: on
