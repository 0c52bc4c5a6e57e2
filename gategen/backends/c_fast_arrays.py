"""The arrays of one fast C function: rows of whole vectors, of which each thread has its own.

Everything that a kernel keeps for itself stands in rows of ``gg_row(n)`` elements. A thread works on the
sequences from ``first`` on in the loop over time, and on its share of all rows before and after it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from gategen.backends.c_arrays import Arrays
from gategen.backends.c_text import offset, product
from gategen.calculus.ir import Kind, Value
from gategen.calculus.storage import Home
from gategen.language.shapes import Shape, Width

WORDS = (
    *Arrays.words,
    *("call", "team", "rank", "size", "place", "crew", "first", "rows", "from", "till", "low", "high"),
    *("ends", "hoisted", "whole", "unit", "units", "of", "into", "left"),
)
"""Words of ours that an author's name may push aside."""


@dataclass
class FastArrays(Arrays):
    """Declares the arrays of one function and reaches into them.

    Attributes:
        narrow: Planes of which only one step is there, unless there is a tape or products are hoisted.
    """

    narrow: set[str] = field(default_factory=set)
    words: ClassVar[tuple[str, ...]] = WORDS

    def stride(self, width: Width) -> str:
        """The elements from one row to the next: whole vectors."""
        return f"gg_row({self.width(width)})"

    def elements(self, shape: Shape) -> str:
        """The number of elements of a timeless array; vectors take whole ones."""
        return self.stride(shape[0]) if len(shape) == 1 else super().elements(shape)

    def own(self, steps: str, width: Width, start: str = "first") -> tuple[str, str]:
        """The offset, as factors, of the thread's rows so many steps behind.

        They begin with ``first`` inside the loop; from ``from`` on, only this thread begins and ends them.
        """
        return self._rows(steps, start), self.stride(width)

    def given(self, steps: str, width: Width, start: str = "first") -> tuple[str, str]:
        """The same in an array of the caller, whose rows follow each other without a gap."""
        return self._rows(steps, start), self.width(width)

    def _rows(self, steps: str, start: str) -> str:
        first = self.ours[start]
        return first if steps == "0" else f"{product(steps, self.ours['B'])} + {first}"

    def slot(self, value: Value, t: str) -> str:
        """The index of step ``t`` in a value's array."""
        name = self.placement.alias.get(value.name, value.name)
        if {name, value.name} & self.narrow:
            return f"{self.ours['whole']} ? {t} : 0"
        return super().slot(value, t)

    def far(self, value: Value) -> str:
        """Whether every step of a value has rows of its own: 1, 0, or what it depends on."""
        home, name = self.home(value), self.placement.alias.get(value.name, value.name)
        if {name, value.name} & self.narrow:
            return self.ours["whole"]
        if home is Home.RING and value.name in self.taped:
            return self.ours["keep"]
        return "1" if home is Home.PLANE else "0"

    def step(self, value: Value) -> str:
        """A pointer to the thread's own rows of step ``t``."""
        base, t, width = self.base.get(value.name, ""), self.ours["t"], value.width
        if value.kind is Kind.PAST:
            state, first, earlier, steps = self.earlier(value)
            start = offset(self.starts[state.name], *self.own(steps, width))
            return f"{first} ? {start} : {self.step_at(state, earlier)}"
        if value.kind is Kind.SEED:
            begin = offset(base, *self.own(t, width))
            return f"{base} ? {begin} : {offset(self.starts[value.name], *self.own('0', width))}"
        if self.home(value) is Home.STEP:
            return base
        return self.step_at(value, t)

    def step_at(self, value: Value, t: str) -> str:
        """A pointer to the thread's own rows of any step of a value that has a plane or a ring."""
        return offset(self.base.get(value.name, ""), *self.own(self.slot(value, t), value.width))
